"""The faults of a cluster of several brokers: partitions that move, a disk that is lost."""

import asyncio
import shutil
from collections.abc import Iterator

from confluent_kafka.admin import AdminClient, PartitionMetadata  # type: ignore[attr-defined]

from deploy.local.broker import Broker
from tests.faults.harness.cluster_requests import Election, Replicas, elect
from tests.faults.harness.cluster_requests import reassign as move_to
from tests.faults.harness.environment import Environment
from tests.faults.harness.schedule import Step
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.waiting import until

# The replicas of all topics of a storm copy some MB.
COPIED_SECONDS = 120.0


async def reassign(environment: Environment, step: Step) -> bool:
    """Every partition leaves one broker, and comes back to it, with another leader."""
    kafka = environment.kafka
    brokers = [broker.node.id for broker in environment.brokers]
    gone = int(step.draw * len(brokers))
    around = [*brokers[gone + 1 :], *brokers[:gone]]
    partitions = await asyncio.to_thread(_our_partitions, kafka)
    await _move(kafka, dict.fromkeys(partitions, around))
    back = [*around[1:], brokers[gone], around[0]]
    await _move(kafka, dict.fromkeys(partitions, back))
    await elect(kafka.bootstrap, Election.PREFERRED, partitions)
    return True


async def _move(kafka: Kafka, wanted: Replicas) -> None:
    """Moves partitions; returns once the brokers that are to hold them have everything."""
    await move_to(kafka.bootstrap, wanted)
    await until_in_sync(kafka, wanted)


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


async def until_in_sync(kafka: Kafka, wanted: Replicas | None = None) -> None:
    """Waits until every replica of our partitions is in sync, and is one of those wanted."""
    admin = kafka.admin()

    def in_sync() -> bool:
        return all(
            set(partition.isrs) == set(wanted[key] if wanted is not None else partition.replicas)
            and len(partition.isrs) == len(partition.replicas)
            for key, partition in _partitions(admin, kafka.prefix)
        )

    async def check() -> bool:
        return await asyncio.to_thread(in_sync)

    await until(check, "every replica is in sync", COPIED_SECONDS)


def _partitions(
    admin: AdminClient, prefix: str
) -> Iterator[tuple[tuple[str, int], PartitionMetadata]]:
    """Our partitions, by topic and number."""
    for name, topic in admin.list_topics(timeout=REQUEST_SECONDS).topics.items():
        if name.startswith(prefix):
            for number, partition in topic.partitions.items():
                yield (name, number), partition


def _our_partitions(kafka: Kafka) -> list[tuple[str, int]]:
    admin = kafka.admin()
    return [key for key, _ in _partitions(admin, kafka.prefix)]
