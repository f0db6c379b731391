"""Runs of the reader as plain data: what is started, resumed, merged, and how a grant's progress
moves.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from connectors.nylas.contacts import Page
from connectors.nylas.errors import Passing, Refused
from connectors.nylas.grants import Grant
from streams.events import Origin, UnreadableRecord
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.records import KafkaRecord, header
from streams.metrics import ReaderMetrics
from streams.reader import scan
from streams.reader.gate import Gate
from streams.reader.records import absence_record, contact_hash, page_records
from streams.reader.run_executor import choose
from streams.reader.scan import Job, after_page, first_progress, job_for
from streams.reader.schedule import next_runs, reconcile_due
from streams.runs import (
    FINAL,
    KEPT_FOR,
    Progress,
    Run,
    RunKind,
    RunLog,
    RunState,
    check_sources,
    encode,
    finished,
    new_run_id,
    parse_progress,
    parse_run,
    progress_key,
    run_key,
)
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
EVERYTHING = Run(RunKind.RECONCILE, None, 100, "schedule")
ONE = Run(RunKind.BACKFILL, ("g1",), 100, "command")


def page(count: int, cursor: str | None, served_at: int = 1000) -> Page:
    return Page([{"id": f"c{number}"} for number in range(count)], cursor, served_at, "r")


def test_a_run_and_its_progress_survive_the_topic() -> None:
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
def test_a_request_that_is_none_is_told(value: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        parse_run(value)
    with pytest.raises(UnreadableRecord):
        parse_progress(value)


def test_the_log_holds_the_last_word_on_each_key() -> None:
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


def test_finished_runs_are_forgotten_and_unfinished_ones_never() -> None:
    log = RunLog({"old": replace(ONE, state=RunState.DONE, finished_at=10), "open": ONE})
    log.runs["new"] = replace(ONE, state=RunState.DONE, finished_at=10 + KEPT_FOR)
    assert log.finished_before(11) == ["old"]


def test_the_latest_reading_of_everything_is_never_forgotten_or_the_schedule_would_not_know_it() -> (
    None
):
    done = replace(EVERYTHING, state=RunState.DONE)
    log = RunLog(
        {
            "a": replace(done, requested_at=1),
            "c": replace(done, requested_at=2),
            "b": replace(done, requested_at=3),
        }
    )
    log.runs["z"] = replace(done, requested_at=9, dry_run=True)
    assert sorted(log.finished_before(KEPT_FOR)) == ["a", "c", "z"]


def test_a_backfill_starts_at_once_and_a_second_reading_of_everything_waits() -> None:
    runs = {"a": replace(EVERYTHING, state=RunState.RUNNING), "b": EVERYTHING, "c": ONE}
    assert next_runs(runs, {"a"}).start == ("c",)
    assert next_runs({"b": EVERYTHING, "c": ONE}, set()).start == ("c", "b")


def test_readings_of_everything_that_queued_up_are_one_the_newest() -> None:
    runs = {
        name: replace(EVERYTHING, requested_at=at) for name, at in (("a", 1), ("b", 3), ("c", 2))
    }
    starts = next_runs(runs, set())
    assert starts.start == ("b",)
    assert starts.merged == {"a": "b", "c": "b"}
    others = runs | {"d": replace(EVERYTHING, requested_at=9, max_delete_share=1.0)}
    assert next_runs(others, set()).start == ("b",), "one with other wishes waits its turn"


def test_what_a_predecessor_was_in_the_middle_of_goes_on_first() -> None:
    runs = {
        "a": replace(EVERYTHING, state=RunState.RUNNING, requested_at=5),
        "b": replace(EVERYTHING, requested_at=1),
    }
    starts = next_runs(runs, set())
    assert (starts.start, starts.merged) == (("a",), {})


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=2),
        st.builds(
            Run,
            st.sampled_from(RunKind),
            st.sampled_from([None, ("g",)]),
            st.integers(0, 5),
            st.just("x"),
            state=st.sampled_from(RunState),
            dry_run=st.booleans(),
        ),
    ),
    st.sets(st.text("abcdef", min_size=1, max_size=2)),
)
def test_every_open_run_is_started_waits_or_is_merged_into_one_that_starts(
    runs: dict[str, Run], names: set[str]
) -> None:
    active = {name for name in names if name in runs}
    starts = next_runs(runs, active)
    open_runs = {name for name, run in runs.items() if run.state not in FINAL}
    assert set(starts.start) <= open_runs - active
    assert set(starts.merged.values()) <= set(starts.start)
    assert not set(starts.merged) & set(starts.start)

    def whole(name: str) -> bool:
        return (
            runs[name].kind is RunKind.RECONCILE
            and runs[name].grants is None
            and not runs[name].dry_run
        )

    started = sum(whole(name) for name in starts.start)
    assert started <= 1 or not any(whole(name) for name in active)
    left = open_runs - active - set(starts.start) - set(starts.merged)
    assert all(whole(name) for name in left)
    assert not left or started or any(whole(name) for name in active & open_runs)


def test_the_schedule_counts_from_the_last_reading_of_everything_whoever_asked() -> None:
    done = replace(EVERYTHING, requested_at=1000, state=RunState.DONE)
    assert not reconcile_due([done], 1999, 1000, 0)
    assert reconcile_due([done], 2000, 1000, 0)
    assert reconcile_due(
        [replace(done, grants=("g",)), replace(done, dry_run=True), ONE], 2000, 1000, 500
    )
    assert not reconcile_due([], 1400, 1000, 500)
    assert not reconcile_due([], 10**9, 0, 0)


def test_a_run_with_a_failed_grant_has_failed_and_skipped_grants_do_not_matter() -> None:
    fine = {"a": Progress(RunState.DONE), "b": Progress(RunState.SKIPPED)}
    assert finished(ONE, fine, 9).state is RunState.DONE
    bad = finished(ONE, fine | {"c": Progress(RunState.FAILED)}, 9)
    assert (bad.state, bad.error, bad.finished_at) == (RunState.FAILED, "1 of 3 grants failed", 9)


def test_sources_are_those_of_nylas() -> None:
    assert check_sources(["inbox", "address_book", "inbox"]) == ("inbox", "address_book")
    with pytest.raises(ValueError, match="outbox"):
        check_sources(["outbox"])


def test_run_ids_sort_by_time() -> None:
    ids = [new_run_id(RunKind.BACKFILL, moment) for moment in (0, 10, 10_000_000, 1_800_000_000)]
    assert ids == sorted(ids)
    assert all("/" not in name for name in ids)


def test_the_cursor_moves_on_only_with_its_page_and_sources_follow_each_other() -> None:
    progress = first_progress(("address_book", "inbox"), None, 5)
    progress = after_page(progress, ("address_book", "inbox"), page(200, "next", 1000), 6)
    assert (progress.state, progress.source, progress.cursor) == (
        RunState.RUNNING,
        "address_book",
        "next",
    )
    progress = after_page(progress, ("address_book", "inbox"), page(7, None, 1001), 7)
    assert (progress.state, progress.source, progress.cursor) == (RunState.RUNNING, "inbox", None)
    progress = after_page(progress, ("address_book", "inbox"), page(0, None, 1002), 8)
    assert (progress.state, progress.pages, progress.contacts) == (RunState.SCANNED, 3, 207)
    assert progress.scan_start == 1000, "the first page dates the scan"


async def test_a_backfill_goes_on_where_it_stood_and_a_reconcile_starts_again() -> None:
    stood = Progress(RunState.RUNNING, "address_book", "cursor", 3, 600, scan_start=5)
    grant = Grant("g", "google")
    resumed = job_for("r", ONE, grant, ("address_book",), stood, None, 9)
    assert resumed.progress == stood
    assert resumed.cursors == {"cursor"}
    again = job_for("r", EVERYTHING, grant, ("address_book",), stood, None, 9)
    assert (again.progress.cursor, again.progress.contacts, again.progress.scan_start) == (
        None,
        0,
        None,
    )
    moved = job_for("r", ONE, grant, ("inbox",), stood, None, 9)
    assert (moved.progress.source, moved.progress.cursor) == ("inbox", None), (
        "the sources were changed meanwhile"
    )
    assert job_for("r", ONE, Grant("g", "ews"), ("inbox",), None, None, 9).sources == ()
    await asyncio.sleep(0)


def test_a_page_becomes_events_of_its_grant_versioned_by_its_date_less_the_margin() -> None:
    contacts = [
        {"id": "a/b#c", "grant_id": "g"},
        {"id": "A/B#C"},
        {"id": "d", "grant_id": "an address, say"},
    ]
    records = page_records(TOPICS, "g", Origin.BACKFILL, "req", 10_000, contacts)
    assert [record.key for record in records] == [b"g/a/b#c", b"g/A/B#C", b"g/d"]
    assert {record.topic for record in records} == {TOPICS.events.name}
    assert all(
        b'"time":9400' in (record.value or b"") and b'"grant_id":"g"' in (record.value or b"")
        for record in records
    )
    assert all(header(record.headers, "origin") == b"backfill" for record in records)
    assert len({(record.value or b"").split(b'"id":"')[1] for record in records}) == 3


@pytest.mark.parametrize("identity", [None, "", 7, "x" * 3000, "a\x00b", "a\ufffdb"])
def test_a_contact_without_a_usable_id_costs_no_other_one(identity: object) -> None:
    records = page_records(
        TOPICS, "g", Origin.BACKFILL, "req", 10_000, [{"id": identity}, {"id": "fine"}]
    )
    assert [record.topic for record in records] == [TOPICS.dead_letter.name, TOPICS.events.name]
    assert header(records[0].headers, "dlq.reason") == b"no_contact_id"
    assert header(records[0].headers, "dlq.stage") == b"reader"


def test_a_contact_larger_than_a_record_goes_to_the_dead_letters_without_its_bulk() -> None:
    large = {"id": "large", "notes": "x" * MAX_MESSAGE_BYTES}
    (record,) = page_records(TOPICS, "g", Origin.BACKFILL, "req", 10_000, [large])
    assert record.topic == TOPICS.dead_letter.name
    assert record.key == b"g/large"
    assert len(record.value or b"") < 1000
    assert header(record.headers, "dlq.reason") == b"too_large"


def nested(levels: int) -> dict[str, Any]:
    return json.loads(b'{"a":' * levels + b"1" + b"}" * levels)  # type: ignore[no-any-return]


def test_a_contact_nested_deeper_than_can_be_written_costs_no_other_one() -> None:
    deep = {"id": "deep", "more": nested(252)}
    records = page_records(
        TOPICS, "g", Origin.BACKFILL, "req", 10_000, [deep, {"id": "fine", "more": nested(240)}]
    )
    assert [record.topic for record in records] == [TOPICS.dead_letter.name, TOPICS.events.name]
    assert records[0].key == b"g/deep"
    assert header(records[0].headers, "dlq.reason") == b"too_deep"
    assert orjson.loads(records[0].value or b"")["data"]["object"]["id"] == "deep"


def test_an_absence_is_a_deletion_with_its_version() -> None:
    record = absence_record(TOPICS, "g", "a/b", Origin.RECONCILE, "event", 77)
    assert record.key == b"g/a/b"
    assert b'"type":"contact.deleted"' in (record.value or b"")
    assert b'"time":77' in (record.value or b"")


@given(st.text(), st.text())
def test_ids_that_differ_in_anything_have_other_hashes(one: str, other: str) -> None:
    assert (contact_hash(one) == contact_hash(other)) == (one == other)


def test_an_address_has_no_case_and_an_id_has() -> None:
    listed = [Grant("g1", "google", "Ann.Lee@Acme.example"), Grant("G2", "google", "b@x")]
    chosen = choose(replace(ONE, grants=("ann.lee@ACME.example", "g2")), listed)
    assert [grant.id for grant in chosen.read] == ["g1", "g2"]
    assert chosen.read[1] == Grant("g2"), (
        "of another case it is another grant, which the listing lacks"
    )
    assert chosen.unknown == ()


@pytest.mark.parametrize(
    ("by", "reads"), [("grant.updated", True), ("grant.created", True), ("command", False)]
)
def test_a_grant_that_has_just_signed_in_is_read_though_the_listing_does_not_know_it_yet(
    by: str, reads: bool
) -> None:
    listed = [Grant("g1", "google", valid=False)]
    chosen = choose(replace(ONE, grants=("g1",), by=by), listed)
    assert bool(chosen.read) is reads
    assert chosen.skipped == ({} if reads else {"g1": "expired"})
    blocked = [Grant("g1", "google", valid=False, blocked=True)]
    assert choose(replace(ONE, grants=("g1",), by=by), blocked).skipped == {"g1": "blocked"}


class Clock:
    """The time of the scanner, which passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


class Desk:
    """A scanner whose Nylas is `answer` and whose gate lets `held` seconds pass, and what it
    published.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        answer: Callable[[str, str | None], Page],
        held: float = 0.0,
    ) -> None:
        self.clock, self.published = Clock(), list[KafkaRecord]()
        desk = self

        class Held(Gate):
            async def wait(self, records: int) -> None:
                desk.clock.now += held

        async def list_contacts(
            _client: object, _grant: str, cursor: str | None, *, source: str
        ) -> Page:
            return answer(source, cursor)

        async def publish(records: Sequence[KafkaRecord]) -> None:
            self.published += records

        monkeypatch.setattr(scan, "list_contacts", list_contacts)
        monkeypatch.setattr(scan, "time", self.clock)
        gate = Held(lambda: 0, 1, lambda: None)
        client = NylasClient("http://nowhere.example", "key")
        metrics = ReaderMetrics(CollectorRegistry())
        self.scanner = scan.Scanner(client, publish, gate, TOPICS, metrics, 1, parked_seconds=0.0)

    async def read(self, *sources: str) -> Job:
        job = job_for("r", EVERYTHING, Grant("g", "google"), sources, None, None, 9)
        self.scanner.submit(job)
        work = asyncio.create_task(self.scanner.run())
        try:
            async with asyncio.timeout(30):
                await job.done
        finally:
            work.cancel()
            await asyncio.wait([work])
        return job


async def test_hours_at_the_gate_are_not_hours_of_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Page | Exception] = [Passing(503), Passing(503), page(3, None, 7)]

    def answer(_source: str, _cursor: str | None) -> Page:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    desk = Desk(monkeypatch, answer, held=7 * 3600.0)
    desk.clock.now += 7 * 3600
    job = await desk.read("address_book")
    assert (job.progress.state, job.progress.contacts) == (RunState.SCANNED, 3)


async def test_a_grant_that_has_been_asked_in_vain_for_hours_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def answer(_source: str, cursor: str | None) -> Page:
        asked.append(1)
        if len(asked) == 5:
            return page(200, "next", 7)
        desk.clock.now += 3600.0
        raise Passing(503)

    desk = Desk(monkeypatch, answer)
    job = await desk.read("address_book")
    assert job.progress.state is RunState.FAILED
    assert "in vain" in job.progress.error
    assert len(asked) == 5 + 7, "a page starts the count again"


async def test_a_source_that_nylas_refuses_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(source: str, _cursor: str | None) -> Page:
        if source == "inbox":
            raise Refused(403, "", "the grant lacks a scope for this")
        return page(3, None, 7)

    job = await Desk(monkeypatch, answer).read("address_book", "inbox", "domain")
    assert (job.progress.state, job.progress.contacts, job.complete) == (RunState.SCANNED, 6, True)
    assert job.refused == {"inbox"}
    assert (
        job.progress.incomplete
        == "source inbox could not be read: Nylas answered 403: the grant lacks a scope for this"
    )
    over = finished(
        EVERYTHING,
        {"g": replace(job.progress, state=RunState.DONE), "h": Progress(RunState.DONE)},
        9,
    )
    assert (over.state, over.error) == (
        RunState.DONE,
        "1 of 2 grants read without a source that Nylas refused",
    )


@pytest.mark.parametrize(
    ("status", "sources"),
    [(403, ("address_book", "inbox")), (403, ("inbox",)), (401, ("domain", "inbox"))],
)
async def test_a_grant_of_which_every_source_is_refused_or_the_sign_in_fails(
    monkeypatch: pytest.MonkeyPatch, status: int, sources: tuple[str, ...]
) -> None:
    def answer(source: str, _cursor: str | None) -> Page:
        if status == 401 and source == "domain":
            return page(3, None, 7)
        raise Refused(status, "no")

    job = await Desk(monkeypatch, answer).read(*sources)
    assert (job.progress.state, job.complete) == (RunState.FAILED, False)


def test_a_run_reads_the_grants_that_it_names_and_can_be_read() -> None:
    listed = [
        Grant("g1", "google", "a@x"),
        Grant("g2", "zoom"),
        Grant("g3", "yahoo", "c@x", valid=False),
    ]
    everything = choose(EVERYTHING, listed)
    assert [grant.id for grant in everything.read] == ["g1"]
    assert everything.skipped == {"g2": "no_contacts", "g3": "expired"}
    named = choose(replace(ONE, grants=("a@x", "g3", "g9", "nobody@x")), listed)
    assert [grant.id for grant in named.read] == ["g1", "g9"]
    assert named.skipped == {"g3": "expired"}
    assert named.unknown == ("nobody@x",)
