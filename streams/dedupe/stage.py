"""The dedupe stage: drops events that change nothing, and forwards the others as changes.

The changes of a contact are forwarded in the order of their versions.

It publishes one batch of one partition at a time, in this order: the broker acknowledges the
records that follow from the batch, then the table's changelog, then the table remembers them, then
the agent acknowledges the batch. A crash between any two repeats work and loses none. An error in
between ends the process at once (`ExitCode` says why): the next batch is planned already, as if
this one stood in the table.

Meanwhile the next batch is planned, which is most of the computing: a thread that waits for the
broker leaves the processor to the other one. It is published when this one is acknowledged.

Three fences keep a process from writing to a partition that may belong to another worker. Within
half of the session time-out it must not have been paused, and the group's coordinator must have
received its heartbeat (`HeartbeatFence`); and its producer drops a record that was not sent within
another half. While a broker's successor is elected, the worker waits and publishes the batch again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

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

NOTHING_PENDING: tuple[int, Mapping[bytes, bytes | None]] = (-1, {})


class Pending(Mapping[bytes, bytes]):
    """The table as it will be once a batch is published: None ends an entry."""

    def __init__(self, pending: Mapping[bytes, bytes | None], table: Mapping[bytes, bytes]) -> None:
        self._pending, self._table = pending, table

    def get(self, key: bytes, default: Any = None) -> Any:
        """The entry of a key. Quick, because it is called for each event."""
        if key in self._pending:
            found = self._pending[key]
            return default if found is None else found
        return self._table.get(key, default)

    def __getitem__(self, key: bytes) -> bytes:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return bytes(found)

    def __iter__(self) -> Iterator[bytes]:
        return (key for key in {**self._table, **self._pending} if key in self)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self.get(key) is not None

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Batches(Protocol):
    """Faust's stream of batches, of one partition each, which the agent acknowledges itself."""

    enable_acks: bool
    current_event: Any

    def __aiter__(self) -> AsyncIterator[list[Consumed]]: ...


class Dedupe:
    """Works on the batches, in two threads: the event loop goes on sending heartbeats.

    One plans a batch while the other publishes the one before.
    """

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
        self._planning = ThreadPoolExecutor(1, "dedupe-plan")
        self._publishing = ThreadPoolExecutor(1, "dedupe-publish")
        # The batch that is being published: its partition and its entries.
        self._pending: tuple[int, Mapping[bytes, bytes | None]] = NOTHING_PENDING
        self.in_flight = WorkInFlight("batches of events", BATCH_SECONDS)
        """For `Health.watch`."""

    async def agent(self, batches: Batches) -> None:
        """The Faust agent. Acknowledges each batch once it is published, and never raises.

        An error ends the process.
        """
        batches.enable_acks = False  # Faust would acknowledge when the agent asks for the next one
        loop = asyncio.get_running_loop()
        before: asyncio.Task[None] | None = None
        async for records in batches:
            event = batches.current_event
            self.in_flight.begin()
            with self._dying():
                plan = await loop.run_in_executor(self._planning, self.plan, records)
                if before is not None:
                    await before
            self._pending = (records[0].partition, plan.changelog)
            before = asyncio.create_task(self._published(event, records, plan))

    async def _published(self, event: Any, records: list[Consumed], plan: DedupePlan) -> None:
        """Publishes a batch and acknowledges it."""
        with self._dying():
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._publishing, self.publish, records, plan)
            event.ack()
            self.in_flight.end()

    @contextmanager
    def _dying(self) -> Iterator[None]:
        """Ends the process by whatever is raised inside of the block, also a cancellation."""
        try:
            yield
        except UnreadableState as error:
            reason = f"the table has an entry that cannot be read: {error}"
            self._die(ExitCode.UNREADABLE_STATE, reason)
        except BaseException as error:  # noqa: BLE001  the thread must not end without a word
            self._die(ExitCode.UNEXPECTED_ERROR, where(error))

    def plan(self, records: list[Consumed]) -> DedupePlan:
        """Plans a batch of one partition, also while the one before is being published."""
        partition = records[0].partition
        entries = self._table.entries(partition)
        pending_partition, pending = self._pending
        if pending_partition == partition:
            entries = Pending(pending, entries)
        return self._planner.plan(records, entries, int(time.time()))

    def publish(self, records: list[Consumed], plan: DedupePlan) -> None:
        """Publishes what was planned for a batch, until everything is acknowledged. Blocks."""
        partition = records[0].partition
        self._wait_until_heard()
        self.in_flight.step()
        self._producer.publish(plan.outputs)
        self.in_flight.step()
        self._producer.publish_to(self._changelog, partition, plan.changelog)
        self._table.remember(partition, plan.changelog)
        self._pending = NOTHING_PENDING  # another worker may write entries before it is ours again
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
