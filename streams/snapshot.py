"""A topic of one partition, read from its start to the end that it has now: how a compacted topic serves as a table."""

import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.events import Record
from streams.kafka import client_config
from streams.settings import KafkaSettings
from streams.topics import MAX_MESSAGE_BYTES

STALL_SECONDS = 60.0  # without a record: a broker that restarts is back by then, and the caller starts over
BATCH = 500
POLL_SECONDS = 0.2  # the client waits it out where fewer than BATCH records are left


class SnapshotStalled(RuntimeError):
    """The broker sent nothing for too long; read again from the start."""


def read_all(kafka: KafkaSettings, topic: str) -> Iterator[Record]:
    """Yields the records of partition 0 in order, older ones of a key included where compaction has not been. Blocks.

    Joins no group and commits nothing. Raises SnapshotStalled, and KafkaException for what the client calls fatal.
    """
    consumer = Consumer(
        client_config(kafka)
        | {
            "group.id": "contactstream-snapshot",  # demanded by the client, never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
            "queued.max.messages.kbytes": 16_384,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        last = time.monotonic()
        while True:
            for message in consumer.consume(BATCH, POLL_SECONDS):
                error = message.error()
                if error is None:
                    yield to_record(message)
                    last = time.monotonic()  # after the yield: a slow reader is no stall
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif error.fatal():
                    raise KafkaException(error)
            if time.monotonic() - last > STALL_SECONDS:
                raise SnapshotStalled(f"{topic}: no record for {STALL_SECONDS:.0f} s")
    finally:
        consumer.close()


def to_record(message: Message) -> Record:
    """A message of the client in our own words."""
    headers = message.headers() or []
    partition, offset = message.partition(), message.offset()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Record(
        topic=message.topic() or "",
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=[(name, _bytes(value) or b"") for name, value in pairs],
        partition=-1 if partition is None else partition,
        offset=-1 if offset is None else offset,
        timestamp_ms=message.timestamp()[1],
    )


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
