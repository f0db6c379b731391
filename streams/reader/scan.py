"""Lists the contacts of grants page by page, several grants at once.

Each page is published and acknowledged before the progress with its cursor is written: a new active
reader then continues with a page that may be read twice, and never skips one.
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
from streams.reader.context import ReaderContext
from streams.reader.group_names import GroupNameKeeper
from streams.reader.listing_check import ListingCheck
from streams.reader.records import contact_hash, page_records
from streams.reader.scan_progress import (
    after_page,
    after_refusal,
    after_repeated_page,
    first_progress,
    next_listing,
)
from streams.runs import FINAL, Progress, Run, RunKind, RunState, progress_record
from streams.runtime.current_work import doing

log = structlog.get_logger()

# Waited before a grant is tried again for which Nylas did not answer, after the client has repeated
# the call for minutes. Other grants are read meanwhile.
GRANT_RETRY_SECONDS = 60.0

# A grant that Nylas has not answered for so long fails in this run. It would otherwise keep the run
# from ending, and so the schedule from starting the next.
MAX_UNANSWERED_SECONDS = 6 * 3600.0

# How often a grant starts again in one run after Nylas lost its cursor. A provider that loses it
# each time would be read for ever.
MAX_RESTARTS = 3


class RepeatedCursor(NylasError):
    """Nylas returned a cursor of a listing for the second time; following it would never end."""


class LostCursor(NylasError):
    """Nylas lost the cursor of a listing once more after MAX_RESTARTS restarts."""


@dataclass(slots=True)
class ScanState:
    """What a listing has found so far, and how it went."""

    seen: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hashes of the IDs of the listed contacts; kept for a reconcile only."""
    check: ListingCheck = field(default_factory=ListingCheck)
    """What the listings of a backfill have held; a reconcile is not listed again."""
    refused: set[str] = field(default_factory=set)
    """Sources that Nylas would not list."""
    cursors: set[str] = field(default_factory=set)
    """Cursors that were followed in the present source."""
    restarts: int = 0
    """How often the listing started again because its cursor was lost."""
    complete: bool = False
    """Whether this process listed everything, from the first page of the first source to the last
    page of the last. Only then may a contact count as deleted.
    """
    asked_at: float = 0.0
    """When the last page was asked for, on the monotonic clock."""
    unanswered_seconds: float = 0.0
    """How long Nylas has not answered since the last page, the waits between calls included."""


@dataclass(slots=True)
class ScanControl:
    """How a worker and `Scanner.stop` agree on the end of a listing."""

    in_progress: bool = False
    """Whether a worker has the job."""
    stopped: bool = False
    """Whether the listing was cancelled."""
    page_timeout: asyncio.Timeout | None = None
    """Present while a worker waits for a page; moved to now in order to interrupt it."""


@dataclass(slots=True, eq=False)
class ScanJob:
    """A grant to list for a run."""

    run_id: str
    run: Run
    grant: Grant
    sources: tuple[str, ...]
    progress: Progress
    done: asyncio.Future[None]
    """Set when the listing has ended, successfully or not."""
    state: ScanState = field(default_factory=ScanState)
    control: ScanControl = field(default_factory=ScanControl)


def job_for(
    run_id: str,
    run: Run,
    grant: Grant,
    sources: Sequence[str],
    known: Progress | None,
    expected: int | None,
    now: float,
) -> ScanJob:
    """The job of a grant; `known` is its progress so far. Needs a running event loop.

    A backfill continues where it was. A reconcile starts the grant again, because the process that
    knew which contacts were listed has ended.
    """
    chosen = sources_of(grant.provider, sources)
    progress = known
    if progress is None or run.kind is RunKind.RECONCILE or progress.source not in chosen:
        progress = first_progress(chosen, expected, now)
    job = ScanJob(run_id, run, grant, chosen, progress, asyncio.get_running_loop().create_future())
    if progress.cursor is not None:
        job.state.cursors.add(progress.cursor)
    check = job.state.check
    check.resumed, check.listings = progress.pages > 0, progress.listing - 1
    return job


class Scanner:
    """Lists the grants of all runs, up to `concurrent_grants` at once."""

    def __init__(
        self,
        context: ReaderContext,
        client: NylasClient,
        groups: GroupNameKeeper,
        concurrent_grants: int,
        retry_seconds: float = GRANT_RETRY_SECONDS,
    ) -> None:
        self._context, self._client, self._groups = context, client, groups
        self._concurrent_grants, self._retry_seconds = concurrent_grants, retry_seconds
        self._queue: asyncio.PriorityQueue[tuple[int, int, ScanJob]] = asyncio.PriorityQueue()
        self._order = itertools.count()

    def submit(self, job: ScanJob) -> None:
        """Queues a grant. Grants of runs that name them go before those of runs of all grants."""
        self._queue.put_nowait((1 if job.run.grants is None else 0, next(self._order), job))

    def stop(self, job: ScanJob) -> None:
        """Ends a listing; `job.done` is set then.

        That is at once while it is queued or waits for a page, else when the current page is
        acknowledged.
        """
        job.control.stopped = True
        if job.control.page_timeout is not None:
            job.control.page_timeout.reschedule(0.0)
        elif not job.control.in_progress and not job.done.done():
            job.done.set_result(None)

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._concurrent_grants):
                tasks.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            _, _, job = await self._queue.get()
            if job.control.stopped:
                continue
            job.control.in_progress = True
            try:
                with doing(self._context.work.listings):
                    await self._list_or_fail(job)
            finally:
                job.control.in_progress = False
                if job.control.stopped and not job.done.done():
                    job.done.set_result(None)

    async def _list_or_fail(self, job: ScanJob) -> None:
        try:
            await self._list(job)
        except Passing as fault:
            await self._retry_later(job, fault)
        except NotFound:
            await self._fail(job, "Nylas does not know this grant; see `contactstream grants list`")
        except NylasError as fault:
            await self._fail(job, str(fault))

    async def _list(self, job: ScanJob) -> None:
        if not await self._read_groups(job):
            return
        while job.progress.state not in FINAL and job.progress.state is not RunState.SCANNED:
            try:
                page = await self._next_page(job)
            except (Refused, NotFound) as fault:
                if not await self._recover(job, fault):
                    raise
                continue
            if page is None:
                return
            await self._take(job, page)
            self._context.work.listings.step()
        job.state.complete = True
        job.state.check.forget()
        job.done.set_result(None)

    async def _read_groups(self, job: ScanJob) -> bool:
        """Reads the names of the contact groups, which the pages get; False when stopped."""
        if job.control.stopped:
            return False
        if job.run.dry_run:
            return True  # nothing is published
        try:
            async with asyncio.timeout(None) as job.control.page_timeout:
                job.state.asked_at = time.monotonic()
                await self._groups.read(job.grant.id, job.grant.provider)
                return True
        except TimeoutError:
            if not job.control.stopped:
                raise
            return False
        finally:
            job.control.page_timeout = None

    async def _next_page(self, job: ScanJob) -> Page | None:
        """The next page, once the gate lets it through; None when the listing was stopped."""
        if job.control.stopped:
            return None
        try:
            async with asyncio.timeout(None) as job.control.page_timeout:
                if not job.run.dry_run:
                    await self._context.gate.wait(PAGE_SIZE)
                job.state.asked_at = time.monotonic()
                return await list_contacts(
                    self._client, job.grant.id, job.progress.cursor, source=job.progress.source
                )
        except TimeoutError:
            if not job.control.stopped:
                raise
            return None
        finally:
            job.control.page_timeout = None

    async def _recover(self, job: ScanJob, fault: Refused | NotFound) -> bool:
        """Continues after a lost cursor or a refused source; False if neither is the case.

        Raises LostCursor when the listing has started again often enough.
        """
        cursor, source = job.progress.cursor, job.progress.source
        if _is_lost_cursor(fault, cursor):
            if job.state.restarts >= MAX_RESTARTS:
                raise LostCursor(
                    f"Nylas lost the place in the listing of the source {source} "
                    f"{MAX_RESTARTS + 1} times ({fault}); {_try_later(job)}"
                )
            _restart(job)
            log.warning(
                "Nylas lost the place in a listing; the grant starts again by itself",
                run=job.run_id,
                grant=job.grant.id,
                restart=f"{job.state.restarts} of {MAX_RESTARTS}",
                error=str(fault),
            )
            return True
        another_source_left = len(job.state.refused) + 1 < len(job.sources)
        if _is_refused_source(fault, cursor) and another_source_left:
            log.warning(
                "source refused, the others are read",
                run=job.run_id,
                grant=job.grant.id,
                source=source,
                error=str(fault),
            )
            job.state.refused.add(source)
            job.progress = after_refusal(job.progress, job.sources, str(fault))
            _list_again_if_needed(job)
            await self._write_progress(job)
            return True
        return False

    async def _take(self, job: ScanJob, page: Page) -> None:
        """Publishes a page, then writes the progress. Raises RepeatedCursor."""
        state = job.state
        if page.next_cursor is not None and (
            page.next_cursor == job.progress.cursor or page.next_cursor in state.cursors
        ):
            raise RepeatedCursor(
                f"Nylas repeated a cursor of this listing (source {job.progress.source}); "
                f"{_try_later(job)}"
            )
        fresh, repeated = page, state.check.listings > 0
        if _is_checked(job):
            contacts = state.check.unseen(page.contacts, last=page.next_cursor is None)
            fresh = replace(page, contacts=contacts)
        if fresh.contacts and not job.run.dry_run:
            await self._publish_contacts(job, fresh)
        if job.run.kind is RunKind.RECONCILE:
            state.seen.extend(contact_hash(str(contact.get("id"))) for contact in page.contacts)
        if page.next_cursor is None:
            state.cursors.clear()  # the cursors of the next source are its own
        else:
            state.cursors.add(page.next_cursor)
        state.unanswered_seconds = 0.0
        job.progress = _moved_on(job, fresh, repeated=repeated)
        _list_again_if_needed(job)
        await self._write_progress(job)

    async def _publish_contacts(self, job: ScanJob, page: Page) -> None:
        origin = Origin(job.run.kind.value)
        request_id = page.request_id or f"{job.run_id}/{page.served_at}/{job.progress.pages}"
        with self._context.page_span() as trace:
            await self._context.publish(
                page_records(
                    self._context.topics,
                    job.grant.id,
                    origin,
                    request_id,
                    page.served_at,
                    self._groups.named(job.grant.id, page.contacts),
                    trace,
                    job.run_id,
                    job.grant.email,
                )
            )
        self._context.metrics.contacts.labels(origin.value).inc(len(page.contacts))

    async def _retry_later(self, job: ScanJob, fault: Passing) -> None:
        seconds = seconds_until_next(fault, self._retry_seconds)
        job.state.unanswered_seconds += time.monotonic() - job.state.asked_at + seconds
        if job.state.unanswered_seconds > MAX_UNANSWERED_SECONDS:
            hours = MAX_UNANSWERED_SECONDS / 3600
            await self._fail(job, f"Nylas did not answer for {hours:.0f} hours: {fault}")
            return
        job.progress = replace(job.progress, updated_at=int(time.time()), error=f"waits: {fault}")
        await self._write_progress(job)
        asyncio.get_running_loop().call_later(seconds, self.submit, job)

    async def _fail(self, job: ScanJob, error: str) -> None:
        job.state.check.forget()
        log.warning("grant failed", run=job.run_id, grant=job.grant.id, error=error)
        job.progress = replace(
            job.progress, state=RunState.FAILED, updated_at=int(time.time()), error=error
        )
        await self._write_progress(job)
        job.done.set_result(None)

    async def _write_progress(self, job: ScanJob) -> None:
        record = progress_record(self._context.topics, job.run_id, job.grant.id, job.progress)
        await self._context.publish([record])


def _moved_on(job: ScanJob, fresh: Page, *, repeated: bool) -> Progress:
    """The progress after a page, of which `fresh` holds what no earlier listing held."""
    if not repeated:
        return after_page(job.progress, job.sources, fresh, time.time())
    if job.state.check.resumed:
        fresh = replace(fresh, contacts=[])  # which of them are new is unknown
    return after_repeated_page(job.progress, job.sources, fresh, time.time())


def _is_checked(job: ScanJob) -> bool:
    """Whether the grant is listed until a listing holds nothing new."""
    return job.run.kind is RunKind.BACKFILL and not job.run.dry_run


def _list_again_if_needed(job: ScanJob) -> None:
    """After the last page of a checked grant: its next listing, or what the last one left open."""
    if job.progress.state is not RunState.SCANNED or not _is_checked(job):
        return
    check = job.state.check
    if check.again():
        job.state.cursors.clear()
        job.state.refused.clear()
        job.progress = next_listing(job.progress, job.sources)
    elif gap := check.gap():
        log.warning("listing incomplete", run=job.run_id, grant=job.grant.id, gap=gap)
        job.progress = replace(job.progress, gap=gap)


def _restart(job: ScanJob) -> None:
    """Starts a grant again from its first page; what it has published so far stays."""
    job.state.restarts += 1
    job.state.check = ListingCheck()
    job.state.cursors.clear()
    job.state.refused.clear()
    del job.state.seen[:]
    job.progress = replace(
        first_progress(job.sources, job.progress.expected, time.time()),
        started_at=job.progress.started_at,
    )


def _try_later(job: ScanJob) -> str:
    """What an operator can do about a listing that Nylas does not let end."""
    return (
        f"run `contactstream {job.run.kind.value} --grant {job.grant.id}` later, and report it to "
        "the support of Nylas if it fails again"
    )


def _is_lost_cursor(fault: Refused | NotFound, cursor: str | None) -> bool:
    """Whether Nylas refuses the cursor rather than the grant.

    It answers 400 to a `page_token` that it does not know.
    """
    if cursor is None:
        return False
    return fault.status in (400, 410, 422) if isinstance(fault, Refused) else not fault.of_grant


def _is_refused_source(fault: Refused | NotFound, cursor: str | None) -> bool:
    """Whether Nylas may have refused the source rather than the grant.

    The grant may lack the scope for it, or its provider may not have such a source.
    """
    return cursor is None and isinstance(fault, Refused) and fault.status != 401
