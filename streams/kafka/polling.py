"""Polls a confluent-kafka consumer, with one rule for what each of its errors means.

So no consumer ignores an error that another one treats as fatal.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from streams.kafka.access import named_denial
from streams.kafka.clients import METADATA_SECONDS
from streams.kafka.records import KafkaRecord, to_record

# Records of one answer of the broker arrive within far less, and nobody notices it.
GATHER_SECONDS = 0.02

# From the first error that a topic is unknown until the broker is asked whether that is so. A
# broker that has just started, or whose metadata is behind, does not know every topic yet.
TOPIC_GONE_SECONDS = 10.0


class OffsetOutOfRange(RuntimeError):
    """A position or a committed offset is outside of the log.

    Either records expired before they were read, or the log lost its end, or the topic was deleted
    and created again.
    """


class TopicReplaced(RuntimeError):
    """A topic that is read was deleted, or was deleted and created again.

    The client goes on without a word: it waits for records, or skips the first of the new ones.
    """


@dataclass(frozen=True, slots=True)
class EndOfPartition:
    """The consumer has read everything that the partition holds now.

    Comes only with `enable.partition.eof`, each time that the end is reached.
    """

    topic: str
    partition: int
    offset: int
    """The offset that the next record of this partition will get."""


class ErrorRule(Enum):
    """What follows from an error of a consumer."""

    RETRIED = auto()
    """librdkafka recovers by itself: the error is counted and logged."""
    UNKNOWN_TOPIC = auto()
    """Counted and logged. If the broker still does not know the topic after TOPIC_GONE_SECONDS,
    reading ends.
    """
    OUT_OF_RANGE = auto()
    """The position is outside of the log: reading ends."""
    ENDS = auto()
    """No retry helps: reading ends."""


_RULES = {
    KafkaError._PARTITION_EOF: ErrorRule.RETRIED,
    KafkaError._AUTO_OFFSET_RESET: ErrorRule.OUT_OF_RANGE,
    KafkaError._LOG_TRUNCATION: ErrorRule.OUT_OF_RANGE,
    KafkaError.OFFSET_OUT_OF_RANGE: ErrorRule.OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART: ErrorRule.UNKNOWN_TOPIC,
    KafkaError.UNKNOWN_TOPIC_ID: ErrorRule.UNKNOWN_TOPIC,
    KafkaError.INCONSISTENT_TOPIC_ID: ErrorRule.UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_TOPIC: ErrorRule.UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION: ErrorRule.UNKNOWN_TOPIC,
    # Refused credentials or permissions: an operator grants them, and a restart takes them up.
    KafkaError._AUTHENTICATION: ErrorRule.ENDS,
    KafkaError.SASL_AUTHENTICATION_FAILED: ErrorRule.ENDS,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: ErrorRule.ENDS,
    KafkaError.GROUP_AUTHORIZATION_FAILED: ErrorRule.ENDS,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: ErrorRule.ENDS,
    # Another member of the group, or another program with its name, excludes this one for good.
    KafkaError._FENCED: ErrorRule.ENDS,
    KafkaError.FENCED_INSTANCE_ID: ErrorRule.ENDS,
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: ErrorRule.ENDS,
    KafkaError._FATAL: ErrorRule.ENDS,
}


def error_rule(error: KafkaError) -> ErrorRule:
    """What follows from an error that a consumer reports. An unlisted code is retried."""
    return ErrorRule.ENDS if error.fatal() else _RULES.get(error.code(), ErrorRule.RETRIED)


class ConsumerErrors:
    """What the errors of one consumer have shown so far.

    `on_error` is called with each error that does not end reading, to count and log it.
    """

    def __init__(
        self, on_error: Callable[[KafkaError], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_error = on_error
        self._clock = clock
        self._unknown_since: dict[str, float] = {}

    def passed(self, error: KafkaError, topic: str) -> None:
        """An error that does not end reading, for now."""
        self._on_error(error)
        if error_rule(error) is ErrorRule.UNKNOWN_TOPIC and topic:
            self._unknown_since.setdefault(topic, self._clock())

    def raise_if_gone(self, consumer: Consumer) -> None:
        """Raises TopicReplaced when a topic was unknown TOPIC_GONE_SECONDS ago, and still is.

        Blocks for one request if a topic was reported as unknown.
        """
        now = self._clock()
        due = [
            topic
            for topic, since in self._unknown_since.items()
            if now - since >= TOPIC_GONE_SECONDS
        ]
        for topic in due:
            try:
                found = consumer.list_topics(topic, timeout=METADATA_SECONDS).topics.get(topic)
            except KafkaException:
                self._unknown_since[topic] = now  # the broker is away, which proves nothing
                continue
            if found is None or not found.partitions:
                raise TopicReplaced(topic_gone(topic))
            del self._unknown_since[topic]


def topic_gone(topic: str) -> str:
    """What happened to a topic that no longer exists, and what to do; for an operator."""
    return (
        f"the topic {topic} was deleted. Create it with `contactstream topics create`; what it "
        "held and was not read is lost: run `contactstream reconcile --all`"
    )


def _consume(consumer: Consumer, limit: int, seconds: float) -> Iterator[Message]:
    # `consume` returns when it has as many as it may, or its time is over. Asked for all at once,
    # it would hold the first record back for all of the time.
    if not seconds:
        yield from consumer.consume(limit, seconds)
        return
    first = consumer.consume(1, seconds)
    yield from first
    if first and limit > 1:
        yield from consumer.consume(limit - 1, min(seconds, GATHER_SECONDS))


def poll(
    consumer: Consumer, limit: int, seconds: float, errors: ConsumerErrors
) -> Iterator[KafkaRecord | EndOfPartition]:
    """Yields up to `limit` records, in their order. Blocks for up to `seconds` until the first one.

    What comes with it, within GATHER_SECONDS, comes in the same call.

    Records that come before an error are yielded before it is raised. What comes after it is
    dropped, although the consumer's position is behind it: the caller assigns a position anew, or
    closes the consumer. The same holds for an iteration that is left early.

    Errors that librdkafka recovers from by itself, such as a broker that is away, are passed to
    `errors`, and the iteration goes on.

    Raises OffsetOutOfRange when the position is outside of the log, which `auto.offset.reset=error`
    reports instead of skipping records silently. Raises TopicReplaced when the topic is gone.
    Raises KafkaException for an error that no retry helps against: a fatal one, or refused
    credentials or permissions.
    """
    errors.raise_if_gone(consumer)
    for message in _consume(consumer, limit, seconds):
        error = message.error()
        if error is None:
            yield to_record(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            yield EndOfPartition(
                message.topic() or "", message.partition() or 0, message.offset() or 0
            )
        elif (rule := error_rule(error)) is ErrorRule.OUT_OF_RANGE:
            raise OffsetOutOfRange(f"{message.topic()}[{message.partition()}]: {error.str()}")
        elif rule is ErrorRule.ENDS:
            raise KafkaException(named_denial(error, message.topic() or ""))
        else:
            errors.passed(error, message.topic() or "")
