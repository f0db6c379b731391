"""Former values come back where ours still stands, and count as people's from then on."""

from typing import Any

import pytest

from connectors.salesforce.api.client import no_fence
from connectors.salesforce.api.composite import WRITE_HEADERS
from connectors.salesforce.api.errors import WriterFenced
from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.outcome import Outcome
from connectors.salesforce.policy import Policy
from connectors.salesforce.restoration import (
    Standing,
    ValueToRestore,
    describe_objects,
    read_records,
    restore,
    standing,
)
from tests.support.plain_org import change
from tests.support.salesforce_org import SimulatedOrg, simulated_org

ALWAYS = Policy(mapping=parse_mapping("[lead]\nTitle = { policy = 'always' }"))


def ada(version: int, title: str, address: str = "ada@acme.com", **more: Any) -> Any:
    return change("g/1", address, last="Lovelace", title=title, version=version, **more)


def wanted(outcome: Outcome) -> list[ValueToRestore]:
    """What the write of a contact replaced, as an undo would restore it."""
    return [
        ValueToRestore(one.sobject, one.record_id, one.field, one.old, one.new)
        for one in outcome.replaced
    ]


async def stands(org: SimulatedOrg, values: list[ValueToRestore]) -> list[Standing]:
    described = await describe_objects(org.client, ["Lead"], no_fence)
    records = await read_records(org.client, values, described, no_fence)
    return [standing(one, records.get(one.record_id), described[one.sobject]) for one in values]


async def replaced(org: SimulatedOrg) -> list[ValueToRestore]:
    """A Lead whose title and address were replaced."""
    await org.all(ada(100, "Engineer"))
    outcomes = await org.all(ada(101, "Analyst", "ada@new.com"))
    return [one for one in wanted(outcomes["g/1"]) if one.field in {"Title", "Email"}]


async def test_restored_values_are_never_written_again_although_the_contact_changes() -> None:
    async with simulated_org() as org:
        values = await replaced(org)
        assert {(one.field, one.wanted, one.ours) for one in values} == {
            ("Title", "Engineer", "Analyst"),
            ("Email", "ada@acme.com", "ada@new.com"),
        }
        assert set(await stands(org, values)) == {Standing.OURS}
        results = await restore(org.client, values, WRITE_HEADERS, no_fence)
        assert results == dict.fromkeys(values, "")
        (lead,) = org.records("Lead")
        assert (lead["Title"], lead["Email"]) == ("Engineer", "ada@acme.com")
        assert set(await stands(org, values)) == {Standing.RESTORED}, "again there is nothing to do"
        await org.all(ada(102, "Director", "ada@third.com", phone_numbers=[{"number": "1"}]))
        (lead,) = org.records("Lead")
        assert (lead["Title"], lead["Email"], lead["Phone"]) == ("Engineer", "ada@acme.com", "1")


async def test_a_field_that_the_mapping_always_writes_is_written_again() -> None:
    async with simulated_org(policy=ALWAYS) as org:
        values = [one for one in await replaced(org) if one.field == "Title"]
        await restore(org.client, values, WRITE_HEADERS, no_fence)
        await org.all(ada(102, "Director"))
        assert org.records("Lead")[0]["Title"] == "Director"


async def test_a_value_that_a_person_typed_since_is_seen_and_a_lost_record_as_well() -> None:
    async with simulated_org() as org:
        values = await replaced(org)
        title = [one for one in values if one.field == "Title"]
        (lead,) = org.records("Lead")
        lead["Title"] = "Typed"
        assert await stands(org, title) == [Standing.CHANGED]
        lead |= {"Title": "Analyst", "IsConverted": True}
        assert await stands(org, title) == [Standing.CONVERTED]
        gone = ValueToRestore("Lead", "00Q00000000ZZZZ", "Title", "a", "b")
        assert await stands(org, [gone]) == [Standing.RECORD_GONE]
        lost = ValueToRestore("Lead", lead["Id"], "Lost__c", "a", "b")
        lead["IsConverted"] = False
        assert await stands(org, [lost]) == [Standing.NOT_WRITABLE]


async def test_a_refused_row_is_named_with_its_reason_and_others_are_restored() -> None:
    async with simulated_org() as org:
        await org.all(ada(100, "Engineer"), change("g/2", "bob@b.com", last="B", title="Clerk"))
        outcomes = await org.all(
            ada(101, "Analyst"),
            change("g/2", "bob@b.com", last="B", title="Chief", version=101),
        )
        values = [one for key in ("g/1", "g/2") for one in wanted(outcomes[key])]
        org.fault("rows", code="FIELD_CUSTOM_VALIDATION_EXCEPTION", every=2)
        results = await restore(org.client, values, WRITE_HEADERS, no_fence)
        (refused,) = (value for value, reason in results.items() if reason)
        assert len(results) == 2
        for lead in org.records("Lead"):
            by_id = {value.record_id: value for value in results}
            value = by_id[lead["Id"]]
            assert lead["Title"] == (value.ours if value == refused else value.wanted)


async def test_nothing_is_written_past_the_fence() -> None:
    def closed() -> None:
        raise WriterFenced("the pause is over")

    async with simulated_org() as org:
        values = await replaced(org)
        with pytest.raises(WriterFenced):
            await restore(org.client, values, WRITE_HEADERS, closed)
        assert org.records("Lead")[0]["Title"] == "Analyst"


async def test_a_thousand_records_take_one_call_to_read_and_one_to_write() -> None:
    people = [change(f"g/{n}", f"p{n}@p{n}.com", last=f"P{n}", title="Old") for n in range(1000)]
    newer = [
        change(f"g/{n}", f"p{n}@p{n}.com", last=f"P{n}", title="New", version=101)
        for n in range(1000)
    ]
    async with simulated_org() as org:
        await org.all(*people)
        outcomes = await org.all(*newer)
        values = [one for outcome in outcomes.values() for one in wanted(outcome)]
        described = await describe_objects(org.client, ["Lead"], no_fence)
        org.calls.clear()
        records = await read_records(org.client, values, described, no_fence)
        await restore(org.client, values, WRITE_HEADERS, no_fence)
        assert (len(values), len(records)) == (1000, 1000)
        assert org.calls == {"composite_query": 1, "composite_write": 1}
        assert {lead["Title"] for lead in org.records("Lead")} == {"Old"}
