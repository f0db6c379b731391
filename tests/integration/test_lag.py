"""The lag of a group is measured again after a broker's restart, by the same process."""

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from deploy.local.broker import Broker
from streams.kafka.clients import client_config
from streams.kafka.lag import LagReader
from streams.settings import KafkaSettings, load
from tests.support.kafka import Kafka
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

# A broker takes some 8 s to start, and several times that on a busy machine.
BROKER_START_SECONDS = 120.0


def committed(kafka: Kafka, group: str, topic: str, offset: int) -> None:
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False}
    )
    consumer.commit(offsets=[TopicPartition(kafka.name(topic), 0, offset)], asynchronous=False)
    consumer.close()


def test_lag_counts_from_the_commit_and_without_one_from_the_start(kafka: Kafka) -> None:
    kafka.create("events")
    kafka.produce("events", [(b"k", b"v")] * 10)
    reader = LagReader(client_config(load(KafkaSettings, kafka.environ)))
    group = kafka.name("group")
    assert reader.lag(group, kafka.name("events"), 1) == 10
    committed(kafka, group, "events", 7)
    assert reader.lag(group, kafka.name("events"), 1) == 3
    assert not reader.reached(group, kafka.name("events"), {0: 10})
    committed(kafka, group, "events", 10)
    assert reader.reached(group, kafka.name("events"), {0: 10})


def test_the_lag_is_measured_again_after_a_restart_of_the_broker(own_broker: Broker) -> None:
    kafka = Kafka(own_broker.bootstrap, "t.")
    kafka.create("events")
    kafka.produce("events", [(b"k", b"v")] * 10)
    reader = LagReader(client_config(load(KafkaSettings, kafka.environ)))

    def lag() -> int | None:
        try:
            return reader.lag("group", "t.events", 1)
        except KafkaException:
            return None

    assert lag() == 10
    for end in (own_broker.stop, own_broker.kill):
        end()
        # Without waiting for it: a coordinator that is not up yet once crashed the process.
        own_broker.launch()
        measured = wait_until(lag, "the lag is measured again", BROKER_START_SECONDS)
        own_broker.wait()
        assert (measured, lag()) == (10, 10), "no lag is better than a wrong one"
