"""What is asked of the Accounts: everything or what changed, by pages or by a bulk query."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest

from connectors.salesforce.account_queries import (
    OLDEST_CURSOR,
    OLDEST_LOAD,
    AccountFields,
    after_load,
    bulk_is_cheaper,
    next_load,
)
from connectors.salesforce.account_store import AccountCursor
from connectors.salesforce.api.composite import QueryPage

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_all_accounts_first_and_then_what_changed_with_an_overlap() -> None:
    fields, load = AccountFields(), next_load(AccountCursor(), NOW)
    first = unquote(fields.query(load, None, ()).subrequest("a").url)
    assert load.full
    assert first.startswith("/query?")
    assert first.endswith("WHERE Website != null")
    cursor = after_load(load)
    again = next_load(cursor, NOW + HOUR)
    assert (again.full, again.generation) == (False, load.generation)
    changed = unquote(fields.query(again, cursor.known_until, ()).subrequest("a").url)
    assert changed.startswith("/queryAll?")
    assert changed.endswith("SystemModstamp >= 2026-03-01T11:50:00Z")
    gone = fields.query(again, cursor.known_until, ("001000000000001", "no' ID"))
    assert gone.soql.endswith(" OR Id IN ('001000000000001')")


def test_a_load_goes_on_unless_it_is_too_old() -> None:
    load = replace(next_load(AccountCursor(), NOW), next_url="/more")
    cursor = AccountCursor(begun=load.generation, load=load)
    assert next_load(cursor, NOW + OLDEST_LOAD / 2) == load
    fresh = next_load(cursor, NOW + OLDEST_LOAD)
    assert (fresh.full, fresh.next_url) == (True, None)
    assert fresh.generation != load.generation


@pytest.mark.parametrize(("age", "full"), [(OLDEST_CURSOR - HOUR, False), (OLDEST_CURSOR, True)])
def test_a_cursor_older_than_the_recycle_bin_reloads(age: timedelta, full: bool) -> None:
    cursor = after_load(next_load(AccountCursor(), NOW))
    load = next_load(cursor, NOW + age)
    assert load.full == full
    assert (load.generation == cursor.generation) != full


def test_a_hidden_field_is_left_out_where_it_can_be_missed() -> None:
    fields, load = AccountFields(), next_load(AccountCursor(), NOW)
    assert fields.drop(("ParentId",))
    assert fields.query(load, None, ()).soql.startswith("SELECT Id, Website, CreatedDate FROM ")
    assert not fields.drop(("ParentId",))
    assert not fields.drop(("Website",))


@pytest.mark.parametrize(
    ("total", "cheaper"), [(2_000, False), (18_000, False), (20_000, True), (500_000, True)]
)
def test_a_bulk_query_is_made_where_it_costs_fewer_calls(total: int, cheaper: bool) -> None:
    page = QueryPage(({},) * 2_000, total, "/more" if total > 2_000 else None)
    assert bulk_is_cheaper(page) == cheaper
