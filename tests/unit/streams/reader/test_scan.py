"""Listing grants: silence of Nylas, refused sources, resumed and stopped listings."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from connectors.nylas.client import NylasClient
from connectors.nylas.contacts import Page
from connectors.nylas.errors import Passing, Refused
from connectors.nylas.grants import Grant
from streams.kafka.records import KafkaRecord, header
from streams.metrics import ReaderMetrics
from streams.reader import scan
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.scan import ScanJob, Scanner, job_for
from streams.runs import Progress, Run, RunKind, RunState, finished
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.group_names import group_names
from tests.support.waiting import until

TOPICS = topics(load(KafkaSettings, {}))
EVERYTHING = Run(RunKind.RECONCILE, None, 100, "schedule")


ONE = Run(RunKind.BACKFILL, ("g1",), 100, "command")


def page(count: int, cursor: str | None, served_at: int = 1000) -> Page:
    return Page([{"id": f"c{number}"} for number in range(count)], cursor, served_at, "r")


async def test_a_backfill_continues_at_its_cursor_and_a_reconcile_starts_again() -> None:
    before = Progress(RunState.RUNNING, "address_book", "cursor", 3, 600, scan_start=5)
    grant = Grant("g", "google")
    resumed = job_for("r", ONE, grant, ("address_book",), before, None, 9)
    assert resumed.progress == before
    assert resumed.state.cursors == {"cursor"}
    again = job_for("r", EVERYTHING, grant, ("address_book",), before, None, 9)
    assert (again.progress.cursor, again.progress.contacts, again.progress.scan_start) == (
        None,
        0,
        None,
    )
    moved = job_for("r", ONE, grant, ("inbox",), before, None, 9)
    assert (moved.progress.source, moved.progress.cursor) == ("inbox", None), (
        "the sources were changed meanwhile"
    )
    assert job_for("r", ONE, Grant("g", "ews"), ("inbox",), None, None, 9).sources == ()
    await asyncio.sleep(0)


class Clock:
    """The clock of the scanner, which only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


ADA = Grant("g", "google", "Ada@acme.example")


class ScanHarness:
    """A scanner with its published records; `answer` stands for Nylas.

    Each wait at the gate takes `held` seconds.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        answer: Callable[[str, str | None], Page],
        held: float = 0.0,
    ) -> None:
        self.clock, self.published = Clock(), list[KafkaRecord]()
        harness = self

        class Held(Gate):
            async def wait(self, records: int) -> None:
                harness.clock.now += held

        async def list_contacts(
            _client: object, _grant: str, cursor: str | None, *, source: str
        ) -> Page:
            return answer(source, cursor)

        async def publish(records: Sequence[KafkaRecord]) -> None:
            self.published += records

        monkeypatch.setattr(scan, "list_contacts", list_contacts)
        monkeypatch.setattr(scan, "time", self.clock)
        gate = Held(lambda: 0, 1, lambda _: None)
        client = NylasClient("http://nowhere.example", "key")
        metrics = ReaderMetrics(CollectorRegistry())
        context = ReaderContext(TOPICS, publish, gate, metrics)
        names = group_names(context, client)
        self.scanner = scan.Scanner(context, client, names, 1, retry_seconds=0.0)

    async def read(
        self, *sources: str, run: Run = EVERYTHING, known: Progress | None = None
    ) -> ScanJob:
        job = job_for("r", run, ADA, sources, known, None, 9)
        self.scanner.submit(job)
        work = asyncio.create_task(self.scanner.run())
        try:
            async with asyncio.timeout(30):
                await job.done
        finally:
            work.cancel()
            await asyncio.wait([work])
        return job


async def test_waiting_at_the_gate_does_not_count_as_silence_of_nylas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Page | Exception] = [Passing(503), Passing(503), page(3, None, 7)]

    def answer(_source: str, _cursor: str | None) -> Page:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    harness = ScanHarness(monkeypatch, answer, held=7 * 3600.0)
    harness.clock.now += 7 * 3600
    job = await harness.read("address_book")
    assert (job.progress.state, job.progress.contacts) == (RunState.SCANNED, 3)


async def test_a_grant_that_nylas_does_not_answer_for_hours_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def answer(_source: str, cursor: str | None) -> Page:
        asked.append(1)
        if len(asked) == 5:
            return page(200, "next", 7)
        harness.clock.now += 3600.0
        raise Passing(503)

    harness = ScanHarness(monkeypatch, answer)
    job = await harness.read("address_book")
    assert job.progress.state is RunState.FAILED
    assert "did not answer for 6 hours" in job.progress.error
    assert len(asked) == 5 + 7, "a page starts the count again"


async def test_a_refused_source_does_not_keep_the_others_from_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(source: str, _cursor: str | None) -> Page:
        if source == "inbox":
            raise Refused(403, "", "the grant lacks a scope for this")
        return page(3, None, 7)

    job = await ScanHarness(monkeypatch, answer).read("address_book", "inbox", "domain")
    assert (job.progress.state, job.progress.contacts, job.state.complete) == (
        RunState.SCANNED,
        6,
        True,
    )
    assert job.state.refused == {"inbox"}
    assert (
        job.progress.incomplete
        == "source inbox could not be read: Nylas answered 403: the grant lacks a scope for this"
    )
    ended = finished(
        EVERYTHING,
        {"g": replace(job.progress, state=RunState.DONE), "h": Progress(RunState.DONE)},
        9,
    )
    assert (ended.state, ended.error) == (
        RunState.DONE,
        "1 of 2 grants read without a source that Nylas refused",
    )


@pytest.mark.parametrize(
    ("status", "sources"),
    [(403, ("address_book", "inbox")), (403, ("inbox",)), (401, ("domain", "inbox"))],
)
async def test_a_grant_fails_if_every_source_is_refused_or_its_sign_in_is(
    monkeypatch: pytest.MonkeyPatch, status: int, sources: tuple[str, ...]
) -> None:
    def answer(source: str, _cursor: str | None) -> Page:
        if status == 401 and source == "domain":
            return page(3, None, 7)
        raise Refused(status, "no")

    job = await ScanHarness(monkeypatch, answer).read(*sources)
    assert (job.progress.state, job.state.complete) == (RunState.FAILED, False)


class MovingBook:
    """An address book of pages of 200; each listing is the next one that a test lays down."""

    def __init__(self, *listings: Sequence[Sequence[str]]) -> None:
        self.listings, self.asked = list(listings), 0

    def __call__(self, _source: str, cursor: str | None) -> Page:
        if cursor is None:
            self.asked += 1
        pages = self.listings[min(self.asked, len(self.listings)) - 1]
        number = int(cursor or 0)
        more = str(number + 1) if number + 1 < len(pages) else None
        return Page([{"id": one} for one in pages[number]], more, 1000, "r")


LOST = Refused(400, '{"error": {"message": "Invalid page token"}}')


async def test_a_lost_cursor_says_that_nothing_has_to_be_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = 0

    def answer(_source: str, cursor: str | None) -> Page:
        nonlocal lost
        if cursor is not None and lost < 1:
            lost += 1
            raise LOST
        return page(1, None if cursor else "next")

    with capture_logs() as logs:
        job = await ScanHarness(monkeypatch, answer).read("address_book")
    assert job.progress.state is RunState.SCANNED
    (warning,) = [each for each in logs if each["log_level"] == "warning"]
    assert warning["event"] == "Nylas lost the place in a listing; the grant starts again by itself"
    assert (warning["grant"], warning["restart"], warning["error"]) == ("g", "1 of 3", str(LOST))


async def test_a_cursor_that_is_lost_again_and_again_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(_source: str, cursor: str | None) -> Page:
        if cursor is not None:
            raise LOST
        return page(1, "next")

    job = await ScanHarness(monkeypatch, answer).read("address_book", run=ONE)
    assert job.progress.state is RunState.FAILED
    error = job.progress.error or ""
    assert "lost the place in the listing of the source address_book 4 times" in error
    assert "contactstream backfill --grant g" in error
    assert "Invalid page token" in error


def contact_ids(harness: ScanHarness) -> list[str]:
    return [
        (record.key or b"").decode().partition("/")[2]
        for record in harness.published
        if record.topic == TOPICS.events.name
    ]


async def test_each_event_of_a_page_names_the_address_of_the_grant_that_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = ScanHarness(monkeypatch, MovingBook((("a", "b"),)))
    await harness.read("address_book", run=ONE)
    events = [one for one in harness.published if one.topic == TOPICS.events.name]
    assert [header(one.headers, "grant.address") for one in events] == [b"Ada@acme.example"] * 2


async def test_a_contact_that_moves_between_pages_of_a_backfill_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = MovingBook((("a", "b"), ("d",)), (("c", "a", "b"), ("d",)))
    harness = ScanHarness(monkeypatch, book)
    job = await harness.read("address_book", run=ONE)
    assert sorted(contact_ids(harness)) == ["a", "b", "c", "d"], "each is published once"
    assert (job.progress.state, job.progress.contacts) == (RunState.SCANNED, 4)
    assert job.progress.gap == ""
    assert book.asked == 3, "until a listing holds nothing new"


async def test_a_backfill_of_a_single_page_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    book = MovingBook((("a", "b"),))
    job = await ScanHarness(monkeypatch, book).read("address_book", run=ONE)
    assert (job.progress.contacts, book.asked) == (2, 1)


async def test_a_page_that_came_empty_is_read_in_the_next_listing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = MovingBook((("a",), (), ("c",)), (("a",), ("b",), ("c",)))
    harness = ScanHarness(monkeypatch, book)
    job = await harness.read("address_book", run=ONE)
    assert sorted(contact_ids(harness)) == ["a", "b", "c"]
    assert job.progress.gap == ""
    for_ever = await ScanHarness(monkeypatch, MovingBook((("a",), (), ("c",)))).read(
        "address_book", run=ONE
    )
    assert for_ever.progress.state is RunState.SCANNED
    assert "1 pages came empty although others followed" in for_ever.progress.gap


async def test_an_address_book_that_keeps_moving_is_incomplete_and_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = MovingBook((("a",), ("b",)), (("a", "c"), ("b",)), (("a", "d", "e"), ("b",)))
    job = await ScanHarness(monkeypatch, book).read("address_book", run=ONE)
    assert job.progress.contacts == 5
    assert "2 contacts were only in listing 3" in job.progress.gap
    assert book.asked == 3
    ended = finished(ONE, {"g": replace(job.progress, state=RunState.DONE)}, 9)
    assert (ended.state, ended.error) == (
        RunState.DONE,
        "1 of 1 grants incomplete, of which a reconcile was requested",
    )


@pytest.mark.parametrize(("listing", "listed"), [(1, 1), (2, 0)])
async def test_a_resumed_backfill_is_listed_once_more_at_most(
    monkeypatch: pytest.MonkeyPatch, listing: int, listed: int
) -> None:
    book = MovingBook((("a", "b"), ("c",)))
    harness = ScanHarness(monkeypatch, book)
    book.asked = 1
    known = Progress(RunState.RUNNING, "address_book", "1", 1, 2, scan_start=5, listing=listing)
    job = await harness.read("address_book", run=ONE, known=known)
    assert book.asked == 1 + listed
    assert set(contact_ids(harness)) == ({"a", "b", "c"} if listed else {"c"})
    assert (job.progress.state, job.progress.gap) == (RunState.SCANNED, "")
    assert job.progress.contacts == (3 if listed else 2)


class StoppableScan:
    """A scanner whose pages and acknowledgements come from the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
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
        gate = Gate(lambda: self.behind, 1000, lambda _: None)
        context = ReaderContext(TOPICS, self._publish, gate, metrics)
        self.scanner = Scanner(context, client, group_names(context, client), 1)

    async def _publish(self, records: Sequence[KafkaRecord]) -> None:
        self.written += records
        await self.acknowledged.wait()

    def submit(self, name: str) -> ScanJob:
        job = job_for("r", replace(ONE, grants=None), Grant(name), ("address_book",), None, None, 9)
        self.scanner.submit(job)
        return job


async def test_a_stopped_listing_that_is_queued_or_waits_for_a_page_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = StoppableScan(monkeypatch)
    running = asyncio.create_task(harness.scanner.run())
    first, queued = harness.submit("g1"), harness.submit("g2")
    await until(lambda: harness.asked, "the first page is asked for")
    harness.scanner.stop(queued)
    assert queued.done.done()
    harness.scanner.stop(first)
    await asyncio.wait_for(first.done, 10)
    third = harness.submit("g3")
    await until(lambda: len(harness.asked) == 2, "the worker goes on")
    assert harness.asked == ["g1", "g3"]
    assert harness.written == []
    assert not first.state.complete
    assert not third.done.done()
    running.cancel()


async def test_a_stopped_listing_that_waits_at_the_gate_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = StoppableScan(monkeypatch)
    harness.behind = 5000
    running = asyncio.create_task(harness.scanner.run())
    job = harness.submit("g1")
    await until(lambda: job.control.page_timeout, "it waits")
    harness.scanner.stop(job)
    await asyncio.wait_for(job.done, 10)
    assert harness.asked == []
    running.cancel()


async def test_a_stopped_listing_ends_after_its_current_page_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = StoppableScan(monkeypatch)
    running = asyncio.create_task(harness.scanner.run())
    job = harness.submit("g1")
    harness.pages.put_nowait(Page([{"id": "a"}], "next", 1000, "r"))
    await until(lambda: harness.written, "the page is published")
    harness.scanner.stop(job)
    await asyncio.sleep(0)
    assert not job.done.done(), "the page is not acknowledged yet"
    harness.acknowledged.set()
    await asyncio.wait_for(job.done, 10)
    assert (job.progress.pages, job.progress.cursor) == (1, "next")
    assert harness.asked == ["g1"]
    assert not job.state.complete, "an incomplete listing deletes nothing"
    running.cancel()
