"""The faults of a cluster of several brokers: partitions that move, a disk that is lost."""

import asyncio
import shutil
from collections.abc import Mapping, Sequence

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest
from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient

from deploy.local.broker import Broker
from tests.faults.harness.environment import Environment
from tests.faults.harness.schedule import Step
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.waiting import until

# The replicas of all topics of a storm copy some MB.
COPIED_SECONDS = 120.0

Replicas = Mapping[tuple[str, int], Sequence[int]]
"""By topic and partition, the brokers that hold it. The first is the preferred leader."""


async def reassign(environment: Environment, step: Step) -> bool:
    """Every partition leaves one broker, and comes back to it, with another leader."""
    kafka = environment.kafka
    brokers = [broker.node.id for broker in environment.brokers]
    gone = int(step.draw * len(brokers))
    around = [*brokers[gone + 1 :], *brokers[:gone]]
    partitions = list(await asyncio.to_thread(_replicas, kafka.admin(), kafka.prefix))
    await move(kafka, dict.fromkeys(partitions, around))
    back = [*around[1:], brokers[gone], around[0]]
    await move(kafka, dict.fromkeys(partitions, back))
    await asyncio.to_thread(_elect_preferred, kafka.admin(), partitions)
    return True


async def lose_disk(environment: Environment, step: Step) -> bool:
    """A broker is killed, and starts with an empty disk; the others bring it up to date."""
    kafka = environment.kafka
    broker = environment.brokers[int(step.draw * len(environment.brokers))]
    await until_in_sync(kafka)
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(step.seconds)
    await asyncio.to_thread(_start_empty, broker)
    await until_in_sync(kafka)
    return True


def _start_empty(broker: Broker) -> None:
    shutil.rmtree(broker.directory / "data")
    broker.start()


async def move(kafka: Kafka, wanted: Replicas) -> None:
    """Moves partitions to other brokers; returns once all of these hold everything."""
    topics = [(topic, [(number, list(ids), {})], {}) for (topic, number), ids in wanted.items()]
    client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap)
    await client.bootstrap()
    try:
        request = AlterPartitionReassignmentsRequest(int(REQUEST_SECONDS * 1000), topics, {})
        answer = await client.send(client.get_random_node(), request)
    finally:
        await client.close()
    refused = [
        (topic, code)
        for topic, partitions, _ in answer.responses
        for _, code, _, _ in partitions
        if code
    ]
    if answer.error_code or refused:
        raise RuntimeError(f"partitions were not moved: {answer.error_code} {refused[:3]}")
    await until_in_sync(kafka, wanted)


async def until_in_sync(kafka: Kafka, wanted: Replicas | None = None) -> None:
    """Waits until every replica of our partitions is in sync, and is one of those wanted."""
    admin = kafka.admin()

    def in_sync() -> bool:
        topics = admin.list_topics(timeout=REQUEST_SECONDS).topics.values()
        return all(
            set(partition.isrs)
            == set(partition.replicas if wanted is None else wanted[topic.topic, number])
            and len(partition.isrs) == len(partition.replicas)
            for topic in topics
            if topic.topic.startswith(kafka.prefix)
            for number, partition in topic.partitions.items()
        )

    async def check() -> bool:
        return await asyncio.to_thread(in_sync)

    await until(check, "every replica is in sync", COPIED_SECONDS)


def _replicas(admin: AdminClient, prefix: str) -> Replicas:
    return {
        (topic.topic, number): partition.replicas
        for topic in admin.list_topics(timeout=REQUEST_SECONDS).topics.values()
        if topic.topic.startswith(prefix)
        for number, partition in topic.partitions.items()
    }


def _elect_preferred(admin: AdminClient, partitions: Sequence[tuple[str, int]]) -> None:
    asked = [TopicPartition(topic, number) for topic, number in partitions]
    admin.elect_leaders(ElectionType.PREFERRED, asked, request_timeout=REQUEST_SECONDS).result()
