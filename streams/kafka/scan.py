"""Looks through every record of a topic for a few, quickly: for a command that a person waits for.

Thousands of records are looked at together, as the client library holds them. Only what is wanted
becomes a KafkaRecord.
"""

import time
from collections.abc import Callable, Generator, Iterable, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.kafka.clients import client_config, helper_group
from streams.kafka.log_range import offset_range
from streams.kafka.records import KafkaRecord, to_record
from streams.kafka.snapshot import OFFSETS_REQUEST_SECONDS, STALL_SECONDS, SnapshotStalled
from streams.settings import KafkaSettings

Wanted = Callable[[Sequence[bytes | None], Sequence[bytes | None]], Iterable[int]]
"""The places of the wanted records, given the keys and the values of some records."""

# Taken from the client at once, and so the most that is held beside what it has fetched ahead.
RECORDS_AT_ONCE = 10_000

# The wait for the first of them.
RECORDS_WAIT_SECONDS = 0.2

_CONFIG: dict[str, str | int | bool] = {
    "enable.auto.commit": False,
    # For a start that has expired since it was asked for.
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    # Much in flight, because the search waits for nothing else: the next records are there while
    # these are looked at. Of each partition so much, and the records of one answer, uncompressed.
    "fetch.message.max.bytes": 4 * 1024 * 1024,
    "fetch.max.bytes": 16 * 1024 * 1024,
    "queued.max.messages.kbytes": 16 * 1024,
    "queued.min.messages": 100_000,
    "fetch.queue.backoff.ms": 10,
    "fetch.wait.max.ms": 10,
    "log_level": 0,  # errors are raised
}


def scan(
    kafka: KafkaSettings,
    topic: str,
    wanted: Wanted,
    count: Callable[[int], None],
    within: float,
) -> Generator[KafkaRecord, None, None]:
    """Yields the wanted records, and of each partition the oldest one in any case.

    Reads every partition from its start until its end is reached, which moves on while it is
    written to. `count` is called with the number of records looked at since the last call. Blocks;
    joins no group and commits nothing.

    Raises SnapshotStalled when no record comes for STALL_SECONDS, or when the end is not reached
    `within` so many seconds, and KafkaException for every other error.
    """
    helper = {"group.id": helper_group(kafka, "scan")}
    quiet = {"error_cb": lambda _error: None}
    consumer = Consumer(client_config(kafka) | _CONFIG | helper | quiet)
    try:
        partitions = _assign(consumer, topic)
        yield from _scan(consumer, topic, partitions, wanted, count, within)
    finally:
        consumer.close()


def _assign(consumer: Consumer, topic: str) -> set[int]:
    """Assigns every partition that has records, from its start; returns them."""
    known = consumer.list_topics(topic, timeout=OFFSETS_REQUEST_SECONDS).topics[topic]
    if known.error is not None:
        raise KafkaException(known.error)
    starts = []
    for partition in known.partitions:
        first, end = offset_range(
            consumer, TopicPartition(topic, partition), OFFSETS_REQUEST_SECONDS
        )
        if first < end:
            starts.append(TopicPartition(topic, partition, first))
    consumer.assign(starts)
    return {start.partition for start in starts}


def _scan(
    consumer: Consumer,
    topic: str,
    partitions: set[int],
    wanted: Wanted,
    count: Callable[[int], None],
    within: float,
) -> Generator[KafkaRecord, None, None]:
    unfinished, unseen = {*partitions}, {*partitions}
    began = heard = time.monotonic()
    while unfinished:
        messages = consumer.consume(RECORDS_AT_ONCE, RECORDS_WAIT_SECONDS)
        records = [message for message in messages if message.error() is None]
        if len(records) < len(messages):
            unfinished -= _ended(messages)
        yield from map(to_record, _chosen(records, wanted, unseen))
        count(len(records))
        now = time.monotonic()
        heard = now if messages else heard
        if now - heard > STALL_SECONDS:
            raise SnapshotStalled(f"{topic}: no record for {STALL_SECONDS:.0f} s")
        if unfinished and now - began > within:
            raise SnapshotStalled(f"{topic} was not read to its end within {within:.0f} s")


def _chosen(records: Sequence[Message], wanted: Wanted, unseen: set[int]) -> Iterable[Message]:
    """The wanted records, and the first of each partition that was not seen yet, in their order."""
    keys = [message.key() for message in records]
    values = [message.value() for message in records]
    places = {*wanted(keys, values)}
    for place, message in enumerate(records) if unseen else ():
        if (partition := message.partition()) in unseen:
            unseen.discard(partition)
            places.add(place)
    return [records[place] for place in sorted(places)]


def _ended(messages: Iterable[Message]) -> set[int]:
    """The partitions whose end was reached. Raises KafkaException for any other error."""
    ended = set()
    for message in messages:
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            ended.add(message.partition() or 0)
    return ended
