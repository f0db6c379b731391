"""Runs on reader.runs: their records, their state, and when they are forgotten or cancelled."""

from dataclasses import replace

import orjson
import pytest

from streams.events import UnreadableRecord
from streams.runs import (
    FINAL,
    FINISHED_RUN_KEPT_SECONDS,
    Progress,
    Replay,
    ReplaySource,
    ReplayTarget,
    Run,
    RunKind,
    RunLog,
    RunState,
    cancel_key,
    cancelled,
    check_sources,
    encode,
    finished,
    new_run_id,
    parse_progress,
    parse_run,
    progress_key,
    run_key,
)
from streams.selection import OffsetRange, Selection

EVERYTHING = Run(RunKind.RECONCILE, None, 100, "schedule")
ONE = Run(RunKind.BACKFILL, ("g1",), 100, "command")


def test_a_replay_is_read_as_it_was_written_and_one_of_another_version_is_refused() -> None:
    selection = Selection(grants=("g",), offsets=(OffsetRange(0, 5, 9),))
    replay = Replay(
        ReplaySource.CHANGES,
        selection,
        (9, 0),
        12.5,
        (5, 0),
        (3, 0),
        ("Phone", "Title"),
        ReplayTarget("sandbox.", 4),
    )
    run = Run(RunKind.REPLAY, None, 1, "command", replay=replay)
    assert parse_run(encode(run)) == run
    # One that the last version wrote.
    before: dict[str, object] = {"source": "events", "selection": {}, "ends": [9], "rate": None}
    body = orjson.loads(encode(run)) | {"replay": before}
    assert parse_run(orjson.dumps(body)).replay == Replay(ReplaySource.EVENTS, Selection(), (9,))
    for changed in ({"faster": True}, {"selection": {"faster": True}}):
        with pytest.raises(UnreadableRecord, match="faster"):
            parse_run(orjson.dumps(body | {"replay": before | changed}))


def test_a_run_and_its_progress_are_read_as_they_were_written() -> None:
    run = Run(
        RunKind.RECONCILE,
        ("g/1", "a@x"),
        1,
        "command",
        ("inbox",),
        True,
        0.5,
        RunState.FAILED,
        "why",
        7,
    )
    progress = Progress(
        RunState.RUNNING, "inbox", "cursor", 3, 500, 900, 1_700_000_000, 1, 2, 3, 4, "waits"
    )
    assert parse_run(encode(run)) == run
    assert parse_progress(encode(progress)) == progress
    assert parse_run(b'{"kind": "backfill", "more": 1}') == Run(RunKind.BACKFILL, None, 0, "")
    assert parse_progress(b'{"state": "done", "more": 1}') == Progress(RunState.DONE)


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"{}", b'{"kind": "other"}', b'{"kind": "backfill", "grants": 7}']
)
def test_a_value_that_is_no_run_is_unreadable(value: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        parse_run(value)
    with pytest.raises(UnreadableRecord):
        parse_progress(value)


def test_the_moment_that_a_run_waits_for_is_in_its_record() -> None:
    assert parse_run(encode(replace(ONE, not_before=500))).not_before == 500
    assert parse_run(b'{"kind": "backfill"}').not_before == 0


def test_the_run_log_holds_the_last_record_of_each_key() -> None:
    log = RunLog()
    log.apply(run_key("r1"), encode(ONE))
    log.apply(progress_key("r1", "g/1"), encode(Progress(RunState.RUNNING, contacts=3)))
    log.apply(progress_key("r1", "g/1"), encode(Progress(RunState.DONE, contacts=5)))
    log.apply(progress_key("r1", "g2"), encode(Progress(RunState.DONE)))
    log.apply(progress_key("r1", "g2"), None)
    assert log.progress("r1") == {"g/1": Progress(RunState.DONE, contacts=5)}
    assert log.expected("g/1") == 5
    assert log.expected("g2") is None
    log.apply(run_key("r1"), None)
    assert (log.runs, log.progress("r1")) == ({}, {})


def test_a_request_to_cancel_is_not_overwritten_by_the_state_of_the_run() -> None:
    log = RunLog()
    log.apply(run_key("r1"), encode(ONE))
    log.apply(cancel_key("r1"), b"{}")
    log.apply(run_key("r1"), encode(replace(ONE, state=RunState.RUNNING)))
    assert log.cancelled == {"r1"}
    assert log.runs.keys() == {"r1"}
    assert log.progress("r1") == {}
    log.apply(cancel_key("r1"), None)
    assert log.cancelled == set()


def test_finished_runs_are_forgotten_and_unfinished_ones_never() -> None:
    log = RunLog({"old": replace(ONE, state=RunState.DONE, finished_at=10), "open": ONE})
    log.runs["new"] = replace(ONE, state=RunState.DONE, finished_at=10 + FINISHED_RUN_KEPT_SECONDS)
    assert log.finished_before(11) == ["old"]


def test_the_latest_reconcile_of_everything_is_never_forgotten() -> None:
    done = replace(EVERYTHING, state=RunState.DONE)
    log = RunLog(
        {
            "a": replace(done, requested_at=1),
            "c": replace(done, requested_at=2),
            "b": replace(done, requested_at=3),
        }
    )
    log.runs["z"] = replace(done, requested_at=9, dry_run=True)
    assert sorted(log.finished_before(FINISHED_RUN_KEPT_SECONDS)) == ["a", "c", "z"]


def test_a_run_with_a_failed_grant_has_failed_and_skipped_grants_do_not_matter() -> None:
    fine = {"a": Progress(RunState.DONE), "b": Progress(RunState.SKIPPED)}
    assert finished(ONE, fine, 9).state is RunState.DONE
    bad = finished(ONE, fine | {"c": Progress(RunState.FAILED)}, 9)
    assert (bad.state, bad.error, bad.finished_at) == (RunState.FAILED, "1 of 3 grants failed", 9)


def test_a_cancelled_run_keeps_finished_grants_and_counts_the_others() -> None:
    grants = {
        "done": Progress(RunState.DONE, contacts=3),
        "read": Progress(RunState.SCANNED, contacts=4),
        "half": Progress(RunState.RUNNING, contacts=5, cursor="c", error="waits: 502"),
        "not": Progress(RunState.WAITING),
        "out": Progress(RunState.SKIPPED, error="expired"),
    }
    ended, left = cancelled(ONE, grants, 9)
    assert (ended.state, ended.finished_at) == (RunState.CANCELLED, 9)
    assert ended.error == "cancelled; 3 of 5 grants were not finished"
    assert {name: found.state.value for name, found in left.items()} == {
        "done": "done",
        "read": "cancelled",
        "half": "cancelled",
        "not": "cancelled",
        "out": "skipped",
    }
    assert left["half"] == replace(grants["half"], state=RunState.CANCELLED, updated_at=9, error="")
    assert cancelled(ONE, {}, 9)[0].error == "cancelled before it started"
    assert RunState.CANCELLED in FINAL


def test_sources_that_nylas_lacks_are_refused() -> None:
    assert check_sources(["inbox", "address_book", "inbox"]) == ("inbox", "address_book")
    with pytest.raises(ValueError, match="outbox"):
        check_sources(["outbox"])


def test_run_ids_sort_by_time() -> None:
    ids = [new_run_id(RunKind.BACKFILL, moment) for moment in (0, 10, 10_000_000, 1_800_000_000)]
    assert ids == sorted(ids)
    assert all("/" not in name for name in ids)
