"""The marker: what counts as the value that we left, and a text that is stable and bounded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.describe import FieldDescribe
from connectors.salesforce.field_hashes import (
    HASH_CHARACTERS,
    FieldHashes,
    is_blank,
    same,
    value_hash,
)
from connectors.salesforce.org_fields import MAX_MARKER_LENGTH


def field(kind: str, name: str = "X__c") -> FieldDescribe:
    return FieldDescribe(name, kind)


@pytest.mark.parametrize(
    ("kind", "ours", "stored"),
    [
        ("string", "Engineer", " Engineer\t"),
        ("textarea", "1 High Street\nLondon", "1 High Street\r\nLondon"),
        ("email", "ada@acme.example", "Ada@ACME.example"),
        ("double", 5, 5.0),
        ("double", 0.1, 0.1),
        ("int", 7, 7.0),
        ("currency", "12.50", 12.5),
        ("date", "1815-12-10", "1815-12-10"),
        ("datetime", "2026-01-01T10:00:00.000+0000", "2026-01-01T10:00:00Z"),
        ("datetime", "2026-01-01T10:00:00.000+0000", "2026-01-01T11:00:00+01:00"),
        ("picklist", "Web", "web"),
        ("multipicklist", "A;C;B", "A;B;C"),
        ("reference", "0015g0000000001AAA", "0015g0000000001"),
        ("boolean", True, True),
        ("string", "", None),
        ("string", "  ", None),
    ],
)
def test_a_value_is_compared_as_salesforce_stores_it(kind: str, ours: Any, stored: Any) -> None:
    assert same(stored, ours, field(kind))
    assert value_hash(stored, field(kind)) == value_hash(ours, field(kind))


@pytest.mark.parametrize(
    ("kind", "ours", "typed"),
    [
        ("string", "engineer", "Engineer"),
        ("phone", "+1 555 0101", "+15550101"),
        ("string", "5", "5.0"),
        ("double", 5, 5.01),
        ("boolean", True, False),
        ("boolean", False, None),
        ("date", "1815-12-10", "1815-12-11"),
        ("datetime", "2026-01-01T10:00:00.000+0000", "2026-01-01T10:00:01.000+0000"),
        ("multipicklist", "A;B", "A"),
        ("reference", "0015g0000000001AAA", "0015g0000000002AAA"),
        ("textarea", "a\nb", "a b"),
        ("string", "x", None),
    ],
)
def test_what_a_person_would_call_another_value_is_another_value(
    kind: str, ours: Any, typed: Any
) -> None:
    assert not same(typed, ours, field(kind))
    assert value_hash(typed, field(kind)) != value_hash(ours, field(kind))


def test_the_hash_is_the_same_on_every_object_and_in_every_release() -> None:
    assert value_hash("Engineer", field("string", "Title")) == "KtT3DR"
    assert value_hash("Engineer", field("string", "Department")) == "KtT3DR"
    assert value_hash(1.5, field("double")) == "9G9_M0"
    assert value_hash("\ud800", field("string"))


def test_a_field_is_untouched_if_it_is_blank_and_was_never_ours_or_holds_what_we_left() -> None:
    title, flag = field("string", "Title"), field("boolean", "Flag__c")
    nothing = FieldHashes()
    ours, _ = nothing.noting(
        {"Title": "Engineer", "Flag__c": True}, {"Title": title, "Flag__c": flag}, 99
    )
    assert nothing.untouched("Title", None, title)
    assert nothing.untouched("Title", "  ", title)
    assert not nothing.untouched("Title", "Engineer", title)
    assert nothing.untouched("Flag__c", False, flag)
    assert not nothing.untouched("Flag__c", True, flag)
    assert ours.untouched("Title", " Engineer", title)
    assert not ours.untouched("Title", "Boss", title)
    assert not ours.untouched("Title", None, title), "a person cleared it"
    assert ours.untouched("Flag__c", True, flag)
    assert not ours.untouched("Flag__c", False, flag)
    assert is_blank(None)
    assert not is_blank(0)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,42}", fullmatch=True)
VALUES = st.text(max_size=30) | st.booleans() | st.integers(-(10**9), 10**9) | st.none()


@given(st.dictionaries(NAMES, VALUES, max_size=30), st.integers(0, 400))
def test_a_marker_is_read_as_it_was_written_is_sorted_and_never_too_long(
    values: dict[str, Any], most: int
) -> None:
    fields = {name: field("string", name) for name in values}
    hashes, full = FieldHashes().noting(values, fields, most)
    text = str(hashes)
    assert len(text) <= most
    assert FieldHashes.parse(text) == hashes
    assert str(FieldHashes.parse(" ".join(reversed(text.split())))) == text
    assert set(full) == values.keys() - hashes.entries.keys()
    again, full_again = hashes.noting(
        {name: values[name] for name in hashes.entries}, fields, most=0
    )
    assert (str(again), full_again) == (text, ()), "a field that has an entry needs no room"
    for name in hashes.entries:
        assert hashes.left(name, values[name], fields[name])


def test_eighty_fields_with_the_longest_names_fit() -> None:
    values = {f"{'N' * 38}{number:02d}__c": number for number in range(80)}
    fields = {name: field("double", name) for name in values}
    assert FieldHashes().noting(values, fields, MAX_MARKER_LENGTH)[1] == ()


@given(st.text(max_size=200) | st.none() | st.integers())
def test_no_text_breaks_a_marker(text: Any) -> None:
    assert all(len(each) == HASH_CHARACTERS for each in FieldHashes.parse(text).entries.values())


def test_what_others_put_into_the_marker_is_ignored_and_does_not_stay() -> None:
    marker = FieldHashes.parse("Do not edit! Title=abcdef\nPhone=toolong Phone=x Title=ghijkl")
    assert str(marker) == "Title=ghijkl"


def test_entries_of_fields_that_were_not_written_are_taken_back() -> None:
    before = FieldHashes({"Title": "before"})
    after = FieldHashes({"Title": "after1", "Phone": "after2", "Email": "after3"})
    taken = after.taking_back(["Title", "Phone", "Fax"], before)
    assert taken.entries == {"Title": "before", "Email": "after3"}
