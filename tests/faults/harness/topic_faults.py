"""The faults of topics: one loses its end, one is made anew, one takes only small batches."""

import asyncio
import contextlib
from collections.abc import Callable

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.environment import Environment, create_topics
from tests.faults.harness.evidence import StoredRecord
from tests.faults.harness.log_files import cut, find_end
from tests.faults.harness.process_faults import BackgroundTasks
from tests.faults.harness.schedule import Step
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.waiting import until

LATEST_LOSS = 0.6
"""Of the load. What is lost before is made good: each contact changes many times afterwards.

A lost outcome may have said that a record was released, or that a contact waits for one.
"""

GROWN = {"contacts.events": "dedupe", "contacts.changes": "sink"}
"""By topic, the stage that must not go on when it has more partitions."""

LIMIT_NAME = "max.message.bytes"
LIMITS = {
    "contacts.events": 5000,
    "contacts.changes": 5000,
    "contacts.outcomes": 2000,
    "contactstream-dedupe-seen-changelog": 1000,
}
"""By topic, the largest batch that it takes for a while: some records fit, a batch does not."""

# A stage compares its topics every ten seconds, and believes two comparisons. Some of this is for
# a process that is stopped meanwhile.
NOTICED_SECONDS = 60.0
READY_SECONDS = 1.0


async def lose_end(
    environment: Environment,
    lost: list[StoredRecord],
    load_share: Callable[[], float],
    step: Step,
) -> bool:
    """The broker is killed, and starts without the last outcomes that it had acknowledged.

    Adds them to `lost`. Not near the end of the load, of which `load_share` has been sent.
    """
    (broker,) = environment.brokers
    partition = broker.directory / "data" / f"{environment.kafka.prefix}contacts.outcomes-0"
    if load_share() > LATEST_LOSS or await asyncio.to_thread(find_end, partition) is None:
        return False
    await asyncio.to_thread(broker.kill)
    end = await asyncio.to_thread(find_end, partition)
    if end is not None:
        cut(end)
        lost += end.records
        environment.log.note(f"{len(end.records)} outcomes are lost")
    await asyncio.sleep(step.seconds)
    await asyncio.to_thread(broker.start)
    return end is not None


async def make_anew(environment: Environment, background: BackgroundTasks, step: Step) -> bool:
    """The topic is deleted and created again. The readers must notice it and end.

    What stood in it is lost, and with it the state of runs: the next run reads everything.
    A reader that is not ready has not looked at the topic yet: it may begin with the new one.
    """
    replicas = environment.stages.of("reader")
    before = [one.process for one in replicas]
    ready = await asyncio.gather(*(one.ready(READY_SECONDS) for one in replicas))
    readers = [process for process, is_ready in zip(before, ready, strict=True) if is_ready]
    if not readers:
        return False
    await asyncio.to_thread(_delete, environment.kafka.admin(), environment.kafka.name(step.target))
    await create_topics(environment.stages.env, environment.brokers)

    async def noticed() -> None:
        what = f"every reader has ended after {step.target} was made anew"
        await until(
            lambda: all(one is None or one.returncode is not None for one in readers),
            what,
            NOTICED_SECONDS,
        )

    background.start(noticed())
    return True


def _delete(admin: AdminClient, topic: str) -> None:
    for future in admin.delete_topics([topic], request_timeout=REQUEST_SECONDS).values():
        future.result()


async def limit(environment: Environment, step: Step) -> bool:
    """For some seconds the topic takes only small batches."""
    admin, topic = environment.kafka.admin(), environment.kafka.name(step.target)
    before = await asyncio.to_thread(_limit, admin, topic)
    await asyncio.to_thread(_set_limit, admin, topic, str(LIMITS[step.target]))
    try:
        await asyncio.sleep(step.seconds * 2)
    finally:
        await asyncio.to_thread(_set_limit, admin, topic, before)
    return True


async def grow(environment: Environment) -> list[str]:
    """Adds a partition to each topic of GROWN; returns a line for each process that goes on."""
    admin, stages = environment.kafka.admin(), environment.stages
    running = [
        (replica, replica.process)
        for stage in GROWN.values()
        for replica in stages.of(stage)
        if replica.process is not None and replica.process.returncode is None
    ]
    await asyncio.to_thread(_add_partitions, admin, environment.kafka)

    def ended() -> bool:
        return all(process.returncode is not None for _, process in running)

    with contextlib.suppress(AssertionError):
        await until(ended, "dedupe and the sink end", NOTICED_SECONDS)
    return [
        f"{replica.stage}-{replica.number} ended with {process.returncode} after partitions were "
        "added"
        for replica, process in running
        if process.returncode != ExitCode.PARTITION_COUNT_MISMATCH
    ]


def _add_partitions(admin: AdminClient, kafka: Kafka) -> None:
    for topic in GROWN:
        name = kafka.name(topic)
        now = len(admin.list_topics(name, timeout=REQUEST_SECONDS).topics[name].partitions)
        for future in admin.create_partitions([NewPartitions(name, now + 1)]).values():
            future.result()


def _limit(admin: AdminClient, topic: str) -> str:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    (future,) = admin.describe_configs([resource], request_timeout=REQUEST_SECONDS).values()
    return str(future.result()[LIMIT_NAME].value)


def _set_limit(admin: AdminClient, topic: str, size: str) -> None:
    entry = ConfigEntry(LIMIT_NAME, size, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    changed = admin.incremental_alter_configs([resource], request_timeout=REQUEST_SECONDS)
    for future in changed.values():
        future.result()
