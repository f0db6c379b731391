"""Which record a person is: by key, conversion, address and name; no families are merged."""

import pytest

from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.policy import Policy
from tests.support.plain_org import EMAILS, KEY, VERSION, PlainOrg, change, only

ACCOUNT = "001000000000001AAA"


@pytest.mark.parametrize("held", EMAILS)
@pytest.mark.parametrize("sobject", ["Contact", "Lead"])
def test_a_person_is_found_by_any_address_in_any_field_and_case(sobject: str, held: str) -> None:
    org = PlainOrg()
    org.add(sobject, LastName="Lovelace", **{held: "Ada@Acme.com"})
    outcome = org.sync(change("g/1", "other@acme.com", "ADA@acme.com", last="Lovelace"))["g/1"]
    assert (outcome.status, outcome.matched, outcome.first) == (
        OutcomeStatus.UPDATED,
        "email",
        True,
    )
    record = only(org)
    assert record[KEY] == "g/1"
    assert {str(record.get(name)).lower() for name in EMAILS} >= {"ada@acme.com", "other@acme.com"}


def test_the_key_counts_before_any_address_and_contacts_before_leads() -> None:
    org = PlainOrg()
    lead = org.add(
        "Lead", LastName="A", Company="x", Email="a@x.example", **{KEY: "g/1", VERSION: 1}
    )
    contact = org.add("Contact", LastName="A", Email="a@x.example")
    outcome = org.sync(change("g/1", "a@x.example", last="A"))["g/1"]
    assert (outcome.record_id, outcome.matched, outcome.first) == (lead, "key", False)
    outcome = org.sync(change("h/1", "a@x.example", last="A"))["h/1"]
    assert (outcome.record_id, outcome.matched) == (contact, "email")


def test_keys_that_differ_by_case_are_two_contacts() -> None:
    org = PlainOrg()
    org.sync(change("g/AbC", "a@x.example", last="A"), change("g/abc", "b@x.example", last="B"))
    assert {record[KEY] for record in org.people()} == {"g/AbC", "g/abc"}


def test_a_converted_lead_found_by_key_or_address_leads_to_its_contact() -> None:
    org = PlainOrg()
    contact = org.add("Contact", LastName="Lovelace", Title="Boss", Email="new@acme.com")
    lead = org.add("Lead", LastName="Lovelace", Company="x", Email="ada@acme.com", **{KEY: "g/1"})
    org.convert(lead, contact)
    by_address = org.sync(change("h/1", "ada@acme.com", last="Lovelace", title="Engineer"))["h/1"]
    assert (by_address.matched, by_address.record_id) == ("converted_lead", contact)
    assert org.records[contact][KEY] == "h/1"
    assert org.records[contact]["Title"] == "Boss"
    org.records[contact] |= {KEY: None, VERSION: None}
    by_key = org.sync(change("g/1", last="Lovelace"))["g/1"]
    assert (by_key.matched, by_key.record_id) == ("converted_lead", contact)
    assert org.records[contact][KEY] == "g/1"


def test_a_converted_lead_whose_contact_is_gone_is_not_made_again() -> None:
    org = PlainOrg(accounts={"acme.com": ACCOUNT})
    lead = org.add("Lead", LastName="A", Company="x", Email="a@x.example", **{KEY: "g/1"})
    org.convert(lead, None)
    for key in ("g/1", "h/1"):  # found by key, and by address
        outcome = org.sync(change(key, "a@x.example", last="A"))[key]
        assert (outcome.status, outcome.reason) == (OutcomeStatus.SKIPPED, "converted_lead")
    contact = org.sync(change("g/1", "a@x.example", "a@acme.com", last="A"))["g/1"]
    assert (contact.status, contact.sobject) == (OutcomeStatus.CREATED, "Contact")


def test_a_converted_lead_whose_contact_is_gone_blocks_only_its_own_person() -> None:
    org = PlainOrg()
    org.convert(org.add("Lead", LastName="A", Company="x", Email="a@x.example"), None)
    assert org.sync(change("h/2", "a@x.example", last="B"))["h/2"].status is OutcomeStatus.CREATED


def test_an_open_lead_beside_a_converted_one_that_holds_the_key_is_filled_without_it() -> None:
    org = PlainOrg()
    org.convert(
        org.add("Lead", LastName="A", Company="x", Email="a@x.example", **{KEY: "g/1"}), None
    )
    lead = org.add("Lead", LastName="A", Company="x", Email="a@x.example")
    outcome = org.sync(change("g/1", "a@x.example", last="A", title="Engineer"))["g/1"]
    assert (outcome.status, outcome.record_id) == (OutcomeStatus.FILLED, lead)
    assert (
        org.records[lead]["Title"],
        org.records[lead].get(KEY),
        org.records[lead].get(VERSION),
    ) == (
        "Engineer",
        None,
        None,
    )
    assert org.sync(change("h/1", "a@x.example", last="A"))["h/1"].status is OutcomeStatus.UPDATED


def test_of_several_records_one_with_a_key_then_the_last_modified_then_the_oldest_is_taken() -> (
    None
):
    org = PlainOrg()
    old = org.add("Contact", LastName="A", Email="a@x.example")
    new = org.add("Contact", LastName="A", Email="a@x.example")
    outcome = org.sync(change("g/1", "a@x.example", last="A"))["g/1"]
    assert (outcome.record_id, outcome.ambiguous) == (new, True)
    keyed = org.add("Contact", LastName="A", Email="b@x.example", **{KEY: "h/1", VERSION: 1})
    org.add("Contact", LastName="A", Email="b@x.example")
    assert org.sync(change("g/2", "b@x.example", last="A"))["g/2"].record_id == keyed
    assert org.counts.count(("ambiguous", "")) == 2
    assert org.records[old].get(KEY) is None


@pytest.mark.parametrize("together", [True, False])
def test_a_family_on_one_address_in_one_address_book_is_never_merged(together: bool) -> None:
    org = PlainOrg()
    batch = [
        change("g/1", "home@x.example", first="Ada", last="Lovelace"),
        change("g/2", "home@x.example", first="William", last="Lovelace", title="Earl"),
    ]
    outcomes = org.sync(*batch) if together else org.sync(batch[0]) | org.sync(batch[1])
    assert (outcomes["g/2"].status, outcomes["g/2"].reason) == (
        OutcomeStatus.SKIPPED,
        "shared_address",
    )
    assert only(org)["FirstName"] == "Ada"
    assert only(org).get("Title") is None


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_family_on_one_address_whose_first_another_book_knows_is_never_merged(
    known: bool, together: bool
) -> None:
    org = PlainOrg()
    owner = change("h/1", "home@x.example", first="Ada", last="Lovelace")
    family = [
        change("g/1", "home@x.example", first="Ada", last="Lovelace", nickname="x"),
        change(
            "g/2",
            "home@x.example",
            "william@work.example",
            first="William",
            last="King",
            title="Earl",
        ),
    ]
    batches = [[owner], family] if known else [[owner, *family]]
    for batch in batches if together else [[owner], family[:1], family[1:]]:
        outcomes = org.sync(*batch)
    record = only(org)
    assert (record["FirstName"], record["LastName"], record[KEY]) == ("Ada", "Lovelace", "h/1")
    assert not record.keys() & {"Title", "Nylas_Email_2__c"}
    reasons = {(OutcomeStatus.SKIPPED, "shared_address"), (OutcomeStatus.FILLED, "name_differs")}
    assert (outcomes["g/2"].status, outcomes["g/2"].reason) in reasons
    assert (("name_differs", "") in org.counts) is (outcomes["g/2"].status is OutcomeStatus.FILLED)


def test_a_record_with_another_name_is_taken_only_if_there_is_no_better_one() -> None:
    org = PlainOrg()
    org.sync(change("h/1", "home@x.example", first="Ada", last="Lovelace"))
    william = org.add(
        "Lead", FirstName="William", LastName="King", Company="x", Email="william@work.example"
    )
    found = org.sync(
        change("g/2", "home@x.example", "william@work.example", first="William", last="King")
    )["g/2"]
    assert (found.status, found.record_id) == (OutcomeStatus.UPDATED, william)
    assert org.records[william]["Nylas_Email_2__c"] == "home@x.example"


def test_no_two_names_of_one_book_join_a_nameless_record_in_one_batch() -> None:
    org = PlainOrg(Policy(mapping=parse_mapping("[lead]\nFirstName = false\nLastName = false")))
    lead = org.add(
        "Lead",
        LastName="[not provided]",
        Company="x",
        Email="home@x.example",
        **{KEY: "h/1", VERSION: 1},
    )
    outcomes = org.sync(
        change("g/1", "home@x.example", first="Ada", last="Lovelace"),
        change("g/2", "home@x.example", "william@work.example", first="William", last="King"),
    )
    assert (outcomes["g/1"].record_id, outcomes["g/2"].reason) == (lead, "shared_address")
    assert "Nylas_Email_2__c" not in org.records[lead]


def test_a_contact_of_one_name_is_the_same_in_every_book() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", first="Ada"))
    assert (
        org.sync(change("g/2", "ada@acme.com", first="Ada", title="Engineer"))["g/2"].status
        is OutcomeStatus.FILLED
    )
    assert (
        org.sync(change("h/1", "ada@acme.com", "ada@home.example", first="Ada"))["h/1"].reason == ""
    )
    assert (only(org)["Title"], only(org)["Nylas_Email_2__c"]) == ("Engineer", "ada@home.example")


def test_a_nameless_entry_of_the_same_address_book_is_the_same_person() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com"))
    assert only(org)["LastName"] == "ada"
    outcome = org.sync(change("g/2", "ada@acme.com", first="Ada", last="Lovelace"))["g/2"]
    assert outcome.status is OutcomeStatus.FILLED
    assert (only(org)["FirstName"], only(org)["LastName"]) == ("Ada", "Lovelace")
