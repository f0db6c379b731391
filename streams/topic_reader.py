"""Topics read from outside, all partitions of them, to the end that they have now."""

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.events import Record
from streams.kafka import client_config, to_record
from streams.settings import KafkaSettings

ANSWER_SECONDS = 10.0  # one request to a broker; a person waits


def read_topic(kafka: KafkaSettings, topic: str, seconds: float, since: float = 0.0) -> Iterator[Record]:
    """Every record from a moment (epoch seconds) to each partition's present end, without a group.

    Raises TimeoutError when the end was not reached within `seconds`, KafkaException when the topic cannot be read.
    """
    consumer = Consumer(
        client_config(kafka)
        | {
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "log_level": 0,  # what goes wrong is raised
            "error_cb": lambda _: None,
        }
    )
    deadline = time.monotonic() + seconds
    try:
        known = consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
        if known.error is not None:
            raise KafkaException(known.error)
        # below zero it would be one of the protocol's own marks
        moments = [TopicPartition(topic, partition, max(0, int(since * 1000))) for partition in known.partitions]
        starts = [one for one in consumer.offsets_for_times(moments, timeout=ANSWER_SECONDS) if one.offset >= 0]
        left = {}
        for one in starts:  # a negative offset: nothing is as young
            _, left[one.partition] = consumer.get_watermark_offsets(one, timeout=ANSWER_SECONDS)
        consumer.assign(starts)
        while left:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} was not read to its end within {seconds:.0f} s")
            for message in consumer.consume(1000, 0.2):
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                record = to_record(message)
                if error is None:
                    yield record
                if error is not None or record.offset + 1 >= left.get(record.partition, 0):
                    left.pop(record.partition, None)
    finally:
        consumer.close()
