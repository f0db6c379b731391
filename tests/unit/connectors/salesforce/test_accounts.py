"""The directory of Accounts: which Account a domain belongs to, and how it is kept up to date."""

from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.domains import is_free_mail
from tests.support.account_rows import ACME, account, directory

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(st.text())
def test_no_website_breaks_the_directory(website: str) -> None:
    directory(account(1, website)).account_of(website)


@pytest.mark.parametrize(
    "domain", ["gmail.com", "hey.com", "privaterelay.appleid.com", "yahoo.co.uk", "linkedin.com"]
)
def test_domains_of_everybody_never_name_an_account(domain: str) -> None:
    assert is_free_mail(domain)
    accounts = directory(account(1, domain), **{domain.replace(".", "_"): ACME})
    assert accounts.account_of(domain) is None


def test_of_several_accounts_the_one_without_a_parent_then_the_oldest_is_taken() -> None:
    rows = [
        account(4, "acme.com", parent=ACME, created="2001"),
        account(3, "acme.com", created="2011"),
        account(2, "acme.com", created="2010"),
    ]
    for order in (rows, rows[::-1]):
        accounts = directory(*order)
        assert accounts.account_of("acme.com") == rows[2]["Id"]
        assert accounts.shared_domains == 1


def test_deleted_accounts_and_changed_websites_are_forgotten() -> None:
    accounts = directory(
        account(1, "acme.com"), account(2, "globex.com"), account(3, "initech.com")
    )
    accounts.update(
        [account(1, "acme.com", deleted=True), account(2, "globex.org"), account(3, None)]
    )
    found = [
        accounts.account_of(name)
        for name in ("acme.com", "globex.com", "globex.org", "initech.com")
    ]
    assert found == [None, None, "001000000000002AAA", None]


def test_a_configured_domain_names_an_account_or_shares_one() -> None:
    accounts = directory(
        account(1, "acme.com"), acme_io="acme.com", globex_com="001000000000009AAA"
    )
    assert accounts.account_of("mail.acme.io") == ACME
    assert accounts.account_of("globex.com") == "001000000000009AAA"


def test_a_refresh_asks_for_what_changed_since_the_last_with_an_overlap() -> None:
    accounts = AccountDirectory()
    first = unquote(accounts.request("a", NOW).url)
    accounts.update([], NOW)
    again = unquote(accounts.request("a", NOW + timedelta(hours=1)).url)
    assert first.startswith("/query?")
    assert "Website != null" in first
    assert again.startswith("/queryAll?")
    assert again.endswith("SystemModstamp >= 2026-03-01T11:50:00Z")


def test_an_account_that_a_row_found_gone_is_forgotten_until_a_refresh_has_seen_it() -> None:
    accounts = directory(
        account(1, "acme.com"), account(2, "acme.com", created="2021"), globex_com="001000000000009"
    )
    accounts.update([], NOW)
    accounts.forget(ACME)
    accounts.forget("001000000000009AAA")
    assert accounts.account_of("acme.com") == "001000000000002AAA"
    assert accounts.account_of("globex.com") is None
    statement = unquote(accounts.request("a", NOW).url)
    assert statement.endswith(" OR Id IN ('001000000000001','001000000000009')")
    accounts.update([account(1, "acme.com"), account(9, None)], NOW)
    assert (accounts.account_of("acme.com"), accounts.account_of("globex.com")) == (
        ACME,
        "001000000000009",
    )
    assert unquote(accounts.request("a", NOW).url).endswith("Z")


def test_a_hidden_field_is_left_out_where_it_can_be_missed() -> None:
    accounts = AccountDirectory()
    assert accounts.drop_fields(("ParentId",))
    assert unquote(accounts.request("a", NOW).url).startswith(
        "/query?q=SELECT Id, Website, CreatedDate, SystemModstamp "
    )
    assert not accounts.drop_fields(("ParentId",))
    assert not accounts.drop_fields(("Website",))
