"""How the Accounts are read: pages, bulk queries, faults, restarts, and a first read that fails."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.salesforce.account_cache import ACCOUNT_RETRY_SECONDS
from connectors.salesforce.account_store import (
    AccountCursor,
    AccountStoreUnavailable,
    MemoryAccountStore,
)
from connectors.salesforce.account_table import AccountRow
from connectors.salesforce.api.client import Fence, no_fence
from connectors.salesforce.api.composite import SubAnswer
from connectors.salesforce.api.errors import OrgUnavailable, WriterFenced
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.policy import Policy
from connectors.salesforce.routing import Create, Creation
from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.sync import Sync
from tests.support.salesforce_org import Composite, SimulatedOrg, simulated_org

DAY = 86_400.0


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a job."""
    monkeypatch.setattr("connectors.salesforce.api.bulk_query.POLL_SECONDS", (0.0,) * 4)


def accounts(count: int, **settings: Any) -> dict[str, Any]:
    """A world with the Accounts c0.example, c1.example and so on."""
    listed = [
        {"Id": make_id("001", number + 1), "Name": f"C{number}", "Website": f"c{number}.example"}
        for number in range(count)
    ]
    return {"accounts": listed, "settings": settings}


def person(domain: str, number: int = 1) -> ContactVersion:
    contact = {"emails": [{"email": f"p{number}@{domain}"}], "surname": f"Person {number}"}
    return ContactVersion(f"g/{number}-{domain}", 100, contact)


async def sobject_of(sync: Sync, domain: str) -> str | None:
    """The object that a person of the domain would be created as."""
    plan = await sync.resolve([person(domain)])
    (decision,) = plan.decisions
    return decision.outcome.sobject


async def known_domains(sync: Sync, count: int) -> list[int]:
    """Which of c0.example, c1.example and so on have an Account."""
    plan = await sync.resolve([person(f"c{number}.example", number) for number in range(count)])
    found = {decision.change.key: decision.outcome.sobject for decision in plan.decisions}
    return [
        number for number in range(count) if found[f"g/{number}-c{number}.example"] == "Contact"
    ]


async def test_nobody_becomes_a_lead_before_the_accounts_were_read() -> None:
    async with simulated_org(accounts(1, hidden_fields=["Account.Website"])) as org:
        with pytest.raises(OrgUnavailable, match="Grant the user Account with Website") as raised:
            await org.sync.sync([person("c0.example")])
        assert raised.value.reason == "accounts"
        assert org.people() == []
        assert org.counts[SyncWarning.ACCOUNTS_REFUSED, "invalid_field"] == 1
        org.world.change_settings({"hidden_fields": []})
        (outcome,) = await org.sync.sync([person("c0.example")])
        assert (outcome.status, outcome.sobject) == (OutcomeStatus.CREATED, "Contact")


async def test_a_user_who_may_not_read_account_is_told_so() -> None:
    async with simulated_org(accounts(1)) as org:

        async def without_account(composite: Composite, *arguments: Any) -> Any:
            body = [{"errorCode": "INVALID_TYPE", "message": "sObject type 'Account' is not ..."}]
            return [
                SubAnswer("accounts", 400, body) if answer.reference_id == "accounts" else answer
                for answer in await composite(*arguments)
            ]

        org.client.intercept = without_account
        with pytest.raises(OrgUnavailable, match="INVALID_TYPE"):
            await org.sync.start()


@pytest.mark.parametrize("create", [Create.LEADS, Create.NOTHING])
async def test_where_no_account_is_used_none_is_read(create: Create) -> None:
    policy = Policy(creation=Creation(create), account_domains={"c0.example": make_id("001", 1)})
    world = accounts(1, hidden_fields=["Account.Website"])
    async with simulated_org(world, policy) as org:
        (outcome,) = await org.sync.sync([person("c0.example")])
        created = outcome.status is OutcomeStatus.CREATED
        assert (created, outcome.sobject) == (
            (True, "Lead") if create is Create.LEADS else (False, None)
        )
        assert not org.counts


async def test_a_refused_refresh_leaves_what_is_known() -> None:
    async with simulated_org(accounts(1)) as org:
        await org.sync.start()
        org.world.change_settings({"hidden_fields": ["Account.Website"]})
        org.now += 901
        assert await sobject_of(org.sync, "c0.example") == "Contact"
        assert org.counts[SyncWarning.ACCOUNTS_REFUSED, "invalid_field"] == 1


async def test_people_of_one_agency_do_not_go_to_another() -> None:
    world = {"accounts": [{"Name": "Transport", "Website": "https://dot.ca.gov"}]}
    async with simulated_org(world) as org:
        assert await sobject_of(org.sync, "dot.ca.gov") == "Contact"
        assert not org.counts
        assert await sobject_of(org.sync, "dmv.ca.gov") == "Lead"
        assert org.counts[SyncWarning.ACCOUNT_CONFLICT, ""] == 1


async def test_a_fault_on_a_late_page_goes_on_there() -> None:
    async with simulated_org(accounts(9, page_size=2)) as org:
        org.fault("status", kind="query_more", after=2)
        with pytest.raises(OrgUnavailable):
            await org.sync.start()
        assert org.calls["query"] == 3
        await org.sync.start()
        assert await known_domains(org.sync, 10) == list(range(9))
        assert org.calls["query"] == 5, "four further pages, of which one was asked for twice"


async def test_a_query_that_expired_meanwhile_begins_again() -> None:
    async with simulated_org(accounts(9, page_size=2)) as org:
        org.fault("status", kind="query_more", after=1)
        with pytest.raises(OrgUnavailable):
            await org.sync.start()
        org.world.services.cursors.clear()
        with pytest.raises(OrgUnavailable, match="accounts"):
            await org.sync.start()
        assert await known_domains(org.sync, 9) == list(range(9))


async def test_a_bulk_query_reads_many_accounts_in_few_calls() -> None:
    async with simulated_org(accounts(40, page_size=2, bulk_polls=2)) as org:
        await org.sync.start()
        assert await known_domains(org.sync, 41) == list(range(40))
        calls = org.world.calls
        assert (calls["bulk_create"], calls["bulk_state"], calls["bulk_results"]) == (1, 3, 1)
        assert calls["query_more"] == 0


async def test_few_accounts_are_read_page_by_page() -> None:
    async with simulated_org(accounts(16, page_size=2)) as org:
        await org.sync.start()
        assert await known_domains(org.sync, 17) == list(range(16))
        assert (org.world.calls["query_more"], org.world.calls["bulk_create"]) == (7, 0)


@pytest.mark.parametrize("settings", [{"bulk_api": False}, {"bulk_polls": 99}])
async def test_without_bulk_queries_the_pages_serve(settings: dict[str, Any]) -> None:
    async with simulated_org(accounts(40, page_size=2, **settings)) as org:
        if "bulk_polls" in settings:
            with pytest.raises(OrgUnavailable, match="takes too long"):
                await org.sync.start()
            assert org.world.calls["bulk_state"] == 4
        await org.sync.start()
        assert await known_domains(org.sync, 41) == list(range(40))
        assert org.world.calls["query_more"] == 19
        assert org.counts[SyncWarning.BULK_QUERY_REFUSED, ""] == 1


async def test_a_fault_on_a_late_page_of_a_bulk_query_goes_on_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.salesforce.api.bulk_query.RECORDS_IN_PAGE", 10)
    async with simulated_org(accounts(40, page_size=2)) as org:
        org.fault("status", kind="bulk_results", after=2)
        with pytest.raises(OrgUnavailable):
            await org.sync.start()
        await org.sync.start()
        assert await known_domains(org.sync, 41) == list(range(40))
        calls = org.world.calls
        assert (calls["bulk_create"], calls["bulk_results"]) == (1, 5)


async def test_a_bulk_query_without_a_hidden_field_goes_on_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.salesforce.api.bulk_query.RECORDS_IN_PAGE", 10)
    kept = MemoryAccountStore()
    world = accounts(40, page_size=2, hidden_fields=["Account.ParentId"])
    async with simulated_org(world) as org:
        org.fault("status", kind="bulk_results", after=2)
        with pytest.raises(OrgUnavailable):
            await org.new_sync(org.client, Policy(), kept).start()
        second = await restarted(org, kept)
        await second.start()
        assert await known_domains(second, 41) == list(range(40))
        assert org.world.calls["bulk_create"] == 1


async def test_an_account_that_only_a_load_without_end_showed_is_not_kept() -> None:
    kept = MemoryAccountStore()
    async with simulated_org(accounts(9, page_size=2)) as org:
        org.fault("status", kind="query_more", after=1)
        with pytest.raises(OrgUnavailable):
            await org.new_sync(org.client, Policy(), kept).start()
        org.world.delete("Account", make_id("001", 1))
        org.world.org.tables["Account"].bin.clear()
        org.now += 2 * DAY
        second = await restarted(org, kept)
        await second.start()
        assert await known_domains(second, 9) == list(range(1, 9))


async def restarted(org: SimulatedOrg, kept: MemoryAccountStore) -> Sync:
    """A Sync of a new process, with the store as the last one left it."""
    sync = org.new_sync(org.client, Policy(), MemoryAccountStore(kept.pages))
    await sync.restore()
    return sync


async def test_a_restart_asks_only_for_what_changed() -> None:
    kept = MemoryAccountStore()
    async with simulated_org(accounts(9, page_size=2)) as org:
        org.now = datetime.now(UTC).timestamp() - 3600
        for row in org.world.org.tables["Account"].rows.values():
            row["SystemModstamp"] = "2026-01-01T00:00:00.000+0000"
        first = org.new_sync(org.client, Policy(), kept)
        await first.start()
        org.world.delete("Account", make_id("001", 1))
        org.world.edit("Account", make_id("001", 2), {"Website": "new.example"})
        org.now += 1800
        before = org.calls.total()
        second = await restarted(org, kept)
        await second.start()
        assert org.calls.total() == before + 1
        assert await known_domains(second, 9) == list(range(2, 9))
        assert await sobject_of(second, "new.example") == "Contact"


async def test_an_unfinished_load_goes_on_after_a_restart() -> None:
    kept = MemoryAccountStore()
    async with simulated_org(accounts(9, page_size=2)) as org:
        first = org.new_sync(org.client, Policy(), kept)
        org.fault("status", kind="query_more", after=2)
        with pytest.raises(OrgUnavailable):
            await first.start()
        second = await restarted(org, kept)
        await second.start()
        assert await known_domains(second, 10) == list(range(9))
        assert org.calls["query"] == 5


async def test_accounts_that_were_purged_are_gone_after_a_long_rest() -> None:
    kept = MemoryAccountStore()
    async with simulated_org(accounts(9, page_size=2)) as org:
        first = org.new_sync(org.client, Policy(), kept)
        await first.start()
        for number in (1, 2):
            org.world.delete("Account", make_id("001", number))
        org.world.org.tables["Account"].bin.clear()
        org.now += 13 * DAY
        recent = await restarted(org, MemoryAccountStore(list(kept.pages)))
        assert 0 in await known_domains(recent, 9), "no query shows that it was purged"
        org.now += 2 * DAY
        second = await restarted(org, kept)
        assert await known_domains(second, 9) == list(range(2, 9))
        third = await restarted(org, kept)
        assert await known_domains(third, 9) == list(range(2, 9))
        removed = {row.id for page in kept.pages for row in page.rows if not row.host}
        assert removed == {make_id("001", 1), make_id("001", 2)}


async def test_websites_that_were_read_by_other_rules_are_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = MemoryAccountStore()
    async with simulated_org(accounts(3)) as org:
        await org.new_sync(org.client, Policy(), kept).start()
        monkeypatch.setattr("connectors.salesforce.account_rules.WEBSITE_RULES", "new")
        await (await restarted(org, kept)).start()
        generations = [
            page.cursor.generation for page in kept.pages if page.cursor and page.cursor.known_until
        ]
        assert generations == [1, 1, 2], "what was known serves until the second load has ended"


async def test_an_account_that_a_row_found_purged_stays_away_after_a_restart() -> None:
    kept = MemoryAccountStore()
    async with simulated_org(accounts(2)) as org:
        first = org.new_sync(org.client, Policy(), kept)
        await first.start()
        org.world.delete("Account", make_id("001", 1))
        org.world.org.tables["Account"].bin.clear()
        assert (await first.sync([person("c0.example")]))[0].status is OutcomeStatus.RETRY
        assert (await first.sync([person("c0.example")]))[0].sobject == "Lead"
        assert await known_domains(await restarted(org, kept), 2) == [1]


class FailingStore(MemoryAccountStore):
    """Refuses so many pages."""

    refuse = 1

    async def save(
        self, rows: Sequence[AccountRow], cursor: AccountCursor | None, fence: Fence
    ) -> None:
        if self.refuse and rows:
            self.refuse -= 1
            raise AccountStoreUnavailable("not acknowledged")
        await super().save(rows, cursor, fence)


async def test_a_page_that_was_not_acknowledged_is_read_again() -> None:
    kept = FailingStore()
    async with simulated_org(accounts(9, page_size=2)) as org:
        first = org.new_sync(org.client, Policy(), kept)
        with pytest.raises(AccountStoreUnavailable):
            await first.start()
        await first.start()
        stored = [row.id for page in kept.pages for row in page.rows]
        assert sorted(stored) == [make_id("001", number + 1) for number in range(9)]


async def test_a_refresh_that_could_not_be_kept_fails_no_batch_and_is_asked_again() -> None:
    kept = FailingStore()
    kept.refuse = 0
    async with simulated_org(accounts(1)) as org:
        first = org.new_sync(org.client, Policy(), kept)
        await first.start()
        org.world.add("Account", {"Name": "New", "Website": "new.example"}, "test")
        kept.refuse, org.now = 1, org.now + 901
        assert await sobject_of(first, "new.example") == "Lead"
        assert org.counts[SyncWarning.ACCOUNTS_REFUSED, "store"] == 1
        org.now += ACCOUNT_RETRY_SECONDS
        assert await sobject_of(first, "new.example") == "Contact"
        assert await sobject_of(await restarted(org, kept), "new.example") == "Contact"


async def test_a_writer_that_was_replaced_keeps_no_further_page() -> None:
    kept = MemoryAccountStore()
    allowed = 3

    def fence() -> None:
        if len(kept.pages) >= allowed:
            raise WriterFenced("replaced")

    async with simulated_org(accounts(9, page_size=2)) as org:
        with pytest.raises(WriterFenced):
            await org.new_sync(org.client, Policy(), kept).start(fence)
        assert len(kept.pages) == allowed
        successor = await restarted(org, kept)
        await successor.start(no_fence)
        assert await known_domains(successor, 9) == list(range(9))
