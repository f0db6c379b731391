"""Values are converted to the type of their field, or left out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.describe import FieldDescribe
from connectors.salesforce.field_paths import clean
from connectors.salesforce.field_types import cut
from connectors.salesforce.mapping_file import parse_mapping
from tests.support.described_fields import wanted


@given(st.text(), st.integers(1, 300))
def test_a_cut_value_fits_however_salesforce_counts_characters(text: str, length: int) -> None:
    text = clean(text) or ""
    short = cut(text, length)
    assert text.startswith(short)
    assert len(short.encode("utf-16-le")) <= 2 * length


def test_values_take_the_described_type_or_are_left_out() -> None:
    mapping = parse_mapping(
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
    mapping = parse_mapping("[contact]\nOther__c = 'nickname'")
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
    mapping = parse_mapping("[contact]\nRate__c = { constant = 4.55 }\nNote__c = { constant = 7 }")
    values, _ = wanted({"surname": "x"}, mapping=mapping, more={"Rate__c": rate, "Note__c": note})
    assert (values["Rate__c"], values["Note__c"]) == (4.6, "7")
