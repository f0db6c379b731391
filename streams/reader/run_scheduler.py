"""Starts, merges, cancels and forgets runs, and requests the reconciles that are due."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import structlog
from prometheus_client import Gauge

from streams.reader.run_executor import RunExecutor
from streams.reader.run_writer import RunWriter
from streams.reader.schedule import next_runs, reconcile_due, reconcile_owed
from streams.runs import FINAL, FINISHED_RUN_KEPT_SECONDS, Run, RunKind, RunLog, RunState
from streams.runtime.current_work import doing
from streams.runtime.ops import WorkInFlight
from streams.waves import waits_for_a_person

log = structlog.get_logger()

# Between two checks for requests. A person waits for a backfill to start.
REQUEST_CHECK_SECONDS = 0.1

# Runs in progress, beside a reconcile of everything and those whose grants Nylas does not answer
# for. Half as many keep the most address books busy that may be read at once (64); the others ask
# Nylas for their grant meanwhile. All further runs wait in reader.runs.
MAX_RUNS_AT_WORK = 128

# The same with the runs whose grants Nylas does not answer for. They wait for up to
# `scan.MAX_UNANSWERED_SECONDS` and take only memory. More would mean that Nylas is away.
MAX_RUNS_IN_PROGRESS = 2000


class RunScheduler:
    """Decides when runs start; `RunExecutor` carries them out.

    `run_log` is kept up to date by its owner, who reads reader.runs. A run is started once by this
    process, even while the topic still shows it as waiting.
    """

    def __init__(
        self,
        run_log: RunLog,
        runs: RunWriter,
        executor: RunExecutor,
        reconcile_every_seconds: float,
        work: WorkInFlight,
        in_progress: Gauge,
        on_all_ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_all_ended` is called when a run has ended, and no other publishes contacts."""
        self._log, self._runs, self._executor = run_log, runs, executor
        self._reconcile_every_seconds = reconcile_every_seconds
        self._work = work
        self._in_progress = in_progress
        self._on_all_ended = on_all_ended
        self._handled: set[str] = set()
        """IDs of runs that were started, merged or cancelled."""
        self._active: set[str] = set()
        """IDs of runs in progress."""
        self._started_at = time.time()

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._request_scheduled()
                await self._request_owed()
                await self._forget_old()
                await self._cancel_requested()
                await self._start_waiting(tasks)
                self._in_progress.set(len(self._active))
                await asyncio.sleep(REQUEST_CHECK_SECONDS)

    async def _request_scheduled(self) -> None:
        now, runs = time.time(), self._log.runs.values()
        since = min((run.requested_at for run in runs), default=self._started_at)
        if reconcile_due(runs, now, self._reconcile_every_seconds, since):
            run_id = await self._runs.request(Run(RunKind.RECONCILE, None, int(now), "schedule"))
            log.info("scheduled reconcile requested", run=run_id)

    async def _request_owed(self) -> None:
        gap_end_ms = self._log.heartbeats.gap_end_ms
        if gap_end_ms is None or not reconcile_owed(self._log.runs.values(), gap_end_ms):
            return
        # Not earlier than the end of the gap by the bridge's clock. If the clock of this process is
        # behind, a request at its own time would never make up for the gap.
        requested_at = max(int(time.time()), -(-gap_end_ms // 1000))
        run_id = await self._runs.request(Run(RunKind.RECONCILE, None, requested_at, "bridge"))
        log.warning(
            "no bridge took notifications for longer than Nylas retries; "
            "a reconcile of everything was requested",
            run=run_id,
        )

    async def _forget_old(self) -> None:
        for run_id in self._log.finished_before(time.time() - FINISHED_RUN_KEPT_SECONDS):
            await self._runs.erase(run_id)

    async def _cancel_requested(self) -> None:
        for run_id in list(self._log.cancelled):
            run = self._log.runs.get(run_id)
            if run is None or run.state in FINAL:
                continue
            if run_id in self._active:
                self._executor.cancel(run_id)
            elif run_id not in self._handled:
                self._handled.add(run_id)
                ended = await self._executor.end_cancelled(run_id, run)
                self._log.runs[run_id] = ended
                await self._runs.write(run_id, ended)

    async def _start_waiting(self, tasks: asyncio.TaskGroup) -> None:
        now = time.time()
        candidates = {
            run_id: run
            for run_id, run in self._log.runs.items()
            if run_id in self._active or (run_id not in self._handled and run.not_before <= now)
        }
        starts = next_runs(candidates, self._active, self._room())
        for run_id, started in starts.merged.items():
            self._handled.add(run_id)
            merged = replace(
                self._log.runs[run_id],
                state=RunState.MERGED,
                error=f"done by {started}",
                finished_at=int(time.time()),
            )
            await self._runs.write(run_id, merged)
        for run_id in starts.start:
            self._handled.add(run_id)
            self._active.add(run_id)
            tasks.create_task(self._execute(run_id, self._log.runs[run_id]))

    def _room(self) -> int:
        """How many more runs may start."""
        at_work = sum(not self._executor.unanswered(run_id) for run_id in self._active)
        return min(MAX_RUNS_AT_WORK - at_work, MAX_RUNS_IN_PROGRESS - len(self._active))

    def _publishing(self) -> list[str]:
        """The runs in progress that publish contacts; one that waits for a person does not."""
        log = self._log
        return [
            run_id
            for run_id in self._active
            if not waits_for_a_person(
                log.runs[run_id], log.progress(run_id), log.continued.get(run_id, 0)
            )
        ]

    async def _execute(self, run_id: str, run: Run) -> None:
        log.info("run started", run=run_id, kind=run.kind.value, by=run.by)
        with doing(self._work):
            ended = await self._executor.execute(run_id, run)
        await self._runs.write(run_id, ended)
        self._log.runs[run_id] = ended
        self._active.discard(run_id)
        if not self._publishing():
            self._on_all_ended()
        log.info("run ended", run=run_id, state=ended.state.value, error=ended.error)
