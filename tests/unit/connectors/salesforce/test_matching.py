"""Who is whom: found by key or address, owned or only filled, never merged wrongly, never made
twice.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.mapping_rules import parse
from connectors.salesforce.matching import record_key
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.queries import MAX_STATEMENT, lookup, soql_text
from connectors.salesforce.routing import Creation
from tests.support.plain_org import EMAILS, KEY, THEM, US, VERSION, PlainOrg, schemas

ACCOUNT = "001000000000001AAA"


def change(key: str, *emails: str, version: int = 100, **fields: Any) -> ContactVersion:
    """`key` is `grant/contact`; a name is given as first= and last=."""
    contact = {"id": key, "emails": [{"email": email} for email in emails]}
    names = {
        "first": "given_name",
        "last": "surname",
        "title": "job_title",
        "company": "company_name",
    }
    return ContactVersion(
        key, version, contact | {names.get(name, name): value for name, value in fields.items()}
    )


def gone(key: str, version: int = 200) -> ContactVersion:
    return ContactVersion(key, version, None)


def only(org: PlainOrg) -> dict[str, Any]:
    (record,) = org.people()
    return record


def test_a_stranger_of_a_known_domain_becomes_a_contact_and_any_other_a_lead() -> None:
    org = PlainOrg(accounts={"acme.com": ACCOUNT})
    outcomes = org.sync(
        change("g/1", "ada@acme.com", first="Ada", last="Lovelace"),
        change("g/2", "bob@else.example", last="B"),
    )
    assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.CREATED}
    assert all(outcome.first and outcome.matched is None for outcome in outcomes.values())
    (contact,), (lead,) = org.of("Contact"), org.of("Lead")
    assert contact["AccountId"] == ACCOUNT
    assert (contact[KEY], contact[VERSION], contact["Email"]) == ("g/1", 100, "ada@acme.com")
    assert (lead["Company"], lead["LastName"]) == ("else.example", "B")


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


@pytest.mark.parametrize(
    "key", ["g/" + "x" * 300, "g/ends with a blank ", "g/tab\t", "g/" + "😀" * 200, "g/\ud800"]
)
def test_a_key_that_salesforce_would_change_is_hashed_and_keeps_its_grant(key: str) -> None:
    held = record_key(key)
    assert len(held) <= 255
    assert held.startswith("g/sha256:")
    assert held == record_key(key) != record_key(key + "y")


@pytest.mark.parametrize("ours", [True, False])
def test_a_converted_lead_found_by_key_or_address_leads_to_its_contact(ours: bool) -> None:
    org = PlainOrg()
    contact = org.add("Contact", LastName="Lovelace", Title="Boss", Email="new@acme.com")
    lead = org.add(
        "Lead",
        LastName="Lovelace",
        Company="x",
        Email="ada@acme.com",
        CreatedById=US if ours else THEM,
    )
    org.records[lead][KEY] = "g/1"
    org.convert(lead, contact)
    by_address = org.sync(change("h/1", "ada@acme.com", last="Lovelace", title="Engineer"))["h/1"]
    assert (by_address.matched, by_address.record_id) == ("converted_lead", contact)
    assert org.records[contact][KEY] == "h/1"
    assert org.records[contact]["Title"] == ("Engineer" if ours else "Boss")
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


def test_a_converted_lead_whose_contact_is_gone_keeps_nobody_out_who_only_shares_its_address() -> (
    None
):
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


def test_of_several_records_one_with_a_key_then_the_latest_change_then_the_oldest_is_taken() -> (
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


def test_what_people_typed_stays_and_blanks_are_filled() -> None:
    org = PlainOrg()
    org.add("Contact", FirstName="Ada", LastName="King", Title="Countess", Email="ada@acme.com")
    org.sync(
        change(
            "g/1",
            "ada@acme.com",
            first="Augusta",
            last="Lovelace",
            title="Engineer",
            phone_numbers=[{"number": "1"}],
        )
    )
    record = only(org)
    assert (record["FirstName"], record["LastName"], record["Title"], record["Phone"]) == (
        "Ada",
        "King",
        "Countess",
        "1",
    )
    assert record[KEY] == "g/1"


def test_the_owner_may_overwrite_what_others_created_where_configured() -> None:
    org = PlainOrg(Policy(overwrite_others=True))
    org.add("Contact", FirstName="Ada", LastName="King", Email="ada@acme.com")
    org.sync(change("g/1", "ada@acme.com", first="Augusta", last="Lovelace"))
    assert (only(org)["FirstName"], only(org)["LastName"]) == ("Augusta", "Lovelace")


def test_the_same_person_in_two_grants_is_one_record_that_its_owner_writes() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", title="Engineer", version=100))
    filled = org.sync(
        change(
            "h/1",
            "ADA@acme.com",
            "ada@home.example",
            last="LOVELACE",
            title="Boss",
            company="Acme",
            version=500,
        )
    )["h/1"]
    record = only(org)
    assert (filled.status, filled.matched) == (OutcomeStatus.FILLED, "email")
    assert (record[KEY], record[VERSION], record["LastName"], record["Title"]) == (
        "g/1",
        100,
        "Lovelace",
        "Engineer",
    )
    assert record["Nylas_Email_2__c"] == "ada@home.example"
    owner = org.sync(change("g/1", "ada@acme.com", last="Byron", title="Engineer", version=200))[
        "g/1"
    ]
    assert (owner.status, only(org)["LastName"], only(org)[VERSION]) == (
        OutcomeStatus.UPDATED,
        "Byron",
        200,
    )


def test_one_batch_makes_one_record_of_people_who_hang_together_in_any_order() -> None:
    batch = [
        change("a/1", "x@acme.com", last="Lovelace"),
        change("b/1", "y@acme.com", last="Lovelace"),
        change("c/1", "y@acme.com", "X@acme.com", last="Lovelace"),
    ]
    for order in (batch, batch[::-1], [batch[1], batch[2], batch[0]]):
        org = PlainOrg()
        fates = sorted(outcome.status for outcome in org.sync(*order).values())
        assert fates == [OutcomeStatus.CREATED, OutcomeStatus.FILLED, OutcomeStatus.FILLED]
        assert {only(org)["Email"], only(org)["Nylas_Email_2__c"]} == {"x@acme.com", "y@acme.com"}
        assert org.written == 1


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


def test_of_a_family_on_one_mailbox_the_one_whose_name_stands_is_the_record() -> None:
    org = PlainOrg()
    org.add("Contact", FirstName="Ada", LastName="Lovelace", Email="home@x.example")
    outcomes = org.sync(
        change("g/1", "home@x.example", first="William", last="King"),
        change("g/2", "home@x.example", first="Ada", last="Lovelace"),
    )
    assert (outcomes["g/1"].reason, only(org)[KEY]) == ("shared_address", "g/2")


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


def test_who_only_shares_an_address_is_taken_for_somebody_else_wherever_there_is_a_better_record() -> (
    None
):
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


def test_who_has_another_name_than_the_record_of_another_book_makes_none_of_its_own_and_holds_nobody_back() -> (
    None
):
    org = PlainOrg()
    org.sync(change("h/1", "home@x.example", first="Ada", last="Lovelace"))
    outcomes = org.sync(
        change("g/2", "home@x.example", "william@work.example", first="William", last="King"),
        change("c/1", "william@work.example", first="William", last="King"),
    )
    assert (outcomes["g/2"].status, outcomes["g/2"].reason) == (
        OutcomeStatus.FILLED,
        "name_differs",
    )
    assert outcomes["c/1"].status is OutcomeStatus.CREATED
    again = org.sync(
        change("g/2", "home@x.example", "william@work.example", first="William", last="King")
    )["g/2"]
    assert (again.status, org.records[str(again.record_id)][KEY]) == (OutcomeStatus.FILLED, "c/1")


def test_no_two_names_of_one_book_join_a_nameless_record_in_one_batch() -> None:
    org = PlainOrg(Policy(mapping=parse("[lead]\nFirstName = false\nLastName = false")))
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


def test_a_fallback_never_replaces_a_name_that_stands() -> None:
    org = PlainOrg()
    org.sync(
        change("g/1", "ada@acme.com", first="Ada", last="Lovelace", company="Acme", version=100)
    )
    org.sync(change("g/1", "ada@acme.com", version=200))
    assert (only(org)["LastName"], only(org)["Company"], only(org)["FirstName"]) == (
        "Lovelace",
        "Acme",
        "Ada",
    )


def test_a_name_like_the_local_part_is_no_fallback() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "lovelace@acme.com", last="Lovelace"))
    org.sync(change("h/1", "lovelace@acme.com", last="King"))
    assert only(org)["LastName"] == "Lovelace"


def test_a_first_name_is_not_put_beside_another_last_name() -> None:
    org = PlainOrg()
    org.add("Contact", LastName="Smith", Email="home@x.example")
    org.sync(change("g/1", "home@x.example", first="Ada", last="Lovelace"))
    assert only(org).get("FirstName") is None


def test_nothing_is_written_for_what_stands_already() -> None:
    org = PlainOrg()
    made = change("g/1", "ada@acme.com", "ada@home.example", first="Ada", last="Lovelace")
    org.sync(made)
    org.records[only(org)["Id"]]["Email"] = "Ada@Acme.com"
    assert org.sync(made)["g/1"].status is OutcomeStatus.UNCHANGED
    assert org.written == 1


def test_a_newer_version_alone_is_written_and_an_older_change_is_stale() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=100))
    newer = org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=300))["g/1"]
    assert (newer.status, only(org)[VERSION]) == (OutcomeStatus.UNCHANGED, 300)
    older = org.sync(change("g/1", "ada@acme.com", last="Older", version=200))["g/1"]
    assert (older.status, only(org)["LastName"]) == (OutcomeStatus.STALE, "Lovelace")


def test_a_change_of_the_primary_address_keeps_the_old_one() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=100))
    org.sync(change("g/1", "ada@globex.com", last="Lovelace", version=200))
    assert (only(org)["Email"], only(org)["Nylas_Email_2__c"]) == ("ada@globex.com", "ada@acme.com")
    assert (
        org.sync(change("h/1", "ada@acme.com", last="Lovelace"))["h/1"].status
        is OutcomeStatus.FILLED
    )


def test_a_deleted_owner_releases_the_key_and_the_next_match_takes_it() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=100))
    assert org.sync(gone("g/1"))["g/1"].status is OutcomeStatus.RELEASED
    assert (only(org)[KEY], only(org)[VERSION], only(org)["LastName"]) == (None, None, "Lovelace")
    taken = org.sync(change("h/1", "ada@acme.com", last="King", version=50))["h/1"]
    assert (taken.status, only(org)[KEY], only(org)[VERSION], only(org)["LastName"]) == (
        OutcomeStatus.UPDATED,
        "h/1",
        50,
        "King",
    )


def test_a_release_and_its_takeover_fit_into_one_batch() -> None:
    org = PlainOrg()
    org.sync(change("g/old", "ada@acme.com", last="Lovelace"))
    outcomes = org.sync(
        change("g/new", "ada@acme.com", last="Lovelace", version=199), gone("g/old")
    )
    assert (outcomes["g/old"].status, outcomes["g/new"].status) == (
        OutcomeStatus.RELEASED,
        OutcomeStatus.UPDATED,
    )
    assert (only(org)[KEY], only(org)[VERSION]) == ("g/new", 199)
    assert org.written == 2


@pytest.mark.parametrize(
    ("policy", "fate", "reason"),
    [
        (Policy(on_delete=OnDelete.KEEP), OutcomeStatus.UNCHANGED, "kept"),
        (Policy(on_delete=OnDelete.FLAG, flag_field="Gone__c"), OutcomeStatus.RELEASED, "flagged"),
        (Policy(on_delete=OnDelete.FLAG), OutcomeStatus.UNCHANGED, "no_flag_field"),
    ],
)
def test_a_deletion_flags_or_keeps_where_configured(
    policy: Policy, fate: OutcomeStatus, reason: str
) -> None:
    org = PlainOrg(policy)
    org.sync(change("g/1", "ada@acme.com", last="Lovelace"))
    outcome = org.sync(gone("g/1"))["g/1"]
    assert (outcome.status, outcome.reason) == (fate, reason)
    assert only(org)[KEY] == "g/1"
    assert only(org).get("Gone__c") is (True if reason == "flagged" else None)
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=300))
    assert only(org).get("Gone__c") is (False if reason == "flagged" else None)


def test_a_deletion_flags_the_contact_and_the_lead_that_hold_the_key() -> None:
    org = PlainOrg(Policy(on_delete=OnDelete.FLAG, flag_field="Gone__c"))
    for sobject in ("Contact", "Lead"):
        org.add(sobject, LastName="A", Company="x", **{KEY: "g/1", VERSION: 1})
    assert org.sync(gone("g/1"))["g/1"].reason == "flagged"
    assert [record["Gone__c"] for record in org.people()] == [True, True]


def test_an_old_deletion_or_one_of_somebody_elses_key_changes_nothing() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=500))
    outcomes = org.sync(gone("g/1", 400), gone("h/1"))
    assert (outcomes["g/1"].status, outcomes["h/1"].reason) == (OutcomeStatus.STALE, "no_record")
    assert only(org)[KEY] == "g/1"


def test_creation_may_be_switched_off_without_losing_updates() -> None:
    org = PlainOrg(Policy(creation=Creation(addressless=False)))
    assert org.sync(change("g/1", last="Lovelace"))["g/1"].reason == "no_address"
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=100))
    assert org.sync(change("g/1", last="Byron", version=200))["g/1"].status is OutcomeStatus.UPDATED
    assert (only(org)["LastName"], only(org)["Email"]) == ("Byron", "ada@acme.com")


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=200),
            st.lists(st.text(min_size=1, max_size=60), max_size=6),
        ),
        max_size=200,
    ),
    st.integers(3_000, 20_000),
)
@settings(max_examples=60)
def test_statements_stay_under_the_limit_and_name_everybody_they_took(
    people: list[tuple[str, list[str]]], limit: int
) -> None:
    shapes = schemas(Policy())
    found = lookup(people, shapes["Contact"], shapes["Lead"], limit)
    assert len(found.statements) <= 4
    for sobject in shapes:
        text = " ".join(statement for name, statement in found.statements if name == sobject)
        for key, addresses in people[: found.taken]:
            assert all(soql_text(value) in text for value in (key, *addresses))
    assert all(len(statement) <= limit for _, statement in found.statements)
    assert found.taken == len(people) or len(found.statements) == 4


def test_a_batch_of_six_hundred_people_with_long_keys_fits_into_one_lookup() -> None:
    people = [
        (f"{'g' * 36}/{'c' * 140}{number:04d}", (f"person.number{number}@company{number}.example",))
        for number in range(1000)
    ]
    shapes = schemas(Policy())
    found = lookup(people, shapes["Contact"], shapes["Lead"])
    assert found.taken >= 600
    assert max(len(statement) for _, statement in found.statements) <= MAX_STATEMENT


@pytest.mark.parametrize(
    ("text", "literal"), [("O'Neil\\", r"'O\'Neil\\'"), ("a\nb", r"'a\nb'"), ("50%_", "'50%_'")]
)
def test_text_is_quoted_for_soql(text: str, literal: str) -> None:
    assert soql_text(text) == literal


ADDRESSES = [f"p{number}@x.example" for number in range(6)]
CHANGES = st.builds(
    lambda grant, contact, emails, last, version, deleted: ContactVersion(
        f"{grant}/{contact}",
        version,
        None if deleted else {"emails": [{"email": email} for email in emails], "surname": last},
    ),
    st.sampled_from("abc"),
    st.integers(0, 3),
    st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3),
    st.sampled_from(["", "Lovelace", "King"]),
    st.integers(1, 9),
    st.integers(0, 5).map(lambda number: number == 0),
)
BATCHES = st.lists(st.lists(CHANGES, max_size=8, unique_by=lambda one: one.key), max_size=6)


@pytest.mark.slow
@given(
    BATCHES,
    st.lists(st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2, unique=True), max_size=3),
)
@settings(max_examples=300)
def test_random_batches_make_no_duplicate_and_never_put_older_over_newer(
    batches: list[list[ContactVersion]], typed: list[list[str]]
) -> None:
    org = PlainOrg()
    for emails in typed:
        org.add("Contact", LastName="Typed", **dict(zip(EMAILS, emails, strict=False)))
    before = {record["Id"]: dict(record) for record in org.people()}
    newest: dict[str, int] = {}
    for batch in batches:
        held = {record[KEY]: record[VERSION] for record in org.people() if record.get(KEY)}
        known = {record["Id"] for record in org.people()}
        outcomes = org.sync(*batch)
        assert outcomes.keys() == {one.key for one in batch}
        for one in batch:
            outcome = outcomes[one.key]
            if one.key in held:  # found by key: the version that stands decides
                assert (outcome.status is OutcomeStatus.STALE) == (one.version < held[one.key])
            if (
                outcome.status
                in {OutcomeStatus.CREATED, OutcomeStatus.UPDATED, OutcomeStatus.UNCHANGED}
                and one.contact is not None
            ):
                newest[one.key] = one.version
        created = [record for record in org.people() if record["Id"] not in known]
        assert len(created) == sum(
            outcome.status is OutcomeStatus.CREATED for outcome in outcomes.values()
        )
        for record in created:  # nobody is created who was there, or who was created beside
            others = [other for other in org.people() if other is not record]
            mine = {record.get(name) for name in EMAILS} - {None}
            for other in others:
                if {other.get(name) for name in EMAILS} & mine:
                    grants = {
                        str(record[KEY]).partition("/")[0],
                        str(other.get(KEY)).partition("/")[0],
                    }
                    known = {record["LastName"], other["LastName"]} & {"Lovelace", "King", "Typed"}
                    assert len(grants) == 1 or len(known) == 2, (
                        "only a shared mailbox may look like that"
                    )
        keys = [record[KEY] for record in org.people() if record.get(KEY)]
        assert len(keys) == len(set(keys))
        for record in org.people():
            if record.get(KEY):
                assert record[VERSION] == newest[record[KEY]]
    for record_id, record in before.items():  # what people typed stays
        now = org.records[record_id]
        assert all(
            now[name] == value
            for name, value in record.items()
            if name in {"LastName", *EMAILS} and value
        )
