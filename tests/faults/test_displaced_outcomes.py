"""A displaced sink's outcome that hangs in the network does not land after its successor's."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Producer

from deploy.local.broker import Broker, make_broker
from streams.kafka.assigned import AssignedPartition
from streams.kafka.clients import producer_config
from streams.kafka.publisher import Publisher, PublishFailed
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import read_to_end
from streams.kafka.transactions import (
    DELIVERY_SECONDS,
    TransactionalPublisher,
    transactional,
)
from streams.settings import KafkaSettings, load
from tests.support.kafka import GroupObserver, Kafka
from tests.support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.kafka, pytest.mark.system, pytest.mark.slow]

TAKE_OVER_SECONDS = 30.0
# A broker that starts on shared cores took a minute and more.
DEADLINE = 150.0
# A takeover has five seconds beside the session time-out; most of them are the group's.
SESSION_MARGIN_SECONDS = 3.0
# Until a request is surely in the proxy, which holds it.
SENT_SECONDS = 0.3


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, TcpProxy]]:
    """A broker that the displaced process reaches through a proxy, the others directly."""
    with TcpProxy() as proxy:
        folder = tmp_path_factory.mktemp("broker")
        broker = make_broker(folder / "broker", advertised_port=proxy.port)
        proxy.target_port = broker.node.port
        try:
            broker.start()
            yield broker, proxy
        finally:
            broker.kill()


@pytest.fixture
def kafka(brokers: tuple[Broker, TcpProxy], request: pytest.FixtureRequest) -> Kafka:
    kafka = Kafka(brokers[0].direct, f"{request.node.name[:20]}.")
    kafka.create("contacts.outcomes")
    return kafka


def outcome(kafka: Kafka, version: int, key: bytes = b"g/ada") -> KafkaRecord:
    return KafkaRecord(kafka.name("contacts.outcomes"), key, b"%d" % version, [])


def versions(kafka: Kafka) -> list[int]:
    return [int(each.value or b"") for each in kafka.read("contacts.outcomes")]


def settings(kafka: Kafka, bootstrap: str = "") -> KafkaSettings:
    through = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap} if bootstrap else {}
    return load(KafkaSettings, kafka.environ | through)


def config(kafka: Kafka, bootstrap: str = "") -> dict[str, Any]:
    return producer_config(settings(kafka, bootstrap), delivery_timeout=DELIVERY_SECONDS)


def owner_config(kafka: Kafka, bootstrap: str = "") -> dict[str, Any]:
    return transactional(config(kafka, bootstrap), f"{kafka.prefix}sink-0")


@asynccontextmanager
async def plain(kafka: Kafka, bootstrap: str = "") -> AsyncIterator[Publisher]:
    publisher = Publisher(config(kafka, bootstrap))
    publisher.open()
    try:
        yield publisher
    finally:
        await publisher.close(1.0)


@asynccontextmanager
async def owner(kafka: Kafka, bootstrap: str = "") -> AsyncIterator[TransactionalPublisher]:
    publisher = TransactionalPublisher(owner_config(kafka, bootstrap))
    publisher.open()
    await asyncio.to_thread(publisher.take_over, TAKE_OVER_SECONDS)
    try:
        yield publisher
    finally:
        await publisher.close(1.0)


async def displaced(kafka: Kafka, brokers: tuple[Broker, TcpProxy], make: object) -> bool:
    """An outcome hangs while a successor publishes a newer one; whether it was acknowledged."""
    broker, proxy = brokers
    async with make(kafka, broker.bootstrap) as old:  # type: ignore[operator]
        await old.publish([outcome(kafka, 1)])
        proxy.black_hole()
        try:
            late = asyncio.create_task(old.publish([outcome(kafka, 2)]))
            await asyncio.sleep(SENT_SECONDS)
            async with make(kafka) as successor:  # type: ignore[operator]
                await asyncio.wait_for(successor.publish([outcome(kafka, 3)]), DEADLINE)
        finally:
            proxy.heal()
        try:
            await asyncio.wait_for(late, DEADLINE)
        except PublishFailed:
            return False
    return True


async def test_without_transactions_the_outcome_of_a_displaced_process_lands_last(
    kafka: Kafka, brokers: tuple[Broker, TcpProxy]
) -> None:
    assert await displaced(kafka, brokers, plain)
    assert versions(kafka) == [1, 3, 2]


async def test_the_outcome_of_a_displaced_process_is_refused(
    kafka: Kafka, brokers: tuple[Broker, TcpProxy]
) -> None:
    assert not await displaced(kafka, brokers, owner)
    assert versions(kafka) == [1, 3]


def read(kafka: Kafka, **how: Any) -> list[int]:
    """What the stages read of the outcomes."""
    found = read_to_end(settings(kafka), kafka.name("contacts.outcomes"), within=DEADLINE, **how)
    return [int(each.value or b"") for each in found]


async def position_at_the_end(kafka: Kafka, group: str) -> int:
    """Where a reader that commits its position stands, once it has read everything."""
    name = kafka.name("contacts.outcomes")
    async with AssignedPartition(settings(kafka), name, group, lambda: None) as source:
        assert not await source.start()
        async with asyncio.timeout(DEADLINE):
            while not source.at_end:
                await source.consume()
        assert await source.commit(source.position)
        return source.position


def killed_in_a_transaction(kafka: Kafka) -> None:
    """A process that is gone, whose open transaction holds one outcome."""
    producer = Producer(owner_config(kafka))
    producer.init_transactions(TAKE_OVER_SECONDS)
    producer.begin_transaction()
    record = outcome(kafka, 99)
    producer.produce(record.topic, record.value, record.key)
    assert producer.flush(TAKE_OVER_SECONDS) == 0


async def test_readers_reach_the_end_of_outcomes_past_markers_and_before_an_open_transaction(
    kafka: Kafka,
) -> None:
    async with owner(kafka) as first:
        await first.publish([outcome(kafka, 1), outcome(kafka, 2)])
        await first.publish([outcome(kafka, 3)])
    observer = GroupObserver(kafka, f"{kafka.prefix}readers", "contacts.outcomes")
    try:
        assert observer.end() == 5, "three outcomes, and a marker for each transaction"
        assert read(kafka) == read(kafka, since=0.0) == read(kafka, last=10) == [1, 2, 3]
        assert read(kafka, last=2) == [3], "the marker is counted"
        assert await position_at_the_end(kafka, f"{kafka.prefix}readers") == 5, "no lag is left"
        assert observer.committed() == {0: 5}

        killed_in_a_transaction(kafka)
        assert observer.end() == 6
        assert read(kafka) == read(kafka, since=0.0) == [1, 2, 3]
        assert await position_at_the_end(kafka, f"{kafka.prefix}readers") == 5

        began = time.monotonic()
        async with owner(kafka) as second:
            took = time.monotonic() - began
            print(f"taken over in {took:.2f} s from a process with an open transaction")
            await second.publish([outcome(kafka, 4)])
        assert took < SESSION_MARGIN_SECONDS
        assert read(kafka) == read(kafka, since=0.0) == [1, 2, 3, 4]
        assert await position_at_the_end(kafka, f"{kafka.prefix}readers") == observer.end()
    finally:
        observer.close()


async def test_an_outage_of_the_broker_in_a_transaction_excludes_nobody(
    kafka: Kafka, brokers: tuple[Broker, TcpProxy]
) -> None:
    """What was waiting is published once the broker is back, each outcome in its order."""
    broker, _ = brokers
    async with owner(kafka) as publisher:
        await publisher.publish([outcome(kafka, 1)])
        broker.pause()
        late = asyncio.create_task(publisher.publish([outcome(kafka, 2)]))
        await asyncio.sleep(SENT_SECONDS)
        broker.kill()
        await asyncio.to_thread(broker.start)
        await asyncio.wait_for(late, DEADLINE)
        await asyncio.wait_for(publisher.publish([outcome(kafka, 3)]), DEADLINE)
        assert publisher.failure is None
    assert versions(kafka) == [1, 2, 3]


async def test_records_that_a_topic_refuses_together_are_published_in_smaller_batches(
    kafka: Kafka,
) -> None:
    kafka.create("small", config={"max.message.bytes": "1000"})
    records = [
        KafkaRecord(kafka.name("small"), b"g/%d" % number, os.urandom(150), [])
        for number in range(50)
    ]
    async with owner(kafka) as publisher:
        await asyncio.wait_for(publisher.publish(records), DEADLINE)
        assert [each.key for each in kafka.read("small")] == [each.key for each in records]
        too_large = [KafkaRecord(kafka.name("small"), b"g/x", os.urandom(1200), [])]
        with pytest.raises(PublishFailed, match="topics check") as raised:
            await asyncio.wait_for(publisher.publish(too_large), DEADLINE)
        assert raised.value.permanent
        await asyncio.wait_for(publisher.publish(records[:1]), DEADLINE)
