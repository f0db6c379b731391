"""A displaced sink's outcome that hangs in the network does not land after its successor's."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from deploy.local.broker import Broker, make_broker
from streams.kafka.assigned import AssignedPartition
from streams.kafka.clients import producer_config
from streams.kafka.publisher import Publisher, PublishFailed
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import read_to_end
from streams.kafka.transactions import TransactionalPublisher, transactional
from streams.settings import KafkaSettings, load
from tests.support.kafka import Kafka
from tests.support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TAKE_OVER_SECONDS = 30.0
DELIVERY_SECONDS = 30.0
DEADLINE = 60.0
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
    return load(KafkaSettings, kafka.environ | ({"KAFKA_BOOTSTRAP_SERVERS": bootstrap} if bootstrap else {}))


@asynccontextmanager
async def plain(kafka: Kafka, bootstrap: str = "") -> AsyncIterator[Publisher]:
    publisher = Publisher(producer_config(settings(kafka, bootstrap), delivery_timeout=DELIVERY_SECONDS))
    publisher.open()
    try:
        yield publisher
    finally:
        await publisher.close(1.0)


@asynccontextmanager
async def owner(kafka: Kafka, bootstrap: str = "") -> AsyncIterator[TransactionalPublisher]:
    config = producer_config(settings(kafka, bootstrap), delivery_timeout=DELIVERY_SECONDS)
    publisher = TransactionalPublisher(transactional(config, f"{kafka.prefix}sink-0"))
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
