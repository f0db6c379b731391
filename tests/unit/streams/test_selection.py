"""The selection of records and contacts, which every command and the reader share."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import Kind
from streams.selection import (
    Candidate,
    OffsetRange,
    Selection,
    UnusableSelection,
    encode_selection,
    make_selection,
    parse_selection,
)

NOW = 1_760_000_000_000
ADA = Candidate(
    "g/ada", NOW - 1000, Kind.UPDATED, ("ada@mail.acme.example", "ada@home.example"), 2, 70
)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, True),
        ({"since_ms": NOW - 1000}, True),
        ({"since_ms": NOW - 999}, False),
        ({"until_ms": NOW - 1000}, False),
        ({"until_ms": NOW}, True),
        ({"grants": ["g", "h"]}, True),
        ({"grants": ["h"]}, False),
        ({"keys": ["g/ada"]}, True),
        ({"keys": ["g/bob"]}, False),
        ({"addresses": ["ADA@home.example"]}, True),
        ({"addresses": ["bob@home.example"]}, False),
        ({"domains": ["acme.example"]}, True),
        ({"domains": ["@Home.example"]}, True),
        ({"domains": ["me.example"]}, False),
        ({"kinds": ["updated"]}, True),
        ({"kinds": ["deleted"]}, False),
        ({"grants": ["g"], "domains": ["other.example"]}, False),
        ({"offsets": ["2:70-71"]}, True),
        ({"offsets": ["2:0-70", "2:71-99", "1:0-99"]}, False),
        ({"offsets": ["1:0-99", " 2:0-71 "]}, True),
    ],
)
def test_all_conditions_must_hold(options: dict[str, object], taken: bool) -> None:
    assert make_selection(now_ms=NOW, **options).takes(ADA) is taken  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcomes", "taken"),
    [
        ((), True),
        (("skipped",), True),
        (("skipped:role_address",), True),
        (("failed", "skipped:own_domain"), False),
    ],
)
def test_an_outcome_is_selected_by_its_status_or_with_its_reason(
    outcomes: tuple[str, ...], taken: bool
) -> None:
    selection = make_selection(now_ms=NOW, outcomes=outcomes)
    assert selection.takes_outcome("skipped", "role_address") is taken


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"since_ms": NOW + 1}, "--since lies in the future"),
        ({"since_ms": 5, "until_ms": 5}, "empty or reversed"),
        ({"until_ms": NOW + 1}, "--until lies in the future"),
        ({"offsets": ["0:9-9"]}, "--offsets 0:9-9: the range is empty or reversed"),
        ({"offsets": ["0:9-3"]}, "--offsets 0:9-3: the range is empty or reversed"),
        ({"offsets": ["9-12"]}, "--offsets 9-12: not PARTITION:FROM-TO"),
        ({"keys": ["ada"]}, "--key ada: no contact key"),
        ({"addresses": ["ada"]}, "--email ada: no email address"),
        ({"domains": ["no domain"]}, "--domain no domain: no domain"),
        ({"outcomes": ["skiped"]}, "did you mean skipped?"),
        ({"outcomes": ["skipped:role_adress"]}, "did you mean role_address?"),
        ({"kinds": ["x"]}, "it may be deleted, updated"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused_with_the_remedy(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(UnusableSelection, match=message.replace("?", r"\?")):
        make_selection(now_ms=NOW, **options)  # type: ignore[arg-type]


words = st.lists(st.text(min_size=1), max_size=3).map(tuple)
selections = st.builds(
    Selection,
    st.none() | st.integers(0, NOW),
    st.none() | st.integers(0, NOW),
    *[words] * 7,
    st.lists(st.builds(OffsetRange, *[st.integers(0, 9)] * 3), max_size=3).map(tuple),
)


@given(selections)
def test_a_selection_is_the_same_after_its_way_through_a_topic(selection: Selection) -> None:
    encoded = orjson.dumps(encode_selection(selection))
    assert parse_selection(orjson.loads(encoded)) == selection


def test_a_condition_of_a_newer_version_is_refused_and_not_left_out() -> None:
    with pytest.raises(ValueError, match="favourites"):
        parse_selection({"grants": ["g"], "favourites": ["x"]})


def test_only_a_selection_without_any_condition_takes_everything() -> None:
    assert Selection().takes_everything
    assert not replace(Selection(), kinds=("deleted",)).takes_everything
