"""What must hold before dedupe starts: topics, partition counts, and committed offsets."""

import time
from collections.abc import Callable, Mapping

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.acls import role_acls
from streams.dedupe.generation_groups import why_not_live
from streams.dedupe.generations import Generation, after_handover, parse_handover
from streams.kafka.clients import client_config, wait_for_broker
from streams.kafka.offsets import starting_offsets
from streams.kafka.polling import OffsetOutOfRange, TopicReplaced
from streams.kafka.topic_watch import TopicWatch
from streams.runtime.exit_codes import Die, ExitCode, die
from streams.runtime.ops import Health
from streams.settings import KafkaSettings
from streams.topics import Topics, group

log = structlog.get_logger()

# Between two questions whether this generation is the live one. It is also what a switch adds to
# the time in which nothing is forwarded.
LIVE_CHECK_SECONDS = 2.0

# Until a group's coordinator that did not answer is asked again.
COORDINATOR_RETRY_SECONDS = 1.0


def wait_until_startable(
    kafka: KafkaSettings,
    names: Topics,
    watch: TopicWatch,
    stopped: Callable[[], bool],
    health: Health,
) -> bool:
    """Blocks until a broker answers and every check holds; False when `stopped()` became true.

    Workers of a generation that is not the live one wait too, and begin after the switch.

    Ends the process when partition counts differ, or a committed offset is outside of the log or
    belongs to an older topic of the same name.
    """
    waits_for_switch = ""
    wanted = [
        topic.name
        for topic in (
            names.events,
            names.changes,
            names.refetch,
            names.dead_letter,
            names.grants,
            names.control,
            names.suppression,
            names.seen_changelog,
        )
    ]
    needs = role_acls(kafka, "dedupe")
    while wait_for_broker(kafka, wanted, stopped=stopped, waiting=health.waiting, needs=needs):
        try:
            if problem := watch.look():
                die(problem.code, problem.reason)
            if reason := why_not_live(kafka):
                if reason != waits_for_switch:
                    log.warning("this generation of dedupe is not the live one", reason=reason)
                waits_for_switch = reason
                health.waiting(reason)
                time.sleep(LIVE_CHECK_SECONDS)
                continue
            check_offsets(kafka, names, watch.topic_ids)
        except OffsetOutOfRange as error:
            die(ExitCode.OFFSET_OUT_OF_RANGE, str(error))
        except TopicReplaced as error:
            die(ExitCode.TOPIC_REPLACED, str(error))
        except KafkaException as error:
            health.waiting(f"Kafka does not answer: {error.args[0].str()}")
            time.sleep(COORDINATOR_RETRY_SECONDS)
        else:
            health.waiting("the group assigns partitions, then the table is restored")
            return True
    return False


def check_offsets(kafka: KafkaSettings, names: Topics, topic_ids: Mapping[str, str]) -> None:
    """Raises OffsetOutOfRange when a committed offset of the group is outside of the log.

    Raises TopicReplaced when it belongs to an older topic of the same name, and KafkaException when
    the broker does not answer. Blocks.
    """
    consumer = Consumer(
        client_config(kafka) | {"group.id": group(kafka, "dedupe"), "enable.auto.commit": False}
    )
    try:
        events = names.events
        starting_offsets(
            consumer,
            [TopicPartition(events.name, partition) for partition in range(events.partitions)],
            topic_ids,
        )
    finally:
        consumer.close()


def end_if_handed_over(generation: int, metadata: str, die: Die = die) -> None:
    """Ends the process if a commit of its group says that the work went to another generation.

    A switch may come between the checks of a start and the join of the group.
    """
    handover = parse_handover(metadata)
    if handover is not None:
        own = Generation(generation, {}, handover)
        die(
            ExitCode.GENERATION_REPLACED,
            f"generation {generation} of dedupe gave its work to another one. "
            f"{after_handover(own)}",
        )
