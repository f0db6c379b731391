"""The lag of consumer groups: how many records of a topic a group has not committed yet."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from streams.kafka.committed import committed_of_group
from streams.kafka.log_range import offset_range
from streams.kafka.records import KafkaRecord, to_record

# One request. The callers ask again, so it may be short.
LAG_REQUEST_SECONDS = 10.0

# What the consumer that reads single records fetches for one, if the record is not larger.
PEEK_BYTES = 64 * 1024


def lag(committed: Mapping[int, int], start: Mapping[int, int], end: Mapping[int, int]) -> int:
    """Records between the committed offsets and the end offsets, of all partitions in `end`.

    A partition without a commit counts from its start. A negative committed offset means none.
    """
    total = 0
    for partition, last in end.items():
        offset = committed.get(partition, -1)
        total += max(0, last - max(offset, start.get(partition, 0)))
    return total


class LagReader:
    """Asks the broker for the lag of consumer groups, without joining them.

    `config` is that of `client_config`. Every method blocks for a few requests, and raises
    KafkaException for the first that is not answered.

    It asks by consumers that never subscribe, because the admin client crashes the whole process:
    in list_consumer_group_offsets when the coordinator has moved or is not up yet (librdkafka issue
    5040), in list_offsets when a broker dies during the request
    (rd_kafka_enq_once_del_source_return). Both were seen with librdkafka 2.16.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        # The exception reports a broker that is away; these clients would print it too, twenty
        # times a second.
        self._config = {**config, "log_level": 0, "enable.auto.commit": False}
        self._consumers: dict[str, Consumer] = {}

    def lag(self, group: str, topic: str, partitions: int) -> int:
        """Records of the topic that the group has not committed; `partitions` is their number."""
        committed = self._committed(group, topic, range(partitions))
        start, end = self._ranges(topic, range(partitions))
        return lag(committed, start, end)

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The end offset of each partition."""
        return self._ranges(topic, range(partitions))[1]

    def ranges(self, topic: str, partitions: int) -> tuple[dict[int, int], dict[int, int]]:
        """The start and the end offset of each partition."""
        return self._ranges(topic, range(partitions))

    def lags(self, group: str, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
        """By partition, where the group goes on and how many records it has not committed."""
        committed = self._committed(group, topic, range(partitions))
        start, end = self._ranges(topic, range(partitions))
        return {
            each: (
                max(committed.get(each, -1), start[each]),
                lag(committed, start, {each: end[each]}),
            )
            for each in end
        }

    def notes(self, group: str, topic: str, partitions: int) -> dict[int, str]:
        """By partition, what the group wrote beside its last commit; empty for nothing."""
        wanted = [TopicPartition(topic, partition) for partition in range(partitions)]
        found = committed_of_group(self._client(group), group, wanted, LAG_REQUEST_SECONDS)
        return {each.partition: each.metadata or "" for each in found}

    def timestamp_ms(self, topic: str, partition: int, offset: int) -> int | None:
        """Kafka's timestamp of the record at an offset, by which Kafka deletes it.

        None if the record cannot be read within LAG_REQUEST_SECONDS.
        """
        record = self.peek(topic, partition, offset)
        return record.timestamp_ms if record is not None and record.offset == offset else None

    def peek(self, topic: str, partition: int, offset: int) -> KafkaRecord | None:
        """The record at an offset, or the first after it where the topic is compacted.

        None if none can be read within LAG_REQUEST_SECONDS.
        """
        client = self._client(
            f"{self._config['client.id']}-peek",
            {"fetch.message.max.bytes": PEEK_BYTES, "queued.min.messages": 1},
        )
        try:
            client.assign([TopicPartition(topic, partition, offset)])
            for message in client.consume(1, LAG_REQUEST_SECONDS):
                if message.error() is None:
                    return to_record(message)
            return None
        finally:
            client.unassign()

    def reached(self, group: str, topic: str, ends: Mapping[int, int]) -> bool:
        """Whether the group has committed up to the end offsets `ends`.

        A partition that was empty then counts as reached.
        """
        start, _ = self._ranges(topic, ends)
        return lag(self._committed(group, topic, ends), start, ends) == 0

    def _committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        found = committed_of_group(self._client(group), group, wanted, LAG_REQUEST_SECONDS)
        return {each.partition: each.offset for each in found}

    def _ranges(
        self, topic: str, partitions: Iterable[int]
    ) -> tuple[dict[int, int], dict[int, int]]:
        # librdkafka demands a group.id; the group is never created.
        client = self._client(f"{self._config['client.id']}-lag")
        # Asks who leads the partitions now: the client's metadata may be older than a broker's
        # restart.
        client.list_topics(topic, timeout=LAG_REQUEST_SECONDS)
        start, end = dict[int, int](), dict[int, int]()
        for partition in partitions:
            start[partition], end[partition] = offset_range(
                client, TopicPartition(topic, partition), LAG_REQUEST_SECONDS
            )
        return start, end

    def _client(self, group: str, more: Mapping[str, Any] = MappingProxyType({})) -> Consumer:
        if group not in self._consumers:
            # Most of these consumers are never polled, so librdkafka's lines would pile up in them.
            # Whoever asks gets the error.
            quiet = {"log_level": 0, "group.id": group}
            self._consumers[group] = Consumer({**self._config, **quiet, **more})
        return self._consumers[group]
