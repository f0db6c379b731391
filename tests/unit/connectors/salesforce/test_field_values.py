"""The values that a contact has for the mapped fields, with fallbacks for missing names."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.emails import addresses
from connectors.salesforce.field_values import NOT_PROVIDED, bind, field_values, is_fallback
from connectors.salesforce.fingerprint import fingerprint
from connectors.salesforce.mapping_rules import FieldMapping
from tests.support.described_fields import LENGTHS, described, wanted

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
        ({}, "ada@gmail.com", "ada", NOT_PROVIDED),
        ({}, "ada@mail.yahoo.co.uk", "ada", NOT_PROVIDED),
        ({}, "Ada <ada@Gmail.com>", "Ada <ada", NOT_PROVIDED),
    ],
)
def test_a_missing_name_falls_back_to_the_address_and_then_to_what_salesforce_writes(
    contact: dict[str, Any], address: str | None, last: str, company: str
) -> None:
    values, _ = wanted(contact, "Lead", address=address)
    assert (values["LastName"], values["Company"]) == (last, company)


@pytest.mark.parametrize(
    ("contact", "address", "company"),
    [
        ({}, "ada@gmail.com", None),
        ({}, None, None),
        ({}, "ada@acme.example", "acme.example"),
        ({"company_name": "Engines"}, "ada@gmail.com", "Engines"),
    ],
)
def test_an_unknown_company_stays_blank_where_a_lead_needs_none(
    contact: dict[str, Any], address: str | None, company: str | None
) -> None:
    """With Person Accounts on, a Lead without a Company becomes one."""
    optional = FieldDescribe("Company", "string", length=255, createable=True, updateable=True)
    values, _ = wanted(contact, "Lead", address=address, more={"Company": optional})
    assert values.get("Company") == company


def test_the_fallbacks_of_earlier_releases_are_still_recognised() -> None:
    addresses = ("ada@gmail.com", "ada@acme.example")
    fallbacks = ("gmail.com", "acme.example", NOT_PROVIDED)
    assert all(is_fallback("Company", value, addresses) for value in fallbacks)
    assert is_fallback("LastName", "ada", addresses)
    assert not is_fallback("Company", "Gmail", addresses)
    assert not is_fallback("LastName", "gmail.com", addresses)


def test_values_are_cut_to_the_described_length_and_counted() -> None:
    values, counted = wanted({"given_name": "x" * 300, "surname": "y" * 80})
    assert values["FirstName"] == "x" * 40
    assert counted == [("truncated", "Contact.FirstName")]


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
