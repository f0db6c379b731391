"""The offsets of a partition that the client does not know, on a real Kafka."""

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from streams.kafka.log_range import offset_range
from tests.support.kafka import Kafka
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


def test_offsets_are_found_of_a_partition_that_the_client_believes_does_not_exist(
    kafka: Kafka,
) -> None:
    kafka.create("grows", 1)
    name = f"{kafka.prefix}grows"
    second = TopicPartition(name, 1)
    client = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"{kafka.prefix}asks"})
    try:
        with pytest.raises(KafkaException) as before:
            offset_range(client, second, 10.0)
        assert before.value.args[0].code() == KafkaError._UNKNOWN_PARTITION
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_partitions([NewPartitions(name, 2)])[name].result(10.0)
        wait_until(
            lambda: len(admin.list_topics(name, timeout=10.0).topics[name].partitions) == 2,
            "the broker knows the second partition",
        )
        with pytest.raises(KafkaException):
            client.get_watermark_offsets(second, timeout=10.0)  # the client still believes it
        assert offset_range(client, second, 10.0) == (0, 0)
    finally:
        client.close()
