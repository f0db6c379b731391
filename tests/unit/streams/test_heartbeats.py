"""Heartbeats of the bridges: when a gap may have lost notifications, and what makes up for it."""

import json
from dataclasses import replace

import pytest

from streams.events import UnreadableRecord
from streams.heartbeats import (
    HEARTBEAT_KEY,
    NYLAS_RETRY_SECONDS,
    Heartbeats,
    events_lost,
    heartbeat_record,
    parse_heartbeat,
)
from streams.reader.schedule import reconcile_owed
from streams.runs import Run, RunKind, RunLog, RunState, encode, parse_progress, parse_run, run_key
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
RETRIES = int(NYLAS_RETRY_SECONDS * 1000)
MINUTE = 60_000
# A constant, because every process that collects the tests must find the same parameters.
NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("previous", "this", "lost"),
    [
        (None, NOW, False),
        (NOW, NOW + MINUTE, False),
        (NOW, NOW + RETRIES, False),
        (NOW, NOW + RETRIES + 1, True),
        (NOW, NOW - 10 * RETRIES, False),
    ],
)
def test_a_gap_longer_than_nylas_retries_means_that_events_may_be_lost(
    previous: int | None, this: int, lost: bool
) -> None:
    assert events_lost(previous, this) is lost


def heartbeats(*moments: int, now: int = NOW) -> Heartbeats:
    found = Heartbeats()
    for moment in moments:
        found.apply(moment, now)
    return found


def test_the_heartbeat_that_ends_the_last_gap_is_remembered() -> None:
    start = NOW - 10 * RETRIES
    assert heartbeats(start, start + MINUTE).gap_end_ms is None
    first = start + 2 * RETRIES
    assert heartbeats(start, first, first + MINUTE).gap_end_ms == first
    assert (
        heartbeats(start, first, first + 2 * RETRIES, first + 2 * RETRIES + 1).gap_end_ms
        == first + 2 * RETRIES
    )


def test_different_clocks_of_bridges_make_no_gap() -> None:
    behind, before = NOW - 5 * MINUTE, NOW - MINUTE
    found = heartbeats(before, behind, before + MINUTE, behind + MINUTE)
    assert (found.newest_ms, found.gap_end_ms) == (NOW, None)


def test_a_clock_far_ahead_hides_no_gap_and_makes_none() -> None:
    ahead = NOW + 100 * RETRIES
    found = heartbeats(NOW - 3 * RETRIES, ahead, NOW - 3 * RETRIES + MINUTE, ahead + MINUTE, NOW)
    assert (found.newest_ms, found.gap_end_ms) == (NOW, NOW)


def test_a_heartbeat_is_read_as_written_and_is_neither_a_run_nor_progress() -> None:
    record = heartbeat_record(TOPICS, NOW)
    assert (record.topic, record.key) == (TOPICS.runs.name, HEARTBEAT_KEY)
    assert parse_heartbeat(record.value or b"") == NOW
    assert parse_heartbeat(json.dumps({"heartbeat_ms": 7, "more": 1}).encode()) == 7
    log = RunLog()
    log.apply(record.key or b"", record.value)
    log.apply(HEARTBEAT_KEY, None)
    assert (log.runs, log.grants, log.heartbeats) == ({}, {}, Heartbeats(NOW))


@pytest.mark.parametrize("parse", [parse_run, parse_progress])
def test_a_heartbeat_is_unreadable_as_a_run_or_as_progress(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(UnreadableRecord):
        parse(heartbeat_record(TOPICS, NOW).value)


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"{}", b'{"heartbeat_ms": "1"}', b'{"heartbeat_ms": true}']
)
def test_a_value_that_is_no_heartbeat_is_unreadable(value: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        RunLog().apply(HEARTBEAT_KEY, value)


EVERYTHING = Run(RunKind.RECONCILE, None, NOW // 1000, "command")


@pytest.mark.parametrize(
    ("run", "owed"),
    [
        (EVERYTHING, False),
        (replace(EVERYTHING, state=RunState.RUNNING), False),
        (replace(EVERYTHING, state=RunState.FAILED), False),
        (replace(EVERYTHING, requested_at=1), False),
        (replace(EVERYTHING, requested_at=1, state=RunState.RUNNING), True),
        (replace(EVERYTHING, requested_at=1, state=RunState.DONE), True),
        (replace(EVERYTHING, dry_run=True), True),
        (replace(EVERYTHING, grants=("g1",)), True),
        (replace(EVERYTHING, sources=("inbox",)), True),
        (replace(EVERYTHING, kind=RunKind.BACKFILL), True),
    ],
)
def test_a_reconcile_of_everything_that_begins_after_the_gap_makes_up_for_it(
    run: Run, owed: bool
) -> None:
    assert reconcile_owed([], NOW // 1000 * 1000)
    assert reconcile_owed([run], NOW // 1000 * 1000) is owed


def test_a_new_reader_finds_the_gap_and_the_reconcile_that_made_up_for_it() -> None:
    log = RunLog()
    for moment in (NOW - 2 * RETRIES, NOW):
        log.apply(HEARTBEAT_KEY, heartbeat_record(TOPICS, moment).value)
    assert log.heartbeats.gap_end_ms == NOW
    assert reconcile_owed(log.runs.values(), NOW)
    log.apply(
        run_key("r1"),
        encode(replace(EVERYTHING, requested_at=NOW // 1000 + 1, state=RunState.DONE)),
    )
    assert not reconcile_owed(log.runs.values(), NOW)
