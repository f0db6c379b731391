"""Reads and writes what the groups of dedupe's generations have committed; see `generations`.

Every function blocks, and raises KafkaException when the broker does not answer. Commits are those
of a client without membership: Kafka accepts them only while the group has no members, which makes
them a fence between a switch and the workers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.dedupe.generations import Generation, Handover, not_live, parse_handover
from streams.kafka.clients import METADATA_SECONDS, client_config
from streams.kafka.topic_watch import raise_if_replaced
from streams.settings import KafkaSettings
from streams.topics import generation_of, group, of_generation, topics

# With these Kafka refuses the commit of a client that is no member, because the group has some.
_HAS_MEMBERS = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
)


class GroupHasMembers(RuntimeError):
    """Workers are in the group, so that its offsets cannot be written from outside."""


def existing_generations(kafka: KafkaSettings) -> list[int]:
    """The generations that may have worked: those with a changelog, generation 1, and our own."""
    known = AdminClient(client_config(kafka)).list_topics(timeout=METADATA_SECONDS).topics
    found = {generation_of(kafka, topic) for topic in known} - {None}
    return sorted({1, kafka.dedupe_generation} | {each for each in found if each is not None})


def read_generation(
    kafka: KafkaSettings, number: int, topic_ids: Mapping[str, str] | None = None
) -> Generation:
    """What the group of a generation has committed for contacts.events.

    With `topic_ids`, the IDs of the topics now, it raises TopicReplaced for a commit that belongs
    to an older topic of the same name.
    """
    events = topics(kafka).events
    with _client(kafka, number) as client:
        found = client.committed(
            [TopicPartition(events.name, partition) for partition in range(events.partitions)],
            timeout=METADATA_SECONDS,
        )
    for each in found:
        raise_if_replaced(each.topic, each.metadata, (topic_ids or {}).get(each.topic, ""))
    handovers = [handover for each in found if (handover := parse_handover(each.metadata))]
    return Generation(
        number,
        {each.partition: each.offset for each in found if each.offset >= 0},
        max(handovers, key=lambda each: each.switch, default=None),
    )


def why_not_live(kafka: KafkaSettings) -> str | None:
    """Why workers of the settings' generation must not work now; None if they may.

    Of a deployment with one generation it asks for the commits of its group only.
    """
    own = read_generation(kafka, kafka.dedupe_generation)
    others: list[Generation] = []
    if not own.offsets and own.number == 1:
        others = [
            read_generation(kafka, number) for number in existing_generations(kafka) if number != 1
        ]
    return not_live(own, others)


def commit_events(
    kafka: KafkaSettings,
    number: int,
    offsets: Mapping[int, int],
    note: str,
    handover: Handover | None = None,
) -> None:
    """Commits offsets of contacts.events for a generation, all of them together.

    `note` is the metadata of every commit (`commit_metadata`). Raises GroupHasMembers.
    """
    words = " ".join(filter(None, (note, handover.words if handover else "")))
    _commit(kafka, number, topics(kafka).events.name, offsets, words)


def copied_up_to(
    kafka: KafkaSettings, number: int, source: str, parts: int, note: str
) -> list[int]:
    """The offset of each partition of `source` up to which a generation's table has its records.

    0 where the commit has another `note`: then one of the two topics was made anew, or nothing was
    copied yet. Always 0 for an empty note.
    """
    with _client(kafka, number) as client:
        found = client.committed(
            [TopicPartition(source, partition) for partition in range(parts)],
            timeout=METADATA_SECONDS,
        )
    return [
        each.offset if note and each.offset > 0 and each.metadata == note else 0 for each in found
    ]


def commit_copied(
    kafka: KafkaSettings, number: int, source: str, offsets: Mapping[int, int], note: str
) -> None:
    """Remembers what `copied_up_to` returns. Raises GroupHasMembers."""
    _commit(kafka, number, source, offsets, note)


def _commit(
    kafka: KafkaSettings, number: int, topic: str, offsets: Mapping[int, int], words: str
) -> None:
    if not offsets:
        return
    partitions = [
        TopicPartition(topic, partition, offset, words)
        for partition, offset in sorted(offsets.items())
    ]
    with _client(kafka, number) as client:
        try:
            answers = client.commit(offsets=partitions, asynchronous=False)
        except KafkaException as error:
            raise _refusal(kafka, number, error.args[0]) from error
    for each in answers or []:
        if each.error is not None:
            raise _refusal(kafka, number, each.error)


def _refusal(kafka: KafkaSettings, number: int, error: KafkaError) -> Exception:
    if error.code() in _HAS_MEMBERS:
        name = group(of_generation(kafka, number), "dedupe")
        return GroupHasMembers(
            f"workers of generation {number} are in the group {name}: stop them, then repeat the "
            "command"
        )
    return KafkaException(error)


@contextmanager
def _client(kafka: KafkaSettings, number: int) -> Iterator[Consumer]:
    """A consumer that never subscribes, so that it joins no group."""
    name = group(of_generation(kafka, number), "dedupe")
    config = {"group.id": name, "enable.auto.commit": False, "log_level": 0}
    consumer = Consumer(client_config(kafka) | config)
    try:
        yield consumer
    finally:
        consumer.close()
