"""Where a consumer group continues, and which offset of a partition may be committed."""

import time
from collections import deque
from collections.abc import Mapping

from confluent_kafka import Consumer, TopicPartition

from streams.kafka.clients import METADATA_SECONDS
from streams.kafka.committed import committed_offsets
from streams.kafka.log_range import offset_range
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.topic_watch import raise_if_replaced
from streams.runtime.unfinished import UnfinishedTimes

# A new leader may at first report an end of the log that lags behind. So a committed offset beyond
# the end counts as out of range only when so many requests for the end say so, so far apart.
LOG_END_CHECKS = 5
LOG_END_CHECK_SECONDS = 1.0


def starting_offsets(
    consumer: Consumer, partitions: list[TopicPartition], topic_ids: Mapping[str, str]
) -> list[TopicPartition]:
    """Where a group continues: at its commit, or at the start of the log if it never committed.

    `topic_ids` are the IDs of the topics now, as far as the broker has any. Blocks for one request
    for each partition, and up to LOG_END_CHECKS * LOG_END_CHECK_SECONDS more where a commit lies
    beyond the end of the log.

    Raises OffsetOutOfRange when a commit is outside of the log; Kafka's clients would reset the
    position silently. The operator decides: a reconcile reads again what was lost, then the offsets
    of the group can be reset. Raises TopicReplaced when a commit belongs to an older topic of the
    same name. Raises KafkaException when the broker does not answer.
    """
    found = []
    for partition in committed_offsets(consumer, partitions, METADATA_SECONDS):
        topic = partition.topic
        raise_if_replaced(topic, partition.metadata, topic_ids.get(topic, ""))
        for _ in range(LOG_END_CHECKS):
            start, end = offset_range(consumer, partition, METADATA_SECONDS)
            if partition.offset <= end:
                break
            time.sleep(LOG_END_CHECK_SECONDS)
        else:
            raise OffsetOutOfRange(
                f"{partition.topic}[{partition.partition}]: the committed offset "
                f"{partition.offset} is beyond the end of the log, {end}: the log lost its end, or "
                "the topic was deleted and created again. Run `contactstream reconcile --all`, "
                f"then reset the offset of the group to {start}"
            )
        if 0 <= partition.offset < start:
            raise OffsetOutOfRange(
                f"{partition.topic}[{partition.partition}]: the committed offset "
                f"{partition.offset} is below the start of the log, {start}: records expired "
                "unread. Run `contactstream reconcile --all`, then reset the offset of the group "
                f"to {start}"
            )
        found.append(
            TopicPartition(partition.topic, partition.partition, max(partition.offset, start))
        )
    return found


class OffsetTracker:
    """The records of one partition that were taken and are not committed yet.

    Records are taken in the order of their offsets, with holes where a topic is compacted, and
    finish in any order.
    """

    def __init__(self) -> None:
        # From the oldest unfinished record on.
        self._taken: deque[int] = deque()
        self._finished: set[int] = set()
        # Finished, and before the oldest unfinished record.
        self._uncommitted: deque[int] = deque()
        self._next = -1
        self.received = UnfinishedTimes()
        """When the unfinished records were received, by offset."""

    def __len__(self) -> int:
        """Records taken since the last commit: what a successor may have to repeat."""
        return len(self._taken) + len(self._uncommitted)

    @property
    def position(self) -> int:
        """The offset after the last record taken; -1 before the first."""
        return self._next

    @property
    def unfinished(self) -> int:
        """Records taken and not finished."""
        return len(self._taken) - len(self._finished)

    def take(self, offset: int, received_ms: int = 0) -> None:
        """A record was taken, which was received then; 0 if that is unknown.

        Raises ValueError when its offset is not above the last one's.
        """
        if offset < self._next:
            raise ValueError(f"offset {offset} was taken after {self._next - 1}")
        self._taken.append(offset)
        self._next = offset + 1
        self.received.begin(offset, received_ms)

    def finish(self, offset: int) -> None:
        """The record needs no more work: what follows from it is acknowledged on a topic."""
        self._finished.add(offset)
        self.received.end(offset)

    def committable(self) -> int | None:
        """The offset to commit: that of the oldest unfinished record, or the one after the last.

        None before the first record.
        """
        while self._taken and self._taken[0] in self._finished:
            self._finished.discard(self._taken[0])
            self._uncommitted.append(self._taken.popleft())
        if self._taken:
            return self._taken[0]
        return self._next if self._next >= 0 else None

    def committed(self, offset: int) -> None:
        """The broker has acknowledged the commit of this offset."""
        while self._uncommitted and self._uncommitted[0] < offset:
            self._uncommitted.popleft()
