"""Which fields of a record a contact changes: an owner's, and everybody else's."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.counting import count_nothing
from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.merge import merge_fields
from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.person import Person
from connectors.salesforce.planner import person_of
from connectors.salesforce.policy import Policy
from connectors.salesforce.schema import Schema
from connectors.salesforce.sobject_record import SObjectRecord
from tests.support.markers import marker_of
from tests.support.plain_org import (
    EMAILS,
    KEY,
    MARKER,
    VERSION,
    PlainOrg,
    change,
    gone,
    only,
    schemas,
)

EMAIL_2: dict[str, Any] = {"Nylas_Email_2__c": "two@acme.com"}


def edit(org: PlainOrg, **fields: Any) -> None:
    """What a person does with the only record: changes fields, or clears them (None)."""
    org.records[only(org)["Id"]] |= fields


def ada(key: str = "g/1", version: int = 100, **more: Any) -> Any:
    """A contact with a value for each of the seven standard fields."""
    more = {
        "first": "Ada",
        "last": "Lovelace",
        "title": "Engineer",
        "company": "Engines",
        "phone_numbers": [{"number": "1"}, {"number": "2", "type": "mobile"}],
    } | more
    emails = more.pop("emails", ("ada@acme.com",))
    return change(key, *emails, version=version, **more)


OTHER: dict[str, Any] = {
    "first": "Augusta",
    "last": "Byron",
    "title": "Analyst",
    "company": "Other",
    "phone_numbers": [{"number": "3"}, {"number": "4", "type": "mobile"}],
}


def test_values_that_people_typed_stay_and_blanks_are_filled() -> None:
    org = PlainOrg()
    org.add("Contact", FirstName="Ada", LastName="King", Title="Countess", Email="ada@acme.com")
    org.sync(
        change(
            "g/1",
            "ada@acme.com",
            first="A.",
            last="King-Noel",
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


def test_a_mirrored_field_takes_the_contact_s_value_whoever_wrote_the_other_one() -> None:
    mapping = parse_mapping(
        """
        [lead]
        Title = { policy = "always" }
        Email = { policy = "always" }
        """
    )
    org = PlainOrg(Policy(mapping=mapping))
    org.add("Lead", LastName="Lovelace", Title="Countess", Email="rep@acme.com", **EMAIL_2)
    made = change("g/1", "ada@acme.com", "two@acme.com", last="Lovelace", title="Engineer")
    org.sync(made)
    record = only(org)
    assert (record["Title"], record["Email"]) == ("Engineer", "ada@acme.com")
    assert {record["Nylas_Email_2__c"], record["Nylas_Email_3__c"]} == {
        "two@acme.com",
        "rep@acme.com",
    }
    edit(org, Title="Boss")
    org.sync(made)
    assert only(org)["Title"] == "Engineer"
    org.sync(change("h/1", "ada@acme.com", last="Lovelace", title="Filler"))
    assert only(org)["Title"] == "Engineer", "a contact without the key never overwrites"


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


def test_nothing_is_written_if_the_record_has_the_values_already() -> None:
    org = PlainOrg()
    made = change("g/1", "ada@acme.com", "ada@home.example", first="Ada", last="Lovelace")
    org.sync(made)
    org.records[only(org)["Id"]]["Email"] = "Ada@Acme.com"
    assert org.sync(made)["g/1"].status is OutcomeStatus.UNCHANGED
    assert org.written == 1


def test_a_change_of_the_primary_address_keeps_the_old_one() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", version=100))
    org.sync(change("g/1", "ada@globex.com", last="Lovelace", version=200))
    assert (only(org)["Email"], only(org)["Nylas_Email_2__c"]) == ("ada@globex.com", "ada@acme.com")
    assert (
        org.sync(change("h/1", "ada@acme.com", last="Lovelace"))["h/1"].status
        is OutcomeStatus.FILLED
    )


@pytest.mark.parametrize("typed", ["Typed", None])
@pytest.mark.parametrize("name", ["Title", "Phone", "MobilePhone", "Company"])
def test_a_value_that_a_person_corrected_or_cleared_stays_and_the_others_follow(
    name: str, typed: str | None
) -> None:
    org = PlainOrg()
    org.sync(ada())
    edit(org, **{name: typed})
    org.sync(ada(version=200, **OTHER))
    record = only(org)
    wanted = {"Title": "Analyst", "Phone": "3", "MobilePhone": "4", "Company": "Other"}
    assert {field: record[field] for field in wanted} == wanted | {name: typed}
    assert (record["FirstName"], record["LastName"]) == ("Augusta", "Byron")
    org.sync(ada(version=300))
    assert only(org)[name] == typed
    edit(org, **{name: wanted[name]})
    org.sync(ada(version=400, title="A", company="A", phone_numbers=[]))
    assert only(org)[name] in ("A", wanted[name])


def test_a_change_of_the_phone_reverts_no_name_title_or_email_that_a_rep_corrected() -> None:
    org = PlainOrg()
    org.sync(ada())
    edit(org, LastName="King", Title="Countess", Email="ada@king.example")
    org.sync(ada(version=200, phone_numbers=[{"number": "5"}]))
    record = only(org)
    assert (record["LastName"], record["Title"], record["Email"], record["Phone"]) == (
        "King",
        "Countess",
        "ada@king.example",
        "5",
    )
    assert "ada@acme.com" in (record["Nylas_Email_2__c"], record.get("Nylas_Email_3__c"))


def test_the_value_that_we_left_is_still_ours_after_a_person_typed_it_again() -> None:
    org = PlainOrg()
    org.sync(ada())
    edit(org, Title="Boss")
    edit(org, Title=" Engineer")
    org.sync(ada(version=200, title="Analyst"))
    assert only(org)["Title"] == "Analyst"


def test_a_value_that_equals_ours_is_not_claimed() -> None:
    org = PlainOrg()
    org.add("Lead", LastName="Lovelace", Company="Engines", Title="Engineer", Email="ada@acme.com")
    org.sync(ada())
    assert "Title" not in str(only(org)[MARKER])
    org.sync(ada(version=200, title="Analyst"))
    assert only(org)["Title"] == "Engineer"


def test_only_blanks_of_a_record_without_a_marker_are_filled_though_it_has_the_key() -> None:
    org = PlainOrg()
    org.sync(ada())
    edit(org, Phone=None, **{MARKER: None})
    org.sync(ada(version=200, **OTHER))
    record = only(org)
    assert (record["Title"], record["LastName"], record["Phone"]) == ("Engineer", "Lovelace", "3")


def test_the_integration_user_may_change() -> None:
    org = PlainOrg()
    org.sync(ada())
    edit(org, CreatedById="005000000000009AAA")
    org.sync(ada(version=200, title="Analyst"))
    assert only(org)["Title"] == "Analyst"


def test_the_owner_overwrites_what_another_contact_filled_and_never_the_other_way() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com", last="Lovelace"))
    org.sync(change("h/1", "ada@acme.com", last="Lovelace", title="Filled"))
    org.sync(change("h/1", "ada@acme.com", last="Lovelace", title="Changed", version=200))
    assert only(org)["Title"] == "Filled"
    org.sync(change("g/1", "ada@acme.com", last="Lovelace", title="Owned", version=200))
    assert only(org)["Title"] == "Owned"
    edit(org, Title=None)
    org.sync(change("h/1", "ada@acme.com", last="Lovelace", title="Filled", version=300))
    assert only(org)["Title"] is None


def test_a_contact_that_takes_a_released_record_over_goes_by_the_same_rule() -> None:
    org = PlainOrg()
    org.sync(ada())
    marker = only(org)[MARKER]
    edit(org, Title="Countess")
    org.sync(gone("g/1"))
    assert (only(org)[KEY], only(org)[MARKER]) == (None, marker)
    org.sync(ada("h/1", **OTHER | {"first": "Ada Augusta", "last": "Lovelace"}))
    record = only(org)
    assert (record[KEY], record["Title"], record["Phone"], record["FirstName"]) == (
        "h/1",
        "Countess",
        "3",
        "Ada Augusta",
    )


def test_a_merge_by_an_admin_leaves_what_the_marker_of_the_master_knows() -> None:
    org = PlainOrg()
    org.sync(ada())
    # the admin picked the title of the losing record, and kept the master's other fields
    edit(org, Title="Of the loser")
    org.sync(ada(version=200, **OTHER))
    assert (only(org)["Title"], only(org)["Phone"]) == ("Of the loser", "3")


def test_the_marker_goes_with_the_row_and_never_alone() -> None:
    org = PlainOrg()
    org.sync(ada())
    marker = only(org)[MARKER]
    assert [entry.partition("=")[0] for entry in marker.split()] == sorted(
        ["Company", "Email", "FirstName", "LastName", "MobilePhone", "Phone", "Title"]
    )
    edit(org, **{MARKER: " ".join(reversed(marker.split()))})
    org.sync(ada())
    assert org.written == 1
    edit(org, Title="Analyst")
    org.sync(ada(title="Analyst"))
    assert org.written == 1


# Names


@pytest.mark.parametrize(
    ("typed", "contact", "expected"),
    [
        # corrected in one part: the other part follows the same person
        ({"LastName": "King"}, {"first": "Augusta"}, ("Augusta", "King")),
        ({"FirstName": "Augusta"}, {"last": "King"}, ("Augusta", "King")),
        # the entry became another person
        ({"LastName": "King"}, {"first": "Bob", "last": "Smith"}, ("Ada", "King")),
        ({"FirstName": "Augusta"}, {"first": "Bob", "last": "Smith"}, ("Augusta", "Lovelace")),
        # ... and both parts are still ours
        ({}, {"first": "Bob", "last": "Smith"}, ("Bob", "Smith")),
        # the contact took over what the person typed
        ({"LastName": "King"}, {"first": "Augusta", "last": "KING"}, ("Augusta", "King")),
        # one part is unknown now, so the other one may be of anybody
        ({}, {"first": "Bob", "last": ""}, ("Ada", "Lovelace")),
        ({}, {"first": "", "last": "Smith"}, ("Ada", "Lovelace")),
        # a first name that was cleared stays cleared, whatever the last name does
        ({"FirstName": None}, {"last": "King"}, (None, "King")),
    ],
)
def test_no_name_is_built_of_two_people(
    typed: dict[str, Any], contact: dict[str, Any], expected: tuple[str | None, str]
) -> None:
    org = PlainOrg()
    org.sync(ada())
    edit(org, **typed)
    for version in (200, 300):
        org.sync(ada(version=version, **contact))
        assert (only(org)["FirstName"], only(org)["LastName"]) == expected


def test_a_fallback_that_we_wrote_is_replaced_and_one_that_a_person_typed_is_not() -> None:
    org = PlainOrg()
    org.sync(change("g/1", "ada@acme.com"))
    assert (only(org)["LastName"], only(org)["Company"]) == ("ada", "acme.com")
    org.sync(ada("h/1"))
    assert (only(org)["LastName"], only(org)["Company"]) == ("Lovelace", "Engines")
    typed = PlainOrg()
    typed.add("Lead", LastName="ada", Company="acme.com", Email="ada@acme.com")
    typed.sync(ada())
    assert (only(typed)["LastName"], only(typed)["Company"]) == ("ada", "acme.com")


# Addresses


def addresses(org: PlainOrg) -> tuple[str | None, ...]:
    return tuple(only(org).get(name) for name in EMAILS)


def test_the_email_that_a_rep_typed_is_never_moved() -> None:
    org = PlainOrg()
    org.add("Contact", FirstName="Ada", LastName="Lovelace", Email="ada@home.example")
    org.sync(ada(emails=("ada@acme.com", "ada@home.example")))
    assert addresses(org) == ("ada@home.example", "ada@acme.com", None)
    org.sync(ada(emails=("new@acme.com", "ada@home.example"), version=200))
    assert addresses(org) == ("ada@home.example", "new@acme.com", "ada@acme.com")


def test_an_email_that_a_rep_changed_or_cleared_stays_and_ours_goes_further() -> None:
    for typed in ("ada@king.example", None):
        org = PlainOrg()
        org.sync(ada())
        edit(org, Email=typed)
        for version in (200, 300):
            org.sync(ada(version=version))
            assert addresses(org) == (typed, "ada@acme.com", None)


def test_a_further_address_that_a_person_typed_stays() -> None:
    org = PlainOrg()
    org.sync(ada(emails=("a@acme.com", "b@acme.com")))
    edit(org, Nylas_Email_2__c="typed@acme.com")
    org.sync(ada(emails=("a@acme.com", "c@acme.com", "d@acme.com"), version=200))
    assert addresses(org) == ("a@acme.com", "typed@acme.com", "c@acme.com")


def test_a_further_address_that_a_person_cleared_does_not_come_back_elsewhere() -> None:
    org = PlainOrg()
    org.sync(ada(emails=("a@acme.com", "b@acme.com")))
    edit(org, Nylas_Email_2__c=None)
    for version in (200, 300):
        org.sync(ada(emails=("a@acme.com", "b@acme.com"), version=version))
        assert addresses(org) == ("a@acme.com", None, None)
    org.sync(ada("h/1", emails=("a@acme.com", "b@acme.com")))
    assert addresses(org) == ("a@acme.com", None, None)


def test_the_addresses_of_the_owner_come_in_its_order_and_those_that_stood_behind_them() -> None:
    org = PlainOrg()
    org.sync(ada(emails=("a@acme.com", "x@acme.com")))
    org.sync(ada(emails=("a@acme.com", "y@acme.com"), version=200))
    assert addresses(org) == ("a@acme.com", "y@acme.com", "x@acme.com")
    org.sync(ada(emails=("a@acme.com", "x@acme.com", "y@acme.com"), version=300))
    assert addresses(org) == ("a@acme.com", "y@acme.com", "x@acme.com"), "no write for the order"
    org = PlainOrg()
    org.sync(ada(emails=("a@acme.com", "b@acme.com")))
    org.sync(ada(emails=("c@acme.com", "b@acme.com"), version=200))
    assert addresses(org) == ("c@acme.com", "b@acme.com", "a@acme.com")
    org.sync(ada(emails=("b@acme.com", "c@acme.com"), version=300))
    assert addresses(org) == ("b@acme.com", "c@acme.com", "a@acme.com")
    org.sync(ada(emails=("d@acme.com", "e@acme.com", "f@acme.com"), version=400))
    assert set(addresses(org)) == {"d@acme.com", "e@acme.com", "f@acme.com"}


def test_the_address_of_another_contact_stays_before_one_that_the_owner_gave_up() -> None:
    org = PlainOrg()
    org.sync(ada(emails=("a@acme.com", "x@acme.com")))
    org.sync(ada("h/1", emails=("a@acme.com", "other@acme.com")))
    org.sync(ada(emails=("a@acme.com", "y@acme.com"), version=200))
    assert addresses(org) == ("a@acme.com", "y@acme.com", "other@acme.com")


def test_an_address_that_moves_to_a_blank_email_blanks_no_further_field() -> None:
    org = PlainOrg()
    ours = {"Nylas_Email_2__c": "a@acme.com", "Nylas_Email_3__c": "b@acme.com"}
    org.add("Lead", LastName="Lovelace", Company="E", **ours, **{MARKER: marker_of(**ours)})
    org.sync(ada(emails=("a@acme.com",)))
    assert addresses(org) == ("a@acme.com", "a@acme.com", "b@acme.com")
    org.sync(ada(emails=("a@acme.com", "c@acme.com"), version=200))
    assert addresses(org) == ("a@acme.com", "c@acme.com", "b@acme.com")


def test_the_account_that_a_person_cleared_stays_cleared() -> None:
    account = "001000000000001AAA"
    org = PlainOrg(accounts={"acme.com": account})
    org.sync(ada())
    assert only(org)["AccountId"] == account
    edit(org, AccountId=None)
    org.sync(ada(version=200))
    assert only(org)["AccountId"] is None


# Room in the marker


def test_a_field_for_which_the_marker_has_no_room_is_not_written_and_is_counted() -> None:
    org = PlainOrg()
    for name, schema in org.schemas.items():
        fields = dict(schema.described.fields)
        fields[MARKER] = replace(fields[MARKER], length=40)
        for required in {"LastName", "Company"} & fields.keys():
            fields[required] = replace(fields[required], nillable=False)
        org.schemas[name] = replace(schema, described=replace(schema.described, fields=fields))
    org.sync(ada())
    record = only(org)
    # what a new record must have comes first, whatever the order of the mapping
    assert [entry.partition("=")[0] for entry in record[MARKER].split()] == ["Company", "LastName"]
    assert (record["LastName"], record["Company"], record.get("Title")) == (
        "Lovelace",
        "Engines",
        None,
    )
    assert ("marker_full", "Lead.Title") in org.counts
    written = org.written
    org.sync(ada())
    assert org.written == written
    org.sync(ada(version=200, **OTHER))
    assert (only(org)["LastName"], only(org)["Company"]) == ("Byron", "Other")


# What one contact would change in one record


def merged(
    fields: dict[str, Any],
    made: Any,
    policy: Policy | None = None,
    *,
    owner: bool = True,
    sobject: str = "Lead",
    new: bool = False,
    locked: tuple[str, ...] = (),
    counts: list[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """The changes without the marker. `locked` fields can be written only where they are not."""
    policy = policy or Policy()
    known = schemas(policy)[sobject]
    described = dict(known.described.fields)
    for name in locked:
        described[name] = replace(described[name], createable=not new, updateable=new)
    known = replace(known, described=replace(known.described, fields=described))
    record = SObjectRecord(sobject, None if new else "00Q", fields, dict(fields))
    someone = person_of(made, policy, AccountDirectory({"acme.com": ACCOUNT}))
    assert isinstance(someone, Person)
    seen = [] if counts is None else counts
    changed = merge_fields(
        record, someone, known, owner=owner, count=lambda what, where: seen.append((what, where))
    )
    return {name: value for name, value in changed.items() if name != MARKER}


def ours(**values: Any) -> dict[str, Any]:
    """Fields of a record, all of them as we left them."""
    return {**values, MARKER: marker_of(**values)}


ACCOUNT = "001000000000001AAA"
OWNED: dict[str, Any] = {KEY: "g/1", VERSION: 100}
NAMED: dict[str, Any] = {**OWNED, "LastName": "Lovelace", "Company": "E", "Email": "ada@acme.com"}
BLANK, OURS = {"Title": None}, ours(Title="Old")
TYPED_TITLE = {"Title": "Typed"}
CORRECTED = {**OURS, "Title": "Typed"}
CLEARED = {**OURS, "Title": None}


@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.parametrize(
    ("policy", "written", "by_owner"),
    [
        # the standing values over which the policy writes: any contact's, and the owner's
        ("overwrite", [BLANK], [BLANK, OURS]),
        ("always", [BLANK], [BLANK, OURS, TYPED_TITLE, CORRECTED, CLEARED]),
        ("fill", [BLANK], [BLANK]),
        ("create", [], []),
    ],
)
def test_each_policy_writes_over_the_values_that_it_names_and_over_no_other(
    policy: str, written: list[Any], by_owner: list[Any], owner: bool
) -> None:
    rules = Policy(mapping=parse_mapping(f"[lead]\nTitle = {{ policy = '{policy}' }}"))
    made = change("g/1", "ada@acme.com", last="Lovelace", company="E", title="New")
    for stored in (BLANK, OURS, TYPED_TITLE, CORRECTED, CLEARED):
        changed = merged({**NAMED, **stored}, made, rules, owner=owner)
        expected = stored in (by_owner if owner else written)
        assert changed == ({"Title": "New"} if expected else {})
    assert merged({}, made, rules, new=True)["Title"] == "New"


@pytest.mark.parametrize("policy", ["overwrite", "always", "fill", "create"])
@pytest.mark.parametrize("stored", [BLANK, OURS, TYPED_TITLE, CORRECTED, CLEARED])
def test_a_restored_field_is_written_over_anybodys_value_by_the_owner_alone(
    policy: str, stored: dict[str, Any]
) -> None:
    rules = Policy(mapping=parse_mapping(f"[lead]\nTitle = {{ policy = '{policy}' }}"))
    made = change("g/1", "ada@acme.com", last="Lovelace", company="E", title="New")
    restoring = replace(made, restore=frozenset({"Title"}))
    assert merged({**NAMED, **stored}, restoring, rules) == {"Title": "New"}
    others = [merged({**NAMED, **stored}, one, rules, owner=False) for one in (made, restoring)]
    assert others[0] == others[1], "who does not own the record fills what it did before"
    absent = replace(
        change("g/1", "ada@acme.com", last="Lovelace", company="E"), restore=restoring.restore
    )
    assert merged({**NAMED, **stored}, absent, rules) == {}, "absent never blanks"


def test_a_restore_leaves_every_other_field_to_who_typed_it() -> None:
    typed = {"Title": "Typed", "Phone": "9", "FirstName": "Ida", "Email": "ida@import.com"}
    stored = {**NAMED, **typed}
    assert "Title" not in merged(stored, ada())
    restoring = replace(ada(), restore=frozenset({"Title", "Email"}))
    changed = merged(stored, restoring)
    assert changed["Title"] == "Engineer"
    assert changed["Email"] == "ada@acme.com"
    assert not changed.keys() & {"Phone", "FirstName", "LastName", "Company"}
    assert "ida@import.com" in changed.values(), "an address is never lost while there is room"


def test_a_restored_name_keeps_the_parts_of_one_name_together() -> None:
    typed = {**NAMED, "FirstName": "Ida", "LastName": "Byron"}
    both, one = (replace(ada(), restore=frozenset(names)) for names in (_NAMES, _NAMES[:1]))
    assert merged(typed, both).keys() & set(_NAMES) == set(_NAMES)
    assert not merged(typed, one).keys() & set(_NAMES), "Ada Byron is nobody"


def test_a_fallback_is_never_restored() -> None:
    nameless = change("g/1", "ada@acme.com", company="E")
    restoring = replace(nameless, restore=frozenset({"LastName"}))
    assert merged(NAMED, restoring) == {}


_NAMES = ("FirstName", "LastName")


@pytest.mark.parametrize("new", [True, False])
def test_a_field_that_our_user_may_not_write_is_left_out_and_the_others_are_written(
    new: bool,
) -> None:
    made = ada(emails=("ada@acme.com", "two@acme.com"))
    stored = {} if new else {**OWNED, "LastName": "Lovelace"}
    free = merged(stored, made, sobject="Contact", new=new)
    names = {"FirstName", "Title", "Email", "Nylas_Email_2__c", "AccountId"}
    assert names <= free.keys()
    for name in names - {"Email"}:
        rest = merged(stored, made, sobject="Contact", new=new, locked=(name,))
        assert name not in rest
        assert rest.keys() | {"Nylas_Email_3__c"} >= free.keys() - {name}
    # the addresses move on to the fields that can be written
    assert "Email" not in merged(stored, made, sobject="Contact", new=new, locked=("Email",))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({}, {KEY: "g/1", VERSION: 100}),
        # released: the version of the contact that had it stays, and the next owner's replaces it
        ({VERSION: 500}, {KEY: "g/1", VERSION: 100}),
        ({KEY: "g/1"}, {VERSION: 100}),
        ({KEY: "g/1", VERSION: 99}, {VERSION: 100}),
        ({KEY: "g/1", VERSION: 100}, {}),
        ({KEY: "g/1", VERSION: 101}, {}),
    ],
)
def test_an_owner_writes_its_key_once_and_a_version_that_is_newer(
    stored: dict[str, Any], expected: dict[str, Any]
) -> None:
    made = change("g/1", "ada@acme.com", last="Lovelace", company="E", version=100)
    fields = NAMED | {KEY: None, VERSION: None} | stored
    assert merged(fields, made) == expected
    assert merged(fields, made, owner=False) == {}


def test_the_mark_of_a_deleted_contact_goes_when_its_owner_is_back() -> None:
    made = change("g/1", "ada@acme.com", last="Lovelace", company="E")
    flagging = Policy(flag_field="Gone__c")
    assert merged(NAMED | {"Gone__c": True}, made, flagging) == {"Gone__c": False}
    assert merged(NAMED | {"Gone__c": True}, made, flagging, owner=False) == {}
    assert merged(NAMED | {"Gone__c": False}, made, flagging) == {}
    assert merged(NAMED | {"Gone__c": True}, made) == {}, "a checkbox that is not ours"


def test_an_account_is_filled_in_and_neither_moved_nor_emptied() -> None:
    stored = {**NAMED, "FirstName": "Ada"}
    at_acme = change("g/1", "ada@acme.com", first="Ada", last="Lovelace")
    elsewhere = change("g/1", "ada@x.example", first="Ada", last="Lovelace")
    assert merged(stored, at_acme, sobject="Contact") == {"AccountId": ACCOUNT}
    other = {"AccountId": "001000000000002AAA"}
    assert merged(stored | other, at_acme, sobject="Contact") == {}
    assert "AccountId" not in merged(stored, elsewhere, sobject="Contact")
    assert "AccountId" not in merged(stored | other, elsewhere, sobject="Contact")
    assert merged(stored, at_acme) == {}, "a Lead has no Account"


def test_a_text_that_is_cut_to_its_field_is_counted() -> None:
    counts: list[tuple[str, str]] = []
    made = change("g/1", "ada@acme.com", last="Lovelace", company="E", title="T" * 200)
    assert merged(NAMED, made, counts=counts) == {"Title": "T" * 128}
    assert counts == [("truncated", "Lead.Title")]


@pytest.mark.parametrize(
    ("stored", "contact", "expected"),
    [
        # a part that nobody filled in is filled, also beside one that the contact does not know
        ({"LastName": "Smith"}, {"first": "Ada"}, {"FirstName": "Ada"}),
        ({"LastName": "Smith"}, {"first": "Ada", "last": "SMITH"}, {"FirstName": "Ada"}),
        ({"LastName": " Smith "}, {"first": "Ada", "last": "smith"}, {"FirstName": "Ada"}),
        ({"LastName": "Smith"}, {"first": "Ada", "last": "Jones"}, {}),
        # ... and what we left stays beside another's part
        (ours(FirstName="Ada") | {"LastName": "Smith"}, {"first": "Bob"}, {}),
        (ours(FirstName="Ada") | {"LastName": "Smith"}, {"first": "Bob", "last": "Jones"}, {}),
        (
            ours(FirstName="Ada") | {"LastName": "Smith"},
            {"first": "Bob", "last": "Smith"},
            {"FirstName": "Bob"},
        ),
        # a last name that stands in for one is none
        (
            ours(FirstName="Ada") | {"LastName": "ada"},
            {"first": "Bob", "last": "Jones"},
            {"FirstName": "Bob"},
        ),
    ],
)
def test_a_first_name_is_written_only_beside_the_last_name_of_the_same_person(
    stored: dict[str, Any], contact: dict[str, Any], expected: dict[str, Any]
) -> None:
    made = change("g/1", "ada@acme.com", company="E", **contact)
    fields = {**OWNED, "Company": "E", "Email": "ada@acme.com", **stored}
    assert merged(fields, made) == expected


def test_a_part_of_a_name_follows_alone_where_the_mapping_says_so() -> None:
    made = change("g/1", "ada@acme.com", first="Bob", last="Jones", company="E")
    fields = NAMED | {"LastName": "Smith"} | ours(FirstName="Ada")
    assert merged(fields, made) == {}
    mirrored = Policy(mapping=parse_mapping("[lead]\nFirstName = { policy = 'always' }"))
    assert merged(fields, made, mirrored) == {"FirstName": "Bob"}
    alone = Policy(mapping=parse_mapping("[lead]\nLastName = false"))
    assert merged(fields, made, alone) == {"FirstName": "Bob"}


def test_addresses_go_where_the_policy_of_email_allows() -> None:
    made = ada(emails=("new@acme.com", "two@acme.com"))
    values = {"FirstName": "Ada", "LastName": "Lovelace", "Company": "Engines"}
    stored = {**OWNED, **values, "Title": "Engineer", "Phone": "1", "MobilePhone": "2"}
    blank = stored | {"Email": None}
    left = stored | ours(Email="old@acme.com")
    both = {"Nylas_Email_2__c": "new@acme.com", "Nylas_Email_3__c": "two@acme.com"}
    filled = {"Email": "new@acme.com", "Nylas_Email_2__c": "two@acme.com"}
    for text, of_blank, of_ours in (
        ("Email = false", both, both),
        ("Email = { policy = 'create' }", both, both),
        ("Email = { policy = 'fill' }", filled, both),
        ("", filled, filled | {"Nylas_Email_3__c": "old@acme.com"}),
    ):
        policy = Policy(mapping=parse_mapping(f"[lead]\n{text}"))
        assert merged(blank, made, policy) == of_blank, text
        assert merged(left, made, policy) == of_ours, text
        assert merged(left, made, policy, owner=False) == both, text
        created = merged({}, made, policy, new=True)
        assert created.get("Email") == (None if "false" in text else "new@acme.com"), text


def test_a_contact_without_an_address_takes_none_away() -> None:
    stored = {**NAMED, **ours(Email="ada@acme.com", Nylas_Email_2__c="two@acme.com")}
    assert merged(stored, change("g/1", last="Lovelace", company="E")) == {}


# People and contacts, one after the other

MAPPED = {"Title": "title", "Phone": "phone", "Company": "company"}
WORDS = st.sampled_from(["Ada", "Bob", "Cora", "Dan"])
CONTACT_FIELDS = st.fixed_dictionaries(
    {"first": WORDS | st.just(""), "last": WORDS | st.just("")},
    optional=dict.fromkeys(MAPPED.values(), WORDS),
)
ADDRESSES = st.sampled_from([f"{letter}@x.example" for letter in "abcd"])
CHANGE = st.tuples(
    st.sampled_from(["owner", "other"]),
    CONTACT_FIELDS,
    st.lists(ADDRESSES, min_size=1, max_size=4, unique=True),
)
# what a person may put into a field; None clears it
TYPED = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("FirstName", *MAPPED), WORDS | st.none()),
        "LastName": WORDS,
        **dict.fromkeys(EMAILS, ADDRESSES | st.sampled_from(["typed@x.example", None])),
    },
)
STEPS = st.lists(CHANGE | st.tuples(st.just("person"), TYPED, st.none()), max_size=12)


@dataclass
class LeadHistory:
    """One Lead, what we last wrote to each of its fields, and what has to stay there."""

    schema: Schema
    stored: dict[str, Any] = field(default_factory=dict)
    left: dict[str, Any] = field(default_factory=dict)
    protected: dict[str, Any] = field(default_factory=dict)

    def edit(self, fields: dict[str, Any]) -> None:
        """A person's edit. A blank that was never ours may be filled; what we left is ours."""
        self.stored |= fields
        for name, value in fields.items():
            fillable = value is None and name not in self.left
            if fillable or value == self.left.get(name, object()):
                self.protected.pop(name, None)
            else:
                self.protected[name] = value

    def changed_by(self, someone: Person, *, owner: bool) -> dict[str, Any]:
        record_id = "00Q" if self.stored else None
        record = SObjectRecord("Lead", record_id, self.stored, dict(self.stored))
        return merge_fields(record, someone, self.schema, owner=owner, count=count_nothing)

    def sync(self, someone: Person, *, owner: bool) -> None:
        changed = self.changed_by(someone, owner=owner)
        self.stored |= changed
        self.left |= {name: value for name, value in changed.items() if name != MARKER}


def someone_of(key: str, version: int, fields: dict[str, Any], emails: list[str]) -> Person:
    values = dict(fields)
    if phone := values.pop("phone", None):
        values["phone_numbers"] = [{"number": phone}]
    made = change(key, *emails, version=version, **values)
    found = person_of(made, Policy(), AccountDirectory())
    assert isinstance(found, Person)
    return found


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(TYPED, STEPS)
def test_no_edit_is_ever_reverted_and_what_only_we_wrote_follows_the_contact(
    typed: dict[str, Any], steps: list[Any]
) -> None:
    lead = LeadHistory(schemas(Policy())["Lead"])
    if typed:  # the record was typed by a person, or is made by the first contact
        lead.edit({"LastName": "Typed", "Company": "Typed"} | typed)
    for version, (who, fields, emails) in enumerate(steps, 1):
        if who == "person":
            if lead.stored:
                lead.edit(fields)
            continue
        owner = who == "owner" or not lead.stored
        someone = someone_of("g/1" if owner else "h/1", version, fields, emails)
        before = dict(lead.stored)
        lead.sync(someone, owner=owner)
        stays = {name: lead.stored.get(name) for name in lead.protected}
        assert stays == lead.protected, "an edit was reverted"
        for name, of in MAPPED.items():
            follows = owner or before.get(name) is None
            if follows and name not in lead.protected and of in fields:
                assert lead.stored[name] == fields[of], f"{name} does not follow the contact"
        names = {"FirstName": fields["first"], "LastName": fields["last"]}
        if owner and all(names.values()) and not names.keys() & lead.protected.keys():
            assert {name: lead.stored[name] for name in names} == names
        held = {value for name in EMAILS if (value := lead.stored.get(name))}
        lost = {value for name in EMAILS if (value := before.get(name))} - held
        free = [name for name in EMAILS if not lead.stored.get(name) and name not in lead.protected]
        assert not (lost and free), "an address was lost although a field was free"
        assert lead.changed_by(someone, owner=owner) == {}, "a second pass changes something"
