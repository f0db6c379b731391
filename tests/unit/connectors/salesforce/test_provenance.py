"""The optional fields of a record: created by us, last written, why, and whose address book."""

from typing import Any

import pytest

from connectors.salesforce.api.describe import parse_describe
from connectors.salesforce.checkup import CheckupStatus
from connectors.salesforce.checkup.optional_fields import optional_fields
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.policy import Policy
from connectors.salesforce.provenance_fields import (
    CREATED_FIELD,
    MAILBOX_FIELD,
    PROVENANCE_FIELDS,
    WHY_FIELD,
    WRITTEN_FIELD,
)
from connectors.salesforce.simulator.world import World
from tests.support.salesforce_org import SimulatedOrg, simulated_org

DEPLOYED: dict[str, Any] = {
    CREATED_FIELD: {"type": "boolean"},
    WRITTEN_FIELD: {"type": "datetime"},
    WHY_FIELD: {"type": "string", "length": 255},
    MAILBOX_FIELD: {"type": "string", "length": 255},
}
WORLD: dict[str, Any] = {
    "fields": {"Contact": DEPLOYED, "Lead": DEPLOYED},
    "leads": [{"LastName": "Hopper", "Company": "Navy", "Email": "grace@navy.example"}],
}
MAILBOX = Policy(source_mailbox=True)
ADDRESSES = {"g": "rep@reps.example", "h": "other@reps.example"}


def change(
    key: str, name: str, email: str, version: int = 100, origin: str = "backfill", **more: Any
) -> ContactVersion:
    contact = {"id": key, "emails": [{"email": email}], "surname": name, **more}
    return ContactVersion(key, version, contact, origin=origin)


ADA = change("g/1", "Lovelace", "ada@else.example")
GRACE = change("g/2", "Hopper", "grace@navy.example", origin="webhook", job_title="Admiral")


def by_name(org: SimulatedOrg) -> dict[str, dict[str, Any]]:
    return {row["LastName"]: row for row in org.records("Lead")}


async def test_a_created_and_a_found_record_say_what_they_are() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(ADA, GRACE)
        ada, grace = by_name(org)["Lovelace"], by_name(org)["Hopper"]
        assert ada[CREATED_FIELD] is True
        assert not grace.get(CREATED_FIELD)
        assert ada[WHY_FIELD] == "created: nobody was found by key, name or address (backfill)"
        assert grace[WHY_FIELD] == "updated: found by name and address (webhook)"
        assert ada[WRITTEN_FIELD] == grace[WRITTEN_FIELD] == "2025-06-15T15:06:40.000+0000"
        assert MAILBOX_FIELD not in ada


async def test_a_contact_that_changes_nothing_writes_nothing_however_late_it_is() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(ADA)
        calls, writes = org.calls["composite_write"], len(org.world.org.writes)
        org.now += 86_400
        outcomes = await org.all(ADA)
        assert outcomes["g/1"].status is OutcomeStatus.UNCHANGED
        assert (org.calls["composite_write"], len(org.world.org.writes)) == (calls, writes)
        assert by_name(org)["Lovelace"][WRITTEN_FIELD] == "2025-06-15T15:06:40.000+0000"


async def test_the_next_write_says_when_and_why_it_was_made() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(ADA)
        org.now += 60
        later = change("g/1", "King", "ada@else.example", version=200, origin="webhook")
        outcomes = await org.all(later)
        lead = by_name(org)["King"]
        assert lead[WRITTEN_FIELD] == "2025-06-15T15:07:40.000+0000"
        assert lead[WHY_FIELD] == "updated: found by its key (webhook)"
        assert lead[CREATED_FIELD] is True
        assert {one.field for one in outcomes["g/1"].replaced} == {"LastName"}


async def test_an_org_without_the_fields_gets_none_of_them() -> None:
    async with simulated_org() as org:
        await org.all(ADA)
        assert not any(write.fields.keys() & PROVENANCE_FIELDS for write in org.world.org.writes)
        assert not org.counts


async def test_a_field_that_our_user_may_not_edit_is_left_alone() -> None:
    settings = {
        "read_only_fields": [f"Lead.{WHY_FIELD}"],
        "hidden_fields": [f"Lead.{CREATED_FIELD}"],
    }
    async with simulated_org({**WORLD, "settings": settings}) as org:
        outcomes = await org.all(ADA)
        assert outcomes["g/1"].status is OutcomeStatus.CREATED
        lead = by_name(org)["Lovelace"]
        assert WRITTEN_FIELD in lead
        assert WHY_FIELD not in lead
        assert not org.counts


async def test_the_mailbox_is_that_of_the_owner_of_the_record_and_goes_with_it() -> None:
    async with simulated_org(WORLD) as org:
        sync = org.new_sync(org.client, MAILBOX, grant_address=ADDRESSES.get)
        await sync.sync([ADA])
        assert by_name(org)["Lovelace"][MAILBOX_FIELD] == "rep@reps.example"
        filler = change("h/9", "Lovelace", "ada@else.example", job_title="Countess")
        await sync.sync([filler])
        lead = by_name(org)["Lovelace"]
        assert (lead["Title"], lead[MAILBOX_FIELD]) == ("Countess", "rep@reps.example")
        assert lead[WHY_FIELD] == "blanks filled: found by name and address (backfill)"
        await sync.sync([ContactVersion("g/1", 300, None)])
        lead = by_name(org)["Lovelace"]
        assert MAILBOX_FIELD not in lead
        assert lead[WHY_FIELD] == "released: the contact was deleted"


async def test_of_an_erased_person_none_of_them_stays() -> None:
    async with simulated_org(WORLD) as org:
        sync = org.new_sync(org.client, MAILBOX, grant_address=ADDRESSES.get)
        await sync.sync([ADA])
        await sync.sync([ContactVersion("g/1", 300, None, origin="erasure", erase=True)])
        lead = by_name(org)["Lovelace"]
        assert {name: lead.get(name) for name in PROVENANCE_FIELDS if lead.get(name)} == {}


async def test_a_row_that_is_left_with_optional_fields_alone_is_not_written() -> None:
    async with simulated_org(WORLD) as org:
        await org.all(ADA)
        writes = len(org.world.org.writes)
        code = "INVALID_FIELD_FOR_INSERT_UPDATE"
        names = ["Title", "Nylas_Version__c"]
        org.fault("rows", code=code, fields=names[:1], times=1)
        titled = change("g/1", "Lovelace", "ada@else.example", job_title="Countess")
        await org.all(titled)
        assert org.counted(SyncWarning.FIELD_REFUSED) == {"Lead.Title": 1}
        assert not [
            write
            for write in org.world.org.writes[writes:]
            if write.fields.keys() <= PROVENANCE_FIELDS
        ]


@pytest.mark.parametrize(
    ("world", "mailbox", "status", "text"),
    [
        ({}, False, CheckupStatus.OK, "none is deployed"),
        (WORLD, False, CheckupStatus.OK, f"filled: {CREATED_FIELD}"),
        ({}, True, CheckupStatus.WARN, f"{MAILBOX_FIELD} is missing"),
        (
            {**WORLD, "settings": {"read_only_fields": [f"Lead.{WHY_FIELD}"]}},
            False,
            CheckupStatus.WARN,
            f"{WHY_FIELD}: the user may not edit",
        ),
    ],
)
def test_doctor_says_which_are_filled(
    world: dict[str, Any], mailbox: bool, status: CheckupStatus, text: str
) -> None:
    described = parse_describe(World(world).org.tables["Lead"].sobject.describe())
    found = optional_fields(described, source_mailbox=mailbox)
    assert found.status is status
    assert text in found.finding
