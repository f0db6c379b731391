"""Which record a person is: by key, conversion, address and name; no two people are merged.

An outcome's status is compared as text, as it stands in contacts.outcomes.
"""

from typing import Any

import pytest

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.matching import accepts, best_tier, compare_person, covers
from connectors.salesforce.names import NameComparison, PersonName
from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.person import Person
from connectors.salesforce.planner import person_of
from connectors.salesforce.policy import Policy
from connectors.salesforce.sobject_record import SObjectRecord
from tests.support.plain_org import EMAILS, KEY, VERSION, PlainOrg, change, gone, only

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


def test_the_key_counts_before_any_address() -> None:
    org = PlainOrg()
    lead = org.add(
        "Lead", LastName="A", Company="x", Email="a@x.example", **{KEY: "g/1", VERSION: 1}
    )
    contact = org.add("Contact", LastName="A", Email="a@x.example")
    outcome = org.sync(change("g/1", "a@x.example", last="A"))["g/1"]
    assert (outcome.record_id, outcome.matched, outcome.first) == (lead, "key", False)
    org.records[contact]["LastActivityDate"] = "2026-01-02"
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


def test_an_equal_name_comes_before_a_tolerated_one_in_a_contact_and_in_a_lead() -> None:
    org = PlainOrg()
    lead = org.add("Lead", FirstName="Ada", LastName="Lovelace", Company="x", Email="ada@acme.com")
    org.add("Contact", FirstName="A.", LastName="Lovelace", Email="ada@acme.com")
    outcome = org.sync(change("g/1", "ada@acme.com", first="ADA", last="Lovelace"))["g/1"]
    assert (outcome.record_id, outcome.several_matched) == (lead, False)


def test_the_primary_address_in_email_comes_before_any_other_address_and_field() -> None:
    org = PlainOrg()
    ada = {"FirstName": "Ada", "LastName": "Lovelace"}
    old = org.add("Lead", **ada, Company="x", Email="ada@acme.com")
    org.add("Contact", **ada, Email="ada@home.example")
    org.add("Contact", **ada, Email="x@acme.com", Nylas_Email_2__c="ada@acme.com")
    outcome = org.sync(
        change("g/1", "ada@acme.com", "ada@home.example", first="Ada", last="Lovelace")
    )["g/1"]
    assert (outcome.record_id, outcome.several_matched) == (old, False)


def test_of_equal_records_the_latest_activity_then_the_last_modified_then_the_oldest_is_taken() -> (
    None
):
    def best(**second: str | None) -> str:
        """Whether the first or the second of two records is taken, which differ by `second`."""
        org = PlainOrg()
        ids = [org.add("Contact", LastName="A", Email="a@x.example") for _ in range(2)]
        org.records[ids[0]] |= {
            "LastActivityDate": "2026-01-05",
            "LastModifiedDate": "2026-01-05T00:00:00.000+0000",
        }
        org.records[ids[1]] |= org.records[ids[0]] | {"Id": ids[1]} | second
        outcome = org.sync(change("g/1", "a@x.example", last="A"))["g/1"]
        assert org.counts == [("several_matched", "")]
        assert outcome.several_matched
        return "first" if outcome.record_id == ids[0] else "second"

    assert best() == "first", "the lower ID is the older record"
    assert best(LastModifiedDate="2026-01-06T00:00:00.000+0000") == "second"
    assert best(LastActivityDate="2026-01-06", LastModifiedDate=None) == "second"
    assert best(LastActivityDate=None, LastModifiedDate="2026-01-06T00:00:00.000+0000") == "first"
    assert best(**{KEY: "h/1"}) == "first", "a key is no reason to prefer a record"


def test_two_contacts_of_a_person_take_the_same_of_two_records() -> None:
    org = PlainOrg()
    for _ in range(2):
        org.add("Contact", LastName="A", Email="a@x.example")
    outcomes = org.sync(
        change("g/1", "a@x.example", last="A"), change("h/1", "a@x.example", last="A")
    )
    assert [outcomes[key].status for key in ("g/1", "h/1")] == ["updated", "filled"]
    assert outcomes["g/1"].record_id == outcomes["h/1"].record_id


def test_the_record_of_the_contacts_own_name_is_taken_and_not_the_newer_one_of_another() -> None:
    org = PlainOrg()
    ada = org.add("Contact", FirstName="Ada", LastName="Lovelace", Email="ada@acme.com")
    bob = org.add("Contact", FirstName="Bob", LastName="Jones", Email="bob@acme.com")
    before = dict(org.records[bob])
    outcome = org.sync(
        change(
            "g/1", "ada@acme.com", "bob@acme.com", first="Ada", last="Lovelace", title="Countess"
        )
    )["g/1"]
    assert (outcome.status, outcome.record_id, outcome.several_matched) == ("updated", ada, False)
    assert org.records[bob] == before
    assert org.records[ada]["Title"] == "Countess"
    assert "Nylas_Email_2__c" not in org.records[ada], "Bob's address was written to Ada"


@pytest.mark.parametrize("sobject", ["Contact", "Lead"])
@pytest.mark.parametrize("held", EMAILS)
def test_another_persons_record_with_the_primary_address_covers_the_contact(
    sobject: str, held: str
) -> None:
    org = PlainOrg()
    john = org.add(
        sobject,
        FirstName="John",
        LastName="Smith",
        Company="x",
        **({"Email": "j@x.example"} | {held: "Home@X.example"}),
    )
    before = dict(org.records[john])
    mary = change("g/1", "home@x.example", first="Mary", last="Smith", title="Boss")
    outcome = org.sync(mary)["g/1"]
    assert (outcome.status, outcome.record_id, outcome.sobject) == ("covered", john, sobject)
    assert (outcome.candidates, outcome.matched, outcome.first) == ((john,), None, False)
    assert only(org) == before
    assert org.written == 0


def test_a_released_record_is_not_given_to_a_contact_of_another_name() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "home@x.example", first="Bob", last="Jones"))
    org.sync(change("g/2", "home@x.example", first="Ada", last="Lovelace"))
    org.sync(gone("g/1"))
    outcome = org.sync(change("g/2", "home@x.example", first="Ada", last="Lovelace"))["g/2"]
    assert (outcome.status, only(org)["FirstName"], only(org)[KEY]) == ("covered", "Bob", None)
    taken = org.sync(change("g/3", "home@x.example", first="Bob", last="Jones"))["g/3"]
    assert (taken.status, only(org)[KEY]) == ("updated", "g/3")


def test_all_records_that_cover_a_contact_are_named_the_one_in_use_first() -> None:
    org = PlainOrg()
    john = org.add("Contact", FirstName="John", LastName="Smith", Email="home@x.example")
    jane = org.add("Contact", FirstName="Jane", LastName="Smith", Email="home@x.example")
    org.records[john]["LastActivityDate"] = "2026-01-01"
    outcome = org.sync(change("g/1", "home@x.example", first="Mary", last="Smith"))["g/1"]
    assert (outcome.record_id, outcome.candidates) == (john, (john, jane))


@pytest.mark.parametrize("known", [True, False])
def test_an_address_of_another_person_is_dropped_and_the_contact_goes_on_with_the_rest(
    known: bool,
) -> None:
    org = PlainOrg(accounts={"acme.com": ACCOUNT})
    ada = org.add("Contact", FirstName="Ada", LastName="Lovelace", Email="home@acme.com")
    if known:
        org.add("Contact", FirstName="Bill", LastName="King", Email="work@x.example")
    before = dict(org.records[ada])
    book = change("g/1", "work@x.example", "home@acme.com", first="William", last="King")
    outcome = org.sync(book)["g/1"]
    assert outcome.status == ("updated" if known else "created")
    assert org.records[ada] == before
    (william,) = [record for record in org.people() if record["Id"] != ada]
    assert (william[KEY], william["Email"]) == ("g/1", "work@x.example")
    assert "Nylas_Email_2__c" not in william
    assert william["sobject"] == ("Contact" if known else "Lead")
    assert "AccountId" not in william, "the Account of the other person's address is not his"
    assert org.sync(book)["g/1"].status == "unchanged"


def test_a_primary_address_of_another_person_is_not_written_to_the_record_that_was_found() -> None:
    org = PlainOrg()
    org.add("Contact", FirstName="Ada", LastName="Lovelace", Email="home@x.example")
    william = org.add("Contact", FirstName="William", LastName="King", Email="work@x.example")
    outcome = org.sync(
        change("g/1", "home@x.example", "work@x.example", first="William", last="King")
    )["g/1"]
    assert (outcome.status, outcome.record_id) == ("updated", william)
    assert org.records[william]["Email"] == "work@x.example"
    assert "Nylas_Email_2__c" not in org.records[william]


def test_the_key_wins_over_a_name_that_changed_in_the_address_book() -> None:
    org = PlainOrg()
    org.add("Contact", FirstName="Ada", LastName="Lovelace", Email="ada@home.example")
    org.sync(change("g/1", "x@x.example", first="Bob", last="Jones"))
    (record,) = org.of("Lead")
    renamed = change(
        "g/1", "x@x.example", "ada@home.example", first="Carl", last="Brown", version=200
    )
    outcome = org.sync(renamed)["g/1"]
    assert (outcome.status, outcome.record_id) == ("updated", record["Id"])
    assert "Nylas_Email_2__c" not in record, "the address of another person was written"


def test_a_name_that_fits_two_people_is_given_to_neither() -> None:
    org = PlainOrg()
    ids = [
        org.add("Contact", FirstName=first, LastName="Smith", Email="j.smith@x.example")
        for first in ("John", "Jane")
    ]
    before = [dict(record) for record in org.people()]
    outcome = org.sync(change("g/1", "j.smith@x.example", first="J.", last="Smith"))["g/1"]
    assert (outcome.status, outcome.record_id, outcome.matched) == ("ambiguous", None, None)
    assert set(outcome.candidates) == set(ids)
    assert (org.people(), org.written, outcome.first) == (before, 0, False)
    nameless = org.sync(change("g/2", "j.smith@x.example"))["g/2"]
    assert nameless.status == "ambiguous"
    jane = org.sync(change("g/3", "j.smith@x.example", first="Jane", last="Smith"))["g/3"]
    assert (jane.status, jane.record_id) == ("updated", ids[1])


def test_records_of_one_person_with_several_spellings_are_not_ambiguous() -> None:
    org = PlainOrg()
    for first in ("Robert James", "R."):
        org.add("Contact", FirstName=first, LastName="Smith", Email="bob@x.example")
    outcome = org.sync(change("g/1", "bob@x.example", first="Robert", last="Smith"))["g/1"]
    assert (outcome.status, outcome.several_matched) == ("updated", True)


@pytest.mark.parametrize(
    ("record", "contact", "status"),
    [
        ({"LastName": "ada"}, {"first": "Ada", "last": "Lovelace"}, "updated"),
        ({"LastName": "[not provided]"}, {"first": "Ada", "last": "Lovelace"}, "updated"),
        ({"LastName": "Lovelace"}, {"first": "Ada", "last": "Lovelace"}, "updated"),
        ({"FirstName": "Ada", "LastName": "ada"}, {"first": "Ada", "last": "Lovelace"}, "updated"),
        ({"FirstName": "Ada", "LastName": "Lovelace"}, {}, "updated"),
        ({"FirstName": "Ada", "LastName": "Lovelace"}, {"last": "ada"}, "updated"),
        ({"FirstName": "Ada", "LastName": "Lovelace"}, {"first": "Ada"}, "updated"),
        ({"LastName": "King"}, {"first": "Ada", "last": "Lovelace"}, "covered"),
        ({"FirstName": "Bob", "LastName": "ada"}, {"first": "Ada", "last": "Lovelace"}, "covered"),
        ({"FirstName": "Ada", "LastName": "Lovelace"}, {"first": "Bob"}, "covered"),
        ({"LastName": "Acme"}, {"first": "Ada", "last": "Lovelace", "company": "Acme"}, "updated"),
        ({"FirstName": "Ada", "LastName": "Lovelace"}, {"last": "Acme", "company": "ACME"},
         "updated"),
    ],
)  # fmt: skip
def test_the_primary_address_alone_counts_where_a_name_is_unknown(
    record: dict[str, str], contact: dict[str, Any], status: str
) -> None:
    org = PlainOrg()
    org.add("Contact", **record, Email="ada@acme.com")
    assert org.sync(change("g/1", "ada@acme.com", **contact))["g/1"].status == status
    org = PlainOrg()
    org.add("Contact", **record, Email="ada@acme.com")
    further = org.sync(change("g/2", "x@acme.com", "ada@acme.com", **contact))["g/2"]
    assert (further.status, further.record_id is None) == ("created", True), (
        "a further address is not enough"
    )


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("book", ["g", "h"])
def test_of_a_family_on_one_address_the_first_is_created_and_covers_the_others(
    book: str, together: bool
) -> None:
    org = PlainOrg()
    batch = [
        change("g/1", "home@x.example", first="Ada", last="Lovelace"),
        change(f"{book}/2", "home@x.example", first="William", last="Lovelace", title="Earl"),
    ]
    outcomes = org.sync(*batch) if together else org.sync(batch[0]) | org.sync(batch[1])
    assert outcomes[f"{book}/2"].status == "covered"
    assert (only(org)["FirstName"], only(org).get("Title")) == ("Ada", None)


def test_an_address_that_is_another_contacts_primary_one_is_left_to_it_in_one_batch() -> None:
    batch = [
        change("g/1", "work@x.example", "home@x.example", first="William", last="King"),
        change("g/2", "home@x.example", "work@x.example", first="Ada", last="Lovelace"),
    ]
    for order in (batch, batch[::-1]):
        org = PlainOrg()
        outcomes = org.sync(*order)
        assert {outcome.status for outcome in outcomes.values()} == {"created"}
        found = {
            (record["FirstName"], record["Email"], record.get("Nylas_Email_2__c"))
            for record in org.people()
        }
        assert found == {
            ("William", "work@x.example", None),
            ("Ada", "home@x.example", None),
        }


def test_two_contacts_that_share_only_another_persons_address_are_one_person_in_one_batch() -> None:
    batch = [
        change("g/1", "a1@x.example", "home@x.example", first="Ada", last="Lovelace"),
        change("h/1", "a2@x.example", "home@x.example", first="Ada", last="Lovelace"),
        change("g/2", "home@x.example", first="William", last="King"),
    ]
    for order in (batch, batch[::-1]):
        org = PlainOrg()
        outcomes = org.sync(*order)
        assert sorted(outcome.status for outcome in outcomes.values()) == [
            "created",
            "created",
            "filled",
        ]
        (ada,) = [record for record in org.people() if record["FirstName"] == "Ada"]
        assert (ada["Email"], ada["Nylas_Email_2__c"]) == ("a1@x.example", "a2@x.example")


def test_a_contact_without_a_name_comes_last_and_gets_no_further_address_of_a_record() -> None:
    org = PlainOrg()
    outcomes = org.sync(
        change("a/0", "p1@x.example", last="Lovelace"),
        change("b/0", "p0@x.example", "p1@x.example"),
        change("a/1", "p0@x.example", last="Lovelace"),
        change("b/1", "p2@x.example", "p1@x.example"),
    )
    assert [outcomes[key].status for key in ("a/0", "a/1", "b/0", "b/1")] == [
        "created",
        "created",
        "filled",
        "created",
    ]
    held = [record[name] for record in org.people() for name in EMAILS if record.get(name)]
    assert sorted(held) == ["p0@x.example", "p1@x.example", "p2@x.example"]


def test_several_spellings_of_one_name_take_one_record_in_one_batch() -> None:
    org = PlainOrg()
    robert = org.add("Contact", FirstName="Robert", LastName="Smith", Email="rob@x.example")
    outcomes = org.sync(
        *(
            change(f"{book}/1", "rob@x.example", first=first, last="Smith")
            for book, first in (("a", "R."), ("b", "Bob"), ("c", "Robert"))
        )
    )
    assert {outcome.record_id for outcome in outcomes.values()} == {robert}
    assert only(org)[KEY] == "c/1", "the full name fits best"


def test_no_two_full_names_join_a_record_with_an_initial_in_one_batch() -> None:
    org = PlainOrg()
    org.add("Contact", FirstName="J.", LastName="Smith", Email="home@x.example")
    outcomes = org.sync(
        change("a/1", "home@x.example", first="John", last="Smith"),
        change("b/1", "home@x.example", first="Jane", last="Smith"),
        change("c/1", "home@x.example", first="J.", last="Smith", title="x"),
    )
    assert [outcomes[key].status for key in ("a/1", "b/1", "c/1")] == [
        "filled",
        "covered",
        "updated",
    ]


def test_no_two_names_join_a_nameless_record_in_one_batch() -> None:
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
    assert (outcomes["g/1"].record_id, outcomes["g/2"].status) == (lead, "covered")
    assert "Nylas_Email_2__c" not in org.records[lead]


def test_a_name_that_fits_two_people_of_the_same_batch_waits_for_their_records() -> None:
    org = PlainOrg()
    batch = [
        change("a/1", "john@x.example", first="John", last="Smith"),
        change("a/2", "jane@x.example", "john@x.example", first="Jane", last="Smith"),
        change("b/1", "js@x.example", "jane@x.example", "john@x.example", first="J.", last="Smith"),
    ]
    outcomes = org.sync(*batch)
    assert (outcomes["b/1"].status, outcomes["b/1"].reason) == ("retry", "next_batch")
    again = org.sync(batch[2])["b/1"]
    assert again.status == "ambiguous"
    assert set(again.candidates) == {record["Id"] for record in org.people()}


def test_a_converted_lead_of_another_name_does_not_lead_to_its_contact() -> None:
    org = PlainOrg()
    contact = org.add("Contact", FirstName="Bob", LastName="Jones", Email="bob@acme.com")
    lead = org.add("Lead", FirstName="Bob", LastName="Jones", Company="x", Email="home@x.example")
    org.convert(lead, contact)
    outcome = org.sync(change("g/1", "home@x.example", first="Ada", last="Lovelace"))["g/1"]
    assert outcome.status == "created"
    assert org.records[contact].get(KEY) is None


def test_a_converted_leads_contact_that_another_contact_has_is_not_filled_for_another_name() -> (
    None
):
    org = PlainOrg()
    contact = org.add(
        "Contact",
        FirstName="Bob",
        LastName="Jones",
        Email="b@x.example",
        **{KEY: "h/1", VERSION: 1},
    )
    lead = org.add("Lead", LastName="Lovelace", Company="x", Email="a@x.example", **{KEY: "g/1"})
    org.convert(lead, contact)
    outcome = org.sync(change("g/1", "a@x.example", first="Ada", last="Lovelace", title="x"))["g/1"]
    assert (outcome.status, outcome.record_id) == ("covered", contact)
    assert "Title" not in org.records[contact]


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


# What one record is to one contact


def person(*emails: str, **fields: Any) -> Person:
    found = person_of(change("g/1", *emails, **fields), Policy(), AccountDirectory())
    assert isinstance(found, Person)
    return found


def record(sobject: str = "Contact", **fields: Any) -> SObjectRecord:
    return SObjectRecord(sobject, "003", fields, dict(fields))


ADA = {"FirstName": "Ada", "LastName": "Lovelace"}
A_LOVELACE = {"FirstName": "A.", "LastName": "Lovelace"}
NAMELESS = {"LastName": "[not provided]"}
BOB = {"FirstName": "Bob", "LastName": "Jones"}
PRIMARY, FURTHER, OTHER = (f"{name}@acme.com" for name in ("ada", "two", "other"))


@pytest.mark.parametrize(
    ("fields", "accepted", "covered"),
    [
        ({**ADA, "Email": PRIMARY}, True, False),
        ({**ADA, "Nylas_Email_2__c": FURTHER}, True, False),
        ({**A_LOVELACE, "Nylas_Email_3__c": FURTHER}, True, False),
        ({**ADA, "Email": OTHER}, False, False),
        ({**ADA}, False, False),
        ({**NAMELESS, "Email": PRIMARY}, True, False),
        ({**NAMELESS, "Nylas_Email_2__c": PRIMARY}, True, False),
        ({**NAMELESS, "Email": FURTHER}, False, False),
        ({**BOB, "Email": PRIMARY}, False, True),
        ({**BOB, "Nylas_Email_2__c": PRIMARY}, False, True),
        ({**BOB, "Email": FURTHER}, False, False),
        ({**BOB, "Email": OTHER}, False, False),
    ],
)
def test_a_record_is_accepted_or_covers_by_name_and_address_however_it_was_found(
    fields: dict[str, str], accepted: bool, covered: bool
) -> None:
    ada = person(PRIMARY, FURTHER, first="Ada", last="Lovelace")
    assert accepts(record(**fields), ada) is accepted
    assert covers(record(**fields), ada) is covered


def test_a_record_that_stands_for_an_address_without_holding_it_is_accepted() -> None:
    ada = person(PRIMARY, FURTHER, first="Ada", last="Lovelace")
    for fields, address, accepted in (
        (ADA, PRIMARY, True),
        (ADA, FURTHER, True),
        (NAMELESS, PRIMARY, True),
        (NAMELESS, FURTHER, False),
        (BOB, PRIMARY, False),
    ):
        standing = record(**fields)
        standing.people.add(address)
        assert accepts(standing, ada) is accepted
        assert not covers(standing, ada), "it does not hold the address"


def test_a_contact_without_an_address_is_no_record_and_is_covered_by_none() -> None:
    ada = person(first="Ada", last="Lovelace")
    for fields in (ADA, BOB, NAMELESS):
        assert not accepts(record(**fields), ada)
        assert not covers(record(**fields), ada)


def test_the_person_with_the_better_record_comes_first() -> None:
    ada = person(PRIMARY, FURTHER, first="Ada", last="Lovelace")
    ranked = [
        # the name counts within a tier, and never more than the tier
        {**ADA, "Email": PRIMARY},
        {**A_LOVELACE, "Email": PRIMARY},
        {**ADA, "Email": FURTHER},
        {**A_LOVELACE, "Nylas_Email_2__c": PRIMARY},
        {**NAMELESS, "Email": PRIMARY},
        {**NAMELESS, "Nylas_Email_2__c": PRIMARY},
        {**BOB, "Email": PRIMARY},
    ]
    found = []
    for fields in ranked:
        alone = CandidateIndex()
        alone.add_rows("Contact", [{"Id": "003000000000001AAA", **fields}])
        found.append(best_tier(alone, ada))
        several = CandidateIndex()
        several.add_rows(
            "Contact",
            [
                {"Id": f"00300000000000{number}AAA", **each}
                for number, each in enumerate(ranked[ranked.index(fields) :])
            ],
        )
        assert best_tier(several, ada) == found[-1], "the best of several records counts"
    assert found == sorted(set(found))
    assert best_tier(CandidateIndex(), ada) == found[-1], "as if it had none"


@pytest.mark.parametrize(
    ("name", "company", "joined", "expected"),
    [
        ({**ADA}, None, [], NameComparison.SAME),
        ({**A_LOVELACE}, None, [], NameComparison.COMPATIBLE),
        ({**NAMELESS}, None, [], NameComparison.UNKNOWN),
        ({**BOB}, None, [("Ada", "Lovelace")], NameComparison.CONTRADICTS),
        # those whom an incomplete name stands for in this batch
        ({**NAMELESS}, None, [("Bob", "Jones")], NameComparison.CONTRADICTS),
        ({**NAMELESS}, None, [("Ada", "Lovelace")], NameComparison.UNKNOWN),
        ({**NAMELESS}, None, [(None, "Jones")], NameComparison.CONTRADICTS),
        ({**A_LOVELACE}, None, [("Anna", "Lovelace")], NameComparison.CONTRADICTS),
        ({**A_LOVELACE}, None, [("Ada", "Lovelace")], NameComparison.COMPATIBLE),
        ({**A_LOVELACE}, None, [("B.", "Lovelace")], NameComparison.COMPATIBLE),
        # a company is no name
        ({"LastName": "Engines"}, "Engines", [], NameComparison.UNKNOWN),
        ({"LastName": "Acme"}, None, [], NameComparison.UNKNOWN),
        ({"LastName": "Engines"}, None, [], NameComparison.CONTRADICTS),
        ({**NAMELESS}, "Jones", [(None, "Jones")], NameComparison.UNKNOWN),
    ],
)
def test_a_record_with_an_incomplete_name_is_compared_by_those_whom_it_stands_for(
    name: dict[str, str],
    company: str | None,
    joined: list[tuple[str | None, str]],
    expected: NameComparison,
) -> None:
    ada = person(PRIMARY, first="Ada", last="Lovelace", company="Acme")
    lead = record("Lead", **name, Company=company)
    lead.joined.update(PersonName(*each) for each in joined)
    assert compare_person(lead, ada) is expected


def test_a_name_that_fits_two_people_is_ambiguous_also_beside_a_third_one() -> None:
    org = PlainOrg()
    ids = [
        org.add("Contact", FirstName=first, LastName=last, Email="j.smith@x.example")
        for first, last in (("John", "Smith"), ("Jane", "Smith"), ("Bob", "Jones"))
    ]
    org.records[ids[1]]["LastActivityDate"] = "2026-01-01"
    outcome = org.sync(change("g/1", "j.smith@x.example", first="J.", last="Smith"))["g/1"]
    assert (outcome.status, outcome.candidates) == ("ambiguous", (ids[1], ids[0]))


def test_the_contact_that_a_keyed_lead_became_covers_before_another_holder_of_the_address() -> None:
    org = PlainOrg()
    taken = {KEY: "h/1", VERSION: 1}
    contact = org.add("Contact", FirstName="Bob", LastName="Jones", Email="b@x.example", **taken)
    org.add("Contact", FirstName="Carl", LastName="Brown", Email="a@x.example")
    lead = org.add("Lead", LastName="Lovelace", Company="x", Email="l@x.example", **{KEY: "g/1"})
    org.convert(lead, contact)
    outcome = org.sync(change("g/1", "a@x.example", first="Ada", last="Lovelace"))["g/1"]
    assert (outcome.status, outcome.candidates) == ("covered", (contact,))


@pytest.mark.parametrize("key", [None, "g/1"])
def test_a_keyed_leads_contact_that_no_other_contact_has_is_followed_whatever_its_name(
    key: str | None,
) -> None:
    org = PlainOrg()
    contact = org.add("Contact", FirstName="Bob", LastName="Jones", **{KEY: key, VERSION: 1})
    lead = org.add("Lead", LastName="Lovelace", Company="x", Email="a@x.example", **{KEY: "g/1"})
    org.convert(lead, contact)
    outcome = org.sync(change("g/1", "a@x.example", first="Ada", last="Lovelace"))["g/1"]
    assert (outcome.status, outcome.record_id) == ("updated", contact)


@pytest.mark.parametrize(
    ("name", "emails", "status"),
    [
        (ADA, ("ada@acme.com",), "updated"),
        (ADA, ("x@acme.com", "ada@acme.com"), "updated"),
        (NAMELESS, ("ada@acme.com",), "updated"),
        (NAMELESS, ("x@acme.com", "ada@acme.com"), "created"),
        (BOB, ("ada@acme.com",), "created"),
    ],
)
def test_a_converted_leads_address_leads_to_its_contact_as_far_as_the_name_allows(
    name: dict[str, str], emails: tuple[str, ...], status: str
) -> None:
    org = PlainOrg()
    contact = org.add("Contact", **name, Email="new@acme.com")
    org.convert(org.add("Lead", **name, Company="x", Email="ada@acme.com"), contact)
    outcome = org.sync(change("g/1", *emails, first="Ada", last="Lovelace"))["g/1"]
    assert outcome.status == status
    if status == "created":
        made = org.of("Lead")[-1]
        held = [made.get(field) for field in EMAILS if made.get(field)]
        assert held == list(emails), "an old address of another person is dropped by nobody"


def test_of_a_living_record_and_one_that_a_lead_became_the_primary_address_in_email_decides() -> (
    None
):
    org = PlainOrg()
    contact = org.add("Contact", **ADA, Email="new@acme.com", LastActivityDate="2026-02-01")
    org.convert(org.add("Lead", **ADA, Company="x", Email="ada@acme.com"), contact)
    living = org.add("Lead", **ADA, Company="x", Email="ada@acme.com")
    outcome = org.sync(change("g/1", "ada@acme.com", first="Ada", last="Lovelace"))["g/1"]
    assert (outcome.record_id, outcome.matched) == (living, "email")


def test_a_contact_is_free_to_get_the_key_that_a_converted_lead_holds() -> None:
    org = PlainOrg()
    held = {KEY: "g/1"}
    org.convert(org.add("Lead", **ADA, Company="x", Email="old@acme.com", **held), None)
    contact = org.add("Contact", **ADA, Email="ada@acme.com")
    outcome = org.sync(change("g/1", "ada@acme.com", first="Ada", last="Lovelace"))["g/1"]
    assert (outcome.status, outcome.record_id) == ("updated", contact)
    assert org.records[contact][KEY] == "g/1"
