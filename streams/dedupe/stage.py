"""The dedupe stage: drops the events that are no news and forwards the rest, each contact's in the
order of their versions.

One batch of one partition at a time, in this order: what follows from it is acknowledged by the
broker, then the table's changelog is, then the batch (when the agent asks for the next one). A
crash between any two repeats work and loses none. Whatever goes wrong in between ends the process
at once (`fences.Exit` says why), because Faust acknowledges what an agent gives up in good order.

Three fences keep a process from writing to a partition that may have a new owner: it must not have
stood still, and the group's coordinator must have heard of it, within half of the session time-out;
and nothing that it hands to its producer is sent after another half.
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

log = structlog.get_logger()


class Dedupe:
    """The work on one batch, in a thread of its own, so that the event loop goes on answering the
    group's coordinator.
    """

    def __init__(
        self,
        planner: DedupePlanner,
        writer: AcknowledgedProducer,
        table: BatchTable,
        changelog: str,
        metrics: DedupeMetrics,
        wait_until_heard: Callable[[], None],
        die: Die = die,
    ) -> None:
        self._planner, self._writer, self._table, self._changelog = (
            planner,
            writer,
            table,
            changelog,
        )
        self._metrics, self._wait_until_heard, self._die = metrics, wait_until_heard, die
        self._thread = ThreadPoolExecutor(1, "dedupe")

    async def agent(self, batches: AsyncIterable[list[Consumed]]) -> None:
        """The Faust agent. Never raises: Faust would count the batch as done."""
        loop = asyncio.get_running_loop()
        async for records in batches:
            try:
                await loop.run_in_executor(self._thread, self.work, records)
            except UnreadableState as error:
                self._die(ExitCode.UNREADABLE_STATE, f"an entry of the table: {error}")
            except BaseException as error:  # a cancelled agent must not acknowledge either
                self._die(ExitCode.UNEXPECTED_ERROR, repr(error))

    def work(self, records: list[Consumed]) -> None:
        """One batch of one partition, to the end."""
        partition = records[0].partition
        self._wait_until_heard()
        plan = self._planner.plan(records, self._table.entries(partition), int(time.time()))
        self._writer.publish(plan.outputs)
        self._writer.publish_to(self._changelog, partition, plan.entries)
        self._table.remember(partition, plan.entries)
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
