"""A topic of one partition, read to the end that it has now: how a compacted topic serves as a table."""

import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from streams.events import Record
from streams.kafka import client_config, to_record
from streams.settings import KafkaSettings
from streams.topics import MAX_MESSAGE_BYTES

STALL_SECONDS = 60.0  # without a record: a broker that restarts is back by then, and the caller starts over
BATCH = 500
POLL_SECONDS = 0.2  # the client waits it out where fewer than BATCH records are left
OFFSET_TAIL = -2000  # librdkafka's RD_KAFKA_OFFSET_TAIL_BASE: less n, it starts n records before the end


class SnapshotStalled(RuntimeError):
    """The broker sent nothing for too long; read again from the start."""


def read_all(kafka: KafkaSettings, topic: str, last: int | None = None) -> Iterator[Record]:
    """Yields the records of partition 0 in order, older ones of a key included where compaction has not been. Blocks.

    From the start; with `last` only those of the last so many offsets. Joins no group and commits nothing. Raises SnapshotStalled, and
    KafkaException for what the client calls fatal.
    """
    consumer = Consumer(
        client_config(kafka)
        | {
            "group.id": "contactstream-snapshot",  # demanded by the client, never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # a tail longer than the log
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
            "queued.max.messages.kbytes": 16_384,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING if last is None else OFFSET_TAIL - last)])
        heard = time.monotonic()
        while True:
            for message in consumer.consume(BATCH, POLL_SECONDS):
                error = message.error()
                if error is None:
                    yield to_record(message)
                    heard = time.monotonic()  # after the yield: a slow reader is no stall
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif error.fatal():
                    raise KafkaException(error)
            if time.monotonic() - heard > STALL_SECONDS:
                raise SnapshotStalled(f"{topic}: no record for {STALL_SECONDS:.0f} s")
    finally:
        consumer.close()
