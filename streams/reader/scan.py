"""Reading address books page by page for the runs of the reader: each page published and
acknowledged before its progress is written.
"""

import asyncio
import itertools
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from connectors.nylas.client import NylasClient, seconds_until_next
from connectors.nylas.contacts import PAGE_SIZE, Page, list_contacts
from connectors.nylas.errors import NotFound, NylasError, Passing, Refused
from connectors.nylas.grants import Grant, sources_of
from streams.events import Origin
from streams.metrics import ReaderMetrics
from streams.reader.gate import Gate
from streams.reader.records import Publish, contact_hash, page_records
from streams.runs import FINAL, Progress, Run, RunKind, RunState, progress_record
from streams.topics import Topics

log = structlog.get_logger()

PARKED_SECONDS = 60.0
"""After the client's tries are used up: the grant stands aside so that others are read, and is
tried again.
"""

GIVE_UP_SECONDS = 6 * 3600.0
"""Asked in vain for so long a grant fails in this run, or a dead one would keep the run, and so the
schedule, from ending.
"""

MAX_RESTARTS = (
    3  # from lost cursors, in one run: a provider that loses them each time would be read for ever
)


class RepeatedCursor(NylasError):
    """Nylas handed out a cursor of this listing a second time: following it would read the same
    pages for ever.
    """


@dataclass(slots=True, eq=False)
class Job:
    """A grant to read for a run. `seen` holds the hashes of what its listing held, and `complete`
    says that it was listed from the first page of the first source to the last of the last without
    a break; only then it can say that a contact is gone. `at_hand` says that a worker has it,
    `asking` bounds its wait for a page, and `stopped` that nobody wants it any more. `refused` are
    the sources that Nylas would not list; `in_vain` are the seconds that it has been asked in vain
    since the last page, the waits between the tries included.
    """

    run_id: str
    run: Run
    grant: Grant
    sources: tuple[str, ...]
    progress: Progress
    done: asyncio.Future[None]
    seen: "array[int]" = field(default_factory=lambda: array("Q"))
    cursors: set[str] = field(default_factory=set)
    complete: bool = False
    restarts: int = 0
    refused: set[str] = field(default_factory=set)
    asked_at: float = 0.0
    in_vain: float = 0.0
    at_hand: bool = False
    stopped: bool = False
    asking: asyncio.Timeout | None = None


def first_progress(sources: Sequence[str], expected: int | None, now: float) -> Progress:
    """Of a grant that is to be read from its first page."""
    return Progress(
        RunState.WAITING,
        source=sources[0] if sources else "",
        expected=expected,
        started_at=int(now),
        updated_at=int(now),
    )


def source_after(source: str, sources: Sequence[str]) -> str:
    """The source that follows; empty after the last."""
    at = sources.index(source) + 1
    return sources[at] if at < len(sources) else ""


def after_refusal(progress: Progress, sources: Sequence[str], error: str) -> Progress:
    """The progress once a source is refused and the others are not: its part of the listing is
    incomplete.
    """
    following = source_after(progress.source, sources)
    said = f"source {progress.source} could not be read: {error}"
    return replace(
        progress,
        state=RunState.RUNNING if following else RunState.SCANNED,
        source=following or progress.source,
        incomplete=f"{progress.incomplete}; {said}" if progress.incomplete else said,
    )


def after_page(progress: Progress, sources: Sequence[str], page: Page, now: float) -> Progress:
    """The progress once a page is acknowledged: the next cursor, or the next source, or the end.

    `scanned` is the end: whether more is to be done with the grant is for its run to say.
    """
    source, state = progress.source, RunState.RUNNING
    if page.next_cursor is None:
        following = source_after(source, sources)
        if following:
            source = following
        else:
            state = RunState.SCANNED
    return replace(
        progress,
        state=state,
        source=source,
        cursor=page.next_cursor,
        pages=progress.pages + 1,
        contacts=progress.contacts + len(page.contacts),
        scan_start=page.served_at if progress.scan_start is None else progress.scan_start,
        updated_at=int(now),
        error="",
    )


class Scanner:
    """Reads the grants of all runs, several at once; those of a lower `priority` number first."""

    def __init__(
        self,
        client: NylasClient,
        publish: Publish,
        gate: Gate,
        topics: Topics,
        metrics: ReaderMetrics,
        at_once: int,
        parked_seconds: float = PARKED_SECONDS,
    ) -> None:
        self._client, self._publish = client, publish
        self._gate, self._topics, self._metrics = gate, topics, metrics
        self._at_once, self._parked_seconds = at_once, parked_seconds
        self._queue: asyncio.PriorityQueue[tuple[int, int, Job]] = asyncio.PriorityQueue()
        self._order = itertools.count()

    def submit(self, job: Job) -> None:
        """Queues a grant; `job.done` is set when its listing has ended, one way or the other.
        Grants that somebody waits for go before those of a reconcile of everything.
        """
        self._queue.put_nowait((1 if job.run.grants is None else 0, next(self._order), job))

    def stop(self, job: Job) -> None:
        """Ends a listing, and sets `job.done` then: at once while it waits for a page, else when
        the page at hand is acknowledged.
        """
        job.stopped = True
        if job.asking is not None:
            job.asking.reschedule(0.0)
        elif not job.at_hand and not job.done.done():
            job.done.set_result(None)

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            _, _, job = await self._queue.get()
            if job.stopped:  # while it was queued
                continue
            job.at_hand = True
            try:
                await self._read(job)
            except Passing as fault:
                parked = seconds_until_next(fault, self._parked_seconds)
                job.in_vain += time.monotonic() - job.asked_at + parked
                if job.in_vain > GIVE_UP_SECONDS:
                    await self._fail(
                        job, f"asked in vain for {GIVE_UP_SECONDS / 3600:.0f} hours: {fault}"
                    )
                    continue
                job.progress = replace(
                    job.progress, updated_at=int(time.time()), error=f"waits: {fault}"
                )
                await self._write(job)
                asyncio.get_running_loop().call_later(parked, self.submit, job)
            except NotFound:
                await self._fail(
                    job, "Nylas does not know this grant; see `contactstream grants list`"
                )
            except NylasError as fault:
                await self._fail(job, str(fault))
            finally:
                job.at_hand = False
                if job.stopped and not job.done.done():
                    job.done.set_result(None)

    async def _read(self, job: Job) -> None:
        while job.progress.state not in FINAL and job.progress.state is not RunState.SCANNED:
            cursor, source = job.progress.cursor, job.progress.source
            try:
                page = await self._page(job)
            except (Refused, NotFound) as fault:
                if _lost_cursor(fault, cursor) and job.restarts < MAX_RESTARTS:
                    log.warning(
                        "cursor lost, the grant starts again", run=job.run_id, grant=job.grant.id
                    )
                    self._restart(job)
                elif _of_source(fault, cursor) and len(job.refused) + 1 < len(job.sources):
                    log.warning(
                        "source refused",
                        run=job.run_id,
                        grant=job.grant.id,
                        source=source,
                        error=str(fault),
                    )
                    job.refused.add(source)
                    job.progress = after_refusal(job.progress, job.sources, str(fault))
                    await self._write(job)
                else:
                    raise
                continue
            if page is None:
                return
            if page.next_cursor is not None and (
                page.next_cursor == cursor or page.next_cursor in job.cursors
            ):
                raise RepeatedCursor(
                    f"Nylas repeated a cursor of this listing (source {source}); report it to Nylas"
                )
            if not job.run.dry_run:
                origin = Origin(job.run.kind.value)
                request = page.request_id or f"{job.run_id}/{page.served_at}/{job.progress.pages}"
                records = page_records(
                    self._topics, job.grant.id, origin, request, page.served_at, page.contacts
                )
                await self._publish(records)
                self._metrics.contacts.labels(origin.value).inc(len(page.contacts))
            if job.run.kind is RunKind.RECONCILE:
                job.seen.extend(contact_hash(str(contact.get("id"))) for contact in page.contacts)
            if page.next_cursor is None:  # the next source counts its own
                job.cursors.clear()
            else:
                job.cursors.add(page.next_cursor)
            job.in_vain = 0.0
            job.progress = after_page(job.progress, job.sources, page, time.time())
            await self._write(job)
        job.complete = True
        job.done.set_result(None)

    async def _page(self, job: Job) -> Page | None:
        """The next page, once there is room for it; None when the listing is stopped."""
        if job.stopped:
            return None
        try:
            async with asyncio.timeout(None) as job.asking:
                if not job.run.dry_run:
                    await self._gate.wait(PAGE_SIZE)
                job.asked_at = time.monotonic()
                return await list_contacts(
                    self._client, job.grant.id, job.progress.cursor, source=job.progress.source
                )
        except TimeoutError:
            if not job.stopped:
                raise
            return None
        finally:
            job.asking = None

    def _restart(self, job: Job) -> None:
        job.restarts += 1
        job.cursors.clear()
        job.refused.clear()
        del job.seen[:]
        job.progress = replace(
            first_progress(job.sources, job.progress.expected, time.time()),
            started_at=job.progress.started_at,
        )

    async def _fail(self, job: Job, error: str) -> None:
        log.warning("grant failed", run=job.run_id, grant=job.grant.id, error=error)
        job.progress = replace(
            job.progress, state=RunState.FAILED, updated_at=int(time.time()), error=error
        )
        await self._write(job)
        job.done.set_result(None)

    async def _write(self, job: Job) -> None:
        await self._publish([progress_record(self._topics, job.run_id, job.grant.id, job.progress)])


def _lost_cursor(fault: Refused | NotFound, cursor: str | None) -> bool:
    """Whether Nylas refuses the cursor rather than the grant: it answers 400 to a `page_token` that
    it does not know.
    """
    if cursor is None:
        return False
    return fault.status in (400, 410, 422) if isinstance(fault, Refused) else not fault.of_grant


def _of_source(fault: Refused | NotFound, cursor: str | None) -> bool:
    """Whether Nylas may have refused the source rather than the grant: a scope that it lacks, or a
    source that its provider has not.
    """
    return cursor is None and isinstance(fault, Refused) and fault.status != 401


def job_for(
    run_id: str,
    run: Run,
    grant: Grant,
    sources: Sequence[str],
    known: Progress | None,
    expected: int | None,
    now: float,
) -> Job:
    """The job of a grant. A backfill goes on where it stood; a reconcile starts the grant again,
    because what it had seen is lost.
    """
    chosen = sources_of(grant.provider, sources)
    progress = known
    if progress is None or run.kind is RunKind.RECONCILE or progress.source not in chosen:
        progress = first_progress(chosen, expected, now)
    job = Job(run_id, run, grant, chosen, progress, asyncio.get_running_loop().create_future())
    if progress.cursor is not None:
        job.cursors.add(progress.cursor)
    return job
