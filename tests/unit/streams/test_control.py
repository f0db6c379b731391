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
    Pause,
    PausedPart,
    Stops,
    breaker_key,
    breaker_record,
    open_breakers,
    parse_breaker,
    parse_pause,
    pause_record,
    released,
    resume_record,
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


pauses = st.builds(
    Pause,
    part=st.sampled_from(PausedPart),
    by=st.text(),
    why=st.text(),
    begun_ms=numbers,
    until_ms=numbers,
)


@given(pauses)
def test_a_pause_is_read_as_it_was_written_and_not_taken_for_a_breaker(pause: Pause) -> None:
    record = pause_record(NAMES, pause)
    assert record.topic == "contactstream.control"
    assert parse_pause(record.key or b"", record.value or b"") == pause
    assert parse_breaker(record.key or b"", record.value or b"") is None


@given(st.lists(st.one_of(pauses, st.sampled_from(PausedPart)), max_size=12), numbers)
def test_the_newest_record_decides_what_is_paused(
    written: list[Pause | PausedPart], now_ms: int
) -> None:
    table = ControlTable()
    last: dict[PausedPart, Pause | None] = {}
    for one in written:
        if isinstance(one, Pause):
            table.apply(pause_record(NAMES, one))
            last[one.part] = one
        else:
            table.apply(resume_record(NAMES, one))
            last[one] = None
    for part in PausedPart:
        pause = last.get(part)
        lasts = pause is not None and now_ms < pause.until_ms
        assert table.pause_of(part, now_ms) == (pause if lasts else None)
    assert len(table.pauses_now(now_ms)) == sum(
        table.pause_of(part, now_ms) is not None for part in PausedPart
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"pause/writes", {"schema": 2, "by": "a", "why": "b", "begun_ms": 0, "until_ms": 9}),
        (b"pause/everything", {"schema": 1, "by": "a", "why": "b", "begun_ms": 0, "until_ms": 9}),
        (b"pause/writes", {"schema": 1, "by": "a", "why": "b", "begun_ms": 0}),
        (b"pause/writes", {"schema": 1, "by": "a", "why": "b", "begun_ms": 0, "until_ms": "x"}),
    ],
)
def test_a_pause_that_this_version_cannot_read_is_logged_and_changes_nothing(
    key: bytes, value: dict[str, object]
) -> None:
    table = ControlTable()
    with capture_logs() as logs:
        table.apply(KafkaRecord(NAMES.control.name, key, orjson.dumps(value), []))
    assert table.pauses == {}
    assert [one["event"] for one in logs] == ["record of contactstream.control skipped"]


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
        (b"other/sink", b"{}"),
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
