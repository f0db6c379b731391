"""What a batch of changes is planned to do: create, update, fill, release, skip."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.names import NameComparison, PersonName, compare_names
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.routing import Creation
from tests.support.plain_org import EMAILS, KEY, VERSION, PlainOrg, change, gone, only

ACCOUNT = "001000000000001AAA"


def test_a_new_person_of_a_known_domain_becomes_a_contact_and_any_other_a_lead() -> None:
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


def test_contacts_that_are_linked_by_addresses_become_one_record_in_any_order() -> None:
    batch = [
        change("a/1", "x@acme.com", last="Lovelace"),
        change("b/1", "y@acme.com", last="Lovelace"),
        change("c/1", "y@acme.com", "X@acme.com", last="Lovelace"),
    ]
    for order in (batch, batch[::-1], [batch[1], batch[2], batch[0]]):
        org = PlainOrg()
        statuses = sorted(outcome.status for outcome in org.sync(*order).values())
        assert statuses == [OutcomeStatus.CREATED, OutcomeStatus.FILLED, OutcomeStatus.FILLED]
        assert {only(org)["Email"], only(org)["Nylas_Email_2__c"]} == {"x@acme.com", "y@acme.com"}
        assert org.written == 1


def test_of_a_family_on_one_mailbox_the_contact_with_the_name_of_the_record_gets_it() -> None:
    org = PlainOrg()
    org.add("Contact", FirstName="Ada", LastName="Lovelace", Email="home@x.example")
    outcomes = org.sync(
        change("g/1", "home@x.example", first="William", last="King"),
        change("g/2", "home@x.example", first="Ada", last="Lovelace"),
    )
    assert (outcomes["g/1"].status, only(org)[KEY]) == ("covered", "g/2")


def test_a_covered_contact_creates_no_record_and_delays_no_other_contact() -> None:
    org = PlainOrg()
    org.sync(change("h/1", "home@x.example", first="Ada", last="Lovelace"))
    covered = change("g/2", "home@x.example", "william@work.example", first="William", last="King")
    outcomes = org.sync(covered, change("z/1", "william@work.example", first="Bill", last="King"))
    assert (outcomes["z/1"].status, outcomes["g/2"].status) == ("created", "filled")
    (william,) = [record for record in org.people() if record["FirstName"] == "Bill"]
    assert (william[KEY], william["Email"]) == ("z/1", "william@work.example")
    assert "Nylas_Email_2__c" not in william, "Ada's address"


def test_a_newer_version_alone_is_written_and_an_older_change_is_stale() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=100))
    newer = org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=300))["g/1"]
    assert (newer.status, only(org)[VERSION]) == (OutcomeStatus.UNCHANGED, 300)
    older = org.sync(change("g/1", "ada@acme.com", last="Older", version=200))["g/1"]
    assert (older.status, only(org)["LastName"]) == (OutcomeStatus.STALE, "Lovelace")


def test_a_deleted_owner_releases_the_key_and_the_next_match_takes_it() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=100))
    assert org.sync(gone("g/1"))["g/1"].status is OutcomeStatus.RELEASED
    assert (only(org)[KEY], only(org)[VERSION], only(org)["LastName"]) == (None, 200, "Lovelace")
    taken = org.sync(change("h/1", "ada@acme.com", last="Lovelace-King", version=50))["h/1"]
    assert (taken.status, only(org)[KEY], only(org)[VERSION], only(org)["LastName"]) == (
        OutcomeStatus.UPDATED,
        "h/1",
        50,
        "Lovelace-King",
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
    ("policy", "status", "reason"),
    [
        (Policy(on_delete=OnDelete.KEEP), OutcomeStatus.UNCHANGED, "kept"),
        (Policy(on_delete=OnDelete.FLAG, flag_field="Gone__c"), OutcomeStatus.RELEASED, "flagged"),
        (Policy(on_delete=OnDelete.FLAG), OutcomeStatus.UNCHANGED, "no_flag_field"),
    ],
)
def test_a_deletion_flags_or_keeps_where_configured(
    policy: Policy, status: OutcomeStatus, reason: str
) -> None:
    org = PlainOrg(policy)
    org.sync(change("g/1", "ada@acme.com", last="Lovelace"))
    outcome = org.sync(gone("g/1"))["g/1"]
    assert (outcome.status, outcome.reason) == (status, reason)
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


def test_a_stale_deletion_or_one_of_another_key_changes_nothing() -> None:
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


def name_of(record: dict[str, Any]) -> PersonName:
    """The name of a record, without a last name that was made of an address."""
    last = record["LastName"]
    fallback = any(f"{last}@x.example" == record.get(name) for name in EMAILS)
    return PersonName(record.get("FirstName"), None if fallback else last)


def test_an_address_on_the_record_of_a_namesake_is_not_written_to_another_record() -> None:
    def contact(key: str, surname: str, *emails: str) -> ContactVersion:
        return ContactVersion(
            key, 1, {"emails": [{"email": each} for each in emails], "surname": surname}
        )

    org = PlainOrg()
    org.sync(
        contact("a/0", "King", "p0@x.example"),
        contact("a/1", "Lovelace", "p1@x.example", "p0@x.example"),
        contact("b/0", "King", "p2@x.example", "p1@x.example"),
        contact("b/1", "King", "p1@x.example", "p0@x.example"),
    )
    holders = [record[KEY] for record in org.people() if "p0@x.example" in record.values()]
    assert holders == ["a/0"]


@given(
    BATCHES,
    st.lists(st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2, unique=True), max_size=3),
)
@pytest.mark.slow
@settings(max_examples=150)
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
            mine = {record.get(name) for name in EMAILS} - {None}
            for other in org.people():
                if other is not record and {other.get(name) for name in EMAILS} & mine:
                    found = compare_names(name_of(record), name_of(other))
                    assert found < NameComparison.COMPATIBLE, "a person is there twice"
                    assert (
                        record["Email"] != other["Email"] or found is not NameComparison.UNKNOWN
                    ), "it is found by its primary address"
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


NAMES = ["Ada Lovelace", "A. Lovelace", "Ada", "William King", "Bill King", "", "Zoe Byron"]
PEOPLE = st.builds(
    lambda grant, contact, emails, name: change(
        f"{grant}/{contact}",
        *emails,
        **({"first": name.partition(" ")[0], "last": name.partition(" ")[2]} if name else {}),
    ),
    st.sampled_from("ab"),
    st.integers(0, 3),
    st.lists(st.sampled_from(ADDRESSES[:4]), min_size=1, max_size=3, unique=True),
    st.sampled_from(NAMES),
)
RECORDS = st.lists(
    st.tuples(
        st.sampled_from(["Contact", "Lead"]),
        st.sampled_from([name for name in NAMES if name]),
        st.lists(st.sampled_from(ADDRESSES[:4]), min_size=1, max_size=3, unique=True),
    ),
    max_size=3,
)


@given(
    st.lists(PEOPLE, min_size=2, max_size=6, unique_by=lambda one: one.key), RECORDS, st.randoms()
)
@settings(max_examples=100)
def test_the_order_of_a_batch_decides_nothing_and_no_two_people_are_merged(
    batch: list[ContactVersion], records: list[tuple[str, str, list[str]]], random: Random
) -> None:
    def result(changes: list[ContactVersion]) -> tuple[object, ...]:
        org = PlainOrg()
        for sobject, known, emails in records:
            first, _, last = known.partition(" ")
            fields = dict(zip(EMAILS, emails, strict=False))
            org.add(sobject, FirstName=first, LastName=last or first, Company="x", **fields)
        outcomes = org.sync(*changes)
        for one in changes:
            outcome, contact = outcomes[one.key], one.contact or {}
            record = org.records.get(outcome.record_id or "")
            if record is not None and outcome.status in {"updated", "filled", "unchanged"}:
                name = PersonName(contact.get("given_name"), contact.get("surname"))
                assert compare_names(name, name_of(record)) is not NameComparison.CONTRADICTS
        fields_of = ("sobject", KEY, "FirstName", "LastName", *EMAILS)
        people = sorted([str(record.get(name)) for name in fields_of] for record in org.people())
        return people, {key: (one.status, one.candidates) for key, one in outcomes.items()}

    shuffled = list(batch)
    random.shuffle(shuffled)
    assert result(shuffled) == result(batch)
