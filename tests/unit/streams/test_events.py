"""Record formats: the headers of changes and of dead letters."""

import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import (
    Kind,
    Origin,
    UnreadableRecord,
    change_headers,
    number,
    parse_change,
    received_at,
)
from streams.kafka.records import Headers


@given(
    version=st.integers(0, 2**40), key=st.text(min_size=1).filter(lambda text: text.isprintable())
)
def test_a_change_comes_back_as_it_was_written(version: int, key: str) -> None:
    headers = change_headers(Kind.UPDATED, version, "f" * 32, "m1", b"webhook", b"1700000000000")
    change = parse_change(f"grant/{key}".encode(), b'{"id":"1"}', headers)
    assert change is not None
    assert (change.key, change.version, change.kind) == (f"grant/{key}", version, Kind.UPDATED)
    assert (change.origin, change.received_ms, change.contact) == (
        "webhook",
        1_700_000_000_000,
        {"id": "1"},
    )


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"g/c", b"not json", [("version", b"1"), ("kind", b"updated")]),
        (b"g/c", b"[]", [("version", b"1"), ("kind", b"updated")]),
        (b"g/c", b"{}", [("kind", b"updated")]),
        (b"g/c", b"{}", [("version", b"1"), ("kind", b"renamed")]),
        (b"no contact key", b"{}", [("version", b"1"), ("kind", b"updated")]),
        (b"\xff/", b"{}", [("version", b"1"), ("kind", b"updated")]),
        (b"g/c", b"{}", [("version", b"1" + b"0" * 30), ("kind", b"updated")]),
        (b"g/c", b"{}", [("version", b"9" * 5000), ("kind", b"updated")]),
        (b"g/c", b"{}", [("version", b"-1"), ("kind", b"updated")]),
        (b"g/c", b"{}", [("version", b"1"), ("kind", b"updated"), ("mapping", b"\xff")]),
        (None, b"{}", []),
    ],
)
def test_a_record_that_is_no_change_is_unreadable(
    key: bytes | None, value: bytes, headers: list[tuple[str, str | bytes | None]]
) -> None:
    with pytest.raises(UnreadableRecord, match="not_a_change"):
        parse_change(key, value, headers)


@pytest.mark.parametrize(
    ("given", "timestamp_ms", "expected"),
    [
        (b"7000", 9000, 7000),  # appended later
        (b"7000", 5000, 7000),  # or by a broker whose clock is behind
        (None, 9000, 9000),
        (b"0", 9000, 9000),
        (b"soon", 9000, 9000),
        (b"9" * 5000, 9000, 9000),
        (None, -1, 0),  # Kafka's "no timestamp"
    ],
)
def test_the_time_of_a_record_is_that_of_its_receipt(
    given: bytes | None, timestamp_ms: int, expected: int
) -> None:
    assert received_at(given, timestamp_ms) == expected


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["kind", "version", "fingerprint", "mapping", "origin", "received_ms", "other"]
        ),
        st.none()
        | st.binary(max_size=40)
        | st.from_regex(rb"[0-9]{1,40}", fullmatch=True)
        | st.sampled_from([b"updated", b"deleted", b"webhook", b"9" * 5000]),
    )
)


@given(HEADERS)
def test_a_change_with_any_headers_is_unreadable_or_can_be_written_as_json(
    headers: Headers,
) -> None:
    with contextlib.suppress(UnreadableRecord):
        change = parse_change(b"g/c", b"{}", [("version", b"1"), ("kind", b"updated"), *headers])
        assert change is not None
        orjson.dumps(change, default=sorted)
        assert change.origin in {"", *Origin}


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (b"0", 0),
        (b"999999999999999", 999_999_999_999_999),
        (b"1000000000000000", None),
        (b"9" * 5000, None),
        (b"", None),
        (None, None),
        (b"-1", None),
        (b" 1", None),
        (b"1_0", None),
    ],
)
def test_a_number_in_a_header_has_at_most_15_digits(
    value: bytes | None, parsed: int | None
) -> None:
    assert number(value) == parsed


def test_a_tombstone_is_no_change() -> None:
    assert parse_change(b"g/c", None, []) is None
