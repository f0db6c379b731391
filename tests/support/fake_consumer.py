"""A confluent-kafka consumer without a broker, which returns what a test lays down."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from streams.kafka.polling import GATHER_SECONDS

TIMESTAMP_MS = 1_700_000_000_000


@dataclass
class FakeMessage:
    """A message of confluent-kafka: a record, or an error with its place."""

    at: int
    fault: KafkaError | None = None
    of: int = 3
    time_type: int = TIMESTAMP_CREATE_TIME

    def error(self) -> KafkaError | None:
        return self.fault

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return self.of

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v%d" % self.at

    def headers(self) -> list[tuple[str, bytes]]:
        return [("name", b"value")]

    def timestamp(self) -> tuple[int, int]:
        return self.time_type, TIMESTAMP_MS


@dataclass
class FakeConsumer:
    """Each of `answers` arrives at once, when a call of `consume` waits for a record.

    `ends` are the end offsets of the partitions that exist; each begins at 0. Read alone from its
    beginning, a partition returns its oldest record.
    """

    answers: list[list[FakeMessage]]
    ends: dict[int, int] = field(default_factory=dict)
    asked: list[tuple[int, float]] = field(default_factory=list)
    assigned: list[TopicPartition] = field(default_factory=list)
    closed: bool = False
    away: bool = False
    """Whether no broker answers a request."""
    producers_clocks: frozenset[int] = frozenset()
    """Partitions whose oldest record carries the time of its producer (CreateTime)."""
    _arrived: list[FakeMessage] = field(default_factory=list)

    def consume(self, limit: int, seconds: float) -> list[FakeMessage]:
        self.asked.append((limit, seconds))
        if [each.offset for each in self.assigned] == [OFFSET_BEGINNING]:
            return [self._oldest(self.assigned[0].partition)]
        if not self._arrived and seconds != GATHER_SECONDS and self.answers:
            self._arrived = self.answers.pop(0)
        found, self._arrived = self._arrived[:limit], self._arrived[limit:]
        return found

    def _oldest(self, partition: int) -> FakeMessage:
        if self.ends[partition] == 0:
            return FakeMessage(0, KafkaError(KafkaError._PARTITION_EOF), partition)
        own = partition in self.producers_clocks
        return FakeMessage(
            0, None, partition, TIMESTAMP_CREATE_TIME if own else TIMESTAMP_LOG_APPEND_TIME
        )

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    def list_topics(self, topic: str, timeout: float) -> Any:
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        metadata = SimpleNamespace(error=None, partitions=dict.fromkeys(self.ends))
        return SimpleNamespace(topics={topic: metadata})

    def offsets_for_times(
        self, asked: list[TopicPartition], timeout: float
    ) -> list[TopicPartition]:
        """The last record of each partition; -1 of an empty one, as the broker answers."""
        return [
            TopicPartition(each.topic, each.partition, self.ends[each.partition] - 1)
            for each in asked
        ]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, self.ends[partition.partition]

    def close(self) -> None:
        self.closed = True
