"""Reads and writes what the groups of dedupe's generations have committed; see `generations`.

Everything here blocks, and raises KafkaException when the broker does not answer. Commits are those
of a client without membership: Kafka accepts them only while the group has no members, which makes
them a fence between a switch and the workers.
"""

from collections.abc import Mapping
from types import MappingProxyType, TracebackType

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.dedupe.generations import Generation, Handover, not_live, parse_handover
from streams.kafka.clients import METADATA_SECONDS, client_config
from streams.kafka.committed import committed_of_group
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


class GenerationGroup:
    """The group of a generation, for a client that does not join it. A context manager."""

    def __init__(self, kafka: KafkaSettings, number: int) -> None:
        self._number = number
        self._events = topics(kafka).events
        self._name = group(of_generation(kafka, number), "dedupe")
        # Never subscribes. Its errors are raised, so that it logs none.
        quiet = {"group.id": self._name, "enable.auto.commit": False, "log_level": 0}
        self._config = client_config(kafka) | quiet
        self._consumer: Consumer | None = None

    def __enter__(self) -> "GenerationGroup":
        self._consumer = Consumer(self._config)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._open.close()
        self._consumer = None

    @property
    def _open(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("GenerationGroup is used outside of its `with` block")
        return self._consumer

    def read(self, topic_ids: Mapping[str, str] = MappingProxyType({})) -> Generation:
        """What the group has committed for contacts.events.

        `topic_ids` are the IDs of topics now: it raises TopicReplaced for a commit that belongs to
        an older topic of the same name.
        """
        found = self._committed(self._events.name, self._events.partitions)
        for each in found:
            raise_if_replaced(each.topic, each.metadata, topic_ids.get(each.topic, ""))
        handovers = [handover for each in found if (handover := parse_handover(each.metadata))]
        return Generation(
            self._number,
            {each.partition: each.offset for each in found if each.offset >= 0},
            max(handovers, key=lambda each: each.switch, default=None),
        )

    def commit_events(
        self, offsets: Mapping[int, int], note: str, handover: Handover | None = None
    ) -> None:
        """Commits offsets of contacts.events, all of them together.

        `note` is the metadata of every commit (`commit_metadata`). Raises GroupHasMembers.
        """
        words = " ".join(filter(None, (note, handover.words if handover else "")))
        self._commit(self._events.name, offsets, words)

    def copied_up_to(self, source: str, partitions: int, note: str) -> list[int]:
        """The offset of each partition of `source` up to which the table has its records.

        0 where the commit has another `note`: then one of the two topics was made anew, or nothing
        was copied yet. Always 0 for an empty note.
        """
        return [
            each.offset if note and each.offset > 0 and each.metadata == note else 0
            for each in self._committed(source, partitions)
        ]

    def commit_copied(self, source: str, offsets: Mapping[int, int], note: str) -> None:
        """Remembers what `copied_up_to` returns. Raises GroupHasMembers."""
        self._commit(source, offsets, note)

    def _committed(self, topic: str, partitions: int) -> list[TopicPartition]:
        wanted = [TopicPartition(topic, partition) for partition in range(partitions)]
        return committed_of_group(self._open, self._name, wanted, METADATA_SECONDS)

    def _commit(self, topic: str, offsets: Mapping[int, int], words: str) -> None:
        if not offsets:
            return
        partitions = [
            TopicPartition(topic, partition, offset, words)
            for partition, offset in sorted(offsets.items())
        ]
        try:
            answers = self._open.commit(offsets=partitions, asynchronous=False)
        except KafkaException as error:
            raise self._refusal(error.args[0]) from error
        for each in answers or []:
            if each.error is not None:
                raise self._refusal(each.error)

    def _refusal(self, error: KafkaError) -> Exception:
        if error.code() in _HAS_MEMBERS:
            return GroupHasMembers(
                f"workers of generation {self._number} are in the group {self._name}: stop them, "
                "then repeat the command"
            )
        return KafkaException(error)


def read_generation(
    kafka: KafkaSettings, number: int, topic_ids: Mapping[str, str] = MappingProxyType({})
) -> Generation:
    """As `GenerationGroup.read`, once."""
    with GenerationGroup(kafka, number) as members:
        return members.read(topic_ids)


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
