"""The dedupe stage: drops events that change nothing, and forwards the others as changes.

The changes of a contact are forwarded in the order of their versions.

It works on one batch of one partition at a time, in this order: the broker acknowledges the records
that follow from the batch, then the table's changelog, then Faust acknowledges the batch, when the
agent asks for the next one. A crash between any two repeats work and loses none. An error in
between ends the process at once (`ExitCode` says why), because Faust acknowledges a batch also when
its agent fails.

Three fences keep a process from writing to a partition that may belong to another worker. Within
half of the session time-out it must not have been paused, and the group's coordinator must have
received its heartbeat (`HeartbeatFence`); and its producer drops a record that was not sent within
another half. While a broker's successor is elected, the worker waits and publishes the batch again.
"""

import asyncio
import time
from collections.abc import AsyncIterable, Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from streams.dedupe.faust_batches import BatchTable
from streams.dedupe.planner import Consumed, DedupePlan, DedupePlanner
from streams.dedupe.producer import AcknowledgedProducer
from streams.dedupe.versions import UnreadableState
from streams.metrics import DedupeMetrics
from streams.runtime.exit_codes import Die, ExitCode, die
from streams.runtime.logs import log_dead_letters, where
from streams.runtime.ops import WorkInFlight

log = structlog.get_logger()

# One step of a batch: the wait for the coordinator, the outputs, the changelog. Each waits for at
# most some ELECTION_SECONDS (streams/dedupe/fence.py); the rest is computing.
BATCH_SECONDS = 120.0


class Dedupe:
    """Works on the batches, in a thread of its own: the event loop goes on sending heartbeats."""

    def __init__(
        self,
        planner: DedupePlanner,
        producer: AcknowledgedProducer,
        table: BatchTable,
        changelog: str,
        metrics: DedupeMetrics,
        wait_until_heard: Callable[[], None],
        die: Die = die,
    ) -> None:
        self._planner = planner
        self._producer = producer
        self._table = table
        self._changelog = changelog
        self._metrics = metrics
        self._wait_until_heard = wait_until_heard
        self._die = die
        self._thread = ThreadPoolExecutor(1, "dedupe")
        self.in_flight = WorkInFlight("batches of events", BATCH_SECONDS)
        """For `Health.watch`."""

    async def agent(self, batches: AsyncIterable[list[Consumed]]) -> None:
        """The Faust agent. Never raises: Faust would acknowledge the batch."""
        loop = asyncio.get_running_loop()
        async for records in batches:
            try:
                with self.in_flight:
                    await loop.run_in_executor(self._thread, self.work, records)
            except UnreadableState as error:
                self._die(
                    ExitCode.UNREADABLE_STATE,
                    f"the table has an entry that cannot be read: {error}",
                )
            except BaseException as error:  # noqa: BLE001
                # Also a cancelled agent must not acknowledge its batch.
                self._die(ExitCode.UNEXPECTED_ERROR, where(error))

    def work(self, records: list[Consumed]) -> None:
        """Works on one batch of one partition until everything is acknowledged. Blocks."""
        partition = records[0].partition
        self._wait_until_heard()
        self.in_flight.step()
        plan = self._planner.plan(records, self._table.entries(partition), int(time.time()))
        self._producer.publish(plan.outputs)
        self.in_flight.step()
        self._producer.publish_to(self._changelog, partition, plan.changelog)
        self._table.remember(partition, plan.changelog)
        log_dead_letters(log, plan.unreadable)
        self._count(len(records), plan)

    def _count(self, records: int, plan: DedupePlan) -> None:
        metrics = self._metrics
        metrics.taken.inc(records)
        metrics.batch_records.observe(records)
        for kind, number in plan.forwarded.items():
            metrics.forwarded.labels(kind).inc(number)
        for reason, number in plan.dropped.items():
            metrics.dropped.labels(reason).inc(number)
        for reason, number in plan.refetch.items():
            metrics.refetch.labels(reason).inc(number)
        for reason, number in plan.dead_lettered.items():
            metrics.dead_lettered.labels(reason).inc(number)
        metrics.table_entries.set(self._table.size())
        metrics.last_processed.set_to_current_time()
