"""What must hold before dedupe starts: topics, partition counts, and committed offsets."""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.kafka.clients import METADATA_SECONDS, client_config, wait_for_broker
from streams.kafka.offsets import starting_offsets
from streams.kafka.polling import OffsetOutOfRange
from streams.runtime.exit_codes import ExitCode, die
from streams.runtime.ops import Health
from streams.settings import KafkaSettings
from streams.topics import Topics, group

# Until a group's coordinator that did not answer is asked again.
COORDINATOR_RETRY_SECONDS = 1.0


def wait_until_startable(
    kafka: KafkaSettings, names: Topics, stopped: Callable[[], bool], health: Health
) -> bool:
    """Blocks until a broker answers and every check holds; False when `stopped()` became true.

    Ends the process when partition counts differ, or a committed offset is outside of the log.
    """
    wanted = [
        topic.name
        for topic in (
            names.events,
            names.changes,
            names.refetch,
            names.dead_letter,
            names.seen_changelog,
        )
    ]
    while wait_for_broker(kafka, wanted, stopped=stopped, waiting=health.waiting):
        try:
            if problem := partitions_differ(AdminClient(client_config(kafka)), names):
                die(ExitCode.PARTITION_COUNT_MISMATCH, problem)
            check_offsets(kafka, names)
        except OffsetOutOfRange as error:
            die(ExitCode.OFFSET_OUT_OF_RANGE, str(error))
        except KafkaException as error:
            health.waiting(f"the group's coordinator does not answer: {error.args[0].str()}")
            time.sleep(COORDINATOR_RETRY_SECONDS)
        else:
            health.waiting("the group assigns partitions, then the table is restored")
            return True
    return False


def partitions_differ(admin: AdminClient, names: Topics) -> str:
    """Why a contact's events and its table entry would not share a partition; empty if they do.

    Raises KafkaException when the broker does not answer.
    """
    found = admin.list_topics(timeout=METADATA_SECONDS).topics
    counts = {
        topic.name: len(found[topic.name].partitions)
        for topic in (names.events, names.seen_changelog)
    }
    wanted = names.events.partitions
    wrong = [f"{name} has {count}" for name, count in counts.items() if count != wanted]
    if not wrong:
        return ""
    return f"{' and '.join(wrong)} partitions instead of {wanted}; run: contactstream topics check"


def check_offsets(kafka: KafkaSettings, names: Topics) -> None:
    """Raises OffsetOutOfRange when a committed offset of the group is outside of the log.

    Raises KafkaException when the broker does not answer. Blocks.
    """
    consumer = Consumer(
        client_config(kafka) | {"group.id": group(kafka, "dedupe"), "enable.auto.commit": False}
    )
    try:
        events = names.events
        starting_offsets(
            consumer,
            [TopicPartition(events.name, partition) for partition in range(events.partitions)],
        )
    finally:
        consumer.close()
