"""How far the stages behind the reader are behind, and the gate that bulk work waits at until they have caught up."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

REQUEST_SECONDS = 10.0  # one request; the gate asks again, so it may be short
NO_GROUP = "contactstream-lag"  # of the client that asks for offsets only: each has to name one, and none is made
CHECK_EVERY = 1.0  # seconds: at the reader's rate a few pages pass between two looks, little beside the bound


def lag(committed: Mapping[int, int], start: Mapping[int, int], end: Mapping[int, int]) -> int:
    """Records from the committed offsets to the end; a partition without a commit counts from its start."""
    total = 0
    for partition, last in end.items():
        offset = committed.get(partition, -1)
        total += max(0, last - max(offset, start.get(partition, 0)))
    return total


class LagReader:
    """Asks the broker for the lag of consumer groups, without joining them. `config` is what all Kafka clients share.

    By consumers that never subscribe. The admin client crashes the whole process: in list_consumer_group_offsets when the coordinator
    has moved or is not up yet (librdkafka issue 5040), in list_offsets when a broker dies under the request
    (rd_kafka_enq_once_del_source_return). Both were seen with librdkafka 2.16.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        # A broker that is away is told by the exception; these clients would print it too, twenty times a second.
        self._config = {**config, "log_level": 0, "enable.auto.commit": False}
        self._consumers: dict[str, Consumer] = {}

    def lag(self, group: str, topic: str, partitions: int) -> int:
        """Blocks for a few requests, of which the first that is not answered raises KafkaException."""
        committed = self._committed(group, topic, range(partitions))
        start, end = self._ranges(topic, range(partitions))
        return lag(committed, start, end)

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The end offset of each partition."""
        return self._ranges(topic, range(partitions))[1]

    def reached(self, group: str, topic: str, ends: Mapping[int, int]) -> bool:
        """Whether the group has committed up to `ends`; a partition that was empty then counts as reached."""
        start, _ = self._ranges(topic, ends)
        return lag(self._committed(group, topic, ends), start, ends) == 0

    def _committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        found = self._client(group).committed(wanted, timeout=REQUEST_SECONDS)
        return {each.partition: each.offset for each in found}

    def _ranges(self, topic: str, partitions: Iterable[int]) -> tuple[dict[int, int], dict[int, int]]:
        client = self._client(NO_GROUP)
        # Looks again who leads: what the client remembers may be older than a broker's restart.
        client.list_topics(topic, timeout=REQUEST_SECONDS)
        start, end = dict[int, int](), dict[int, int]()
        for partition in partitions:
            found = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_SECONDS)
            if found is None or min(found) < 0:  # seen while a broker started: no error, and no offset
                raise KafkaException(KafkaError(KafkaError._NO_OFFSET))
            start[partition], end[partition] = found
        return start, end

    def _client(self, group: str) -> Consumer:
        if group not in self._consumers:
            self._consumers[group] = Consumer({**self._config, "group.id": group})
        return self._consumers[group]


class Gate:
    """Lets bulk work through while `read_lag()` is at most `bound`. `read_lag` blocks, and may raise KafkaException."""

    def __init__(self, read_lag: Callable[[], int], bound: int, on_wait: Callable[[], None]) -> None:
        self._read_lag, self._bound, self._on_wait = read_lag, bound, on_wait
        self._lock = asyncio.Lock()
        self._looked_at = float("-inf")
        self._room = 0

    async def wait(self, records: int) -> None:
        """Returns when so many more records may be published. What was let through since the last look counts as lag.

        No bound in time: live changes go first, for as long as they take.
        """
        async with self._lock:  # in turn: whoever waits longest goes first
            while not (self._room > 0 and time.monotonic() - self._looked_at < CHECK_EVERY):
                try:
                    self._room = self._bound - await asyncio.to_thread(self._read_lag)
                except KafkaException:  # the broker is away: the publisher says so, and the gate asks again
                    self._room = 0
                self._looked_at = time.monotonic()
                if self._room <= 0:
                    self._on_wait()
                    await asyncio.sleep(CHECK_EVERY)
            self._room -= records
