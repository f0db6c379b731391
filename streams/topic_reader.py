"""Topics read from outside, from their start to the end that they have now."""

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.events import Record
from streams.kafka import client_config, to_record
from streams.settings import KafkaSettings

ANSWER_SECONDS = 10.0  # one admin request: a broker that restarts answers within it, or the caller asks again


def read_topic(kafka: KafkaSettings, topic: str, seconds: float = 60.0) -> Iterator[Record]:
    """Every record from the start of each partition to its present end, without a group.

    Raises TimeoutError when the end was not reached within `seconds`, KafkaException when the topic does not exist.
    """
    consumer = Consumer(
        client_config(kafka)
        | {
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    deadline = time.monotonic() + seconds
    try:
        partitions = consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic].partitions
        ranges = {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=ANSWER_SECONDS)
            for number in partitions
        }
        left = {number for number, (start, end) in ranges.items() if end > start}
        consumer.assign([TopicPartition(topic, number, ranges[number][0]) for number in left])
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
                if error is not None or record.offset + 1 >= ranges[record.partition][1]:
                    left.discard(record.partition)
    finally:
        consumer.close()
