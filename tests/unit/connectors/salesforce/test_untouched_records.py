"""Which records that contactstream created nobody has touched."""

from typing import Any

import pytest

from connectors.salesforce.api.client import no_fence
from connectors.salesforce.api.errors import RequestRejected
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.restoration import describe_objects
from connectors.salesforce.untouched_records import Touch, find_touches
from tests.support.plain_org import change
from tests.support.salesforce_org import SimulatedOrg, simulated_org

OTHER_USER = "005000000000099AAA"


async def touches(org: SimulatedOrg) -> dict[str, Touch]:
    """Of every Lead, by its last name."""
    leads = {lead["Id"]: lead["LastName"] for lead in org.world.org.tables["Lead"].rows.values()}
    described = await describe_objects(org.client, ["Lead"], no_fence)
    found = await find_touches(
        org.client,
        org.world.org.user,
        dict.fromkeys(leads, "Lead"),
        described,
        FieldMapping(),
        no_fence,
    )
    return {leads[record_id]: touch for record_id, touch in found.items()}


def link(org: SimulatedOrg, sobject: str, **columns: Any) -> None:
    table = org.world.org.tables[sobject]
    table.put({"Id": table.new_id(), "IsDeleted": False, **columns})


async def test_only_records_that_nobody_touched_are_left_over() -> None:
    names = ("Calm", "Met", "Called", "Invited", "Edited", "Typed", "Converted", "Active")
    people = [change(f"g/{name}", f"{name}@{name}.com", last=name, title="T") for name in names]
    async with simulated_org() as org:
        await org.all(*people)
        leads = {lead["LastName"]: lead for lead in org.records("Lead")}
        link(org, "Event", WhoId=leads["Met"]["Id"])
        link(org, "Task", WhoId=leads["Called"]["Id"])
        link(org, "CampaignMember", LeadId=leads["Invited"]["Id"], ContactId=None)
        leads["Edited"]["LastModifiedById"] = OTHER_USER
        leads["Typed"]["Title"] = "what a person typed, before contactstream wrote a phone"
        leads["Converted"]["IsConverted"] = True
        leads["Active"]["LastActivityDate"] = "2026-01-31"
        org.calls.clear()
        assert await touches(org) == {
            "Met": Touch.ACTIVITY,
            "Called": Touch.ACTIVITY,
            "Invited": Touch.CAMPAIGN,
            "Edited": Touch.MODIFIED,
            "Typed": Touch.MODIFIED,
            "Converted": Touch.CONVERTED,
            "Active": Touch.ACTIVITY,
        }
        assert org.calls == {"composite_start": 1, "composite_query": 2}


async def test_a_deleted_record_counts_as_touched() -> None:
    async with simulated_org() as org:
        await org.all(change("g/1", "ada@acme.com", last="Lovelace"))
        described = await describe_objects(org.client, ["Lead"], no_fence)
        gone = {"00Q00000000ZZZZ": "Lead"}
        found = await find_touches(
            org.client, org.world.org.user, gone, described, FieldMapping(), no_fence
        )
        assert found == {"00Q00000000ZZZZ": Touch.GONE}


async def test_without_the_right_to_read_tasks_nothing_counts_as_untouched() -> None:
    async with simulated_org() as org:
        await org.all(change("g/1", "ada@acme.com", last="Lovelace"))
        del org.world.org.tables["Task"]
        with pytest.raises(RequestRejected):
            await touches(org)
