"""Carries out one run: has its grants read and applies what the listings show, or replays."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from connectors.nylas.errors import NylasError
from connectors.nylas.grants import Grant
from streams.reader.comparison import listing_of
from streams.reader.deletion_guard import DeletionGuard
from streams.reader.grant_listing import GrantListing
from streams.reader.grant_removal import GrantRemover
from streams.reader.grant_selection import GrantSelection, select_grants
from streams.reader.mailbox_keeper import MailboxKeeper, skip_reason
from streams.reader.reconcile import Reconciler
from streams.reader.replay import Replayer
from streams.reader.retries import until_snapshot_read
from streams.reader.run_writer import RunWriter
from streams.reader.scan import ScanJob, Scanner, job_for
from streams.runs import FINAL, Progress, Run, RunKind, RunLog, RunState, cancelled, finished
from streams.runtime.current_work import waiting_on_purpose
from streams.waves import held_back, read_so_far, room

# A reconcile compares its complete listings with contacts.changes once they hold so many contacts.
# Their hashes take 2 MB, and the topic is read once for all of them.
CONTACTS_COMPARED_TOGETHER = 250_000

# Until a grant is reconciled whose contacts moved while a backfill listed it repeatedly. Somebody
# changes the address book now; an hour later that has most likely ended.
GAP_RECONCILE_SECONDS = 3600

# Between two looks whether a person continued a run that waits after a wave.
CONTINUE_CHECK_SECONDS = 0.3

# `by` of such a reconcile.
GAP = "gap"


@dataclass(frozen=True, slots=True)
class RunDefaults:
    """What a run takes from the settings where its request leaves it out."""

    sources: tuple[str, ...]
    max_delete_share: float


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The grants of a run: those to list, and the progress of those that are final already."""

    jobs: tuple[ScanJob, ...]
    final: Mapping[str, Progress]


def plan_run(
    run_id: str, run: Run, selection: GrantSelection, sources: Sequence[str], run_log: RunLog
) -> RunPlan:
    """Which grants of a run are yet to be listed, given what a previous reader did of the run.

    Needs a running event loop.
    """
    now = time.time()
    known = run_log.progress(run_id)
    final = {name: progress for name, progress in known.items() if progress.state in FINAL}
    begun = Progress(RunState.WAITING, started_at=int(now), updated_at=int(now))
    for grant_id, reason in selection.skipped.items():
        final[grant_id] = replace(begun, state=RunState.SKIPPED, error=reason)
    for address in selection.unknown_addresses:
        final[address] = replace(begun, state=RunState.FAILED, error="no grant has this address")
    jobs = []
    for grant in selection.read:
        if grant.id in final:
            continue
        expected = run_log.expected(grant.id)
        job = job_for(run_id, run, grant, sources, known.get(grant.id), expected, now)
        if job.sources:
            jobs.append(job)
        else:
            final[grant.id] = replace(job.progress, state=RunState.SKIPPED, error="no_source")
    return RunPlan(tuple(jobs), final)


class RunExecutor:
    """Carries out runs. Several may be in progress at once; they share the scanner."""

    def __init__(
        self,
        run_log: RunLog,
        runs: RunWriter,
        listing: GrantListing,
        scanner: Scanner,
        reconciler: Reconciler,
        remover: GrantRemover,
        replayer: Replayer,
        defaults: RunDefaults,
        mailboxes: MailboxKeeper,
        guard: DeletionGuard,
    ) -> None:
        self._log, self._runs, self._listing = run_log, runs, listing
        self._scanner, self._reconciler, self._remover = scanner, reconciler, remover
        self._replayer = replayer
        self._defaults, self._mailboxes, self._guard = defaults, mailboxes, guard
        self._jobs: dict[str, dict[str, ScanJob]] = {}
        """Jobs of the runs in progress, by run ID and grant ID."""
        self._timeouts: dict[str, asyncio.Timeout] = {}
        """For each run in progress, what interrupts it when it is cancelled."""

    async def execute(self, run_id: str, run: Run) -> Run:
        """Carries out a run to its end or until it is cancelled; returns it in its final state."""
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._timeouts[run_id] = timeout
                if run.kind is RunKind.REPLAY:
                    return await self._replayer.execute(run_id, run)
                return await self._read_grants(run_id, run)
        except NylasError as error:
            # Nylas refuses the listing of the grants: the API key or the region is wrong.
            now = int(time.time())
            return replace(run, state=RunState.FAILED, error=str(error), finished_at=now)
        except TimeoutError:
            if not timeout.expired():
                raise
            return await self.end_cancelled(run_id, run)
        finally:
            self._timeouts.pop(run_id, None)
            self._jobs.pop(run_id, None)

    def cancel(self, run_id: str) -> None:
        """Interrupts a run in progress; `execute` then returns it as cancelled."""
        timeout = self._timeouts.pop(run_id, None)
        if timeout is not None:
            timeout.reschedule(0.0)

    async def end_cancelled(self, run_id: str, run: Run) -> Run:
        """Writes the grants of a run as cancelled, and returns the run as cancelled.

        Stops its listings first and waits until the pages that were read are acknowledged.
        """
        jobs = list(self._jobs.get(run_id, {}).values())
        for job in jobs:
            self._scanner.stop(job)
        await _until_done(jobs)
        known = self._log.progress(run_id) | {job.grant.id: job.progress for job in jobs}
        ended, progress = cancelled(run, known, time.time())
        await self._runs.write_progress(run_id, progress)
        return ended

    def is_idle(self, grant: str) -> bool:
        """Whether no run reads the grant.

        A listing ends or fails after `scan.MAX_UNANSWERED_SECONDS` without an answer at the latest.
        """
        return all(jobs[grant].done.done() for jobs in self._jobs.values() if grant in jobs)

    def unanswered(self, run_id: str) -> bool:
        """Whether a run only waits for grants that Nylas did not answer for when last asked."""
        open_jobs = [job for job in self._jobs.get(run_id, {}).values() if not job.done.done()]
        return bool(open_jobs) and all(job.state.unanswered_seconds > 0 for job in open_jobs)

    async def _read_grants(self, run_id: str, run: Run) -> Run:
        asked_at = int(time.time())
        listed = await self._listing.read(run.grants)
        if not run.dry_run:
            await self._listing.publish_changes(
                listed, asked_at, find_deleted=run.reconciles_everything
            )
        sources = run.sources or self._defaults.sources
        known = set(self._log.progress(run_id))
        held = held_back(self._log) if run.reconciles_everything else set()

        def left_out(grant: Grant) -> str:
            return "waits_for_wave" if grant.id in held else self._why_not_synced(grant)

        selection = select_grants(run, listed, left_out)
        plan = plan_run(run_id, run, selection, sources, self._log)
        self._jobs[run_id] = {}
        new = {grant: progress for grant, progress in plan.final.items() if grant not in known}
        to_list = {job.grant.id: job.progress for job in plan.jobs}
        await self._runs.write_progress(run_id, new | to_list)
        await self._runs.write(run_id, replace(run, state=RunState.RUNNING))
        await self._read_in_waves(run_id, run, plan)
        if run.reconciles_everything:
            deleted = self._listing.deleted_grants(listed) - self._guard.held()
            await until_snapshot_read(partial(self._remover.remove_leftovers, run_id, deleted))
        ended = {job.grant.id: job.progress for job in plan.jobs}
        return finished(run, {**plan.final, **ended}, time.time())

    async def _read_in_waves(self, run_id: str, run: Run, plan: RunPlan) -> None:
        """Reads all grants at once, or as many as a person has asked for so far.

        Grants that a previous reader began come first, so that it goes on with their pages.
        """
        left = sorted(plan.jobs, key=lambda job: job.progress.pages == 0)
        read = read_so_far(plan.final)
        while left:
            size = room(run, self._log.continued.get(run_id, 0), read, len(left))
            if not size:
                with waiting_on_purpose():
                    await asyncio.sleep(CONTINUE_CHECK_SECONDS)
                continue
            wave, left = left[:size], left[size:]
            self._jobs[run_id] |= {job.grant.id: job for job in wave}
            for job in wave:
                self._scanner.submit(job)
            await self._apply_listings(run_id, run, wave)
            read += len(wave)

    def _why_not_synced(self, grant: Grant) -> str:
        return skip_reason(self._mailboxes.choose(grant.id, grant.email or None))

    async def _apply_listings(self, run_id: str, run: Run, jobs: Sequence[ScanJob]) -> None:
        """Finishes grants as their listings end.

        A grant of a backfill is finished at once. Grants of a reconcile are compared together, so
        that contacts.changes is not read for each.
        """
        to_compare: list[ScanJob] = []
        waiting = set(jobs)
        while waiting:
            with waiting_on_purpose():  # the listings are watched themselves
                await asyncio.wait(
                    [job.done for job in waiting], return_when=asyncio.FIRST_COMPLETED
                )
            ended = [job for job in waiting if job.done.done()]
            waiting.difference_update(ended)
            for job in ended:
                if job.progress.state is not RunState.SCANNED:
                    continue
                if run.kind is RunKind.RECONCILE and job.state.complete:
                    to_compare.append(job)
                else:
                    await self._finish(job, job.progress)
                    await self._close_gap(job)
            contacts = sum(len(job.state.seen) for job in to_compare)
            if to_compare and (not waiting or contacts >= CONTACTS_COMPARED_TOGETHER):
                await self._reconcile(run_id, run, to_compare)
                to_compare = []

    async def _reconcile(self, run_id: str, run: Run, jobs: Sequence[ScanJob]) -> None:
        listings = {
            job.grant.id: listing_of(
                job.grant.id,
                job.progress.scan_start or 0,
                job.sources,
                job.state.seen,
                job.state.refused,
            )
            for job in jobs
        }
        max_share = run.max_delete_share
        if max_share is None:
            max_share = self._defaults.max_delete_share
        results = await until_snapshot_read(
            partial(self._reconciler.apply, run_id, listings, max_share, dry_run=run.dry_run)
        )
        for job in jobs:
            result = results[job.grant.id]
            progress = replace(job.progress, deleted=result.deleted, offered=result.reoffered)
            await self._finish(job, progress, result.error)
            del job.state.seen[:]

    async def _close_gap(self, job: ScanJob) -> None:
        """Asks for a reconcile of a grant of which contacts may be missing, for a later time.

        One for all the backfills of a grant that end before it starts.
        """
        if not job.progress.gap or any(
            run.by == GAP and run.state is RunState.WAITING and run.grants == (job.grant.id,)
            for run in self._log.runs.values()
        ):
            return
        now = int(time.time())
        run = Run(
            RunKind.RECONCILE, (job.grant.id,), now, GAP, not_before=now + GAP_RECONCILE_SECONDS
        )
        await self._runs.request(run)

    async def _finish(self, job: ScanJob, progress: Progress, error: str = "") -> None:
        job.progress = replace(
            progress,
            state=RunState.FAILED if error else RunState.DONE,
            error=error or "; ".join(filter(None, (progress.incomplete, progress.gap))),
            updated_at=int(time.time()),
        )
        await self._runs.write_progress(job.run_id, {job.grant.id: job.progress})


async def _until_done(jobs: Sequence[ScanJob]) -> None:
    unfinished = [job.done for job in jobs if not job.done.done()]
    if unfinished:
        with waiting_on_purpose():
            await asyncio.wait(unfinished)
