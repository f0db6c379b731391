"""What people merged and deleted in the org stands: merges are followed, deletions respected."""

from typing import Any

import pytest

from connectors.salesforce.deleted_records import DeletedRecord
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.simulator.schema import make_id
from tests.support.salesforce_org import SimulatedOrg, simulated_org

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
A, B, C, D = (make_id("003", number) for number in range(1, 5))
LEAD, OTHER_LEAD = make_id("00Q", 1), make_id("00Q", 2)


def change(key: str, *emails: str, version: int = 100, **more: Any) -> ContactVersion:
    contact = {
        "id": key,
        "emails": [{"email": email} for email in emails],
        "given_name": "Ada",
        "surname": "Lovelace",
    }
    return ContactVersion(key, version, contact | more)


def contact(record_id: str, email: str, **more: Any) -> dict[str, Any]:
    return {"Id": record_id, "FirstName": "Ada", "LastName": "Lovelace", "Email": email, **more}


def lead(record_id: str, email: str, **more: Any) -> dict[str, Any]:
    return contact(record_id, email, Company="x", **more)


async def one(org: SimulatedOrg, made: ContactVersion) -> Outcome:
    (outcome,) = await org.sync.sync([made])
    return outcome


def lookups(org: SimulatedOrg) -> int:
    """The calls that asked for records since the last time."""
    return org.calls.pop("composite_query", 0)


@pytest.mark.parametrize("shown", [False, True])
async def test_a_merge_is_followed_and_the_kept_record_takes_the_key_over(shown: bool) -> None:
    document = {
        "settings": {"deleted_parents": shown},
        "contacts": [contact(A, "ada@x.example", **{KEY: "g/1"}), contact(B, "al@x.example")],
    }
    async with simulated_org(document) as org:
        org.world.merge("Contact", B, [A])
        outcome = await one(org, change("g/1", "ada@x.example"))
        assert (outcome.status, outcome.matched) == (OutcomeStatus.UPDATED, "merged")
        (kept,) = org.people()
        assert (kept["Id"], kept[KEY], kept["Email"]) == (B, "g/1", "al@x.example")
        assert kept["Nylas_Email_2__c"] == "ada@x.example"
        assert lookups(org) == 1
        assert (await one(org, change("g/1", "ada@x.example"))).matched == "key"


async def test_a_record_kept_with_another_contacts_key_is_filled_with_the_address() -> None:
    contacts = [
        contact(A, "ada@x.example", **{KEY: "g/1"}),
        contact(B, "al@x.example", **{KEY: "h/1", VERSION: 100}),
    ]
    async with simulated_org({"contacts": contacts}) as org:
        org.world.merge("Contact", B, [A])
        outcome = await one(org, change("g/1", "ada@x.example"))
        assert (outcome.status, outcome.record_id) == (OutcomeStatus.FILLED, B)
        (kept,) = org.people()
        assert (kept[KEY], kept["Nylas_Email_2__c"]) == ("h/1", "ada@x.example")


@pytest.mark.parametrize("shown", [False, True])
async def test_a_chain_of_merges_costs_one_more_call(shown: bool) -> None:
    document = {
        "settings": {"deleted_parents": shown},
        "contacts": [
            contact(A, "a@x.example", **{KEY: "g/1"}),
            contact(B, "b@x.example"),
            contact(C, "c@x.example"),
        ],
    }
    async with simulated_org(document) as org:
        org.world.merge("Contact", B, [A])
        org.world.merge("Contact", C, [B])
        outcome = await one(org, change("g/1", "a@x.example"))
        assert (outcome.record_id, outcome.matched) == (C, "merged")
        assert lookups(org) == 2


async def test_a_chain_costs_the_further_call_once_though_its_contact_never_gets_the_key() -> None:
    contacts = [
        contact(A, "a@x.example", **{KEY: "g/1"}),
        contact(B, "b@x.example"),
        contact(C, "c@x.example", **{KEY: "h/1", VERSION: 100}),
    ]
    async with simulated_org({"contacts": contacts}) as org:
        org.world.merge("Contact", B, [A])
        org.world.merge("Contact", C, [B])
        for calls in (2, 1, 1):
            outcome = await one(org, change("g/1", "a@x.example"))
            assert (outcome.record_id, outcome.status) == (C, OutcomeStatus.FILLED)
            assert lookups(org) == calls


async def test_a_contact_that_was_purged_costs_the_further_call_once() -> None:
    document = {
        "leads": [
            lead(LEAD, "a@x.example", IsConverted=True, ConvertedContactId=A, **{KEY: "g/1"})
        ],
    }
    async with simulated_org(document) as org:
        for calls in (2, 1, 1):
            assert (await one(org, change("g/1", "a@x.example"))).reason == "converted_lead"
            assert lookups(org) == calls


async def test_a_converted_lead_is_followed_to_a_contact_that_was_merged() -> None:
    document = {
        "settings": {"lead_mapping": False},
        "contacts": [contact(A, "work@x.example"), contact(B, "b@x.example")],
        "leads": [lead(LEAD, "a@x.example", **{KEY: "g/1"})],
    }
    async with simulated_org(document) as org:
        org.world.convert(LEAD, A)
        org.world.merge("Contact", B, [A])
        outcome = await one(org, change("g/1", "a@x.example"))
        assert (outcome.record_id, outcome.matched) == (B, "converted_lead")
        assert lookups(org) == 2
        assert [row["Id"] for row in org.people()] == [B]


async def test_a_merged_lead_is_followed_to_the_contact_of_the_kept_lead() -> None:
    leads = [lead(LEAD, "a@x.example", **{KEY: "g/1"}), lead(OTHER_LEAD, "b@x.example")]
    async with simulated_org({"leads": leads}) as org:
        org.world.merge("Lead", OTHER_LEAD, [LEAD])
        made = org.world.convert(OTHER_LEAD, None)
        outcome = await one(org, change("g/1", "a@x.example"))
        assert (outcome.record_id, outcome.matched) == (made["Id"], "merged")


async def test_merges_in_a_circle_end() -> None:
    contacts = [
        contact(A, "a@x.example", IsDeleted=True, MasterRecordId=B, **{KEY: "g/1"}),
        contact(B, "b@x.example", IsDeleted=True, MasterRecordId=A),
    ]
    async with simulated_org({"contacts": contacts}) as org:
        outcome = await one(org, change("g/1", "a@x.example"))
        assert outcome.reason == "deleted_in_salesforce"
        assert lookups(org) == 2


async def test_a_batch_without_merges_takes_two_calls_as_before() -> None:
    async with simulated_org({"contacts": [contact(A, "a@x.example")]}) as org:
        await org.sync.sync([change("g/1", "a@x.example"), change("g/2", "b@x.example")])
        assert (lookups(org), org.calls["composite_write"]) == (1, 1)


@pytest.mark.parametrize("key", ["g/1", "h/1"])
async def test_a_deleted_record_is_not_made_again_by_its_key_nor_by_its_address(key: str) -> None:
    async with simulated_org() as org:
        await one(org, change("g/1", "junk@x.example"))
        (junk,) = org.records("Lead")
        org.world.delete("Lead", junk["Id"])
        outcome = await one(org, change(key, "junk@x.example"))
        assert (outcome.status, outcome.reason) == (OutcomeStatus.SKIPPED, "deleted_in_salesforce")
        assert not org.people()


async def test_a_record_that_was_merged_and_then_deleted_is_not_made_again() -> None:
    contacts = [contact(A, "a@x.example", **{KEY: "g/1"}), contact(B, "b@x.example")]
    async with simulated_org({"contacts": contacts}) as org:
        org.world.merge("Contact", B, [A])
        org.world.delete("Contact", B)
        assert (await one(org, change("g/1", "a@x.example"))).reason == "deleted_in_salesforce"


async def test_a_deletion_blocks_no_match_and_an_undeleted_record_matches_again() -> None:
    async with simulated_org() as org:
        await one(org, change("g/1", "ada@x.example"))
        (made,) = org.records("Lead")
        org.world.delete("Lead", made["Id"])
        org.world.add("Contact", contact(D, "ada@x.example"), "contact")
        assert (await one(org, change("h/1", "ada@x.example"))).record_id == D
        org.world.undelete("Lead", made["Id"])
        assert (await one(org, change("g/1", "ada@x.example"))).record_id == made["Id"]


async def test_a_deleted_record_without_our_key_blocks_nobody() -> None:
    contacts = [contact(A, "ada@x.example", IsDeleted=True)]
    async with simulated_org({"contacts": contacts}) as org:
        assert (await one(org, change("g/1", "ada@x.example"))).status is OutcomeStatus.CREATED


async def test_a_deleted_twin_of_a_living_record_with_the_same_key_blocks_nobody() -> None:
    document = {
        "contacts": [contact(A, "new@x.example", **{KEY: "g/1"})],
        "leads": [lead(LEAD, "ada@x.example", IsDeleted=True, **{KEY: "g/1"})],
    }
    async with simulated_org(document) as org:
        one_book, other_book = await org.sync.sync(
            [change("g/1", "new@x.example"), change("h/1", "ada@x.example")]
        )
        assert one_book.matched == "key"
        assert other_book.status is OutcomeStatus.CREATED


async def test_a_deleted_converted_lead_still_leads_to_its_contact() -> None:
    async with simulated_org({"settings": {"lead_mapping": False}}) as org:
        await one(org, change("g/1", "ada@x.example"))
        (made,) = org.records("Lead")
        kept = org.world.convert(made["Id"], None)
        org.world.delete("Lead", made["Id"])
        outcome = await one(org, change("g/1", "ada@x.example"))
        assert outcome.record_id == kept["Id"]


@pytest.mark.parametrize("acts", ["merge", "delete"])
async def test_a_record_that_goes_between_lookup_and_write_is_looked_up_anew(acts: str) -> None:
    contacts = [
        contact(A, "ada@x.example", **{KEY: "g/1", VERSION: 50}),
        contact(B, "al@x.example"),
    ]
    async with simulated_org({"contacts": contacts}) as org:
        newer = change("g/1", "ada@x.example", job_title="Engineer")
        plan = await org.sync.resolve([newer])
        if acts == "merge":
            org.world.merge("Contact", B, [A])
        else:
            org.world.delete("Contact", A)
        (outcome,) = await org.sync.write(plan)
        assert (outcome.status, outcome.reason) == (OutcomeStatus.RETRY, "entity_is_deleted")
        again = await one(org, newer)
        if acts == "merge":
            assert (again.record_id, again.matched) == (B, "merged")
        else:
            assert again.reason == "deleted_in_salesforce"


def remembered(key: str, record_id: str, master_id: str | None, *hashes: int) -> DeletedRecord:
    return DeletedRecord(key, record_id, master_id, 1_700_000_000, hashes)


async def test_what_is_remembered_stands_after_the_recycle_bin_is_emptied() -> None:
    contacts = [contact(B, "al@x.example")]
    async with simulated_org({"contacts": contacts}) as org:
        known = org.sync.deleted_records
        known.remember(remembered("g/1", A, B, known.hash_of("ada@x.example")))
        known.remember(remembered("g/2", C, None, known.hash_of("junk@x.example")))
        merged = await one(org, change("g/1", "ada@x.example"))
        assert (merged.record_id, merged.matched) == (B, "merged")
        assert lookups(org) == 1
        for key, address in (("g/2", "new@x.example"), ("h/2", "junk@x.example")):
            assert (await one(org, change(key, address))).reason == "deleted_in_salesforce"
        assert lookups(org) == 2


async def test_a_remembered_record_whose_master_is_purged_is_not_made_again() -> None:
    async with simulated_org() as org:
        org.sync.deleted_records.remember(remembered("g/1", A, B))
        assert (await one(org, change("g/1", "ada@x.example"))).reason == "deleted_in_salesforce"
        assert lookups(org) == 1


async def test_a_remembered_record_that_was_brought_back_blocks_nobody() -> None:
    contacts = [contact(A, "new@x.example", **{KEY: "g/1"})]
    async with simulated_org({"contacts": contacts}) as org:
        known = org.sync.deleted_records
        known.remember(remembered("g/1", A, None, known.hash_of("ada@x.example")))
        assert (await one(org, change("h/1", "ada@x.example"))).status is OutcomeStatus.CREATED
        assert (await one(org, change("g/1", "new@x.example"))).matched == "key"


@pytest.mark.parametrize("by", ["key", "address"])
async def test_a_lifted_deletion_blocks_nobody_though_the_bin_still_holds_the_record(
    by: str,
) -> None:
    async with simulated_org() as org:
        await one(org, change("g/1", "ada@x.example"))
        (made,) = org.records("Lead")
        org.world.delete("Lead", made["Id"])
        known, now = org.sync.deleted_records, int(org.world.now().timestamp())
        if by == "key":
            known.lift_key("g/1", now)
        else:
            known.lift_hash(known.hash_of("ada@x.example"), now)
        assert (await one(org, change("g/1", "ada@x.example"))).status is OutcomeStatus.CREATED
