"""Which values of a Nylas contact reach which Salesforce fields, and when two states of a contact
are the same news.
"""

import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.emails import addresses, normalise
from connectors.salesforce.field_paths import MappingError, clean, getter
from connectors.salesforce.field_values import NOT_PROVIDED, bind, cut, field_values
from connectors.salesforce.mapping_rules import FieldMapping, FieldPolicy, Rule, fingerprint, parse

LENGTHS = {
    "FirstName": 40,
    "LastName": 80,
    "Email": 80,
    "Phone": 40,
    "MobilePhone": 40,
    "Title": 128,
    "Company": 255,
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
CONTACTS = st.dictionaries(
    st.sampled_from(
        [
            "given_name",
            "surname",
            "company_name",
            "job_title",
            "emails",
            "phone_numbers",
            "source",
            "birthday",
            "notes",
        ]
    ),
    JSON
    | st.lists(
        st.fixed_dictionaries({}, optional={"email": JSON, "number": JSON, "type": JSON}),
        max_size=3,
    ),
)


def described(sobject: str = "Contact", **more: FieldDescribe) -> ObjectDescribe:
    kinds = {"Email": "email", "Phone": "phone", "MobilePhone": "phone"}
    fields = {
        name: FieldDescribe(
            name, kinds.get(name, "string"), length=length, createable=True, updateable=True
        )
        for name, length in LENGTHS.items()
        if sobject == "Lead" or name != "Company"
    }
    return ObjectDescribe(sobject, fields | more, createable=True, updateable=True, queryable=True)


def wanted(
    contact: Any,
    sobject: str = "Contact",
    mapping: FieldMapping | None = None,
    address: str | None = None,
    more: dict[str, FieldDescribe] | None = None,
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    counted: list[tuple[str, str]] = []
    found = field_values(
        bind(mapping or FieldMapping(), described(sobject, **(more or {}))),
        contact,
        address,
        lambda what, where: counted.append((what, where)),
    )
    return {name: wish.value for name, wish in found.items()}, counted


def test_the_seven_standard_fields_are_mapped_by_default() -> None:
    contact = {
        "given_name": " Ada ",
        "surname": "Lovelace",
        "company_name": "Acme",
        "job_title": "Engineer",
        "emails": [{"email": "ada@acme.example"}],
        "phone_numbers": [
            {"number": "+1 555 0101", "type": "mobile"},
            {"number": "+1 555 0102", "type": "workFax"},
            {"number": "+1 555 0103", "type": "work"},
        ],
    }
    assert {rule.field for rule in FieldMapping().lead} == LENGTHS.keys()
    assert wanted(contact, "Lead", address="ada@acme.example")[0] == {
        "FirstName": "Ada",
        "LastName": "Lovelace",
        "Phone": "+1 555 0103",
        "MobilePhone": "+1 555 0101",
        "Title": "Engineer",
        "Company": "Acme",
    }


@pytest.mark.parametrize(
    ("contact", "address", "last", "company"),
    [
        ({"surname": "Lovelace", "company_name": "Acme"}, "ada@acme.example", "Lovelace", "Acme"),
        ({"surname": "  ", "company_name": ""}, "ada@acme.example", "ada", "acme.example"),
        (
            {"surname": None, "emails": None, "phone_numbers": None},
            None,
            NOT_PROVIDED,
            NOT_PROVIDED,
        ),
        ({}, "ada@not valid", "ada", "not valid"),
    ],
)
def test_a_missing_name_falls_back_to_the_address_and_then_to_what_salesforce_writes(
    contact: dict[str, Any], address: str | None, last: str, company: str
) -> None:
    values, _ = wanted(contact, "Lead", address=address)
    assert (values["LastName"], values["Company"]) == (last, company)


def test_values_are_cut_to_the_described_length_and_counted() -> None:
    values, counted = wanted({"given_name": "x" * 300, "surname": "y" * 80})
    assert values["FirstName"] == "x" * 40
    assert counted == [("truncated", "Contact.FirstName")]


@given(st.text(), st.integers(1, 300))
def test_a_cut_value_fits_however_salesforce_counts_and_is_a_beginning(
    text: str, length: int
) -> None:
    text = clean(text) or ""
    short = cut(text, length)
    assert text.startswith(short)
    assert len(short.encode("utf-16-le")) <= 2 * length


def test_addresses_are_never_cut() -> None:
    assert normalise(f"{'x' * 60}@{'y' * 40}.example") is None


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (" Ada@Acme.Example ", "ada@acme.example"),
        ("a+b@example.com", "a+b@example.com"),
        ("o'neil@example.com", "o'neil@example.com"),
        ("ada@mail.test", "ada@mail.test"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@localhost", None),
        ("ada", None),
        ("a", None),
        ("ädä@example.com", None),
        ("a..b@example.com", None),
        ("ada@example.com, bob@example.com", None),
        ("Ada <ada@example.com>", None),
        (f"{'x' * 65}@example.com", None),
        ("ada@exa mple.com", None),
    ],
)
def test_an_address_is_kept_as_salesforce_stores_it_or_not_sent(
    typed: str, stored: str | None
) -> None:
    assert normalise(typed) == stored


def test_addresses_keep_the_contacts_order_without_repeats() -> None:
    contact = {
        "emails": [
            {"email": "B@x.example"},
            {"email": None},
            "a@x.example",
            {"email": "b@X.example"},
            7,
        ]
    }
    assert addresses(contact) == ("b@x.example", "a@x.example")


def test_a_table_adds_changes_and_removes_fields() -> None:
    mapping = parse(
        """
        [contact]
        MailingCity = "physical_addresses[work].city"
        Birthdate = { from = "birthday", policy = "fill" }
        LeadSource = { constant = "Address book" }
        Title = false
        Phone = { policy = "fill" }
        [lead]
        City = ["physical_addresses[work].city", "physical_addresses[].city"]
        """
    )
    contact = {rule.field: rule for rule in mapping.contact}
    assert contact["MailingCity"] == Rule("MailingCity", ("physical_addresses[work].city",))
    assert contact["Birthdate"].policy is FieldPolicy.FILL
    assert contact["LeadSource"].policy is FieldPolicy.CREATE
    assert contact["Phone"].policy is FieldPolicy.FILL
    assert contact["Phone"].sources
    assert "Title" not in contact
    assert "City" in {rule.field for rule in mapping.lead}
    assert {"physical_addresses", "birthday"} <= set(mapping.reads)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[account]\nName = 'x'",
        "[contact]\nTitle = 7",
        "[contact]\nTitle = { from = 'job_title', policy = 'sometimes' }",
        "[contact]\nTitle = { from = 'job title' }",
        "[contact]\nTitle = { from = 'job_title', constant = 'x' }",
        "[contact]\nFax = {}",
        "[contact]\nTitle = { frm = 'job_title' }",
        "contact = 1",
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(MappingError):
        parse(text)


def test_values_take_the_described_type_or_are_left_out() -> None:
    mapping = parse(
        """
        [contact]
        Birthdate = "birthday"
        Level__c = "nickname"
        Rating__c = "notes"
        """
    )
    fields = {
        "Birthdate": FieldDescribe("Birthdate", "date", createable=True, updateable=True),
        "Level__c": FieldDescribe(
            "Level__c",
            "picklist",
            createable=True,
            updateable=True,
            restricted_picklist=True,
            picklist=frozenset({"A"}),
        ),
        "Rating__c": FieldDescribe("Rating__c", "double", createable=True, updateable=True),
    }
    good = {"surname": "x", "birthday": "1988-12-31", "nickname": "A", "notes": "4.5"}
    bad = {"surname": "x", "birthday": "--12-31", "nickname": "B", "notes": "many"}
    assert wanted(good, mapping=mapping, more=fields)[0] == {
        "LastName": "x",
        "Birthdate": "1988-12-31",
        "Level__c": "A",
        "Rating__c": 4.5,
    }
    values, counted = wanted(bad, mapping=mapping, more=fields)
    assert values == {"LastName": "x"}
    assert [what for what, _ in counted] == ["value_dropped"] * 3


@pytest.mark.parametrize(
    ("kind", "typed", "stored"),
    [
        ({"type": "email", "length": 80}, " Ada@Acme.Example ", "ada@acme.example"),
        ({"type": "email", "length": 80}, "ada at acme", None),
        ({"type": "email", "length": 10}, "ada@acme.example", None),
        ({"type": "date"}, "1988-12-31T00:00:00Z", "1988-12-31"),
        ({"type": "date"}, "1604-12-31", None),
        ({"type": "date"}, "4001-01-01", None),
        ({"type": "datetime"}, "1988-12-31T23:30:00-02:00", "1989-01-01T01:30:00.000+0000"),
        ({"type": "datetime"}, "1988-12-31", "1988-12-31T00:00:00.000+0000"),
        ({"type": "datetime"}, "0001-01-01T00:00:00+23:00", None),
        ({"type": "datetime"}, "yesterday", None),
        ({"type": "int"}, "7.0", 7),
        ({"type": "int"}, "7.5", None),
        ({"type": "int"}, "1e500", None),
        ({"type": "int"}, "nan", None),
        ({"type": "double", "precision": 18, "scale": 2}, "4.005", 4.01),
        ({"type": "double", "precision": 18, "scale": 0}, "2.5", 3.0),
        ({"type": "double", "precision": 3, "scale": 1}, "99.94", 99.9),
        ({"type": "double", "precision": 3, "scale": 1}, "99.95", None),
        ({"type": "double", "precision": 18, "scale": 2}, "inf", None),
        ({"type": "double"}, "1e400", None),
        (
            {"type": "multipicklist", "restricted_picklist": True, "picklist": frozenset("AB")},
            "A;B",
            "A;B",
        ),
        (
            {"type": "multipicklist", "restricted_picklist": True, "picklist": frozenset("AB")},
            "A;C",
            None,
        ),
        ({"type": "reference"}, "012000000000001AAA", "012000000000001AAA"),
        ({"type": "reference"}, "the other one", None),
    ],
)
def test_a_value_is_sent_as_it_will_be_read_or_left_out(
    kind: dict[str, Any], typed: str, stored: object
) -> None:
    field = FieldDescribe("Other__c", createable=True, updateable=True, **kind)
    mapping = parse("[contact]\nOther__c = 'nickname'")
    values, counted = wanted(
        {"surname": "x", "nickname": typed}, mapping=mapping, more={"Other__c": field}
    )
    assert values.get("Other__c") == stored
    assert counted == ([] if stored is not None else [("value_dropped", "Contact.Other__c")])


def test_a_constant_is_shaped_like_any_value() -> None:
    rate = FieldDescribe(
        "Rate__c", "double", precision=5, scale=1, createable=True, updateable=True
    )
    note = FieldDescribe("Note__c", "string", length=10, createable=True, updateable=True)
    mapping = parse("[contact]\nRate__c = { constant = 4.55 }\nNote__c = { constant = 7 }")
    values, _ = wanted({"surname": "x"}, mapping=mapping, more={"Rate__c": rate, "Note__c": note})
    assert (values["Rate__c"], values["Note__c"]) == (4.6, "7")


def test_fields_that_are_hidden_from_our_user_are_named_and_not_sent() -> None:
    shape = described()
    hidden = ObjectDescribe(
        "Contact", {name: field for name, field in shape.fields.items() if name != "Title"}
    )
    bound = bind(FieldMapping(), hidden)
    assert bound.missing == ("Title",)
    assert "Title" not in field_values(
        bound, {"surname": "x", "job_title": "y"}, None, lambda _what, _where: None
    )


def test_sources_choose_by_type() -> None:
    contact = {
        "phone_numbers": [
            {"number": "1", "type": "Mobile"},
            {"number": "2"},
            {"number": 3, "type": "work"},
        ]
    }
    assert getter("phone_numbers[mobile].number")(contact) == "1"
    assert getter("phone_numbers[!mobile].number")(contact) == "2"
    assert getter("phone_numbers[work,home].number")(contact) == "3"
    assert getter("phone_numbers[].number")(contact) == "1"
    assert getter("phone_numbers[fax].number")(contact) is None


@given(CONTACTS)
def test_no_json_breaks_the_mapping(contact: dict[str, Any]) -> None:
    values, _ = wanted(contact, "Lead")
    assert values["LastName"]
    assert all(isinstance(value, str) and value == value.strip() for value in values.values())
    addresses(contact)
    fingerprint(FieldMapping(), contact)


@pytest.mark.parametrize(
    "contact",
    [
        {"surname": "\ud800"},
        {"surname": 10**30},
        {"emails": json.loads("[" * 900 + "]" * 900)},
        {"emails": {"email": "x"}},
        {"phone_numbers": [[[]], 7, None]},
    ],
)
def test_odd_json_has_a_fingerprint_and_a_last_name(contact: dict[str, Any]) -> None:
    assert len(fingerprint(FieldMapping(), contact)) == 16
    assert wanted(contact)[0]["LastName"]


def test_the_fingerprint_sees_what_is_mapped_and_nothing_else() -> None:
    mapping = FieldMapping()
    contact = {
        "surname": "x",
        "emails": [{"email": "a@x.example"}],
        "notes": "old",
        "picture_url": "u",
    }
    assert fingerprint(mapping, contact) == fingerprint(
        mapping, contact | {"notes": "new", "picture_url": None}
    )
    assert fingerprint(mapping, contact) != fingerprint(mapping, contact | {"surname": "y"})
    assert fingerprint(mapping, contact) != fingerprint(mapping, contact | {"emails": []})
    assert fingerprint(mapping, contact) != fingerprint(parse("[contact]\nTitle = false"), contact)


@pytest.mark.parametrize("absent", [None, "", []])
def test_absent_null_and_empty_have_one_fingerprint(absent: object) -> None:
    mapping = FieldMapping()
    assert fingerprint(mapping, {"surname": "x"}) == fingerprint(
        mapping, {"surname": "x", "emails": absent, "job_title": absent}
    )


@given(st.dictionaries(st.sampled_from(["surname", "job_title", "emails"]), JSON))
@settings(max_examples=50)
def test_the_order_of_fields_does_not_change_the_fingerprint(contact: dict[str, Any]) -> None:
    backwards = dict(reversed(contact.items()))
    assert fingerprint(FieldMapping(), contact) == fingerprint(FieldMapping(), backwards)


def test_the_hash_of_a_mapping_is_stable_across_processes() -> None:
    assert FieldMapping().hash == FieldMapping().hash == parse("").hash
    assert set(FieldMapping().hash) <= set(string.hexdigits)
