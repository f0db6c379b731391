"""The sink's Kafka consumer: polls, commits and checks the lag, all in one thread of its own."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.salesforce.api.own_calls import OwnCalls
from streams.kafka.clients import ErrorLog
from streams.kafka.polling import (
    ConsumerErrors,
    EndOfPartition,
    OffsetOutOfRange,
    TopicReplaced,
    poll,
)
from streams.kafka.records import KafkaRecord
from streams.kafka.topic_watch import commit_metadata
from streams.metrics import SinkMetrics
from streams.runtime.exit_codes import ExitCode
from streams.runtime.logs import place
from streams.sink.assignment import Assignment
from streams.sink.catch_up import written_note
from streams.sink.fence import WriteFence
from streams.sink.memory_use import LARGEST_ROW_BYTES, unparsed_bytes
from streams.sink.open_calls import CALLS_ENDED, CALLS_MAY_BE_OPEN
from streams.sink.stopping import StopRequest

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

# One poll: how late the loop can notice a finished batch while nothing arrives.
POLL_SECONDS = 0.05
# One poll: two batches, so that the next is ready when one goes.
POLL_RECORDS = 2000
# The same in bytes: these records are held twice for a moment.
POLL_BYTES = 32 * 2**20
# Between two checks of the lag.
LAG_SECONDS = 5.0
# For the broker to say where a paused partition ends: the poll waits for it.
LAG_REQUEST_SECONDS = 1.0


# One answer of the broker, compressed as the records were written; a larger batch comes alone. All
# of it is unpacked at once, and contacts may be packed to a hundredth.
FETCH_BYTES = 256 * 1024

# What librdkafka holds ready for a poll, unpacked; it stops fetching above that.
QUEUED_BYTES = 16 * 2**20

# With the answer that came last, unpacked to a hundred times FETCH_BYTES. One call of `consume`
# that does not wait returns no more than that.
MOST_QUEUED_BYTES = QUEUED_BYTES + 100 * FETCH_BYTES

# What the sink's consumer has beside `consumer_config`.
CONSUMER_CONFIG = {
    "enable.partition.eof": True,
    "fetch.message.max.bytes": FETCH_BYTES,
    "queued.max.messages.kbytes": QUEUED_BYTES // 1024,
}


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be read, in records and in the bytes that they take in memory."""

    records: int
    bytes: int


class StartOutOfRange(OffsetOutOfRange):
    """The group's commit is outside of the log; the message says what the operator has to do."""


class Rebalances(Protocol):
    """What librdkafka calls when partitions come and go; see `streams.sink.rebalance`."""

    def on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None: ...
    def on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None: ...
    def on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None: ...


class SinkConsumer:
    """A confluent-kafka consumer whose blocking calls run in one thread.

    One thread, so that rebalances, which librdkafka calls from inside of a poll, never run beside
    another call. The event loop waits meanwhile: it never starts two calls at once.
    """

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        fence: WriteFence,
        stop: StopRequest,
        metrics: SinkMetrics,
        topic_id: str,
        clock: Callable[[], float] = time.monotonic,
        own_calls: OwnCalls | None = None,
    ) -> None:
        """`topic_id` is noted with each commit; empty where the broker has no topic IDs.

        `own_calls` is noted too.
        """
        self.own_calls = own_calls or OwnCalls()
        self.fence = fence
        self.topic_id = topic_id
        self._consumer = consumer
        self._topic = topic
        self._stop = stop
        self._metrics = metrics
        self._clock = clock
        count = metrics.kafka_errors
        self._errors = ConsumerErrors(ErrorLog(lambda name: count.labels(name).inc()), clock)
        self._thread = ThreadPoolExecutor(1, "kafka")

    def subscribe(self, listener: Rebalances) -> None:
        """Joins the group. The callbacks of `listener` run in the Kafka thread, inside of polls."""
        self._consumer.subscribe(
            [self._topic],
            on_assign=listener.on_assign,
            on_revoke=listener.on_revoke,
            on_lost=listener.on_lost,
        )

    async def poll(
        self, assignment: Assignment | None, room: Room, *, paused: bool
    ) -> list[KafkaRecord | EndOfPartition]:
        """What arrives within POLL_SECONDS and fits in the `room`; of large records, one more.

        Nothing of a `paused` partition. An assignment whose first reading is over is read again
        from its start.

        An error that the client cannot recover from stops the sink. Raises OffsetOutOfRange.
        """
        return await self._call(lambda: self._poll(assignment, room, paused))

    async def commit(self, assignment: Assignment, offset: int) -> None:
        """See `commit_now`."""
        await self._call(lambda: self.commit_now(assignment, offset))

    async def announce_calls(self, assignment: Assignment) -> None:
        """Says in the group's commit that calls may be open, which may write all that was taken.

        Notes it in the assignment.
        """
        await self._call(lambda: self._announce_calls(assignment))

    async def end_calls(self, assignment: Assignment) -> bool:
        """Says in the group's commit that every call was answered; False if that was refused."""
        return await self._call(lambda: self._end_calls(assignment))

    async def close(self) -> None:
        """Leaves the group, which revokes the partition, and ends the thread."""
        await self._call(self._consumer.close)
        self._thread.shutdown()

    async def _call(self, function: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    # In the Kafka thread.

    def commit_now(
        self, assignment: Assignment, offset: int, calls: str = CALLS_MAY_BE_OPEN
    ) -> None:
        """Commits, and notes it in the assignment. Blocks; only for the Kafka thread.

        `calls` is what the commit says of the calls of the org.
        """
        repeated = offset == assignment.committed and calls == CALLS_MAY_BE_OPEN
        written_to = assignment.announced_to
        if (
            assignment.active
            and not repeated
            and self._committed(assignment, offset, calls, written_to)
        ):
            assignment.committed = offset

    def _announce_calls(self, assignment: Assignment) -> None:
        offset = assignment.committed_offset
        written_to = max(assignment.announced_to, assignment.tracker.position)
        if assignment.active and self._committed(assignment, offset, CALLS_MAY_BE_OPEN, written_to):
            assignment.announced_to = written_to
            assignment.calls_announced = True

    def _end_calls(self, assignment: Assignment) -> bool:
        offset = assignment.tracker.committable()
        offset = assignment.committed_offset if offset is None else offset
        return assignment.active and self._committed(
            assignment, offset, CALLS_ENDED, assignment.announced_to
        )

    def _committed(self, assignment: Assignment, offset: int, calls: str, written_to: int) -> bool:
        partition = assignment.partition
        own_calls = self.own_calls.note
        notes = (commit_metadata(self.topic_id), written_note(written_to), calls, own_calls)
        note = " ".join(filter(None, notes))
        where = TopicPartition(partition.topic, partition.partition, offset, note)
        try:
            self._consumer.commit(offsets=[where], asynchronous=False)
        except KafkaException as error:
            # The next round commits at least as far. If the partition is gone, its new owner
            # repeats what we did.
            log.warning("commit failed", error=error.args[0].name(), **place(where))
            return False
        return True

    def _poll(
        self, assignment: Assignment | None, room: Room, paused: bool
    ) -> list[KafkaRecord | EndOfPartition]:
        if assignment is not None and paused != assignment.paused:
            (self._consumer.pause if paused else self._consumer.resume)([assignment.partition])
            assignment.paused = paused
        if assignment is None:
            events = self._consume(1, POLL_SECONDS)
        elif assignment.rewind and not self._rewound(assignment):
            return []
        else:
            events = self._consume_within(assignment, room)
        self.fence.polled()
        if assignment is not None and assignment.active:
            self._check_lag(assignment)
        return events

    def _rewound(self, assignment: Assignment) -> bool:
        partition = assignment.partition
        start = TopicPartition(partition.topic, partition.partition, assignment.start_offset)
        try:
            self._consumer.seek(start)
        except KafkaException as error:
            log.warning("seek failed", error=error.args[0].name(), **place(start))
            time.sleep(POLL_SECONDS)
            return False
        assignment.rewind = False
        return True

    def _consume_within(
        self, assignment: Assignment, room: Room
    ) -> list[KafkaRecord | EndOfPartition]:
        """Consumes what is ready, in steps that fit in the room whatever its records' sizes are.

        While the room takes all that librdkafka holds ready, that is one step. Later the steps are
        as small as if all records were the largest.
        """
        events: list[KafkaRecord | EndOfPartition] = []
        records, left = min(POLL_RECORDS, room.records), room.bytes
        ends = time.monotonic() + POLL_SECONDS
        step, seconds = 1, POLL_SECONDS
        while True:
            found = self._consume(step, seconds)
            if not assignment.active:
                return found  # what came before belongs to an assignment that is gone
            events += found
            left -= sum(
                unparsed_bytes(event.value) for event in found if isinstance(event, KafkaRecord)
            )
            if len(found) < step or len(events) >= records or room.bytes - left >= POLL_BYTES:
                return events
            if left <= 0 or time.monotonic() > ends:
                return events
            fit = records if left >= MOST_QUEUED_BYTES else left // LARGEST_ROW_BYTES
            step, seconds = max(1, min(records - len(events), fit)), 0.0

    def _consume(self, limit: int, seconds: float) -> list[KafkaRecord | EndOfPartition]:
        try:
            return list(poll(self._consumer, limit, seconds, self._errors))
        except StartOutOfRange:
            raise
        except OffsetOutOfRange as error:
            raise OffsetOutOfRange(
                f"{error}. The position is outside of the log: changes expired unread, or the "
                "topic was deleted and created again. Run `contactstream reconcile --all`; the "
                "next start says to which offset to reset the group"
            ) from error
        except TopicReplaced as error:
            self._stop.request(str(error), ExitCode.TOPIC_REPLACED)
            return []
        except KafkaException as error:
            refusal: KafkaError = error.args[0]
            reason = f"kafka: {refusal.name()}: {refusal.str()}"
            self._stop.request(reason, ExitCode.KAFKA_REFUSED)
            return []

    def _check_lag(self, assignment: Assignment) -> None:
        progress, now = assignment.progress, self._clock()
        if now < progress.check_due:
            return
        progress.check_due = now + LAG_SECONDS
        idle = progress.read_up_to == progress.checked_up_to and len(assignment.tracker) == 0
        progress.checked_up_to, progress.takes_nothing = progress.read_up_to, False
        # Each fetch of a partition brings its end along. A partition that is paused, or hangs, is
        # not fetched: then the broker is asked.
        try:
            _, end = self._consumer.get_watermark_offsets(
                assignment.partition,
                timeout=LAG_REQUEST_SECONDS,
                cached=not assignment.paused and not idle,
            )
        except KafkaException:
            return  # the broker is away: others report it, and no restart heals it
        if end >= 0:
            progress.takes_nothing = idle and end > progress.read_up_to
            self._metrics.lag.set(max(0, end - assignment.committed_offset))
