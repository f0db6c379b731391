"""Keeps what people deleted in Salesforce: reads the topic, sweeps the recycle bin once a day.

The order of a sweep: the org answers, the broker acknowledges what is new, the sink remembers it,
the broker acknowledges the cursor. A crash between any two repeats work. Only the writer of the org
sweeps, under the fence of its batches. What the topic holds was read before the first batch starts
(see `CurrentAssignment`), so the outcomes need not be read for it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import structlog
from confluent_kafka import KafkaException

from connectors.salesforce.api.errors import SalesforceError, WriterFenced
from connectors.salesforce.deleted_records import MAX_DELETED_RECORDS, DeletedRecords
from connectors.salesforce.sequences import batched
from connectors.salesforce.sync import Sync
from streams.kafka.publisher import PublishFailed, RecordPublisher
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled, read_to_end
from streams.metrics import SinkMetrics
from streams.settings import KafkaSettings
from streams.sink.assignment import CurrentAssignment
from streams.sink.deleted_topic import (
    CURSOR,
    Entry,
    Forgotten,
    SweepCursor,
    apply_entry,
    entries,
    entry_record,
)
from streams.sink.fence import BatchFence, WriteFence
from streams.sink.org_guard import OrgGuard
from streams.topics import Topics

log = structlog.get_logger()

# Between two looks at the topic for lifts. `contactstream deletions lift` names it.
LIFT_NOTICED_SECONDS = 60.0
# The recycle bin keeps a record for 15 days, so a day may fail and be made up for. One call a day.
SWEEP_SECONDS = 86_400
# After a sweep that failed.
SWEEP_RETRY_SECONDS = 900
# How long the recycle bin keeps a record. The first sweep of a deployment begins so far back.
RECYCLE_BIN_SECONDS = 15 * 86_400
# A sweep begins so much before the end of the last one: the org's clock may differ from ours, and a
# transaction may take ten minutes from its time stamp to its commit.
SWEEP_OVERLAP_SECONDS = 3_600
# A million deletions. The rest follows LIFT_NOTICED_SECONDS later.
MAX_STEPS_OF_A_SWEEP = 100
# For the topic to be read. It holds at most MAX_DELETED_RECORDS of 0.2 kB, and what compaction has
# not removed yet.
READ_SECONDS = 30.0
# Entries that are noted before the loop does other work; 5 ms.
ENTRIES_AT_ONCE = 500


class DeletedRecordsLog:
    """The topic as a table: what was read last, and the offset behind it. Blocks."""

    def __init__(self, kafka: KafkaSettings, names: Topics) -> None:
        self._kafka = kafka
        self._topic = names.deleted_records.name
        self._next_offset = 0

    def read_all(self) -> Iterator[KafkaRecord]:
        """All records of the topic. Raises SnapshotStalled, KafkaException."""
        self._next_offset = 0
        return self.read_new()

    def read_new(self) -> Iterator[KafkaRecord]:
        """The records since the last reading. Raises SnapshotStalled, KafkaException."""
        records = read_to_end(
            self._kafka, self._topic, offset=self._next_offset, within=READ_SECONDS
        )
        for record in records:
            self._next_offset = record.offset + 1
            yield record


class DeletionKeeper:
    """Keeps `Sync.deleted_records` in step with its topic and with the org's recycle bin."""

    def __init__(
        self,
        org: Sync,
        publisher: RecordPublisher,
        names: Topics,
        metrics: SinkMetrics,
        topic: DeletedRecordsLog,
        clock: Callable[[], float] = time.time,
        guard: OrgGuard | None = None,
    ) -> None:
        """`clock` in epoch seconds. `guard` keeps to one org; without one any will do."""
        self._org = org
        self._publisher = publisher
        self._names = names
        self._metrics = metrics
        self._topic = topic
        self._clock = clock
        self._guard = guard
        self._cursor: SweepCursor | None = None
        self._failed_at: float | None = None

    async def load(self) -> None:
        """Reads the whole topic, before this sink writes. Raises SnapshotStalled, KafkaException.

        A thread reads it. What was known before serves until then.
        """
        read, self._cursor = await asyncio.to_thread(self._read)
        self._org.deleted_records.take_over(read)
        self._report(read.forgotten)

    def _read(self) -> tuple[DeletedRecords, SweepCursor | None]:
        read, cursor = DeletedRecords(), None
        # until the topic has one, the salt of this process counts, which the first sweep writes
        read.salt = self._org.deleted_records.salt
        for entry in entries(self._topic.read_all()):
            if isinstance(entry, SweepCursor):
                cursor = entry
            elif entry == Forgotten(CURSOR):
                cursor = None
            apply_entry(entry, read)
        return read, cursor

    async def run(self, current: CurrentAssignment, fence: WriteFence) -> None:
        """Follows the topic and sweeps while this sink is the writer. Ends by cancellation."""
        while True:
            await asyncio.sleep(LIFT_NOTICED_SECONDS)
            assignment = current.assignment
            if assignment is not None and assignment.recalled:
                await self.keep(fence.for_batch(assignment))

    async def keep(self, fence: BatchFence) -> None:
        """Notes what others wrote to the topic, and sweeps if that is due. Faults are logged."""
        try:
            await self._follow()
            if self._due():
                if self._guard is not None:
                    await self._guard.confirm(self._org.org_id, fence)
                await self._sweep(fence)
                self._failed_at = None
        except WriterFenced as error:
            log.warning("a sweep of the recycle bin ended at its write fence", error=str(error))
        except (SalesforceError, PublishFailed, SnapshotStalled, KafkaException) as error:
            self._failed_at = self._clock()
            self._metrics.sweeps.labels("failed").inc()
            log.warning(
                "could not keep what was deleted in Salesforce; it is tried again",
                error=str(error),
                in_seconds=SWEEP_RETRY_SECONDS,
            )

    async def _follow(self) -> None:
        found = await asyncio.to_thread(lambda: list(entries(self._topic.read_new())))
        for part in batched(found, ENTRIES_AT_ONCE):
            self._note(part)
            await asyncio.sleep(0)

    def _note(self, noted: Iterable[Entry]) -> list[Entry]:
        """Takes entries over; returns what follows from them for the topic."""
        known = self._org.deleted_records
        keys = [key for entry in noted if (key := apply_entry(entry, known)) is not None]
        self._report(len(keys))
        return [Forgotten(key) for key in keys]

    def _report(self, forgotten: int) -> None:
        self._metrics.deleted_records.set(len(self._org.deleted_records))
        if forgotten:
            self._metrics.deleted_records_forgotten.inc(forgotten)
            log.warning(
                "the oldest deletions in Salesforce were forgotten; their contacts may be created "
                "again",
                forgotten=forgotten,
                remembered_at_most=MAX_DELETED_RECORDS,
            )

    def _due(self) -> bool:
        now = self._clock()
        if self._failed_at is not None and now - self._failed_at < SWEEP_RETRY_SECONDS:
            return False
        return self._cursor is None or now - self._cursor.swept_at >= SWEEP_SECONDS

    async def _sweep(self, fence: BatchFence) -> None:
        cursor = self._cursor
        now = int(self._clock())
        if cursor is None:
            # the recycle bin answers for itself until the first sweep, a day later
            start = now - RECYCLE_BIN_SECONDS
            await self._publish([self._org.deleted_records.salt], fence)
            await self._move(SweepCursor(now, {"Contact": start, "Lead": start}), fence)
            return
        if now - cursor.swept_at > RECYCLE_BIN_SECONDS:
            log.warning(
                "the recycle bin was not read for longer than Salesforce keeps a record; contacts "
                "deleted in Salesforce meanwhile may be created again",
                days=(now - cursor.swept_at) // 86_400,
            )
        for _ in range(MAX_STEPS_OF_A_SWEEP):
            step = await self._org.sweep_deleted(cursor.read_up_to, fence)
            for part in batched(step.records, ENTRIES_AT_ONCE):
                await self._publish(part, fence)
                await self._publish(self._note(part), fence)
            if step.done:
                end = dict.fromkeys(step.read_up_to, now - SWEEP_OVERLAP_SECONDS)
                await self._move(SweepCursor(now, end), fence)
                self._metrics.sweeps.labels("done").inc()
                return
            cursor = replace(cursor, read_up_to=step.read_up_to)
            await self._move(cursor, fence)

    async def _move(self, cursor: SweepCursor, fence: BatchFence) -> None:
        await self._publish([cursor], fence)
        self._cursor = cursor

    async def _publish(self, published: Sequence[Entry], fence: BatchFence) -> None:
        if published:
            fence()
            await self._publisher.publish([entry_record(self._names, entry) for entry in published])
