"""Runs from their request to their end: started, merged, cancelled and forgotten."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

from prometheus_client import CollectorRegistry

from streams.kafka.records import KafkaRecord
from streams.metrics import ReaderMetrics
from streams.reader.run_executor import RunExecutor
from streams.reader.run_scheduler import RunScheduler
from streams.reader.run_writer import RunWriter
from streams.reader.work import ReaderWork
from streams.runs import FINISHED_RUN_KEPT_SECONDS, Progress, Run, RunKind, RunLog, RunState
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.waiting import until

TOPICS = topics(load(KafkaSettings, {}))
EVERYTHING = Run(RunKind.RECONCILE, None, 100, "schedule")
BACKFILL = Run(RunKind.BACKFILL, ("g1",), 100, "command")


class FakeExecutor:
    """Notes the runs; each ends when the test says so."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.may_end = asyncio.Event()
        self.ends: set[str] = set()
        """Runs that end at once."""

    async def execute(self, run_id: str, run: Run) -> Run:
        self.started.append(run_id)
        if run_id not in self.ends:
            await self.may_end.wait()
        return replace(run, state=RunState.DONE)

    def cancel(self, run_id: str) -> None:
        self.cancelled.append(run_id)

    def unanswered(self, run_id: str) -> bool:
        return False

    async def end_cancelled(self, run_id: str, run: Run) -> Run:
        self.cancelled.append(run_id)
        return replace(run, state=RunState.CANCELLED)


class Harness:
    """A scheduler whose writes come back through the run log, as from the topic."""

    def __init__(self, every_seconds: float = 0.0) -> None:
        self.log, self.executor = RunLog(), FakeExecutor()
        self.all_ended = 0
        """How often the last run at work ended."""
        self.registry = CollectorRegistry()
        self.metrics = ReaderMetrics(self.registry)

        async def publish(records: Sequence[KafkaRecord]) -> None:
            for record in records:
                self.log.apply(record.key or b"", record.value)

        self.runs = RunWriter(self.log, publish, TOPICS)
        self.scheduler = RunScheduler(
            self.log,
            self.runs,
            cast(RunExecutor, self.executor),
            every_seconds,
            ReaderWork().runs,
            self.metrics.runs_in_progress,
            self.note_all_ended,
        )

    def note_all_ended(self) -> None:
        self.all_ended += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.scheduler.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def in_progress(self) -> float | None:
        return self.registry.get_sample_value("contactstream_reader_runs_in_progress")

    async def until(self, condition: Callable[[], object]) -> None:
        await until(condition, "the scheduler does it", 10)


async def test_a_requested_run_is_started_once_and_written_when_it_ends() -> None:
    harness = Harness()
    run_id = await harness.runs.request(replace(BACKFILL, requested_at=int(time.time())))
    async with harness.running():
        await harness.until(lambda: harness.executor.started == [run_id])
        harness.executor.may_end.set()
        await harness.until(lambda: harness.log.runs[run_id].state is RunState.DONE)
    assert harness.executor.started == [run_id]


async def test_the_metric_says_how_many_runs_are_in_progress() -> None:
    harness = Harness()
    assert harness.in_progress() == 0
    harness.log.runs |= {"r1": BACKFILL, "r2": replace(BACKFILL, grants=("g2",))}
    async with harness.running():
        await harness.until(lambda: harness.in_progress() == 2)
        harness.executor.may_end.set()
        await harness.until(lambda: harness.in_progress() == 0)


async def test_the_end_of_the_last_run_at_work_is_reported_and_no_other() -> None:
    harness = Harness()
    other = replace(BACKFILL, grants=("g2",))
    harness.log.runs |= {"r1": BACKFILL, "r2": other, "r3": replace(other, grants=("g3",))}
    async with harness.running():
        await harness.until(lambda: len(harness.executor.started) == 3)
        assert harness.all_ended == 0
        harness.executor.may_end.set()
        await harness.until(lambda: harness.in_progress() == 0)
    assert harness.all_ended == 1


async def test_a_run_that_waits_for_a_person_holds_no_end_back() -> None:
    harness = Harness()
    waves = replace(BACKFILL, grants=("g2", "g3"), wave=1, state=RunState.RUNNING)
    harness.log.runs["waves"] = waves
    harness.log.grants["waves"] = {
        "g2": Progress(RunState.DONE),
        "g3": Progress(RunState.WAITING),
    }
    async with harness.running():
        await harness.until(lambda: harness.executor.started == ["waves"])
        harness.executor.ends = {"r1"}
        harness.log.runs["r1"] = BACKFILL
        await harness.until(lambda: harness.all_ended == 1)


async def test_an_event_that_is_handled_again_does_not_ask_for_a_second_run() -> None:
    harness = Harness()
    assert await harness.runs.request(BACKFILL, "r1") == "r1"
    await harness.runs.request(replace(BACKFILL, by="again"), "r1")
    assert harness.log.runs == {"r1": BACKFILL}


async def test_a_run_that_another_one_does_is_written_as_merged() -> None:
    harness = Harness()
    harness.log.runs |= {"r1": EVERYTHING, "r2": replace(EVERYTHING, requested_at=200)}
    async with harness.running():
        await harness.until(lambda: harness.log.runs["r1"].state is RunState.MERGED)
    assert harness.executor.started == ["r2"]
    assert harness.log.runs["r1"].error == "done by r2"


async def test_a_waiting_run_is_cancelled_at_once_and_a_running_one_by_the_executor() -> None:
    harness = Harness()
    harness.log.runs["r1"] = BACKFILL
    harness.log.runs["r2"] = replace(BACKFILL, not_before=int(time.time()) + 600)
    async with harness.running():
        await harness.until(lambda: harness.executor.started == ["r1"])
        harness.log.cancelled |= {"r1", "r2"}
        await harness.until(lambda: harness.log.runs["r2"].state is RunState.CANCELLED)
        assert set(harness.executor.cancelled) == {"r1", "r2"}
    assert harness.executor.started == ["r1"]


async def test_the_schedule_and_a_gap_of_the_bridges_ask_for_a_reconcile_of_everything() -> None:
    scheduled = Harness(every_seconds=0.01)
    async with scheduled.running():
        await scheduled.until(lambda: [run.by for run in scheduled.log.runs.values()])
    assert next(iter(scheduled.log.runs.values())).by == "schedule"
    owed = Harness()
    gap_end_ms = (int(time.time()) + 60) * 1000 + 1
    owed.log.heartbeats.gap_end_ms = gap_end_ms
    async with owed.running():
        await owed.until(lambda: owed.executor.started)
        await asyncio.sleep(0.5)
    (run,) = owed.log.runs.values()
    assert (run.by, run.reconciles_everything) == ("bridge", True)
    assert run.requested_at * 1000 >= gap_end_ms, "by the clock of the bridge"


async def test_an_old_finished_run_is_erased_from_the_topic() -> None:
    harness = Harness()
    old = int(time.time() - FINISHED_RUN_KEPT_SECONDS - 10)
    harness.log.runs["r1"] = replace(BACKFILL, state=RunState.DONE, finished_at=old)
    harness.log.cancelled.add("r1")
    async with harness.running():
        await harness.until(lambda: not harness.log.runs)
    assert harness.log.cancelled == set()
