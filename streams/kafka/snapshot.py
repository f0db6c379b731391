"""Reads a topic to its present end, without a consumer group.

So a compacted topic serves as a table, and a command reads what a topic holds.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from streams.kafka.clients import ErrorLog, client_config, helper_group
from streams.kafka.log_range import offset_range
from streams.kafka.polling import ConsumerErrors, EndOfPartition, poll
from streams.kafka.records import KafkaRecord
from streams.runtime.current_work import waiting_on_purpose
from streams.runtime.ops import WorkInFlight
from streams.settings import KafkaSettings

ResultT = TypeVar("ResultT")

# Without a record. A broker that restarts is back by then, and the caller starts again.
STALL_SECONDS = 60.0

# One request about a topic's partitions and offsets. A person may wait for it.
OFFSETS_REQUEST_SECONDS = 10.0

RECORDS_AT_ONCE = 500

# Between two batches of records of a reading by `Snapshots`, or for what is made of the last one.
# Without records it ends after STALL_SECONDS.
READING_SECONDS = 300.0

# How long the consumer waits for records. It waits that long once, at the end of the topic, where
# fewer than RECORDS_AT_ONCE are left.
RECORDS_WAIT_SECONDS = 0.2

# One answer of the broker, compressed as the records were written; a larger batch comes alone.
# Uncompressed it may be ten times as much.
FETCH_BYTES = 256 * 1024

# What is fetched ahead of the caller, besides the answer in flight.
AHEAD_KBYTES = 1024

# The same in records, because small records take several times their own size in memory.
AHEAD_RECORDS = 4 * RECORDS_AT_ONCE

# Until the client fetches again after it had enough ahead. By default a second, in which the caller
# has long finished what it had.
FETCH_AGAIN_MS = 10

# How long the broker waits for further records before it answers an empty fetch; by default half a
# second.
EMPTY_FETCH_MS = 10

_CONFIG: dict[str, str | int | bool] = {
    "enable.auto.commit": False,
    # For `last` greater than the log, or an offset that has expired.
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "fetch.message.max.bytes": FETCH_BYTES,
    "queued.max.messages.kbytes": AHEAD_KBYTES,
    "queued.min.messages": AHEAD_RECORDS,
    "fetch.queue.backoff.ms": FETCH_AGAIN_MS,
    "fetch.wait.max.ms": EMPTY_FETCH_MS,
}

# librdkafka's RD_KAFKA_OFFSET_TAIL_BASE: this less n means n records before the end.
OFFSET_TAIL = -2000


class SnapshotStalled(TimeoutError):
    """A topic was not read to its end in time; read it again from the start."""


class SnapshotStopped(Exception):
    """A reading was given up because nobody waits for it any more."""


def never() -> bool:
    """A stop flag that is never set, for callers that read to the end or not at all."""
    return False


@dataclass(frozen=True, slots=True)
class LogRange:
    """The offsets of a partition: the first that is kept, the end, and where reading may begin."""

    oldest: int
    start: int
    """Before it the broker has appended no record since the moment that was asked for."""
    end: int


def log_ranges(kafka: KafkaSettings, topic: str, since: float | None = None) -> dict[int, LogRange]:
    """By partition, its offsets now, and from which one on to read for `since` (epoch seconds).

    Blocks for a few requests. Raises KafkaException, also for a topic that does not exist.
    """
    consumer = _command_consumer(kafka)
    try:
        known = consumer.list_topics(topic, timeout=OFFSETS_REQUEST_SECONDS).topics[topic]
        if known.error is not None:
            raise KafkaException(known.error)
        marks = {
            partition: offset_range(
                consumer, TopicPartition(topic, partition), OFFSETS_REQUEST_SECONDS
            )
            for partition in sorted(known.partitions)
        }
        if since is None:
            starts = {partition: oldest for partition, (oldest, _) in marks.items()}
        else:
            starts = {
                each.partition: each.offset for each in _offsets_since(consumer, topic, since)[0]
            }
    finally:
        consumer.close()
    return {
        partition: LogRange(oldest, max(oldest, starts.get(partition, end)), end)
        for partition, (oldest, end) in marks.items()
    }


def read_ranges(
    kafka: KafkaSettings,
    topic: str,
    ranges: Mapping[int, tuple[int, int]],
    within: float | None = None,
) -> Generator[KafkaRecord, None, None]:
    """Yields the records of these offsets, by partition: from the first, before the second.

    Blocks. Raises what `read_to_end` raises with `since`.
    """
    consumer = _command_consumer(kafka)
    read = {partition: offsets for partition, offsets in ranges.items() if offsets[0] < offsets[1]}
    try:
        starts = [TopicPartition(topic, partition, start) for partition, (start, _) in read.items()]
        ends = {partition: end for partition, (_, end) in read.items()}
        for record in _read(
            consumer, topic, starts, ends, _raise, _Deadline(within, whole=False), never
        ):
            if record.offset < ends[record.partition]:
                yield record
    finally:
        consumer.close()


def _helper(kafka: KafkaSettings) -> dict[str, str]:
    return {"group.id": helper_group(kafka, "snapshot")}


def _command_consumer(kafka: KafkaSettings) -> Consumer:
    # Errors are raised, so librdkafka and its callback need not log them as well.
    quiet = {"log_level": 0, "error_cb": lambda _error: None}
    return Consumer(client_config(kafka) | _CONFIG | _helper(kafka) | quiet)


def read_to_end(
    kafka: KafkaSettings,
    topic: str,
    *,
    partition: int = 0,
    offset: int = 0,
    last: int | None = None,
    since: float | None = None,
    within: float | None = None,
    stopped: Callable[[], bool] = never,
) -> Generator[KafkaRecord, None, None]:
    """Yields a topic's records to its present end, those of a partition by their offsets. Blocks.

    A compacted topic may still yield older records of a key. Joins no group and commits nothing.

    By default it reads partition 0 from its start; `partition` names another one. `offset` starts
    there instead; `last` starts so many offsets before the end. `since` (epoch seconds) reads every
    partition, from a record before which the broker has appended none since then; earlier ones may
    be among them.

    Raises SnapshotStopped within RECORDS_WAIT_SECONDS once `stopped` says so.

    Raises SnapshotStalled when no record comes for STALL_SECONDS, or when the end is not reached
    `within` so many seconds. Raises KafkaException for an error that the client cannot recover
    from, and TopicReplaced when the topic is gone. With `since` it raises KafkaException for every
    error, also that the topic does not exist or that no broker answers: somebody waits for the
    result of a command.
    """
    if since is None:
        consumer = Consumer(client_config(kafka) | _CONFIG | _helper(kafka))
        on_error: Callable[[KafkaError], None] = ErrorLog()
    else:
        consumer = _command_consumer(kafka)
        on_error = _raise
    try:
        if since is None:
            start = offset if last is None else OFFSET_TAIL - last
            starts = [TopicPartition(topic, partition, start)]
            ends, whole = dict[int, int](), False
        else:
            starts, whole = _offsets_since(consumer, topic, since)
            ends = _ends(consumer, starts)
        yield from _read(consumer, topic, starts, ends, on_error, _Deadline(within, whole), stopped)
    finally:
        consumer.close()


def _read(
    consumer: Consumer,
    topic: str,
    starts: list[TopicPartition],
    ends: dict[int, int],
    on_error: Callable[[KafkaError], None],
    deadline: "_Deadline",
    stopped: Callable[[], bool],
) -> Iterator[KafkaRecord]:
    """Yields each partition's records up to its offset in `ends`, or else to its end."""
    errors = ConsumerErrors(on_error)
    heard = time.monotonic()
    consumer.assign(starts)
    unfinished = {start.partition for start in starts}
    while unfinished:
        for event in poll(consumer, RECORDS_AT_ONCE, RECORDS_WAIT_SECONDS, errors):
            if event.partition not in unfinished:
                continue
            if isinstance(event, EndOfPartition):
                unfinished.discard(event.partition)
            else:
                yield event
                end = ends.get(event.partition)
                if end is not None and event.offset + 1 >= end:
                    unfinished.discard(event.partition)
            if not unfinished:
                return
            # After the yield: a slow caller is no stall.
            heard = time.monotonic()
        if stopped():
            raise SnapshotStopped(topic)
        deadline.check(topic)
        if time.monotonic() - heard > STALL_SECONDS:
            raise SnapshotStalled(f"{topic}: no record for {STALL_SECONDS:.0f} s")


def _raise(error: KafkaError) -> None:
    raise KafkaException(error)


class _Deadline:
    """How long a reading may take, `within` seconds from now; None for no bound.

    `whole`: a partition is read from its start although only its end is asked for.
    """

    def __init__(self, within: float | None, whole: bool) -> None:
        self._within, self._whole = within, whole
        self._started = time.monotonic()

    def check(self, topic: str) -> None:
        """Raises SnapshotStalled when the time is over."""
        if self._within is None or time.monotonic() - self._started <= self._within:
            return
        reason = (
            "; it is read from its start, because its oldest records have the clocks of their "
            "producers (message.timestamp.type was CreateTime)"
        )
        raise SnapshotStalled(
            f"{topic} was not read to its end within {self._within:.0f} s"
            f"{reason if self._whole else ''}"
        )


def _offsets_since(
    consumer: Consumer, topic: str, since: float
) -> tuple[list[TopicPartition], bool]:
    """For each partition an offset before which no record was appended since `since`.

    Partitions without a record since then are left out. The second value is whether one is to be
    read from its start.

    This is the one place that searches by time. Kafka's search is binary: it skips records where
    timestamps go back. By LogAppendTime they do not, by the clocks of producers (CreateTime) they
    may; and a topic that was altered keeps the timestamps of its older records. So a partition is
    searched only if its oldest record has LogAppendTime, as all have where the topic had it from
    its creation. Any other is read from its start.
    """
    known = consumer.list_topics(topic, timeout=OFFSETS_REQUEST_SECONDS).topics[topic]
    if known.error is not None:
        raise KafkaException(known.error)
    searched = [each for each in known.partitions if _has_append_times(consumer, topic, each)]
    whole = [TopicPartition(topic, each, 0) for each in known.partitions if each not in searched]
    # A negative one would be a special timestamp of Kafka's protocol.
    at_ms = max(0, int(since * 1000))
    asked = [TopicPartition(topic, partition, at_ms) for partition in searched]
    found = consumer.offsets_for_times(asked, timeout=OFFSETS_REQUEST_SECONDS) if asked else []
    return [*(each for each in found if each.offset >= 0), *whole], bool(whole)


def _has_append_times(consumer: Consumer, topic: str, partition: int) -> bool:
    """Whether the oldest record of a partition has LogAppendTime; True without a record. Blocks.

    Raises KafkaException for an error, and SnapshotStalled without an answer in
    OFFSETS_REQUEST_SECONDS.
    """
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    for message in consumer.consume(1, OFFSETS_REQUEST_SECONDS):
        error = message.error()
        if error is None:
            return bool(message.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME)
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        return True
    raise SnapshotStalled(f"{topic}: no record for {OFFSETS_REQUEST_SECONDS:.0f} s")


def _ends(consumer: Consumer, partitions: list[TopicPartition]) -> dict[int, int]:
    """The present end offset of each partition, where reading ends although records still come."""
    ends = {}
    for each in partitions:
        _, ends[each.partition] = offset_range(consumer, each, OFFSETS_REQUEST_SECONDS)
    return ends


def _stepping(records: Iterator[KafkaRecord], work: WorkInFlight) -> Iterator[KafkaRecord]:
    """The same records; each RECORDS_AT_ONCE of them are a step of the work."""
    for number, record in enumerate(records):
        if number % RECORDS_AT_ONCE == 0:
            work.step()
        yield record


class Snapshots:
    """Reads topics to their end in a thread, one at a time however many callers there are.

    Each reading takes memory and a core. An asynchronous context manager. `in_flight` is the work
    that a reading is a piece of; its bound should be READING_SECONDS.
    """

    def __init__(self, kafka: KafkaSettings, in_flight: WorkInFlight | None = None) -> None:
        self._kafka = kafka
        self._thread = ThreadPoolExecutor(1, "snapshots")
        self._in_flight = in_flight or WorkInFlight("readings of a topic", READING_SECONDS)

    async def __aenter__(self) -> "Snapshots":
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(
        self,
        topic: str,
        function: Callable[[Iterator[KafkaRecord]], ResultT],
        offset: int = 0,
        partition: int = 0,
    ) -> ResultT:
        """Returns what `function` makes of the records of a partition from `offset` on.

        `function` runs in the thread and may leave records unread. When the task that waits is
        cancelled, the thread gives the reading up: the end of a large topic is minutes away, and
        the process could not end before. Raises SnapshotStalled and KafkaException as
        `read_to_end` does.
        """
        stopped = threading.Event()

        def work() -> ResultT:
            reading = read_to_end(
                self._kafka, topic, partition=partition, offset=offset, stopped=stopped.is_set
            )
            with closing(reading) as records, self._in_flight:
                return function(_stepping(records, self._in_flight))

        try:
            with waiting_on_purpose():  # the reading is watched by itself
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            stopped.set()
