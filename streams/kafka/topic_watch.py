"""Notices that a topic was deleted, made anew or given more partitions while it is read.

Neither librdkafka nor aiokafka reports it: a consumer whose topic was made anew waits for the old
position, and skips what the new topic holds before it.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from streams.kafka.clients import BROKER_CHECK_SECONDS, METADATA_SECONDS, client_config
from streams.kafka.polling import TopicReplaced, topic_gone
from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings

log = structlog.get_logger()

# Between two checks. A change ends the process once two checks in a row show it, because a broker
# whose metadata is behind may still describe the old topic, or none.
TOPIC_CHECK_SECONDS = 10.0

# The ID of a topic of a broker that has no IDs (before Kafka 2.8).
NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"

_METADATA_PREFIX = "topic-id="


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker describes it."""

    topic_id: str
    """Changes when the topic is deleted and created again; empty where the broker has no IDs."""
    partitions: int


@dataclass(frozen=True, slots=True)
class TopicProblem:
    """Why a process cannot go on with a topic; `reason` is for an operator."""

    code: ExitCode
    reason: str


def describe_topics(admin: AdminClient, names: Iterable[str]) -> dict[str, TopicState]:
    """The topics that exist, by name. Blocks. Raises KafkaException when no broker answers."""
    wanted = list(names)
    found = {}
    answers = admin.describe_topics(TopicCollection(wanted), request_timeout=METADATA_SECONDS)
    for name, future in answers.items():
        try:
            topic = future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            continue
        topic_id = str(topic.topic_id)
        found[name] = TopicState("" if topic_id == NO_ID else topic_id, len(topic.partitions))
    return found


def read_topic_id(kafka: KafkaSettings, topic: str) -> str:
    """The ID of a topic now; empty where the broker has none, or does not know the topic. Blocks.

    Raises KafkaException when no broker answers.
    """
    found = describe_topics(AdminClient(client_config(kafka)), [topic]).get(topic)
    return "" if found is None else found.topic_id


def commit_metadata(topic_id: str) -> str:
    """What a commit says of the topic that its offset belongs to; empty without an ID.

    It is the first word; a stage may add words of its own.
    """
    return _METADATA_PREFIX + topic_id if topic_id else ""


def null_terminated(metadata: str) -> str:
    """The metadata of a commit that another client than librdkafka sends, made safe to read.

    librdkafka copies metadata without a terminator when it reads a commit
    (`rd_kafka_topic_partition_list_update`), and its Python client reads the copy up to the next
    null byte. Without one, whatever lies behind the copy in memory seems to belong to the note.
    """
    return metadata + "\0" if metadata else ""


def raise_if_replaced(topic: str, metadata: str | None, topic_id: str) -> None:
    """Raises TopicReplaced when a committed offset belongs to an older topic of the same name.

    `metadata` is that of the commit. A commit without a topic ID, or a broker without IDs, proves
    nothing.
    """
    noted = next(iter((metadata or "").split()), "")
    if not noted.startswith(_METADATA_PREFIX) or not topic_id:
        return
    if noted != commit_metadata(topic_id):
        raise TopicReplaced(
            f"the topic {topic} was deleted and created again: the committed offset belongs to the "
            "old one. Reset the offset of the group to the start of the topic, then run "
            "`contactstream reconcile --all`, which reads again what the old one held"
        )


def wrong_partitions(topic: str, found: int, wanted: int) -> TopicProblem | None:
    """The problem of a topic that has not the number of partitions that the stage is made for."""
    if found == wanted:
        return None
    return TopicProblem(
        ExitCode.PARTITION_COUNT_MISMATCH,
        f"{topic} has {found} partitions instead of {wanted}; run: contactstream topics check",
    )


def topic_problem(
    topic: str, wanted_partitions: int, first: TopicState, now: TopicState | None
) -> TopicProblem | None:
    """Why a stage cannot go on with a topic that was `first` when it started; None if it can."""
    if now is None:
        return TopicProblem(ExitCode.TOPIC_REPLACED, topic_gone(topic))
    if first.topic_id and now.topic_id and first.topic_id != now.topic_id:
        return TopicProblem(
            ExitCode.TOPIC_REPLACED,
            f"the topic {topic} was deleted and created again while it was read. The next start "
            "reads the new one; if it refuses the committed offset, do what it says. Then run "
            "`contactstream reconcile --all`, which reads again what the old one held",
        )
    return wrong_partitions(topic, now.partitions, wanted_partitions)


class TopicWatch:
    """Compares topics with what they were at the start, every TOPIC_CHECK_SECONDS.

    `partitions` are the topics that are read, with the number of partitions that each must have.
    `describe` blocks, and raises KafkaException while no broker answers.
    """

    def __init__(
        self,
        describe: Callable[[Iterable[str]], Mapping[str, TopicState]],
        partitions: Mapping[str, int],
    ) -> None:
        self._describe = describe
        self._partitions = partitions
        self._first: Mapping[str, TopicState] = {}
        self._seen: TopicProblem | None = None

    def look(self) -> TopicProblem | None:
        """Notes the topics as they are now; returns a number of partitions that is wrong.

        To be called once, at the start. Blocks. Raises KafkaException when no broker answers, or a
        topic does not exist.
        """
        self._first = self._describe(self._partitions)
        if missing := self._partitions.keys() - self._first.keys():
            raise KafkaException(
                KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, ", ".join(sorted(missing)))
            )
        problems = (
            wrong_partitions(topic, state.partitions, self._partitions[topic])
            for topic, state in self._first.items()
        )
        return next(filter(None, problems), None)

    @property
    def topic_ids(self) -> dict[str, str]:
        """The IDs of the topics at the start; empty ones of a broker that has none."""
        return {topic: state.topic_id for topic, state in self._first.items()}

    def start(self, end: Callable[[ExitCode, str], object]) -> None:
        """Checks from now on, in a thread of its own.

        `end` is called once, in that thread, with the exit code and the reason.
        """
        threading.Thread(target=self._watch, args=(end,), name="topics", daemon=True).start()

    def check(self) -> TopicProblem | None:
        """A problem that is certain, or None. Blocks. A broker that is away proves nothing."""
        try:
            now = self._describe(self._first)
        except KafkaException:
            return None
        problems = (
            topic_problem(topic, self._partitions[topic], first, now.get(topic))
            for topic, first in self._first.items()
        )
        before, self._seen = self._seen, next(filter(None, problems), None)
        if self._seen is None:
            return None
        # A broker whose metadata is behind never invents partitions.
        certain = self._seen.code is ExitCode.PARTITION_COUNT_MISMATCH
        return self._seen if certain or self._seen == before else None

    def _watch(self, end: Callable[[ExitCode, str], object]) -> None:
        while True:
            time.sleep(TOPIC_CHECK_SECONDS)
            try:
                problem = self.check()
            except Exception as error:  # noqa: BLE001  the watch goes on
                log.warning("topics could not be checked", error=repr(error))
                continue
            if problem is not None:
                end(problem.code, problem.reason)
                return


def look_until_answered(
    watch: TopicWatch, stopped: Callable[[], bool], waiting: Callable[[str], None]
) -> TopicProblem | None:
    """What `watch.look` finds, once a broker answers or `stopped()` became true. Blocks.

    `waiting` gets the reason for waiting, for the readiness probe.
    """
    while not stopped():
        try:
            return watch.look()
        except KafkaException as error:
            waiting(f"the broker does not describe the topics: {error.args[0].str()}")
            time.sleep(BROKER_CHECK_SECONDS)
    return None


def topic_watch(kafka: KafkaSettings, partitions: Mapping[str, int]) -> TopicWatch:
    """A watch that asks the brokers of the settings."""
    # The exceptions report a broker that is away; this client would print it as well.
    admin = AdminClient(client_config(kafka) | {"log_level": 0})

    def describe(names: Iterable[str]) -> Mapping[str, TopicState]:
        admin.poll(0)  # serves `error_cb`; otherwise reported errors would pile up
        return describe_topics(admin, names)

    return TopicWatch(describe, partitions)
