"""What stands on the topics and how far the groups have come, asked from outside: for back-pressure, the demo and the doctor."""

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streams.events import Record
from streams.kafka import client_config, to_record
from streams.settings import KafkaSettings

ANSWER_SECONDS = 10.0  # one admin request: a broker that restarts answers within it, or the caller asks again


def end_offsets(admin: AdminClient, topic: str) -> dict[int, int]:
    """The offset after the last record of each partition. Raises KafkaException."""
    return _offsets(admin, topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]


def start_offsets(admin: AdminClient, topic: str) -> dict[int, int]:
    """The offset of the first record still there, of each partition. Raises KafkaException."""
    return _offsets(admin, topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]


def _offsets(admin: AdminClient, topic: str, which: OffsetSpec) -> dict[int, int]:
    metadata = admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    wanted = {TopicPartition(topic, number): which for number in metadata.partitions}
    answers = admin.list_offsets(wanted, request_timeout=ANSWER_SECONDS)
    return {partition.partition: future.result().offset for partition, future in answers.items()}


def committed_offsets(admin: AdminClient, group_id: str, topic: str) -> dict[int, int]:
    """What a group has committed; a partition without a commit is missing. Raises KafkaException."""
    request = [ConsumerGroupTopicPartitions(group_id)]
    answer = admin.list_consumer_group_offsets(request, request_timeout=ANSWER_SECONDS)[group_id].result()
    return {
        found.partition: found.offset for found in answer.topic_partitions if found.topic == topic and found.offset >= 0
    }


def group_lag(admin: AdminClient, group_id: str, topic: str) -> int:
    """Offsets of a topic that a group has not committed yet; without a commit, from the start of the log. Raises KafkaException."""
    ends, starts = end_offsets(admin, topic), start_offsets(admin, topic)
    committed = committed_offsets(admin, group_id, topic)
    return sum(max(0, end - committed.get(number, starts[number])) for number, end in ends.items())


def read_topic(kafka: KafkaSettings, topic: str, seconds: float = 60.0) -> Iterator[Record]:
    """Every record from the start of each partition to its present end, without a group.

    Raises TimeoutError when the end was not reached within `seconds`, KafkaException when the topic does not exist.
    """
    ends = end_offsets(AdminClient(client_config(kafka)), topic)
    left = {number: end for number, end in ends.items() if end > 0}
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
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
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
                if error is not None or record.offset + 1 >= ends[record.partition]:
                    left.pop(record.partition, None)
    finally:
        consumer.close()
