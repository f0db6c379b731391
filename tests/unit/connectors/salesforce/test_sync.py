"""A batch against a simulated org: two calls, an outcome for each row, changes made meanwhile."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from connectors.salesforce.account_cache import ACCOUNT_RETRY_SECONDS
from connectors.salesforce.api.client import Fence
from connectors.salesforce.api.composite import SubAnswer
from connectors.salesforce.api.errors import OrgUnavailable
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.org_metadata import DESCRIBE_INTERVAL_SECONDS
from connectors.salesforce.outcome import NEXT_BATCH, NO_ROOM, ContactVersion, OutcomeStatus
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.schema import OrgNotPrepared
from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.suppression import Suppression
from connectors.salesforce.sync import Sync
from tests.support.salesforce_org import Composite, SimulatedOrg, simulated_org

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
MARKER = "Nylas_Field_Hashes__c"
ACME = make_id("001", 1)
ACCOUNTS: dict[str, Any] = {
    "accounts": [{"Id": ACME, "Name": "Acme", "Website": "https://www.acme.example"}]
}


def change(key: str, *emails: str, version: int = 100, **more: Any) -> ContactVersion:
    contact: dict[str, Any] = {
        "id": key,
        "emails": [{"email": email} for email in emails],
        "surname": "Lovelace",
    }
    return ContactVersion(key, version, contact | more)


def person(
    number: int, grant: str = "g", domain: str = "acme.example", **more: Any
) -> ContactVersion:
    return change(
        f"{grant}/{number:04d}", f"p{number}@{domain}", surname=f"Person {number}", **more
    )


async def one(org: SimulatedOrg, made: ContactVersion) -> Any:
    (outcome,) = await org.sync.sync([made])
    return outcome


async def test_a_first_sync_takes_two_calls_for_a_batch() -> None:
    async with simulated_org(ACCOUNTS) as org:
        changes = [
            person(number, domain="else.example" if number % 5 < 2 else "acme.example")
            for number in range(1000)
        ]
        outcomes = await org.all(*changes)
        assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.CREATED}
        assert (len(org.records("Contact")), len(org.records("Lead"))) == (600, 400)
        assert {row["AccountId"] for row in org.records("Contact")} == {ACME}
        assert org.calls == {
            "token": 1,
            "composite_start": 1,
            "composite_query": 1,
            "composite_write": 1,
        }
        again = await org.all(*changes)
        assert {outcome.status for outcome in again.values()} == {OutcomeStatus.UNCHANGED}
        assert (org.calls["composite_query"], org.calls["composite_write"]) == (2, 1)


class ReadContact(dict[str, Any]):
    """A contact that notes which of its fields are read."""

    def __init__(self, contact: Mapping[str, Any]) -> None:
        super().__init__(contact)
        self.read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


async def test_nothing_is_read_of_a_contact_but_what_is_kept_of_it() -> None:
    leads = [{"LastName": "Lovelace", "Company": "x", "Email": "ada@else.example"}]
    async with simulated_org({"leads": leads}) as org:
        contact = ReadContact(
            {
                "emails": [{"email": "ada@else.example"}],
                "given_name": "Ada",
                "surname": "Lovelace",
                "nickname": "A",
                "suffix": "Jr.",
                "company_name": "Else",
                "job_title": "Analyst",
                "notes": "x" * 1000,
            }
        )
        await one(org, ContactVersion("g/ada", 100, contact))
        kept = org.sync.needed(dict.fromkeys(contact.read, "x") | {"notes": "x"})
        assert kept.keys() == contact.read
        assert {"nickname", "suffix", "job_title"} <= kept.keys()


async def test_a_batch_mixes_creations_and_updates_of_both_objects() -> None:
    leads = [
        {"LastName": f"PERSON {number}", "Company": "x", "Email": f"P{number}@else.example"}
        for number in range(20)
    ]
    contacts = [
        {"LastName": f"PERSON {number}", "Email": f"p{number}@acme.example"} for number in range(20)
    ]
    async with simulated_org({**ACCOUNTS, "leads": leads, "contacts": contacts}) as org:
        changes = [
            person(number, grant=domain, domain=f"{domain}.example")
            for number in range(40)
            for domain in ("acme", "else")
        ]
        outcomes = await org.all(*changes)
        statuses = [outcome.status for outcome in outcomes.values()]
        assert (statuses.count(OutcomeStatus.CREATED), statuses.count(OutcomeStatus.UPDATED)) == (
            40,
            40,
        )
        assert len(org.people()) == 80
        assert org.calls["composite_write"] == 1
        assert {outcome.matched for outcome in outcomes.values()} == {None, "email"}


async def test_contacts_that_have_no_room_wait_for_the_next_batch() -> None:
    async with simulated_org() as org:
        many = [person(number, grant="g" * 36, nickname="x") for number in range(1300)]
        outcomes = await org.sync.sync(many)
        waiting = [outcome for outcome in outcomes if outcome.status is OutcomeStatus.RETRY]
        assert {outcome.reason for outcome in waiting} == {NO_ROOM}
        assert len(outcomes) == 1300
        assert 600 <= len(org.people()) == 1300 - len(waiting) <= 1000


async def test_an_address_with_a_plus_is_found() -> None:
    async with simulated_org(
        {"contacts": [{"LastName": "Lovelace", "Email": "a+b@acme.example"}]}
    ) as org:
        assert (await one(org, change("g/1", "a+b@acme.example"))).matched == "email"


async def test_a_rule_that_alerts_is_passed_and_one_that_blocks_fails_the_row_with_the_record() -> (
    None
):
    rules = [
        {"name": "A", "sobject": "Lead", "match_on": ["LastName"], "action": "Alert"},
        {"name": "B", "sobject": "Lead", "match_on": ["Phone"], "action": "Block"},
    ]
    lead = {"LastName": "Lovelace", "Company": "x", "Phone": "1", "Email": "other@else.example"}
    async with simulated_org({"duplicate_rules": rules, "leads": [lead]}) as org:
        assert (await one(org, change("g/1", "ada@else.example"))).status is OutcomeStatus.CREATED
        blocked = await one(org, change("g/2", "bob@else.example", phone_numbers=[{"number": "1"}]))
        assert (blocked.status, blocked.reason) == (OutcomeStatus.FAILED, "duplicates_detected")
        assert [match.record_id for error in blocked.errors for match in error.duplicates] == [
            org.records("Lead")[0]["Id"]
        ]


async def test_a_blocked_person_who_was_typed_in_meanwhile_is_adopted() -> None:
    rule = {"name": "B", "sobject": "Lead", "match_on": ["Email"], "action": "Block"}
    async with simulated_org({"duplicate_rules": [rule]}) as org:
        plan = await org.sync.resolve(
            [
                change("g/1", "ada@else.example", job_title="Engineer"),
                change("h/1", "ADA@else.example"),
            ]
        )
        typed = org.world.add(
            "Lead", {"LastName": "Lovelace", "Company": "x", "Email": "ada@else.example"}, "test"
        )
        rows = [dict(row.fields) for row in plan.rows]
        outcomes = {outcome.key: outcome for outcome in await org.sync.write(plan)}
        assert {outcome.record_id for outcome in outcomes.values()} == {typed["Id"]}
        assert [dict(row.fields) for row in plan.rows] == rows
        assert plan.candidates.records == {}, "writing changed the plan"
        assert (outcomes["g/1"].matched, outcomes["g/1"].status) == (
            "duplicate_rule",
            OutcomeStatus.UPDATED,
        )
        assert outcomes["h/1"].status is OutcomeStatus.FILLED
        (record,) = org.people()
        assert (record[KEY], record["Title"], record["Company"]) == ("g/1", "Engineer", "x")


async def test_a_blocked_person_never_adopts_the_record_of_another_name() -> None:
    rule = {"name": "B", "sobject": "Lead", "match_on": ["Email"], "action": "Block"}
    async with simulated_org({"duplicate_rules": [rule]}) as org:
        plan = await org.sync.resolve(
            [
                change("g/1", "home@else.example", given_name="Ada"),
                change("h/1", "home@else.example", given_name="William"),
            ]
        )
        typed = org.world.add(
            "Lead",
            {
                "FirstName": "Bob",
                "LastName": "Jones",
                "Company": "x",
                "Email": "home@else.example",
            },
            "test",
        )
        outcomes = {outcome.key: outcome for outcome in await org.sync.write(plan)}
        assert (outcomes["g/1"].status, outcomes["g/1"].candidates) == ("covered", (typed["Id"],))
        # nothing of Ada was created that covers William
        assert (outcomes["h/1"].status, outcomes["h/1"].reason) == ("retry", NEXT_BATCH)
        assert (
            await one(org, change("h/1", "home@else.example", given_name="William"))
        ).status == ("covered")
        (record,) = org.people()
        assert (record["FirstName"], record.get(KEY)) == ("Bob", None)


async def test_a_contact_covered_by_a_record_of_its_batch_names_it_and_shares_its_fate() -> None:
    async with simulated_org() as org:
        family = [
            change("g/1", "home@else.example", given_name="Ada"),
            change("g/2", "home@else.example", given_name="William"),
        ]
        await org.sync.start()
        org.fault("rows", code="UNABLE_TO_LOCK_ROW")
        locked = await org.sync.sync(family)
        assert {outcome.status for outcome in locked} == {OutcomeStatus.RETRY}
        org.fault("rows", code="FIELD_CUSTOM_VALIDATION_EXCEPTION")
        outcomes = await org.all(*family)
        (record,) = org.people()
        assert (record["FirstName"], outcomes["g/1"].status) == ("Ada", "created")
        assert (outcomes["g/2"].status, outcomes["g/2"].record_id) == ("covered", record["Id"])
        assert outcomes["g/2"].candidates == (record["Id"],)


async def test_of_two_equal_records_the_one_with_activity_is_taken() -> None:
    contacts = [
        {"LastName": "Lovelace", "Email": "ada@acme.example", "LastActivityDate": day}
        for day in ("2026-01-01", "2026-03-01", "2026-02-01", None)
    ]
    async with simulated_org({"contacts": contacts}) as org:
        outcome = await one(org, change("g/1", "ada@acme.example"))
        (active,) = [
            record for record in org.people() if record.get("LastActivityDate") == "2026-03-01"
        ]
        assert (outcome.record_id, outcome.several_matched) == (active["Id"], True)
        assert org.counts[SyncWarning.SEVERAL_MATCHED, ""] == 1


async def test_two_batches_never_adopt_one_record_at_once() -> None:
    rule = {"name": "B", "sobject": "Lead", "match_on": ["LastName"], "action": "Block"}
    async with simulated_org(
        {"duplicate_rules": [rule], "settings": {"latency_ms_call": 30}}
    ) as org:
        changes = [change("g/1", "ada@else.example"), change("h/1", "ada@home.example")]
        plans = [await org.sync.resolve([made]) for made in changes]
        lead = {
            "LastName": "Lovelace",
            "Company": "x",
            "Email": "ada@else.example",
            "Nylas_Email_2__c": "ada@home.example",
        }
        org.world.add("Lead", lead, "test")
        outcomes = [
            one for batch in await asyncio.gather(*map(org.sync.write, plans)) for one in batch
        ]
        assert sorted(outcome.status for outcome in outcomes) == [
            OutcomeStatus.RETRY,
            OutcomeStatus.UPDATED,
        ]
        (adopted,) = [
            outcome.key for outcome in outcomes if outcome.status is OutcomeStatus.UPDATED
        ]
        (record,) = org.people()
        assert record[KEY] == adopted
        (late,) = [made for made in changes if made.key != adopted]
        assert (await one(org, late)).status is OutcomeStatus.FILLED


async def test_a_person_erased_while_a_rule_blocked_it_is_not_adopted() -> None:
    rule = {"name": "B", "sobject": "Lead", "match_on": ["Email"], "action": "Block"}
    async with simulated_org({"duplicate_rules": [rule]}) as org:
        plan = await org.sync.resolve([change("g/1", "ada@else.example")])
        org.world.add(
            "Lead", {"LastName": "Lovelace", "Company": "x", "Email": "ada@else.example"}, "test"
        )

        async def erasing(composite: Composite, *arguments: Any) -> Any:
            answers = await composite(*arguments)
            org.sync.policy = replace(
                org.sync.policy, suppression=Suppression().adding(["ada@else.example"])
            )
            return answers

        org.client.intercept = erasing
        (outcome,) = await org.sync.write(plan)
        assert (outcome.status, outcome.reason) == (OutcomeStatus.SKIPPED, "suppressed")
        assert org.people()[0].get(KEY) is None


async def test_a_deletion_is_tried_again_when_one_of_its_two_rows_failed() -> None:
    document = {
        "contacts": [{"LastName": "A", KEY: "g/1"}],
        "leads": [{"LastName": "A", "Company": "x", KEY: "g/1"}],
    }
    async with simulated_org(document) as org:
        await org.sync.start()
        org.fault("rows", every=2, code="UNABLE_TO_LOCK_ROW")
        assert (await one(org, ContactVersion("g/1", 200, None))).status is OutcomeStatus.RETRY
        assert [record.get(KEY) for record in org.people()].count("g/1") == 1
        assert (await one(org, ContactVersion("g/1", 200, None))).status is OutcomeStatus.RELEASED
        assert [record.get(KEY) for record in org.people()] == [None, None]


async def test_people_whose_common_row_fails_are_tried_one_by_one() -> None:
    async with simulated_org() as org:
        await org.sync.start()
        org.fault("rows", code="FIELD_CUSTOM_VALIDATION_EXCEPTION")
        outcomes = {
            outcome.key: outcome
            for outcome in await org.sync.sync(
                [change("g/1", "ada@else.example"), change("h/1", "ada@else.example")]
            )
        }
        assert sorted(outcome.status for outcome in outcomes.values()) == [
            OutcomeStatus.CREATED,
            OutcomeStatus.FILLED,
        ]
        assert len(org.people()) == 1


async def test_a_row_that_is_refused_fails_alone() -> None:
    async with simulated_org() as org:
        await org.sync.start()
        org.fault("rows", every=10, code="FIELD_CUSTOM_VALIDATION_EXCEPTION")
        outcomes = await org.all(*(person(number) for number in range(100)))
        failed = [
            outcome for outcome in outcomes.values() if outcome.status is OutcomeStatus.FAILED
        ]
        assert len(failed) == 10
        assert {outcome.reason for outcome in failed} == {"field_custom_validation_exception"}
        assert all(outcome.errors for outcome in failed)
        assert len(org.people()) == 90


async def test_a_locked_row_is_to_be_tried_again() -> None:
    async with simulated_org() as org:
        await org.sync.start()
        org.fault("rows", every=2, code="UNABLE_TO_LOCK_ROW")
        changes = [person(number) for number in range(10)]
        outcomes = await org.all(*changes)
        locked = [outcome for outcome in outcomes.values() if outcome.status is OutcomeStatus.RETRY]
        assert {outcome.reason for outcome in locked} == {"unable_to_lock_row"}
        again = await org.all(
            *(made for made in changes if outcomes[made.key].status is OutcomeStatus.RETRY)
        )
        assert {outcome.status for outcome in again.values()} == {OutcomeStatus.CREATED}
        assert len(org.people()) == 10


@pytest.mark.slow
async def test_a_collection_that_breaks_a_governor_limit_is_halved() -> None:
    async with simulated_org({"settings": {"governor_rows": 60}}) as org:
        outcomes = await org.all(*(person(number) for number in range(400)))
        assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.CREATED}
        assert org.calls["composite_write"] <= 4


async def test_a_request_that_cannot_be_read_is_split_until_the_poison_row_is_alone() -> None:
    async with simulated_org() as org:
        await org.sync.start()
        org.fault(
            "status",
            status=400,
            code="JSON_PARSER_ERROR",
            contains='"Email":"p77@acme.example"',
            times=None,
        )
        outcomes = await org.all(*(person(number) for number in range(200)))
        failed = [
            outcome.key for outcome in outcomes.values() if outcome.status is OutcomeStatus.FAILED
        ]
        assert failed == ["g/0077"]
        assert len(org.people()) == 199


@pytest.mark.slow
async def test_a_field_hidden_since_the_start_is_left_out_and_counted() -> None:
    async with simulated_org() as org:
        await org.all(person(1))
        org.world.change_settings({"read_only_fields": ["Lead.Title"]})
        outcomes = await org.all(*(person(number, job_title="Engineer") for number in range(2, 10)))
        assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.CREATED}
        assert org.counts[SyncWarning.FIELD_REFUSED, "Lead.Title"] >= 1
        writes = org.calls["composite_write"]
        await org.all(*(person(number, job_title="Engineer") for number in range(10, 20)))
        assert org.calls["composite_write"] == writes + 1


async def test_a_field_that_one_row_may_not_have_is_still_written_in_other_rows() -> None:
    async with simulated_org() as org:
        await org.all(person(1, job_title="Engineer"))
        refusal = {
            "code": "INVALID_FIELD_FOR_INSERT_UPDATE",
            "fields": ["LastName", "Title"],
            "contains": "Person 2",
        }
        for number in (2, 3):
            org.fault("rows", **refusal)
            outcomes = await org.all(
                change(
                    "g/0001",
                    "p1@acme.example",
                    surname=f"Person 2{number}",
                    job_title="Boss",
                    version=100 + number,
                )
            )
            assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.UPDATED}
        assert org.calls["composite_start"] == 2, "the describe is asked once for some time"
        org.fault("rows", **refusal)
        refused = await one(org, person(2, job_title="Boss"))
        assert (refused.status, refused.reason) == (
            OutcomeStatus.FAILED,
            "invalid_field_for_insert_update",
        )
        assert (await one(org, person(4, job_title="Boss"))).status is OutcomeStatus.CREATED
        assert {(row["LastName"], row["Title"]) for row in org.people()} == {
            ("Person 1", "Engineer"),
            ("Person 4", "Boss"),
        }
        org.now += DESCRIBE_INTERVAL_SECONDS
        await org.all(person(5))
        assert (
            org.calls["composite_start"],
            org.counts[SyncWarning.FIELD_MISSING, "Lead.Title"],
        ) == (3, 0)


async def test_a_permission_granted_later_is_noticed_with_a_refresh() -> None:
    async with simulated_org({"settings": {"hidden_fields": ["Lead.Title"]}}) as org:
        await org.all(person(1, job_title="Engineer"))
        assert org.counts[SyncWarning.FIELD_MISSING, "Lead.Title"] == 1
        org.world.change_settings({"hidden_fields": []})
        org.now += 901
        before = sum(org.calls.values())
        await org.all(person(2))
        assert sum(org.calls.values()) == before + 2
        await org.all(person(1, job_title="Engineer", version=101))
        assert {row.get("Title") for row in org.people()} == {"Engineer", None}


async def test_a_batch_keeps_its_schemas_while_another_one_starts_again() -> None:
    async with simulated_org() as org:
        await org.all(person(1))
        asked, starting, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def held(composite: Composite, requests: Any, kind: str, fence: Fence) -> Any:
            if kind == "composite_start":
                starting.set()
                await asyncio.wait_for(ended.wait(), 30)
            answers = await composite(requests, kind, fence)
            if "p2%40" in requests[0].url:
                asked.set()
                await asyncio.wait_for(starting.wait(), 30)
            return answers

        async def first() -> Any:
            try:
                return await org.sync.sync([person(2)])
            finally:
                ended.set()

        org.client.intercept = held
        under_way = asyncio.create_task(first())
        await asyncio.wait_for(asked.wait(), 30)
        org.world.change_settings({"hidden_fields": ["Lead.Title"]})
        outcomes = [await one(org, person(3, job_title="Boss")), *await under_way]
        assert {outcome.status for outcome in outcomes} == {OutcomeStatus.CREATED}


async def test_a_field_hidden_from_the_query_makes_a_new_start() -> None:
    async with simulated_org() as org:
        await org.all(person(1, job_title="Engineer"))
        org.world.change_settings({"hidden_fields": ["Lead.Title"]})
        outcomes = await org.all(
            person(1, job_title="Boss", version=200), person(2, job_title="Boss")
        )
        assert [outcome.status for outcome in outcomes.values()] == [
            OutcomeStatus.UNCHANGED,
            OutcomeStatus.CREATED,
        ]
        assert org.calls["composite_start"] == 2


async def test_an_org_without_the_key_field_is_reported_as_not_prepared() -> None:
    async with simulated_org({"settings": {"hidden_fields": [f"Lead.{KEY}"]}}) as org:
        with pytest.raises(OrgNotPrepared, match=f"Lead.{KEY}"):
            await org.sync.sync([person(1)])


@pytest.mark.parametrize("setting", ["hidden_fields", "read_only_fields"])
@pytest.mark.parametrize("sobject", ["Contact", "Lead"])
async def test_an_org_whose_marker_cannot_be_written_is_not_prepared(
    sobject: str, setting: str
) -> None:
    marker = f"{sobject}.{MARKER}"
    async with simulated_org({"settings": {setting: [marker]}}) as org:
        with pytest.raises(OrgNotPrepared, match=marker):
            await org.sync.sync([person(1)])
        assert org.people() == []


async def test_what_people_typed_in_a_lead_stays_in_the_contact_that_it_became() -> None:
    async with simulated_org() as org:
        made = change("g/1", "ada@else.example", job_title="Engineer", company_name="Engines")
        await one(org, made)
        (lead,) = org.records("Lead")
        org.world.edit("Lead", lead["Id"], {"Phone": "typed"})
        org.world.convert(lead["Id"], None)
        newer = {"job_title": "Analyst", "phone_numbers": [{"number": "1"}], "surname": "Byron"}
        await one(org, change("g/1", "ada@else.example", version=200, **newer))
        (contact,) = org.people()
        assert (contact["Title"], contact["Phone"], contact["LastName"]) == (
            "Analyst",
            "typed",
            "Byron",
        )
        assert "Company=" in contact[MARKER], "a field that only Leads have is kept"
        assert (await one(org, made)).status is OutcomeStatus.STALE


async def test_a_contact_that_a_lead_was_converted_into_keeps_what_it_had() -> None:
    typed = {"LastName": "Lovelace", "Title": "Countess", "Email": "ada@home.example"}
    async with simulated_org({"contacts": [typed]}) as org:
        await one(org, change("g/1", "ada@else.example", job_title="Engineer"))
        (lead,), (contact,) = org.records("Lead"), org.records("Contact")
        org.world.convert(lead["Id"], contact["Id"])
        await one(org, change("g/1", "ada@else.example", job_title="Analyst", version=200))
        (record,) = org.people()
        assert (record["Title"], record["Email"], record[KEY]) == (
            "Countess",
            "ada@home.example",
            "g/1",
        )
        assert record["Nylas_Email_2__c"] == "ada@else.example"


async def test_a_field_that_the_org_refused_is_written_once_it_may_be() -> None:
    async with simulated_org() as org:
        await org.all(person(1))
        org.world.change_settings({"read_only_fields": ["Lead.Title"]})
        await org.all(person(1, job_title="Engineer", phone_numbers=[{"number": "1"}], version=200))
        (record,) = org.people()
        assert (record["Phone"], "Title" in record[MARKER]) == ("1", False)
        org.world.change_settings({"read_only_fields": []})
        org.now += 901
        await org.all(person(2))
        await org.all(person(1, job_title="Engineer", version=300))
        assert {row.get("Title") for row in org.people()} == {"Engineer", None}


async def test_a_value_that_the_org_refused_is_no_value_that_we_left() -> None:
    async with simulated_org() as org:
        await one(org, change("g/1", "ada@else.example", job_title="Engineer"))
        org.fault("rows", code="STRING_TOO_LONG", fields=["Title"])
        refused = change(
            "g/1", "ada@else.example", job_title="Analyst", company_name="E", version=2
        )
        await one(org, replace(refused, version=200))
        assert (org.people()[0]["Title"], org.people()[0]["Company"]) == ("Engineer", "E")
        await one(org, replace(refused, version=300))
        assert org.people()[0]["Title"] == "Analyst"


async def test_an_org_without_the_two_further_address_fields_uses_the_first() -> None:
    hidden = [
        f"{name}.Nylas_Email_{number}__c" for name in ("Contact", "Lead") for number in (2, 3)
    ]
    async with simulated_org({"settings": {"hidden_fields": hidden}}) as org:
        await org.all(change("g/1", "ada@else.example", "ada@home.example"))
        assert (await one(org, change("h/1", "ada@else.example"))).status is OutcomeStatus.FILLED


async def test_a_lead_converted_between_query_and_write_is_followed_the_next_time() -> None:
    async with simulated_org() as org:
        made = change("g/1", "ada@else.example")
        await one(org, made)
        (lead,) = org.records("Lead")
        newer = replace(
            made, version=200, contact={**(made.contact or {}), "job_title": "Engineer"}
        )
        plan = await org.sync.resolve([newer])
        contact = org.world.convert(lead["Id"], None)
        (outcome,) = await org.sync.write(plan)
        assert outcome.status is OutcomeStatus.RETRY
        assert (await one(org, newer)).record_id == contact["Id"]
        (record,) = org.people()
        assert (record[KEY], record[VERSION], record["Title"]) == ("g/1", 200, "Engineer")


async def test_a_newer_version_written_between_query_and_write_wins() -> None:
    async with simulated_org() as org:
        await one(org, change("g/1", "ada@else.example", version=100))
        plan = await org.sync.resolve(
            [change("g/1", "ada@else.example", surname="Older", version=200)]
        )
        # as a process that believes it is still the writer
        elsewhere = Sync(org.client, org.sync.policy)
        await elsewhere.sync([change("g/1", "ada@else.example", surname="Newer", version=300)])
        (outcome,) = await org.sync.write(plan)
        assert (outcome.status, org.people()[0]["LastName"]) == (OutcomeStatus.STALE, "Newer")


async def test_a_row_of_the_stored_version_does_not_overwrite_a_newer_one() -> None:
    async with simulated_org() as org:
        await one(org, change("g/1", "ada@else.example", version=100))
        replayed = change("g/1", "ada@else.example", job_title="Engineer", version=100)
        plan = await org.sync.resolve([replayed])
        elsewhere = Sync(org.client, org.sync.policy)
        await elsewhere.sync([change("g/1", "ada@else.example", job_title="Director", version=300)])
        (outcome,) = await org.sync.write(plan)
        assert (outcome.status, org.people()[0]["Title"]) == (OutcomeStatus.STALE, "Director")


async def test_a_flag_of_the_stored_version_does_not_overwrite_a_newer_one() -> None:
    fields = {"Lead": {"Gone__c": {"type": "boolean", "label": "Gone"}}}
    policy = Policy(on_delete=OnDelete.FLAG, flag_field="Gone__c")
    async with simulated_org({"fields": fields}, policy) as org:
        await one(org, change("g/1", "ada@else.example", version=100))
        plan = await org.sync.resolve([ContactVersion("g/1", 100, None)])
        await Sync(org.client, policy).sync([change("g/1", "ada@else.example", version=300)])
        (outcome,) = await org.sync.write(plan)
        assert (outcome.status, org.people()[0].get("Gone__c")) == (OutcomeStatus.STALE, None)


async def test_a_person_erased_between_query_and_write_is_not_written() -> None:
    async with simulated_org() as org:
        batch = [
            change("g/1", "ada@else.example", "ada@home.example"),
            change("h/1", "ada@else.example"),
            person(3),
        ]
        plan = await org.sync.resolve(batch)
        org.sync.policy = replace(
            org.sync.policy, suppression=Suppression().adding(["ada@home.example"])
        )
        statuses = {
            outcome.key: (outcome.status, outcome.reason) for outcome in await org.sync.write(plan)
        }
        assert statuses["g/1"] == (OutcomeStatus.SKIPPED, "suppressed")
        assert statuses["h/1"] == (OutcomeStatus.RETRY, NEXT_BATCH)
        assert statuses["g/0003"][0] is OutcomeStatus.CREATED
        assert (await one(org, batch[0])).reason == "suppressed"
        assert {row["LastName"] for row in org.people()} == {"Person 3"}


async def test_an_accounts_rows_are_never_in_two_requests_at_once() -> None:
    async with simulated_org({**ACCOUNTS, "settings": {"latency_ms_call": 150}}) as org:
        await org.sync.start()
        first, second = await asyncio.gather(
            org.sync.sync([person(number) for number in range(20)]),
            org.sync.sync([person(number) for number in range(20, 40)]),
        )
        assert {outcome.status for outcome in (*first, *second)} == {OutcomeStatus.CREATED}
        assert (org.calls["composite_query"], org.calls["composite_write"]) == (2, 2)
        assert ACME in org.sync.claims(person(1))
        assert {"p1@acme.example", "g/0001"} <= org.sync.claims(person(1))


async def test_an_account_that_stays_busy_lets_the_others_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.salesforce.record_locks.ACCOUNT_WAIT_SECONDS", 0.05)
    async with simulated_org({**ACCOUNTS, "settings": {"latency_ms_call": 400}}) as org:
        plans = [
            await org.sync.resolve([person(1)]),
            await org.sync.resolve([person(2), person(3, domain="else.example")]),
        ]
        _, outcomes = await asyncio.gather(*(org.sync.write(plan) for plan in plans))
        assert {outcome.key: outcome.reason for outcome in outcomes} == {
            "g/0002": NEXT_BATCH,
            "g/0003": "",
        }


async def test_an_org_without_storage_pauses_and_fails_no_row() -> None:
    async with simulated_org() as org:
        await org.sync.start()
        org.fault("rows", code="STORAGE_LIMIT_EXCEEDED")
        with pytest.raises(OrgUnavailable, match="storage_limit"):
            await org.sync.sync([person(1), person(2)])


async def test_new_accounts_are_known_after_the_refresh_at_no_further_call() -> None:
    async with simulated_org(ACCOUNTS) as org:
        await one(org, person(1))
        org.world.add("Account", {"Name": "Globex", "Website": "globex.example"}, "test")
        org.world.delete("Account", ACME)
        assert (await one(org, person(2, domain="globex.example"))).sobject == "Lead"
        org.now += 901
        org.fault("status", status=503, kind="composite_describe")
        with pytest.raises(OrgUnavailable):
            await one(org, person(3))
        assert (await one(org, person(3))).sobject == "Contact", (
            "a batch goes without a refresh that failed"
        )
        org.now += ACCOUNT_RETRY_SECONDS
        before = sum(org.calls.values())
        await one(org, person(6, domain="else.example"))
        assert sum(org.calls.values()) == before + 2
        globex = {"Name": "Globex again", "Website": "globex.example"}
        assert (await one(org, person(4, domain="globex.example"))).sobject == "Contact"
        org.world.add("Account", globex, "test")
        org.now += 901
        await one(org, person(7, domain="else.example"))
        assert org.counts[SyncWarning.SHARED_DOMAIN, ""] == 1
        assert (await one(org, person(5))).sobject == "Lead"


@pytest.mark.parametrize("purged", [True, False])
async def test_people_of_a_deleted_account_become_leads(
    purged: bool,
) -> None:
    async with simulated_org(ACCOUNTS) as org:
        await org.sync.start()
        org.world.delete("Account", ACME)
        if purged:
            org.world.org.tables["Account"].bin.pop(ACME)
        assert (await one(org, person(1))).status is OutcomeStatus.RETRY
        again = await one(org, person(1))
        assert (again.status, again.sobject) == (OutcomeStatus.CREATED, "Lead")
        assert org.counts[SyncWarning.ACCOUNT_DELETED, ""] == 1


async def test_an_account_that_was_not_deleted_after_all_is_known_again_at_once() -> None:
    async with simulated_org(ACCOUNTS) as org:
        await org.sync.start()
        org.fault("rows", code="ENTITY_IS_DELETED")
        assert (await one(org, person(1))).status is OutcomeStatus.RETRY
        assert (await one(org, person(1))).sobject == "Contact"


async def test_contacts_whose_account_may_not_be_set_are_written_once_without() -> None:
    settings = {"read_only_fields": ["Contact.AccountId"]}
    async with simulated_org({**ACCOUNTS, "settings": settings}) as org:
        await org.all(person(1), person(2))
        again = await org.all(person(1), person(2))
        assert {outcome.status for outcome in again.values()} == {OutcomeStatus.UNCHANGED}
        assert (org.calls["composite_write"], len(org.records("Contact"))) == (1, 2)


async def test_accounts_are_read_without_a_hidden_field_that_can_be_spared() -> None:
    async with simulated_org(
        {**ACCOUNTS, "settings": {"hidden_fields": ["Account.ParentId"]}}
    ) as org:
        assert (await one(org, person(1))).sobject == "Contact"
        assert org.counts[SyncWarning.FIELD_MISSING, "Account.ParentId"] == 1


async def test_a_refresh_that_takes_too_long_fails_no_batch() -> None:
    async with simulated_org(ACCOUNTS) as org:
        await org.sync.start()

        async def timing_out(composite: Composite, *arguments: Any) -> Any:
            slow = SubAnswer(
                "accounts",
                400,
                [{"errorCode": "QUERY_TIMEOUT", "message": "Your query request timed out."}],
            )
            return [
                slow if answer.reference_id == "accounts" else answer
                for answer in await composite(*arguments)
            ]

        org.client.intercept = timing_out
        org.now += 901
        outcomes = await org.all(*(person(number) for number in range(5)))
        assert {outcome.sobject for outcome in outcomes.values()} == {"Contact"}
        assert org.counts[SyncWarning.ACCOUNTS_REFUSED, "query_timeout"] == 1


async def test_a_fault_of_the_whole_org_is_raised_and_the_batch_is_safe_to_offer_again() -> None:
    async with simulated_org() as org:
        await org.sync.start()
        changes = [person(number) for number in range(50)]
        plan = await org.sync.resolve(changes)
        org.fault("status_after", status=503)
        with pytest.raises(OrgUnavailable):
            await org.sync.write(plan)
        outcomes = await org.all(*changes)
        assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.UNCHANGED}
        assert len(org.people()) == 50


async def test_a_deletion_releases_and_is_counted() -> None:
    async with simulated_org() as org:
        await one(org, person(1))
        outcome = await one(org, ContactVersion("g/0001", 200, None))
        (record,) = org.people()
        assert (outcome.status, record.get(KEY), record.get(VERSION)) == (
            OutcomeStatus.RELEASED,
            None,
            200,
        )
        kept = replace(org.sync.policy, on_delete=OnDelete.KEEP)
        org.sync.policy = kept
        await one(org, person(1))
        assert (await one(org, ContactVersion("g/0001", 300, None))).reason == "kept"


async def test_a_contact_that_only_fills_counts_once_for_the_match_rate() -> None:
    async with simulated_org() as org:
        await one(org, change("g/1", "ada@else.example"))
        first = await one(org, change("h/1", "ada@else.example"))
        again = await one(org, change("h/1", "ada@else.example", version=200))
        assert (first.status, first.first, again.status, again.first) == (
            OutcomeStatus.FILLED,
            True,
            OutcomeStatus.FILLED,
            False,
        )


async def test_more_fields_are_mapped_by_a_table() -> None:
    table = parse_mapping(
        """
        [contact]
        MailingCity = "physical_addresses[work].city"
        Birthdate = "birthday"
        LeadSource = { constant = "Web" }
        [lead]
        City = "physical_addresses[work].city"
        """
    )
    async with simulated_org(ACCOUNTS, Policy(mapping=table)) as org:
        more: dict[str, Any] = {
            "birthday": "1815-12-10",
            "physical_addresses": [{"type": "work", "city": "London", "postal_code": 7}],
        }
        await org.all(person(1, **more), person(2, domain="else.example", **more))
        (contact,), (lead,) = org.records("Contact"), org.records("Lead")
        assert (contact["MailingCity"], contact["Birthdate"], contact["LeadSource"]) == (
            "London",
            "1815-12-10",
            "Web",
        )
        assert lead["City"] == "London"
        again = await org.all(person(1, **more), person(2, domain="else.example", **more))
        assert {outcome.status for outcome in again.values()} == {OutcomeStatus.UNCHANGED}


@pytest.mark.parametrize(
    "code", ["FIELD_INTEGRITY_EXCEPTION", "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"]
)
async def test_a_value_that_the_org_refuses_is_dropped_and_the_contact_is_synced(
    code: str,
) -> None:
    table = parse_mapping("[lead]\nCountry = 'nickname'\nState = 'office_location'")
    async with simulated_org(policy=Policy(mapping=table)) as org:
        await org.sync.start()
        org.fault("rows", code=code, fields=["CountryCode"])
        org.fault("rows", code=code, fields=["State"], after=1)  # no state without a country
        more: dict[str, Any] = {
            "nickname": "Atlantis",
            "office_location": "North",
            "job_title": "Engineer",
        }
        assert (
            await one(org, change("g/1", "ada@else.example", **more))
        ).status is OutcomeStatus.CREATED
        (lead,) = org.people()
        assert (lead["Title"], lead.get("Country"), lead.get("State")) == ("Engineer", None, None)
        assert (
            org.counts[SyncWarning.VALUE_DROPPED, "Lead.Country"],
            org.counts[SyncWarning.VALUE_DROPPED, "Lead.State"],
        ) == (
            1,
            1,
        )
        org.fault("rows", code=code, fields=["LastName"])
        assert (await one(org, change("g/2", "bob@else.example"))).status is OutcomeStatus.FAILED


async def test_odd_contacts_are_written_or_left_out_and_never_break_a_batch() -> None:
    odd: list[dict[str, Any]] = [
        {"emails": None, "phone_numbers": None, "physical_addresses": None},
        {"surname": "x" * 300, "emails": [{"email": "long@else.example"}]},
        {"surname": "Notes", "notes": "n" * 1_000_000, "emails": [{"email": "notes@else.example"}]},
        {"emails": [{"email": "nameless@else.example"}]},
        {"surname": "Invalid", "emails": [{"email": "not an address"}]},
        {
            "surname": "\ud800",
            "given_name": "\x00",
            "emails": [{"email": "surrogate@else.example"}],
        },
        {"surname": 7, "emails": {"email": "x"}, "phone_numbers": "1", "job_title": ["Boss"]},
    ]
    async with simulated_org() as org:
        changes = [
            ContactVersion(f"g/#/ü {number}", 100, contact) for number, contact in enumerate(odd)
        ]
        outcomes = await org.all(*changes, person(1))
        statuses = [outcomes[made.key].status for made in changes]
        assert statuses == [
            OutcomeStatus.SKIPPED,
            *[OutcomeStatus.CREATED] * 5,
            OutcomeStatus.SKIPPED,
        ]
        assert outcomes["g/0001"].status is OutcomeStatus.CREATED
        assert org.counts[SyncWarning.TRUNCATED, "Lead.LastName"] == 1
        last_names = {row["LastName"] for row in org.people()}
        assert {"x" * 80, "nameless", "surrogate", "Invalid"} <= last_names


async def test_a_contact_that_only_fills_takes_over_a_record_released_meanwhile() -> None:
    async with simulated_org() as org:
        owner, other = change("g1/x", "a@else.example"), change("g2/y", "a@else.example")
        assert (await one(org, owner)).status is OutcomeStatus.CREATED
        filled = await org.sync.resolve([other])
        assert (await one(org, ContactVersion("g1/x", 101, None))).status is OutcomeStatus.RELEASED
        (late,) = await org.sync.write(filled)
        assert (late.status, late.reason) == (OutcomeStatus.RETRY, NEXT_BATCH)
        assert (await one(org, other)).status is not OutcomeStatus.FILLED
        (record,) = org.records("Lead")
        assert record[KEY] == "g2/y"


async def test_two_people_who_meet_in_one_record_are_not_written_at_once() -> None:
    lead = {
        "LastName": "Lovelace",
        "Company": "Else",
        "Email": "a@else.example",
        "Nylas_Email_2__c": "b@else.example",
    }
    async with simulated_org({"leads": [lead]}) as org:
        first, second = change("g1/x", "a@else.example"), change("g2/y", "b@else.example")
        plans = [await org.sync.resolve([first]), await org.sync.resolve([second])]
        (adopted,) = await org.sync.write(plans[0])
        (late,) = await org.sync.write(plans[1])
        assert adopted.status is OutcomeStatus.UPDATED
        assert (late.status, late.reason) == (OutcomeStatus.RETRY, NEXT_BATCH)
        assert (await one(org, second)).status is OutcomeStatus.FILLED
        (record,) = org.records("Lead")
        assert record[KEY] == "g1/x"
