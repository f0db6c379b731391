"""What dedupe's Kafka client writes into its commits is what the other clients read there."""

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AioTopicPartition
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import Consumer, TopicPartition

from streams.kafka.topic_watch import commit_metadata, null_terminated
from tests.support.kafka import Kafka

pytestmark = pytest.mark.kafka

# As malloc rounds sizes up, what lies behind a copy depends on its length.
LENGTHS = range(9, 49)


def read_note(kafka: Kafka, group: str) -> str | None:
    """The metadata of the group's commit, as librdkafka's client gives it."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    try:
        return consumer.committed([TopicPartition(kafka.name("events"), 0)], 10.0)[0].metadata
    finally:
        consumer.close()


async def test_a_commit_of_aiokafka_is_read_without_what_lies_behind_it_in_memory(
    kafka: Kafka,
) -> None:
    kafka.create("events")
    group = kafka.name("group")
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        partition = AioTopicPartition(kafka.name("events"), 0)
        consumer.assign([partition])
        for length in LENGTHS:
            note = commit_metadata("i" * (length - 9))
            committed = OffsetAndMetadata(0, null_terminated(note))
            await consumer.commit({partition: committed})
            assert (read_note(kafka, group) or "") == note
    finally:
        await consumer.stop()
