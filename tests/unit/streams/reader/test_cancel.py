"""A run that somebody ends: a pending one, one at work after the page at hand, and what becomes of
its grants.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from connectors.nylas.contacts import Page
from connectors.nylas.grants import Grant
from streams.kafka.records import KafkaRecord
from streams.metrics import ReaderMetrics
from streams.reader import scan
from streams.reader.gate import Gate
from streams.reader.scan import Job, Scanner, job_for
from streams.runs import (
    FINAL,
    Progress,
    Run,
    RunKind,
    RunLog,
    RunState,
    cancel_key,
    cancelled,
    encode,
    parse_run,
    run_key,
)
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.waiting import until

TOPICS = topics(load(KafkaSettings, {}))
RUN = Run(RunKind.BACKFILL, None, 100, "command")


def test_a_cancelled_run_keeps_what_was_done_and_names_what_was_not() -> None:
    grants = {
        "done": Progress(RunState.DONE, contacts=3),
        "read": Progress(RunState.SCANNED, contacts=4),
        "half": Progress(RunState.RUNNING, contacts=5, cursor="c", error="waits: 502"),
        "not": Progress(RunState.WAITING),
        "out": Progress(RunState.SKIPPED, error="expired"),
    }
    over, left = cancelled(RUN, grants, 9)
    assert (over.state, over.finished_at) == (RunState.CANCELLED, 9)
    assert over.error == "cancelled; 3 of 5 grants were not finished"
    assert {name: found.state.value for name, found in left.items()} == {
        "done": "done",
        "read": "cancelled",
        "half": "cancelled",
        "not": "cancelled",
        "out": "skipped",
    }
    assert left["half"] == replace(grants["half"], state=RunState.CANCELLED, updated_at=9, error="")
    assert cancelled(RUN, {}, 9)[0].error == "cancelled before it started"
    assert RunState.CANCELLED in FINAL


def test_the_wish_that_a_run_ends_is_a_key_of_its_own_that_the_runs_state_cannot_hide() -> None:
    log = RunLog()
    log.apply(run_key("r1"), encode(RUN))
    log.apply(cancel_key("r1"), b"{}")
    log.apply(run_key("r1"), encode(replace(RUN, state=RunState.RUNNING)))
    assert log.cancelled == {"r1"}
    assert log.runs.keys() == {"r1"}
    assert log.progress("r1") == {}
    log.apply(cancel_key("r1"), None)
    assert log.cancelled == set()


def test_a_run_that_waits_for_a_moment_says_so_in_the_topic() -> None:
    assert parse_run(encode(replace(RUN, not_before=500))).not_before == 500
    assert parse_run(b'{"kind": "backfill"}').not_before == 0


class Reading:
    """A scanner whose pages and acknowledgements come when the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at_once: int = 1) -> None:
        self.asked: list[str] = []
        self.written: list[KafkaRecord] = []
        self.pages: asyncio.Queue[Page] = asyncio.Queue()
        self.acknowledged = asyncio.Event()
        self.behind = 0

        async def list_contacts(
            _client: Any, grant: str, cursor: str | None, *, source: str
        ) -> Page:
            self.asked.append(grant)
            return await self.pages.get()

        monkeypatch.setattr(scan, "list_contacts", list_contacts)
        client = NylasClient("https://nylas.example", "key")
        metrics = ReaderMetrics(CollectorRegistry())
        self.scanner = Scanner(
            client,
            self._publish,
            Gate(lambda: self.behind, 1000, lambda: None),
            TOPICS,
            metrics,
            at_once,
        )

    async def _publish(self, records: Sequence[KafkaRecord]) -> None:
        self.written += records
        await self.acknowledged.wait()

    def submit(self, name: str) -> Job:
        job = job_for("r", RUN, Grant(name), ("address_book",), None, None, 9)
        self.scanner.submit(job)
        return job


async def test_a_listing_that_waits_for_a_page_ends_at_once_and_so_does_one_that_is_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = Reading(monkeypatch)
    running = asyncio.create_task(reading.scanner.run())
    first, queued = reading.submit("g1"), reading.submit("g2")
    await until(lambda: reading.asked, "the first page is asked for")
    reading.scanner.stop(queued)
    assert queued.done.done()
    reading.scanner.stop(first)
    await asyncio.wait_for(first.done, 10)
    third = reading.submit("g3")
    await until(lambda: len(reading.asked) == 2, "the worker goes on")
    assert reading.asked == ["g1", "g3"]
    assert reading.written == []
    assert not first.complete
    assert not third.done.done()
    running.cancel()


async def test_a_listing_that_waits_for_room_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(monkeypatch)
    reading.behind = 5000
    running = asyncio.create_task(reading.scanner.run())
    job = reading.submit("g1")
    await until(lambda: job.asking, "it waits")
    reading.scanner.stop(job)
    await asyncio.wait_for(job.done, 10)
    assert reading.asked == []
    running.cancel()


async def test_the_page_at_hand_is_acknowledged_and_counted_before_the_listing_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = Reading(monkeypatch)
    running = asyncio.create_task(reading.scanner.run())
    job = reading.submit("g1")
    reading.pages.put_nowait(Page([{"id": "a"}], "next", 1000, "r"))
    await until(lambda: reading.written, "the page is published")
    reading.scanner.stop(job)
    await asyncio.sleep(0)
    assert not job.done.done(), "the page is not acknowledged yet"
    reading.acknowledged.set()
    await asyncio.wait_for(job.done, 10)
    assert (job.progress.pages, job.progress.cursor) == (1, "next")
    assert reading.asked == ["g1"]
    assert not job.complete, "what was not read to its end says nothing of who is gone"
    running.cancel()
