"""The records of contactstream.control, and the table of what is open."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.control import (
    BreakerState,
    ControlTable,
    FailureBreaker,
    FailuresSeen,
    Stops,
    breaker_key,
    breaker_record,
    open_breakers,
    parse_breaker,
    released,
)
from streams.kafka.records import KafkaRecord
from tests.support.sink_harness import NAMES

SEEN = FailuresSeen(7, 600, False, 1_000, 2_000, "g/ada")
OPEN = FailureBreaker("string_too_long", Stops.BULK, 3_000, SEEN)

numbers = st.integers(min_value=0, max_value=10**15)
breakers = st.builds(
    FailureBreaker,
    reason=st.text(min_size=1),
    stops=st.sampled_from(Stops),
    opened_ms=numbers,
    seen=st.builds(FailuresSeen, numbers, numbers, st.booleans(), numbers, numbers, st.text()),
    state=st.sampled_from(BreakerState),
    released_by=st.text(),
    released_ms=numbers,
    accepted_until_ms=numbers,
)


@given(breakers)
def test_a_breaker_is_read_as_it_was_written(breaker: FailureBreaker) -> None:
    record = breaker_record(NAMES, breaker)
    assert record.topic == "contactstream.control"
    assert parse_breaker(record.key or b"", record.value or b"") == breaker


def test_a_release_forgets_the_contact_and_says_who_until_when() -> None:
    let_go = released(OPEN, "ada", 10_000, 3600)
    assert not let_go.is_open
    assert (let_go.released_by, let_go.released_ms, let_go.opened_ms) == ("ada", 10_000, 3_000)
    assert let_go.seen == replace(SEEN, example="")
    assert let_go.accepts_bulk(10_000 + 3_599_999)
    assert not let_go.accepts_bulk(10_000 + 3_600_000)
    assert not replace(OPEN, accepted_until_ms=10**15).accepts_bulk(0)


def record(key: bytes, value: bytes | None) -> KafkaRecord:
    return KafkaRecord(NAMES.control.name, key, value, [], 0, 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"pause/sink", b"{}"),
        (b"breaker/", b"{}"),
        (b"\xff", b"\xff"),
        (breaker_key(OPEN.reason), b"no json"),
        (breaker_key(OPEN.reason), orjson.dumps({"schema": 2, "state": "released"})),
        (breaker_key(OPEN.reason), orjson.dumps({"schema": 1, "state": "ajar"})),
    ],
)
def test_a_record_that_this_version_cannot_read_changes_nothing(key: bytes, value: bytes) -> None:
    table = ControlTable()
    assert table.apply(breaker_record(NAMES, OPEN)) == OPEN
    with capture_logs() as logs:
        assert table.apply(record(key, value)) is None
    assert table.breakers == {OPEN.reason: OPEN}
    assert bool(logs) is (key == breaker_key(OPEN.reason))


def test_a_tombstone_forgets_a_breaker() -> None:
    table = ControlTable()
    table.apply(breaker_record(NAMES, OPEN))
    table.apply(record(b"pause/string_too_long", None))
    assert table.breakers
    table.apply(record(breaker_key(OPEN.reason), None))
    assert not table.breakers


def test_what_stops_everything_comes_first_and_then_the_oldest() -> None:
    old = replace(OPEN, reason="old", opened_ms=1)
    grave = replace(OPEN, reason="grave", stops=Stops.ALL, opened_ms=9_000)
    over = released(replace(OPEN, reason="over"), "ada", 0, 0)
    assert open_breakers([OPEN, old, over, grave]) == [grave, old, OPEN]
