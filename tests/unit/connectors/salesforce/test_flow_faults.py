"""Flows and triggers that fail whole collections: limits, poison rows, locks, their own bugs."""

from dataclasses import replace
from typing import Any

import pytest

from connectors.salesforce.api.errors import RequestRejected
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.repeats import MAX_ISOLATING_CALLS, MAX_LONE_FAILURES
from tests.support.salesforce_org import SimulatedOrg, simulated_org

APEX = {
    "code": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
    "message": "LeadTrigger: execution of BeforeInsert\n\ncaused by: System.NullPointerException: "
    "Attempt to de-reference a null object\n\nTrigger.LeadTrigger: line 7, column 1",
}
FLOW: dict[str, Any] = {}  # as the simulator words it
FAILED_FLOW = "CANNOT_EXECUTE_FLOW_TRIGGER"
SLOW = pytest.mark.slow
AUTOMATION = pytest.mark.parametrize("automation", [FLOW, APEX], ids=["flow", "apex"])


def person(number: int) -> ContactVersion:
    return ContactVersion(
        f"g/{number:04d}",
        100,
        {"surname": f"P{number:04d}", "emails": [{"email": f"p{number:04d}@acme.example"}]},
    )


def people(count: int) -> list[ContactVersion]:
    return [person(number) for number in range(count)]


def lead(number: int) -> ContactVersion:
    """A contact without an Account."""
    return replace(
        person(number), contact={"surname": "L", "emails": [{"email": f"l{number}@x.y"}]}
    )


async def write(org: SimulatedOrg, count: int) -> dict[str, Outcome]:
    await org.sync.start()
    return {outcome.key: outcome for outcome in await org.sync.sync(people(count))}


def failed(outcomes: dict[str, Outcome]) -> list[str]:
    return [key for key, one in outcomes.items() if one.status is OutcomeStatus.FAILED]


@pytest.mark.parametrize(
    ("count", "most", "calls"),
    [(80, 30, 3), pytest.param(400, 60, 4, marks=SLOW), pytest.param(1000, 60, 6, marks=SLOW)],
)
async def test_a_flow_that_breaks_a_limit_gets_smaller_collections(
    count: int, most: int, calls: int
) -> None:
    async with simulated_org() as org:
        org.fault("flow", most=most, times=None)
        outcomes = await write(org, count)
        assert {one.status for one in outcomes.values()} == {OutcomeStatus.CREATED}
        assert org.calls["composite_write"] <= calls


@AUTOMATION
async def test_rows_beside_a_poison_row_are_written_and_it_alone_is_dead_lettered(
    automation: dict[str, Any],
) -> None:
    async with simulated_org() as org:
        org.fault("flow", poison="p0077@", times=None, **automation)
        outcomes = await write(org, 200)
        assert failed(outcomes) == ["g/0077"]
        assert len(org.people()) == 199
        assert org.calls["composite_write"] == 5


@pytest.mark.slow
async def test_poison_rows_in_several_collections_are_all_found() -> None:
    async with simulated_org() as org:
        org.fault("flow", poison="77@", times=None)  # 0077, 0177 and so on
        outcomes = await write(org, 1000)
        assert sorted(failed(outcomes)) == [f"g/{number:04d}" for number in range(77, 1000, 100)]
        assert len(org.people()) == 990
        assert org.calls["composite_write"] <= MAX_ISOLATING_CALLS + 1


@AUTOMATION
@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=SLOW)])
async def test_a_flow_that_fails_for_every_row_is_a_fault_of_the_org_and_costs_a_few_calls(
    count: int, automation: dict[str, Any]
) -> None:
    async with simulated_org() as org:
        org.fault("flow", poison="acme.example", times=None, **automation)
        with pytest.raises(RequestRejected, match=automation.get("code", FAILED_FLOW)):
            await write(org, count)
        assert org.calls["composite_write"] <= 5
        org.world.faults.clear()
        outcomes = await write(org, count)
        assert {one.status for one in outcomes.values()} == {OutcomeStatus.CREATED}


@AUTOMATION
async def test_a_flow_that_fails_for_one_object_fails_few_rows_and_costs_a_few_calls(
    automation: dict[str, Any],
) -> None:
    """Nothing is proven of the Leads that were not tried alone: they are written once it works."""
    account = {"Id": "001000000000001AAA", "Name": "Acme", "Website": "acme.example"}
    async with simulated_org({"accounts": [account]}) as org:
        org.fault("flow", poison='"type": "Lead"', times=None, **automation)
        await org.sync.start()
        leads = [lead(number) for number in range(100, 200)]
        outcomes = {one.key: one for one in await org.sync.sync([*people(50), *leads])}
        assert {outcomes[one.key].status for one in people(50)} == {OutcomeStatus.CREATED}
        assert len(failed(outcomes)) == MAX_LONE_FAILURES
        assert {outcomes[one.key].errors[0].code for one in leads} == {
            automation.get("code", FAILED_FLOW)
        }
        assert org.calls["composite_write"] <= 5
        org.world.faults.clear()
        later = [one for one in leads if outcomes[one.key].status is OutcomeStatus.RETRY]
        assert len(later) == 100 - MAX_LONE_FAILURES
        assert {one.status for one in await org.sync.sync(later)} == {OutcomeStatus.CREATED}


async def test_poison_rows_side_by_side_never_take_others_with_them() -> None:
    """The first rows that are tried alone all fail, although most of the others are well."""
    async with simulated_org() as org:
        org.fault("flow", poison="p000", times=None)  # the first ten
        org.fault("flow", poison="0@", times=None)  # and every tenth
        outcomes = await write(org, 60)
        bad = {f"g/{number:04d}" for number in range(60) if number < 10 or number % 10 == 0}
        assert set(failed(outcomes)) <= bad
        assert {one.status for key, one in outcomes.items() if key not in bad} <= {
            OutcomeStatus.CREATED,
            OutcomeStatus.RETRY,
        }


@pytest.mark.slow
async def test_a_limit_that_even_single_rows_break_costs_a_few_calls_and_is_tried_again() -> None:
    async with simulated_org() as org:
        org.fault("flow", poison="acme.example", times=None, message="Apex CPU time limit exceeded")
        outcomes = await write(org, 1000)
        assert {one.status for one in outcomes.values()} == {OutcomeStatus.RETRY}
        assert {one.reason for one in outcomes.values()} == {"apex_limit"}
        assert org.calls["composite_write"] <= 9


async def test_a_flow_that_fails_for_a_single_row_is_permanent_for_it() -> None:
    async with simulated_org() as org:
        org.fault("flow", poison="p0000@", times=None)
        outcomes = await write(org, 1)
        assert failed(outcomes) == ["g/0000"]
        assert org.calls["composite_write"] == 1


async def test_a_row_that_fails_differently_from_all_others_is_not_sent_again() -> None:
    async with simulated_org() as org:
        org.fault("rows", every=30, code=FAILED_FLOW, message="its own", times=1)
        outcomes = await write(org, 50)
        assert len(failed(outcomes)) == 1
        assert org.calls["composite_write"] == 1


async def test_a_flow_that_meets_a_lock_is_tried_again_later() -> None:
    async with simulated_org() as org:
        org.fault(
            "flow",
            poison="p0007@",
            times=None,
            message="No podemos guardar este registro porque se produjo un error en el proceso "
            "“Sync”. UNABLE_TO_LOCK_ROW: unable to obtain exclusive access to this record or 1 "
            "records: 001000000000001.",
        )
        outcomes = await write(org, 20)
        assert {(one.status, one.reason) for one in outcomes.values()} == {
            (OutcomeStatus.RETRY, "unable_to_lock_row")
        }
        assert org.calls["composite_write"] == 1


async def test_rows_that_fail_alike_pass_when_a_smaller_collection_helps() -> None:
    """A limit in a language that the client does not know looks like any fault of a flow."""
    async with simulated_org() as org:
        org.fault(
            "flow", most=50, times=None, message="Límite de la transacción superado. Error: 55-12"
        )
        outcomes = await write(org, 400)
        assert {one.status for one in outcomes.values()} == {OutcomeStatus.CREATED}
        assert org.calls["composite_write"] <= 4


async def test_repeats_of_a_batch_share_calls_whatever_they_are_repeated_for() -> None:
    account = {"Id": "001000000000001AAA", "Name": "Acme", "Website": "acme.example"}
    async with simulated_org({"accounts": [account]}) as org:
        await org.sync.start()
        org.world.change_settings({"read_only_fields": ["Contact.Title"]})
        org.fault("rows", every=2, code="QUERY_TIMEOUT", times=1, contains='"Lead"')
        contacts = [
            replace(one, contact={**(one.contact or {}), "job_title": "Engineer"})
            for one in people(40)
        ]
        leads = [lead(number) for number in range(100, 140)]
        outcomes = await org.sync.sync([*contacts, *leads])
        assert {one.status for one in outcomes} == {OutcomeStatus.CREATED}
        assert org.calls["composite_write"] == 2
