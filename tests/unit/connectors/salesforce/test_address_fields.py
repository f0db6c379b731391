"""Address fields of the org's own: people are found by them, and nothing is written to them."""

from dataclasses import replace
from typing import Any

import pytest

from connectors.salesforce.address_fields import (
    AddressFieldError,
    index_query,
    parse_address_fields,
    refusal,
)
from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.policy import Policy
from connectors.salesforce.queries import lookup
from connectors.salesforce.schema import Schema
from tests.support.plain_org import schemas
from tests.support.salesforce_org import SimulatedOrg, simulated_org

PERSONAL, HOME = "Personal_Email__c", "npe01__HomeEmail__c"
EMAIL = {"type": "email", "length": 80}
INDEXED = EMAIL | {"externalId": True}
FIELDS = {"Contact": {PERSONAL: INDEXED}, "Lead": {PERSONAL: INDEXED}}
POLICY = Policy(address_fields={"Contact": (PERSONAL,), "Lead": (PERSONAL,)})
ADA = {"FirstName": "Ada", "LastName": "Lovelace"}


def change(*addresses: str, key: str = "g/1", version: int = 100, **more: Any) -> ContactVersion:
    emails = [{"email": address} for address in addresses]
    names = {"given_name": "Ada", "surname": "Lovelace"}
    return ContactVersion(key, version, {**names, "emails": emails, **more})


async def only(org: SimulatedOrg, made: ContactVersion) -> Outcome:
    (outcome,) = await org.sync.sync([made])
    return outcome


async def test_a_person_is_found_by_a_field_of_the_org_and_the_field_is_not_written() -> None:
    contact = {**ADA, "Email": "ada@work.example", PERSONAL: "ada@home.example"}
    async with simulated_org({"fields": FIELDS, "contacts": [contact]}, POLICY) as org:
        outcome = await only(org, change("ada@home.example", "ada@club.example", job_title="CTO"))
        assert (outcome.status, outcome.matched) == (OutcomeStatus.UPDATED, "address_field")
        (found,) = org.records("Contact")
        assert (found["Email"], found[PERSONAL]) == ("ada@work.example", "ada@home.example")
        # what stands in the org's own field is not repeated in ours; what stands nowhere is kept
        assert (found["Nylas_Email_2__c"], found.get("Nylas_Email_3__c")) == (
            "ada@club.example",
            None,
        )
        assert org.records("Lead") == []


async def test_without_the_setting_the_person_is_created_again() -> None:
    contact = {**ADA, "Email": "ada@work.example", PERSONAL: "ada@home.example"}
    async with simulated_org({"fields": FIELDS, "contacts": [contact]}) as org:
        assert (await only(org, change("ada@home.example"))).status is OutcomeStatus.CREATED


async def test_a_blank_email_is_filled_though_the_address_stands_in_the_orgs_own_field() -> None:
    lead = {**ADA, "Company": "x", PERSONAL: "ada@home.example"}
    async with simulated_org({"fields": FIELDS, "leads": [lead]}, POLICY) as org:
        assert (await only(org, change("ada@home.example"))).matched == "address_field"
        (found,) = org.records("Lead")
        assert (found["Email"], found.get("Nylas_Email_2__c")) == ("ada@home.example", None)
        again = await only(org, change("ada@home.example", version=200))
        assert (again.status, again.matched) == (OutcomeStatus.UNCHANGED, "key")


async def test_a_record_of_another_name_is_never_taken_by_such_a_field() -> None:
    contact = {"FirstName": "Charles", "LastName": "Babbage", PERSONAL: "shared@home.example"}
    async with simulated_org({"fields": FIELDS, "contacts": [contact]}, POLICY) as org:
        outcome = await only(org, change("ada@work.example", "shared@home.example"))
        assert outcome.status is OutcomeStatus.CREATED
        covered = await only(org, change("shared@home.example", key="g/2", surname="Noether"))
        assert covered.status is OutcomeStatus.COVERED
        (found,) = org.records("Contact")
        assert "Nylas_Contact_Id__c" not in found


async def test_a_full_name_and_email_win_over_such_a_field() -> None:
    by_field = {**ADA, PERSONAL: "ada@home.example"}
    by_email = {**ADA, "Email": "ada@home.example"}
    async with simulated_org({"fields": FIELDS, "contacts": [by_field, by_email]}, POLICY) as org:
        outcome = await only(org, change("ada@home.example"))
        holders = [row for row in org.records("Contact") if row.get("Email")]
        assert (outcome.matched, outcome.record_id) == ("email", holders[0]["Id"])


async def test_a_field_that_only_the_field_definition_calls_indexed_is_used() -> None:
    """Such as those of the Nonprofit Success Pack, once Salesforce Support has indexed them."""
    fields = {"Contact": {HOME: EMAIL | {"indexed": True}}}
    contact = {**ADA, HOME: "ada@home.example"}
    policy = Policy(address_fields={"Contact": (HOME,)})
    async with simulated_org({"fields": fields, "contacts": [contact]}, policy) as org:
        assert (await only(org, change("ada@home.example"))).matched == "address_field"
        assert not org.counts
        assert org.calls["composite_start"] == 1


@pytest.mark.parametrize(
    "fields", [{"Contact": {HOME: EMAIL}}, {"Contact": {HOME: INDEXED | {"filterable": False}}}, {}]
)
async def test_a_field_that_cannot_be_searched_quickly_is_left_out_and_counted(
    fields: dict[str, Any],
) -> None:
    policy = Policy(address_fields={"Contact": (HOME,)})
    async with simulated_org({"fields": fields}, policy) as org:
        assert (await only(org, change("ada@home.example"))).status is OutcomeStatus.CREATED
        org.now += 3600  # the describe is read again
        await only(org, change("ada@home.example", "more@home.example", version=200))
        assert org.counts[SyncWarning.ADDRESS_FIELD_UNUSED, f"Contact.{HOME}"] == 1


async def test_an_org_that_does_not_say_what_is_indexed_is_asked_no_more_than_the_describe() -> (
    None
):
    both = Policy(address_fields={"Contact": (PERSONAL, HOME)})
    fields = {"Contact": {PERSONAL: INDEXED, HOME: EMAIL | {"indexed": True}}}
    document: dict[str, Any] = {"fields": fields}
    document |= {"settings": {"hidden_fields": ["FieldDefinition.IsIndexed"]}}
    async with simulated_org(document, both) as org:
        await org.sync.start()
        assert org.counts == {(SyncWarning.ADDRESS_FIELD_UNUSED, f"Contact.{HOME}"): 1}


async def test_a_field_that_is_hidden_while_the_sink_runs_does_not_pause_it() -> None:
    contact = {**ADA, "Email": "ada@work.example", PERSONAL: "ada@home.example"}
    async with simulated_org({"fields": FIELDS, "contacts": [contact]}, POLICY) as org:
        await org.sync.start()
        org.world.change_settings({"hidden_fields": [f"Contact.{PERSONAL}"]})
        assert (await only(org, change("ada@work.example"))).matched == "email"
        assert org.counts[SyncWarning.ADDRESS_FIELD_UNUSED, f"Contact.{PERSONAL}"] == 1


async def test_a_converted_lead_and_a_merged_record_are_followed_from_such_a_field() -> None:
    lead = {**ADA, "Company": "x", PERSONAL: "ada@home.example"}
    async with simulated_org({"fields": FIELDS, "leads": [lead]}, POLICY) as org:
        (stored,) = org.records("Lead")
        contact = org.world.convert(stored["Id"], None)
        outcome = await only(org, change("ada@home.example"))
        assert (outcome.matched, outcome.record_id) == ("converted_lead", contact["Id"])


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("Personal_Email__c", "not of the form"),
        ("Contact.", "not of the form"),
        ("Contact.a-b", "not of the form"),
        ("contact.Personal_Email__c", "did you mean Contact.Personal_Email__c"),
        ("Account.Personal_Email__c", "use Contact or Lead"),
        ("Lead.Email", "searched in any case"),
    ],
)
def test_an_entry_that_names_no_such_field_says_what_is_wrong(entry: str, said: str) -> None:
    with pytest.raises(AddressFieldError, match=said) as raised:
        parse_address_fields([entry])
    assert repr(entry) in str(raised.value)


def test_entries_are_sorted_by_object_and_are_bounded() -> None:
    assert parse_address_fields(["Contact.A__c", "Lead.B__c", "Contact.A__c"]) == {
        "Contact": ("A__c",),
        "Lead": ("B__c",),
    }
    with pytest.raises(AddressFieldError, match="6 fields of Lead: at most 5"):
        parse_address_fields(f"Lead.F{number}__c" for number in range(6))


@pytest.mark.parametrize(
    ("field", "indexes", "said"),
    [
        (FieldDescribe("F__c", "email", external_id=True), None, None),
        (FieldDescribe("F__c", "string", unique=True), None, None),
        (FieldDescribe("F__c", "email"), {("Contact", "F__c")}, None),
        (FieldDescribe("F__c", "email"), set(), "not indexed"),
        (FieldDescribe("F__c", "email"), {("Lead", "F__c")}, "not indexed"),
        (FieldDescribe("F__c", "email"), None, "does not say"),
        (FieldDescribe("F__c", "phone", external_id=True), None, "is phone"),
        (FieldDescribe("F__c", "email", external_id=True, filterable=False), None, "encrypted"),
    ],
)
def test_only_an_indexed_field_with_addresses_is_used(
    field: FieldDescribe, indexes: set[tuple[str, str]] | None, said: str | None
) -> None:
    why = refusal(ObjectDescribe("Contact", {"F__c": field}), "F__c", indexes)
    assert (why is None) if said is None else (why is not None and said in why)


def test_the_index_query_names_objects_and_fields_once() -> None:
    asked = index_query({"Contact": ("A__c", "B__c"), "Lead": ("A__c",)})
    assert "IN ('Contact','Lead')" in asked
    assert "IN ('A__c','B__c')" in asked


def with_fields(shape: Schema, *names: str) -> Schema:
    more = {name: FieldDescribe(name, "email", length=80) for name in names}
    described = replace(shape.described, fields={**shape.described.fields, **more})
    return replace(shape, described=described, address_fields=names)


@pytest.mark.parametrize(
    ("fields", "contacts"), [((), 970), ((HOME,), 810), ((HOME, PERSONAL), 690)]
)
def test_how_many_contacts_one_pair_of_calls_carries(
    fields: tuple[str, ...], contacts: int
) -> None:
    """deploy/docs/evidence.md states these figures: keys of 76 characters, addresses of 37.

    With one field they are above the bar of 800, on one object and on both.
    """
    people = [
        (f"{'g' * 36}/{'c' * 35}{number:04d}", (f"firstname.lastname{number:04d}@company.example",))
        for number in range(1000)
    ]
    shapes = schemas(Policy())
    contact = with_fields(shapes["Contact"], *fields)
    for lead in (shapes["Lead"], with_fields(shapes["Lead"], *fields)):
        found = lookup(people, contact, lead)
        assert contacts <= found.taken < contacts + 20
