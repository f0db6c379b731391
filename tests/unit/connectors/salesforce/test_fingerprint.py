"""The fingerprint changes exactly when the mapping reads something else."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.fingerprint import fingerprint
from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.mapping_rules import FieldMapping

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_the_fingerprint_covers_what_is_mapped_and_nothing_else() -> None:
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
    assert fingerprint(mapping, contact) != fingerprint(
        parse_mapping("[contact]\nTitle = false"), contact
    )


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
