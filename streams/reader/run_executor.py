"""Carries out the runs that reader.runs asks for: lists the grants, has them read, and concludes
what complete listings say.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import structlog
from confluent_kafka import KafkaException

from connectors.nylas.client import NylasClient
from connectors.nylas.errors import NotFound, NylasError, Passing
from connectors.nylas.grants import Grant, get_grant, list_grants, unreadable
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled
from streams.metrics import ReaderMetrics
from streams.reader.comparison import Listing, listing_of
from streams.reader.grant_events import GrantTable, deleted_record, listed_record, plausible
from streams.reader.reconcile import Reconciler
from streams.reader.records import Publish
from streams.reader.scan import Job, Scanner, job_for
from streams.reader.schedule import next_runs, reconcile_due, reconcile_owed
from streams.runs import (
    FINAL,
    KEPT_FOR,
    Progress,
    Run,
    RunKind,
    RunLog,
    RunState,
    cancel_key,
    cancelled,
    finished,
    new_run_id,
    progress_key,
    progress_record,
    run_key,
    run_record,
)
from streams.settings import NylasSettings, ReaderSettings
from streams.topics import Topics

log = structlog.get_logger()

LOOK_SECONDS = (
    0.3  # between two looks at what is asked for; a person waits for the start of a backfill
)
AGAIN_SECONDS = 60.0  # after Nylas' listing, or a broker's topic, could not be read
CONCLUDE_FROM = 250_000
"""Contacts listed before they are compared with contacts.changes: 2 MB of hashes, and the topic is
read once for so many.
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The grants of a run: those to read, and for the others why not."""

    read: tuple[Grant, ...]
    skipped: Mapping[str, str]
    unknown: tuple[str, ...] = ()


def choose(run: Run, listed: Sequence[Grant]) -> Chosen:
    """Which of the listed grants a run reads. It may name them by ID or by address.

    An ID that the listing lacks is read all the same, and so is a grant that has just signed in and
    is listed as invalid: a listing may be older than the notification that asked for the run.
    """
    names = {_folded(name) for name in run.grants or ()}
    wanted = [
        grant
        for grant in listed
        if run.grants is None or grant.id in names or _folded(grant.email) in names
    ]
    named = {name for grant in wanted for name in (grant.id, _folded(grant.email))}
    absent = [name for name in run.grants or () if _folded(name) not in named]
    why = {
        grant.id: unreadable(replace(grant, valid=grant.valid or run.by in SIGNED_IN))
        for grant in wanted
    }
    return Chosen(
        read=tuple(grant for grant in wanted if not why[grant.id])
        + tuple(Grant(name) for name in absent if "@" not in name),
        skipped={name: reason for name, reason in why.items() if reason},
        unknown=tuple(name for name in absent if "@" in name),
    )


SIGNED_IN = (
    "grant.created",
    "grant.updated",
)  # the events whose runs read a grant that somebody has just connected


def _folded(name: str) -> str:
    """An address without its case; an ID as it is."""
    return name.casefold() if "@" in name else name


class RunExecutor:
    """Starts, resumes and finishes runs. `log` is kept by its owner, who feeds it from the topic;
    this class only writes to the topic.
    """

    def __init__(
        self,
        run_log: RunLog,
        client: NylasClient,
        scanner: Scanner,
        concluder: Reconciler,
        publish: Publish,
        book: GrantTable,
        topics: Topics,
        nylas: NylasSettings,
        settings: ReaderSettings,
        metrics: ReaderMetrics,
    ) -> None:
        self._log, self._client, self._scanner, self._concluder = (
            run_log,
            client,
            scanner,
            concluder,
        )
        self._publish, self._book, self._topics, self._nylas, self._settings = (
            publish,
            book,
            topics,
            nylas,
            settings,
        )
        self._metrics = metrics
        self._handled: set[str] = set()
        self._active: set[str] = set()
        self._jobs: dict[tuple[str, str], Job] = {}
        self._bounds: dict[str, asyncio.Timeout] = {}
        self._since = time.time()

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._schedule()
                await self._forget()
                await self._cancel()
                now = time.time()
                waiting = {
                    run_id: run
                    for run_id, run in self._log.runs.items()
                    if run_id in self._active
                    or (run_id not in self._handled and run.not_before <= now)
                }
                starts = next_runs(waiting, self._active)
                for run_id, other in starts.merged.items():
                    self._handled.add(run_id)
                    over = replace(
                        self._log.runs[run_id], state=RunState.MERGED, error=f"done by {other}"
                    )
                    await self.write_run(run_id, replace(over, finished_at=int(time.time())))
                for run_id in starts.start:
                    self._handled.add(run_id)
                    self._active.add(run_id)
                    group.create_task(self._execute(run_id, self._log.runs[run_id]))
                await asyncio.sleep(LOOK_SECONDS)

    async def idle(self, grant: str) -> None:
        """Returns when no run reads the grant any more, which a listing that ends or fails decides
        (`scan.GIVE_UP_SECONDS`).
        """
        reading = [
            job.done
            for (_, name), job in self._jobs.items()
            if name == grant and not job.done.done()
        ]
        if reading:
            await asyncio.wait(reading)

    async def request(self, run: Run, run_id: str | None = None) -> str:
        """Asks for a run. With a `run_id` that is known already nothing happens: an event is
        handled twice after a crash.
        """
        run_id = run_id or new_run_id(run.kind, run.requested_at)
        if run_id not in self._log.runs:
            await self.write_run(run_id, run)
            self._log.runs.setdefault(
                run_id, run
            )  # before the topic tells: the next event may ask for the same
        return run_id

    async def write_run(self, run_id: str, run: Run) -> None:
        """Writes a run; returns once it is acknowledged."""
        await self._publish([run_record(self._topics, run_id, run)])

    async def _schedule(self) -> None:
        now, runs = time.time(), self._log.runs.values()
        since = min((run.requested_at for run in runs), default=self._since)
        if reconcile_due(runs, now, self._settings.reconcile_every, since):
            run = Run(RunKind.RECONCILE, None, int(now), "schedule")
            run_id = await self.request(run)
            log.info("scheduled reconcile", run=run_id)
        lost_ms = self._log.heartbeats.lost_ms
        if lost_ms is not None and reconcile_owed(runs, lost_ms):
            # Not before the bridge's clock: by this process's own it could be owed for ever.
            run = Run(RunKind.RECONCILE, None, max(int(now), -(-lost_ms // 1000)), "bridge")
            run_id = await self.request(run)
            log.warning(
                "no bridge could take notifications for longer than Nylas retries; all is read again",
                run=run_id,
            )

    async def _forget(self) -> None:
        for run_id in self._log.finished_before(time.time() - KEPT_FOR):
            keys = [progress_key(run_id, grant) for grant in self._log.progress(run_id)] + [
                run_key(run_id)
            ]
            if run_id in self._log.cancelled:
                keys.append(cancel_key(run_id))
            await self._publish(
                [KafkaRecord(self._topics.runs.name, key, None, []) for key in keys]
            )
            for key in keys:
                self._log.apply(key, None)

    async def _cancel(self) -> None:
        """Ends the runs that somebody asked to end: those at work are told, the others are over
        with that.
        """
        for run_id in list(self._log.cancelled):
            run = self._log.runs.get(run_id)
            if run is None or run.state in FINAL:
                continue
            if run_id in self._active:
                bound = self._bounds.pop(run_id, None)
                if bound is not None:
                    bound.reschedule(0.0)
            elif run_id not in self._handled:
                self._handled.add(run_id)
                self._log.runs[run_id] = await self._end(run_id, run)
                await self.write_run(run_id, self._log.runs[run_id])

    async def _end(self, run_id: str, run: Run) -> Run:
        """Stops what is read for a run, once the pages at hand are acknowledged; returns the run,
        cancelled.
        """
        jobs = [job for (owner, _), job in self._jobs.items() if owner == run_id]
        for job in jobs:
            self._scanner.stop(job)
        reading = [job.done for job in jobs if not job.done.done()]
        if reading:
            await asyncio.wait(reading)
        known = self._log.progress(run_id) | {job.grant.id: job.progress for job in jobs}
        over, grants = cancelled(run, known, time.time())
        await self._publish(
            [progress_record(self._topics, run_id, name, found) for name, found in grants.items()]
        )
        return over

    async def _execute(self, run_id: str, run: Run) -> None:
        log.info("run starts", run=run_id, kind=run.kind.value, by=run.by)
        bound = asyncio.timeout(None)  # without an end, until the run is cancelled
        try:
            async with bound:
                self._bounds[run_id] = bound
                over = await self._carry_out(run_id, run)
        except NylasError as error:  # Nylas refuses the listing itself: the key, or the region
            over = replace(
                run, state=RunState.FAILED, error=str(error), finished_at=int(time.time())
            )
        except TimeoutError:
            if not bound.expired():
                raise
            over = await self._end(run_id, run)
        finally:
            self._bounds.pop(run_id, None)
            self._jobs = {key: job for key, job in self._jobs.items() if key[0] != run_id}
        await self.write_run(run_id, over)
        self._log.runs[run_id] = over
        self._active.discard(run_id)
        log.info("run ends", run=run_id, state=over.state.value, error=over.error)

    async def _carry_out(self, run_id: str, run: Run) -> Run:
        asked_at = int(
            time.time()
        )  # what grants.events tells of later moments is newer than the listing
        passed_over = self._metrics.grants_skipped.labels("grant_without_id").inc
        listed = await again_while_passing(partial(list_grants, self._client, passed_over))
        if not run.dry_run:
            await self._tell_listing(listed, asked_at, whole=run.whole)
        chosen = choose(run, listed)
        sources = run.sources or self._nylas.sources
        known = dict(self._log.progress(run_id))
        now = time.time()
        final: dict[str, Progress] = {
            name: found for name, found in known.items() if found.state in FINAL
        }
        for name, reason in chosen.skipped.items():
            final[name] = Progress(
                RunState.SKIPPED, started_at=int(now), updated_at=int(now), error=reason
            )
        for name in chosen.unknown:
            final[name] = Progress(
                RunState.FAILED,
                started_at=int(now),
                updated_at=int(now),
                error="no grant has this address",
            )
        jobs = [
            job_for(
                run_id, run, grant, sources, known.get(grant.id), self._log.expected(grant.id), now
            )
            for grant in chosen.read
            if grant.id not in final
        ]
        for job in [job for job in jobs if not job.sources]:
            final[job.grant.id] = replace(job.progress, state=RunState.SKIPPED, error="no_source")
            jobs.remove(job)
        self._jobs |= {(run_id, job.grant.id): job for job in jobs}
        await self._publish(
            [
                progress_record(self._topics, run_id, name, progress)
                for name, progress in final.items()
                if name not in known
            ]
            + [progress_record(self._topics, run_id, job.grant.id, job.progress) for job in jobs]
        )
        await self.write_run(run_id, replace(run, state=RunState.RUNNING))
        for job in jobs:
            self._scanner.submit(job)
        await self._conclude_all(run_id, run, jobs)
        if run.whole:
            dead = self._book.deleted() - {grant.id for grant in listed}
            await snapshot_again(partial(self._concluder.sweep, run_id, dead))
        final |= {job.grant.id: job.progress for job in jobs}
        return finished(run, final, time.time())

    async def _conclude_all(self, run_id: str, run: Run, jobs: Sequence[Job]) -> None:
        """Concludes grants as their listings end: a backfill's at once, a reconcile's together with
        others.
        """
        collected: list[Job] = []
        waiting = set(jobs)
        while waiting:
            await asyncio.wait([job.done for job in waiting], return_when=asyncio.FIRST_COMPLETED)
            over = [job for job in waiting if job.done.done()]
            waiting.difference_update(over)
            for job in over:
                if job.progress.state is not RunState.SCANNED:
                    continue
                if run.kind is RunKind.RECONCILE and job.complete:
                    collected.append(job)
                else:
                    await self._finish(job, job.progress)
            if collected and (
                not waiting or sum(len(job.seen) for job in collected) >= CONCLUDE_FROM
            ):
                await self._conclude(run_id, run, collected)
                collected = []

    async def _conclude(self, run_id: str, run: Run, jobs: Sequence[Job]) -> None:
        listings: dict[str, Listing] = {
            job.grant.id: listing_of(
                job.grant.id, job.progress.scan_start or 0, job.sources, job.seen, job.refused
            )
            for job in jobs
        }
        share = (
            self._settings.max_delete_share
            if run.max_delete_share is None
            else run.max_delete_share
        )
        results = await snapshot_again(
            partial(self._concluder.conclude, run_id, listings, share, dry_run=run.dry_run)
        )
        for job in jobs:
            result = results[job.grant.id]
            progress = replace(job.progress, deleted=result.deleted, offered=result.offered)
            await self._finish(job, progress, result.error)
            del job.seen[:]

    async def _finish(self, job: Job, progress: Progress, error: str = "") -> None:
        state = RunState.FAILED if error else RunState.DONE
        job.progress = replace(
            progress, state=state, error=error or progress.incomplete, updated_at=int(time.time())
        )
        await self._publish([progress_record(self._topics, job.run_id, job.grant.id, job.progress)])

    async def _tell_listing(self, listed: Sequence[Grant], asked_at: int, *, whole: bool) -> None:
        """Writes to grants.events what the listing, asked for at `asked_at`, says that its events
        did not.
        """
        news = [listed_record(self._topics, grant, asked_at) for grant in self._book.news(listed)]
        vanished = self._book.vanished(listed) if whole else []
        if vanished and not plausible(len(vanished), len(listed), self._settings.max_delete_share):
            log.error(
                "too many grants are missing from the listing to believe it",
                missing=len(vanished),
                listed=len(listed),
            )
            vanished = []
        for name in vanished:
            try:
                await get_grant(self._client, name)
            except (
                NotFound
            ) as gone:  # no page, which may be older than its Date: the grant is gone as of now
                news.append(deleted_record(self._topics, name, gone.served_at))
            except NylasError as fault:
                self._metrics.grants_skipped.labels("grant_unverified").inc()
                log.warning(
                    "a grant could not be verified, the next reconcile asks again",
                    grant=name,
                    fault=str(fault),
                )
        await self._publish(news)


AnswerT = TypeVar("AnswerT")


async def snapshot_again(work: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
    """Does what reads a topic as a table until the broker lets it."""
    while True:
        try:
            return await work()
        except (SnapshotStalled, KafkaException) as error:
            log.warning("a topic could not be read, tried again", error=str(error))
            await asyncio.sleep(AGAIN_SECONDS)


async def again_while_passing(call: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
    """Calls until Nylas answers; a run that cannot list the grants has nothing else to do."""
    while True:
        try:
            return await call()
        except Passing as fault:
            log.warning("Nylas does not answer, tried again", fault=str(fault))
            await asyncio.sleep(AGAIN_SECONDS)
