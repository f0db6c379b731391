"""The sink's loop: takes changes, starts batches, commits the offsets of what is finished.

The promise depends on this order:

1. A batch is taken out of the pending changes: each contact once, at its highest version
   (`batching`).
2. `Sync` looks up who is in the org and writes what differs. Every row gets its own outcome.
3. The broker commits the outcomes, or the dead letters, in a transaction of the process that has
   the partition (`batch_runner`, `streams.kafka.transactions`).
4. Only then are the batch's offsets finished, and the end of the unbroken run of finished offsets
   is committed.

A crash between any two steps repeats work, which the org answers with `unchanged`. A fault of the
whole org finishes nothing: the batch waits again and the consumer is paused, still a member of its
group (`circuit_breaker`). A contact that breaks every call that it is in looks the same at first:
after some failures for one reason, other contacts go first. If those are written, the batch is
split (`retry_policy`). Too many contacts that fail for one reason stop bulk runs, or all writing,
until an operator releases the breaker (`failure_breakers`). A person can pause all writing
(`writing_stops`). One replica works, a second one is a
hot standby: what is known of the partition is an `Assignment`, which ends when the partition goes.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from math import inf
from typing import Any, Protocol

import structlog

from connectors.salesforce.sync import Sync
from streams.kafka.polling import EndOfPartition
from streams.kafka.records import KafkaRecord
from streams.runtime.exit_codes import ExitCode
from streams.settings import SinkSettings
from streams.sink.assignment import Assignment, CurrentAssignment
from streams.sink.batch import Batch
from streams.sink.batch_runner import BatchRunner
from streams.sink.batching import (
    NO_COMPLETE_RUNS,
    CompleteRuns,
    PendingChange,
    claims_of,
    is_small_live_batch,
)
from streams.sink.breaker_keeper import BreakerKeeper
from streams.sink.circuit_breaker import CircuitBreaker
from streams.sink.consumer import POLL_BYTES, POLL_RECORDS, Room, SinkConsumer
from streams.sink.fence import WriteFence
from streams.sink.intake import Intake
from streams.sink.memory_use import unparsed_bytes
from streams.sink.outcomes import HELD_SECONDS
from streams.sink.parts import KafkaEnds, Predecessor, Telemetry, WriteGuards
from streams.sink.rebalance import RebalanceListener
from streams.sink.running_tasks import RunningTasks, TaskLoad
from streams.sink.stopping import Stop, StopRequest
from streams.sink.write_limits import WriteLimits
from streams.sink.writing_stops import WritingStops

log = structlog.get_logger()

# For batches in flight at SIGTERM: two calls of the org; under Kubernetes' usual 30 s of grace.
STOP_SECONDS = 20.0
# For the group to take the last commit. It assigns anew within a heartbeat of its members.
LAST_COMMIT_SECONDS = 5.0
# What is read while nothing of it is kept, and what is asked for while nothing may come.
FULL_ROOM, NO_ROOM = Room(POLL_RECORDS, POLL_BYTES), Room(1, 1)
# Between two looks whether bulk runs may go on: at the next day, which nobody waits for in seconds.
BULK_WAIT_SECONDS = 60.0
# A commit that takes longer is no sign of a hanging loop; see `Sink._while_beating`.
COMMIT_BEAT_SECONDS = 0.5


class Keeper(Protocol):
    """What is done now and then while the partition is assigned, beside the batches."""

    async def run(self, current: CurrentAssignment, fence: WriteFence) -> None:
        """Works until it is cancelled."""
        ...


class Sink:
    """One consumer, the batches in flight, and the changes that wait."""

    def __init__(
        self,
        org: Sync,
        kafka: KafkaEnds,
        settings: SinkSettings,
        telemetry: Telemetry,
        guards: WriteGuards,
        before: Predecessor,
        keepers: Sequence[Keeper] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keepers` do something now and then while the partition is assigned to this process."""
        metrics, names = telemetry.metrics, kafka.names
        self._settings = settings
        self._telemetry = telemetry
        self._guards = guards
        self._clock = clock
        self._stop = StopRequest()
        self._breaker = CircuitBreaker(clock)
        self._in_flight = RunningTasks(self._stop)
        self._stops = WritingStops(guards.failures)
        self._breaker_keeper = BreakerKeeper(
            self._stops, kafka.control, self._breaker, metrics, telemetry.health
        )
        recall = partial(_recall, org, self._breaker_keeper, guards.limits, before)
        self._current = CurrentAssignment(before.deleted, recall, self._stop, metrics, clock)
        deleted = before.deleted_records
        self._keepers = [*keepers] if deleted is None else [deleted, *keepers]
        self._publisher = kafka.publisher
        self._org = org
        self._consumer = SinkConsumer(
            kafka.consumer,
            names.changes.name,
            guards.fence,
            self._stop,
            metrics,
            kafka.topic_id,
            clock,
            guards.limits.own_calls,
        )
        self._intake = Intake(org, settings, metrics)
        metrics.oldest_unfinished.set_function(self._oldest_unfinished)
        self._runner = BatchRunner(org, kafka, telemetry, guards, self._breaker, self._stop, clock)

    def stop(self, reason: str, status: int = 0) -> None:
        """Ends `run` once the batches in flight have ended, or after STOP_SECONDS."""
        self._stop.request(reason, status)

    @property
    def is_writer(self) -> bool:
        """Whether the partition is assigned to this process."""
        return self._current.assignment is not None

    @property
    def in_flight(self) -> int:
        """Batches, and records on their way to the dead letters, that have not ended."""
        return len(self._in_flight)

    async def run(self) -> Stop:
        """Works until `stop`, or until a fault that only a restart or an operator can mend.

        Closes the consumer. Raises OffsetOutOfRange.
        """
        listener = RebalanceListener(
            self._consumer,
            self._current,
            self._publisher,
            self._in_flight,
            self._breaker,
            self._telemetry.health,
            self._stop,
            self._org.unanswered,
        )
        self._consumer.subscribe(listener)
        keeping = self._start_keeping()
        following = self._start_following()
        self._telemetry.health.ready()
        while self._stop.stop is None:
            self._take(await self._poll())
            await self._announce_calls()
            await self._start_batches()
            await self._commit()
            self._report()
        for task in (*keeping, following):
            task.cancel()
        await self._in_flight.wait(STOP_SECONDS)
        await self._commit()
        await self._say_that_calls_ended()
        await self._consumer.close()
        self._in_flight.cancel()
        return self._stop.stop

    async def _say_that_calls_ended(self) -> None:
        """Before the process leaves its group: otherwise its successor waits for ten minutes.

        While a group assigns anew, as in a rolling update, it refuses commits until the next poll.
        """
        ends = self._clock() + LAST_COMMIT_SECONDS
        while (assignment := self._current.assignment) is not None and assignment.calls_announced:
            if len(self._in_flight) or self._org.unanswered.remaining:
                return
            if await self._consumer.end_calls(assignment) or self._clock() >= ends:
                return
            await self._consumer.poll(assignment, NO_ROOM, paused=True)

    def _oldest_unfinished(self) -> float:
        """For the metric, in any thread."""
        assignment = self._current.assignment
        return time.time() if assignment is None else assignment.tracker.received.oldest_seconds()

    def _start_keeping(self) -> list[asyncio.Task[None]]:
        tasks = [
            asyncio.create_task(one.run(self._current, self._consumer.fence))
            for one in self._keepers
        ]
        for task in tasks:
            task.add_done_callback(self._stop.request_if_failed)
        return tasks

    def _start_following(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._breaker_keeper.follow(self._stop))
        task.add_done_callback(self._stop.request_if_failed)
        return task

    async def _poll(self) -> list[KafkaRecord | EndOfPartition]:
        assignment = self._current.assignment
        if assignment is None or assignment.surveying:
            return await self._consumer.poll(assignment, FULL_ROOM, paused=False)
        room = self._intake.room(assignment, self._in_flight)
        # An org that is away is probed with a batch, so one has to be there.
        full = bool(
            room is None
            or assignment.held_unreadable
            or self._stops.nothing_is_written
            or (self._breaker.is_open and len(assignment.pending) >= self._settings.batch_size)
        )
        return await self._consumer.poll(assignment, room or NO_ROOM, paused=full)

    def _take(self, events: Sequence[KafkaRecord | EndOfPartition]) -> None:
        assignment = self._current.assignment
        if assignment is None:
            return  # revoked while the poll returned: the new owner reads these records
        if assignment.surveying:
            assignment.survey(events)
            return
        records = [event for event in events if isinstance(event, KafkaRecord)]
        assignment.held_unreadable += self._intake.take(assignment, records, self._clock())
        self._dead_letter_unreadable(assignment)
        if len(records) < len(events):
            for event in events:
                if isinstance(event, EndOfPartition):
                    assignment.reached_end(event.offset)

    def _dead_letter_unreadable(self, assignment: Assignment) -> None:
        """Records that hold no change go to the dead letters, unless all writing is stopped.

        Whether it is has to be known first. Nothing more is read until these have gone.
        """
        if not assignment.recalled or self._stops.nothing_is_written:
            return
        unreadable, assignment.held_unreadable = assignment.held_unreadable, []
        for record, error in unreadable:
            load = TaskLoad(rows=1, bytes=unparsed_bytes(record.value))
            self._in_flight.start(self._runner.dead_letter(assignment, record, error), load)

    async def _announce_calls(self) -> None:
        """Before the first call of an assignment: the group's commit says that calls may be open.

        The successor of a writer that was killed while it had calls waits from now on.
        """
        assignment = self._current.assignment
        if assignment is None or assignment.calls_announced:
            return
        if assignment.predecessor_may_have_calls:
            assignment.predecessor_may_have_calls = False
            self._org.unanswered.note()
            log.warning(
                "the last writer did not say that its calls were answered: records are neither "
                "released nor taken over for now",
                seconds=self._org.unanswered.remaining,
            )
        await self._while_beating(self._consumer.announce_calls(assignment))

    async def _start_batches(self) -> None:
        assignment = self._current.assignment
        if (
            assignment is None
            or not assignment.calls_announced
            or self._consumer.fence.in_doubt
            or not assignment.may_write
        ):
            return
        if self._consumer.own_calls.bulk_waits:
            assignment.pending.defer_bulk(self._clock() + BULK_WAIT_SECONDS)
        if not self._claims_are_complete(assignment):
            return
        while rows := self._next_batch(assignment):
            announced = await self._announced(assignment, rows)
            if not announced or self._stops.nothing_is_written:
                assignment.put_back(rows)
                return
            if is_small_live_batch(rows, self._settings.batch_size):
                self._guards.pace.started()
            batch = Batch(assignment, rows, self._consumer.fence.for_batch(assignment))
            if batch.is_suspected:
                self._runner.suspect_pace.started(self._clock())
            load = TaskLoad(claims_of(rows), len(rows), sum(row.size for row in rows))
            self._in_flight.start(self._runner.run(batch), load)

    def _claims_are_complete(self, assignment: Assignment) -> bool:
        """Whether all rows claim their Accounts.

        If not, the org is read as soon as there is a row, while others gather to a batch.
        """
        if assignment.claims_complete:
            return True
        if self._org.is_started:
            assignment.pending.claim_again(
                lambda row: self._intake.claims(row.for_sync(), row.record)
            )
            assignment.claims_complete = True
        elif assignment.pending.ready and not len(self._in_flight) and self._may_start_batch():
            fence = self._consumer.fence.for_batch(assignment)
            self._in_flight.start(self._runner.read_org(fence), TaskLoad())
        return assignment.claims_complete

    def _may_start_batch(self) -> bool:
        if self._stops.nothing_is_written:
            return False
        in_flight = len(self._in_flight)
        return in_flight < self._breaker.most_in_flight(in_flight, self._settings.in_flight)

    def _next_batch(self, assignment: Assignment) -> list[PendingChange]:
        """The rows of a batch that may start now; none if none may."""
        if not self._may_start_batch():
            return []
        in_flight = len(self._in_flight)
        # Large changes may fill the memory before they fill a batch.
        hurry = in_flight == 0 and self._intake.room(assignment, self._in_flight) is None
        now = self._clock()
        live_due_by = -inf
        if self._guards.pace.may_start:
            live_due_by = now - self._settings.linger if in_flight else now
        return assignment.pending.next_batch(
            self._in_flight.claimed,
            now,
            self._settings.batch_size,
            hurry=hurry,
            live_due_by=live_due_by,
            suspected=self._runner.suspect_pace.may_start(now),
            complete=self._complete_runs(assignment),
        )

    def _complete_runs(self, assignment: Assignment) -> CompleteRuns:
        """What the reader has said to be complete, once it was all read.

        A small rest waits for the batches in flight, and for the rows that such a batch left for
        the next one, so that whoever shares a person with one of them is in no batch of its own.
        """
        end = self._stops.failures.table.runs_complete_to
        if assignment.progress.read_up_to < end:
            return NO_COMPLETE_RUNS
        fewest = self._settings.batch_size // 2 if len(self._in_flight) else 1
        return CompleteRuns(end, fewest, HELD_SECONDS)

    async def _announced(self, assignment: Assignment, rows: Sequence[PendingChange]) -> bool:
        """Whether the group's commit says that these rows may be written; says it first."""

        def said() -> bool:
            return all(row.record.offset < assignment.announced_to for row in rows)

        if not said():
            await self._while_beating(self._consumer.announce_calls(assignment))
        return said()

    async def _commit(self) -> None:
        assignment = self._current.assignment
        offset = assignment.tracker.committable() if assignment is not None else None
        if assignment is None or offset is None or offset == assignment.committed:
            return
        await self._while_beating(self._consumer.commit(assignment, offset))
        if offset == assignment.committed:
            assignment.tracker.committed(offset)

    async def _while_beating(self, commit: Coroutine[Any, Any, None]) -> None:
        """Waits for a commit. A broker that does not answer holds it for minutes.

        No restart heals that, so that the sink stays alive meanwhile.
        """
        committing = asyncio.ensure_future(commit)
        while not (await asyncio.wait({committing}, timeout=COMMIT_BEAT_SECONDS))[0]:
            self._telemetry.health.beat()
        committing.result()

    def _report(self) -> None:
        if self._guards.guard is not None and (reason := self._guards.guard.refusal):
            self._stop.request(reason, ExitCode.ORG_CHANGED)
        assignment = self._current.assignment
        stalled = assignment is not None and assignment.progress.takes_nothing
        if not stalled or self._breaker.is_open:
            self._telemetry.health.beat()
        self._breaker_keeper.report(is_writer=assignment is not None)
        self._guards.limits.report(self._telemetry.metrics)
        unfinished = 0 if assignment is None else assignment.tracker.unfinished
        pending_bytes = 0 if assignment is None else assignment.pending.bytes
        self._telemetry.metrics.seconds_between.set(self._guards.pace.seconds_between)
        self._telemetry.metrics.unfinished_rows.set(unfinished)
        self._telemetry.metrics.held_bytes.set(pending_bytes + self._in_flight.bytes)


async def _recall(
    org: Sync, breaker_keeper: BreakerKeeper, limits: WriteLimits, before: Predecessor
) -> None:
    """Reads from Kafka what must be known before a write.

    That are breakers, the mode, what was written of the limits, who asked to be erased, the
    Accounts, and deletions in the org.
    """
    await breaker_keeper.load()
    limits.restore(await asyncio.to_thread(before.spent))
    await org.restore()
    if before.deleted_records is not None:
        await before.deleted_records.load()
