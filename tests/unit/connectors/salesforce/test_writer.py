"""Requests that are refused whole: a poison row is isolated, a fault of the org fails no row."""

from collections.abc import Sequence
from typing import cast

import pytest

from connectors.salesforce.api.client import CompositeClient, Fence, no_fence
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.api.errors import Action, RequestRejected
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.writer import MAX_LONE_FAILURES, WriteContext, write_rows
from tests.support.salesforce_org import SimulatedOrg, simulated_org


def person(number: int) -> ContactVersion:
    return ContactVersion(
        f"g/{number:04d}",
        100,
        {"surname": f"P{number}", "emails": [{"email": f"p{number}@acme.example"}]},
    )


async def refuse(org: SimulatedOrg, contains: str = "", code: str = "SOME_NEW_CODE") -> None:
    """Every write with this in it is refused whole."""
    await org.sync.start()
    org.fault("status", status=400, code=code, contains=contains, times=None)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 64, 1000])
async def test_a_refusal_of_all_rows_is_a_fault_of_the_org(count: int) -> None:
    async with simulated_org() as org:
        await refuse(org)
        with pytest.raises(RequestRejected, match="SOME_NEW_CODE"):
            await org.sync.sync([person(number) for number in range(count)])
        assert org.calls["composite_write"] <= 30, "a call for each row"
        org.world.faults.clear()
        outcomes = await org.all(*(person(number) for number in range(count)))
        assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.CREATED}


@pytest.mark.parametrize("type_errors", ["call", "row"])
async def test_a_refusal_of_all_collections_is_a_fault_of_the_org(type_errors: str) -> None:
    """The refusal of each collection inside a Composite that is itself answered with 200."""
    async with simulated_org() as org:
        await org.sync.start()
        plan = await org.sync.resolve([person(number) for number in range(1000)])
        for decision in plan.decisions:
            assert decision.record is not None
            decision.record.fields["Nylas_Version__c"] = {"not": "a number"}
        org.world.change_settings({"type_errors": type_errors})
        if type_errors == "call":
            with pytest.raises(RequestRejected, match="JSON_PARSER_ERROR"):
                await org.sync.write(plan)
            assert org.calls["composite_write"] <= 30, "a call for each row"
        else:  # each row was read, and has an error of its own
            assert {outcome.status for outcome in await org.sync.write(plan)} == {
                OutcomeStatus.FAILED
            }


@pytest.mark.parametrize("code", ["SOME_NEW_CODE", "JSON_PARSER_ERROR"])
async def test_a_few_poison_rows_are_isolated_among_others_that_are_written(code: str) -> None:
    async with simulated_org() as org:
        await refuse(org, '"Email":"p7', code)  # p7 and p70 to p72
        outcomes = await org.all(*(person(number) for number in range(73)))
        failed = {
            key for key, outcome in outcomes.items() if outcome.status is OutcomeStatus.FAILED
        }
        assert failed == {"g/0007", "g/0070", "g/0071", "g/0072"}
        assert len(org.people()) == 69


@pytest.mark.slow
async def test_more_than_a_few_poison_rows_are_a_fault_of_the_org() -> None:
    async with simulated_org() as org:
        await refuse(org, '"Email":"p7')
        with pytest.raises(RequestRejected):
            await org.sync.sync([person(number) for number in range(70 + MAX_LONE_FAILURES)])


@pytest.mark.slow
async def test_a_batch_of_one_refused_row_is_a_fault_of_the_org() -> None:
    async with simulated_org() as org:
        await refuse(org, code="JSON_PARSER_ERROR")
        with pytest.raises(RequestRejected):
            await org.sync.sync([person(1)])


@pytest.mark.slow
async def test_rows_that_all_fail_with_an_unknown_code_are_a_fault_of_the_org() -> None:
    async with simulated_org() as org:
        await org.sync.start()
        org.fault("rows", code="A_CODE_OF_NEXT_YEAR", times=2)
        with pytest.raises(RequestRejected, match="A_CODE_OF_NEXT_YEAR"):
            await org.sync.sync([person(number) for number in range(50)])
        (outcome,) = await org.sync.sync([person(1)])
        assert outcome.status is OutcomeStatus.FAILED, "the org read the row and refused it"


class OrgWithoutLeadTitle:
    """Refuses a collection in which any Lead has a Title: the field was deleted a moment ago."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, str]] = {}

    async def composite(
        self, subrequests: Sequence[Subrequest], _kind: str, _fence: Fence = no_fence
    ) -> list[SubAnswer]:
        return [self._answer(one) for one in subrequests]

    def _answer(self, one: Subrequest) -> SubAnswer:
        records = (one.body or {})["records"]
        if any(row["attributes"]["type"] == "Lead" and "Title" in row for row in records):
            message = "No such column 'Title' on sobject of type Lead"
            error = {"errorCode": "INVALID_FIELD", "message": message, "fields": ["Title"]}
            return SubAnswer(one.reference_id, 400, [error])
        self.stored |= {row["Id"]: row for row in records}
        return SubAnswer(
            one.reference_id, 200, [{"id": row["Id"], "success": True} for row in records]
        )


async def test_contacts_keep_a_field_that_was_refused_of_the_leads_in_their_collection() -> None:
    org = OrgWithoutLeadTitle()
    refused: list[str] = []
    rows = [
        WriteRow(sobject, "update", {"Id": f"{sobject}{number}", "Title": "Boss", "Phone": "1"})
        for sobject in ("Lead", "Contact")
        for number in range(3)
    ]
    context = WriteContext(
        cast(CompositeClient, org), lambda sobject, name: refused.append(f"{sobject}.{name}")
    )
    written, left = await write_rows(context, rows)
    assert not left
    assert {one.verdict.action for one in written} == {Action.DONE}
    assert {*refused} == {"Lead.Title"}
    with_title = {record_id for record_id, row in org.stored.items() if "Title" in row}
    assert with_title == {f"Contact{number}" for number in range(3)}
    assert len(org.stored) == 6
