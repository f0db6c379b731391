"""Complete listings compared with contacts.changes: who is missing, and who was only filled."""

from array import array

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import PAGE_MARGIN_SECONDS, Kind
from streams.kafka.records import KafkaRecord
from streams.reader.comparison import (
    Listing,
    compare,
    guard_error,
    keys_without_own_record,
    listing_of,
    living_keys,
)
from streams.reader.records import contact_hash
from tests.support.change_records import change

START = 1_700_000_000
OLD = START - PAGE_MARGIN_SECONDS - 1


def listing(grant: str, *ids: str, sources: tuple[str, ...] = ("address_book",)) -> Listing:
    return listing_of(
        grant, START, sources, array("Q", [contact_hash(one) for one in (*ids, *ids)])
    )


def test_a_listing_holds_each_contact_once() -> None:
    found = listing("g", "a", "b/c", "A")
    assert len(found.seen) == 3
    assert all(found.holds(one) for one in ("a", "b/c", "A"))
    assert not found.holds("b")


def test_only_contacts_older_than_the_listing_less_the_margin_are_missing() -> None:
    changes = [
        change("g/old", OLD, 0),
        change("g/edge", OLD + 1, 1),
        change("g/new", START, 2),
        change("g/here", OLD, 3),
    ]
    assert compare(changes, {"g": listing("g", "here")}, set()).missing == {"g": {"g/old": 0}}


def test_the_last_change_of_a_contact_decides() -> None:
    changes = [
        change("g/deleted", OLD, 0),
        change("g/deleted", OLD, 1, Kind.DELETED),
        change("g/back", OLD - 1, 2, Kind.DELETED),
        change("g/back", OLD, 3),
        change("g/erased", OLD, 4),
        change("g/erased", OLD, 5, None),
        change("g/renewed", OLD, 6),
        change("g/renewed", START + 5, 7),
    ]
    assert compare(changes, {"g": listing("g")}, set()).missing["g"] == {"g/back": 3}


def test_a_contact_of_a_source_that_was_not_listed_is_not_missing() -> None:
    changes = [change("g/mail", OLD, 0, source="inbox"), change("g/plain", OLD, 1, source=None)]
    assert compare(changes, {"g": listing("g")}, set()).missing["g"] == {"g/plain": 1}
    both = listing("g", sources=("address_book", "inbox"))
    assert compare(changes, {"g": both}, set()).missing["g"].keys() == {"g/mail", "g/plain"}


def test_a_contact_of_a_refused_source_is_not_missing() -> None:
    changes = [change("g/mail", OLD, 0, source="inbox"), change("g/plain", OLD, 1, source=None)]
    seen = array("Q", [contact_hash("x")])
    both = ("address_book", "inbox")
    found = {
        refused: set(
            compare(changes, {"g": listing_of("g", START, both, seen, {refused})}, set()).missing[
                "g"
            ]
        )
        for refused in both
    }
    assert found == {"inbox": {"g/plain"}, "address_book": {"g/mail"}}


def test_unreadable_changes_are_skipped() -> None:
    broken = KafkaRecord("contacts.changes", b"g/x", b"{", [], 0, 0)
    assert compare([broken, change("g/old", OLD, 1)], {"g": listing("g")}, set()).missing["g"] == {
        "g/old": 1
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["g/a", "g/b", "g/c", "h/a"]),
            st.integers(OLD - 3, OLD + 3),
            st.sampled_from([Kind.UPDATED, Kind.UPDATED, Kind.DELETED, None]),
        ),
        max_size=30,
    ),
    st.sets(st.sampled_from("abc")),
    st.sets(st.sampled_from(["g/a", "g/b", "g/c"])),
)
def test_the_comparison_equals_a_plain_model(
    history: list[tuple[str, int, Kind | None]], listed: set[str], filled: set[str]
) -> None:
    changes = [
        change(key, version, offset, kind) for offset, (key, version, kind) in enumerate(history)
    ]
    found = compare(changes, {"g": listing("g", *listed)}, filled)
    last = {key: (version, kind, offset) for offset, (key, version, kind) in enumerate(history)}
    living = {
        key: one for key, one in last.items() if one[1] is Kind.UPDATED and key.startswith("g/")
    }
    assert found.missing.get("g", {}) == {
        key: offset
        for key, (version, _, offset) in living.items()
        if key[2:] not in listed and version <= OLD
    }
    assert found.to_reoffer == {
        key: offset for key, (_, _, offset) in living.items() if key[2:] in listed and key in filled
    }


def test_the_last_outcome_decides_whether_a_contact_has_a_record_of_its_own() -> None:
    outcomes = [
        KafkaRecord("o", key.encode(), value, [])
        for key, value in [
            ("g/a", b'{"outcome": "filled"}'),
            ("g/b", b'{"outcome": "filled"}'),
            ("g/b", b'{"outcome": "updated"}'),
            ("g/c", b'{"outcome": "created"}'),
            ("g/c", b'{"outcome": "filled"}'),
            ("g/d", b'{"outcome": "filled"}'),
            ("g/d", None),
            ("h/e", b'{"outcome": "filled"}'),
            ("g/f", b"{"),
            ("g/g", b'{"outcome": "covered"}'),
            ("g/h", b'{"outcome": "ambiguous"}'),
        ]
    ]
    assert keys_without_own_record(outcomes, {"g"}) == {"g/a", "g/c", "g/g", "g/h"}


@pytest.mark.parametrize(
    ("missing", "listed", "share", "stops"),
    [
        (0, 0, 0.2, False),
        (10, 0, 0.2, False),
        (11, 44, 0.2, False),
        (11, 43, 0.2, True),
        (11, 0, 1.0, False),
        (11, 99, 0, True),
    ],
)
def test_the_guard_stops_deletions_above_the_share_of_known_contacts(
    missing: int, listed: int, share: float, stops: bool
) -> None:
    assert bool(guard_error(missing, listed, share)) is stops


def test_the_living_contacts_of_a_grant_are_those_whose_last_change_is_no_deletion() -> None:
    changes = [
        change("g/a", 1, 0),
        change("g/a", 3, 1),
        change("g/b", 1, 2),
        change("g/b", 2, 3, Kind.DELETED),
        change("g2/a", 1, 4),
        change("g/c", 1, 5),
        change("g/c", 1, 6, None),
        change("h/a", 2, 7),
    ]
    assert living_keys(changes, {"g", "h"}).versions == {"g/a": 3, "h/a": 2}


def test_a_contact_whose_record_people_deleted_is_offered_again() -> None:
    def outcome(key: bytes, **value: str) -> KafkaRecord:
        return KafkaRecord("contacts.outcomes", key, orjson.dumps(value), [])

    deleted = {"outcome": "skipped", "reason": "deleted_in_salesforce"}
    outcomes = [
        outcome(b"g/deleted", **deleted),
        outcome(b"g/lifted", **deleted),
        outcome(b"g/lifted", outcome="created"),
        outcome(b"g/role", outcome="skipped", reason="role_address"),
    ]
    assert keys_without_own_record(outcomes, {"g"}) == {"g/deleted"}


def test_a_comparison_holds_a_bounded_number_of_keys_however_many_are_missing() -> None:
    changes = (change(f"g/{number}", OLD, number) for number in range(20_000))
    found = compare(changes, {"g": listing("g")}, set(), most=1000)
    held = len(found.missing["g"])
    assert held <= 1000
    assert found.part.parts >= 20
    assert 16_000 < held * found.part.parts < 24_000, "what is held tells how many there are"


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([Kind.UPDATED, Kind.UPDATED, Kind.DELETED])),
        max_size=80,
    ),
    st.integers(1, 20),
)
def test_the_parts_of_a_comparison_are_the_whole(
    history: list[tuple[int, Kind]], most: int
) -> None:
    changes = [
        change(f"g/{number}", OLD, offset, kind) for offset, (number, kind) in enumerate(history)
    ]
    listings = {"g": listing("g", "1", "2")}
    found = compare(changes, listings, set(), most=most)
    parts = [found.missing.get("g", {})]
    parts += [
        compare(changes, listings, set(), part).missing.get("g", {}) for part in found.part.others()
    ]
    whole = compare(changes, listings, set()).missing.get("g", {})
    assert sum(map(len, parts)) == len(whole)
    assert {key: at for part in parts for key, at in part.items()} == whole
    living = living_keys(changes, {"g"}, most=most)
    rest = [living_keys(changes, {"g"}, part).versions for part in living.part.others()]
    assert {key for each in (living.versions, *rest) for key in each} == set(
        living_keys(changes, {"g"}).versions
    )
