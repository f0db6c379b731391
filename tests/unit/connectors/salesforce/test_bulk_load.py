"""The permission of bulk loads: held while a backfill is written, and taken away afterwards."""

from typing import Any

from connectors.salesforce.bulk_load import PERMISSION_SET, QUIET_SECONDS, REFUSED_SECONDS
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.simulator.world import INTEGRATION_USER
from tests.support.salesforce_org import SimulatedOrg, simulated_org

WORLD: dict[str, Any] = {
    "permission_sets": {PERMISSION_SET: []},
    "settings": {"assigns_permission_sets": True},
}


def change(number: int, origin: str = "backfill") -> ContactVersion:
    key = f"g/{number}"
    contact = {
        "id": key,
        "emails": [{"email": f"p{number}@else.example"}],
        "surname": f"P {number}",
    }
    return ContactVersion(key, 100, contact, origin=origin)


def assignees(org: SimulatedOrg) -> list[str]:
    rows = org.world.org.tables["PermissionSetAssignment"].rows.values()
    return [row["AssigneeId"] for row in rows]


async def test_it_is_assigned_before_the_first_row_of_a_backfill_and_removed_when_it_is_quiet() -> (
    None
):
    async with simulated_org(WORLD) as org:
        await org.all(change(1), change(2))
        assert assignees(org) == [INTEGRATION_USER]
        written = [write.sobject for write in org.world.org.writes]
        assert written == ["PermissionSetAssignment", "Lead", "Lead"]
        await org.all(change(3))
        await org.sync.end_bulk_load()
        assert assignees(org) == [INTEGRATION_USER]
        org.now += QUIET_SECONDS
        calls = org.calls.total()
        await org.sync.end_bulk_load()
        assert assignees(org) == []
        await org.sync.end_bulk_load()
        assert org.calls.total() == calls + 1


async def test_a_first_sync_takes_one_call_more() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(*map(change, range(1000)))
        assert org.calls == {
            "token": 1,
            "composite_start": 1,
            "composite_query": 1,
            "bulk_load": 1,
            "composite_write": 1,
        }


async def test_live_changes_do_not_need_it() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(change(1, "webhook"), change(2, "reconcile"), change(3, "replay"))
        assert assignees(org) == []
        assert "bulk_load" not in org.calls


async def test_a_backfill_that_changes_nothing_does_not_need_it() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(change(1, "webhook"))
        await org.all(change(1))
        assert assignees(org) == []


async def test_what_a_killed_sink_left_is_taken_away_after_the_next_start() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(change(1))
        successor = org.new_sync(org.client, org.sync.policy)
        await successor.end_bulk_load()  # nothing is known before the first call
        assert assignees(org) == [INTEGRATION_USER]
        await successor.sync([change(2, "webhook")])
        await successor.end_bulk_load()
        assert assignees(org) == []


async def test_without_the_permission_set_in_the_org_no_call_is_made() -> None:
    async with simulated_org() as org:
        await org.all(change(1))
        assert "bulk_load" not in org.calls
        assert not org.counts


async def test_without_the_right_to_assign_it_the_refusal_is_counted_and_the_work_goes_on() -> None:
    async with simulated_org({"permission_sets": {PERMISSION_SET: []}}) as org:
        outcomes = await org.all(change(1))
        assert outcomes["g/1"].status is OutcomeStatus.CREATED
        refused = {"insufficient_access_on_cross_reference_entity": 1}
        assert org.counted(SyncWarning.BULK_LOAD_REFUSED) == refused
        await org.all(change(2))
        assert org.calls["bulk_load"] == 1  # not asked again with each batch
        org.now += REFUSED_SECONDS
        await org.all(change(3))
        assert org.calls["bulk_load"] == 2


async def test_one_that_somebody_took_away_is_no_failure() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(change(1))
        org.world.org.tables["PermissionSetAssignment"].rows.clear()
        org.now += QUIET_SECONDS
        await org.sync.end_bulk_load()
        assert not org.counts


async def test_an_org_that_is_away_is_asked_again_later() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(change(1))
        org.now += QUIET_SECONDS
        org.fault("status", kind="*", status=503)
        await org.sync.end_bulk_load()
        assert assignees(org) == [INTEGRATION_USER]
        await org.sync.end_bulk_load()
        assert assignees(org) == []
