"""How far the stages behind the reader are behind, and the gate that bulk work waits at until they have caught up."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

EARLIEST, LATEST = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
REQUEST_SECONDS = 10.0  # one admin request; the gate asks again, so it may be short
CHECK_EVERY = 1.0  # seconds: at the reader's rate a few pages pass between two looks, little beside the bound


def lag(committed: Mapping[int, int], start: Mapping[int, int], end: Mapping[int, int]) -> int:
    """Records from the committed offsets to the end; a partition without a commit counts from its start."""
    total = 0
    for partition, last in end.items():
        offset = committed.get(partition, -1)
        total += max(0, last - max(offset, start.get(partition, 0)))
    return total


class LagReader:
    """Asks the broker for the lag of consumer groups, without joining them. `config` is what all Kafka clients share."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        # A broker that is away is told by the exception; these clients would print it too, twenty times a second.
        self._config = {**config, "log_level": 0}
        self._admin = AdminClient(dict(self._config))
        self._consumers: dict[str, Consumer] = {}

    def lag(self, group: str, topic: str, partitions: int) -> int:
        """Blocks for up to three requests. Raises KafkaException when the broker does not answer."""
        all_of_it = [TopicPartition(topic, partition) for partition in range(partitions)]
        return lag(
            self._committed(group, all_of_it),
            self._offsets(all_of_it, EARLIEST),
            self._offsets(all_of_it, LATEST),
        )

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The end offset of each partition."""
        return self._offsets([TopicPartition(topic, partition) for partition in range(partitions)], LATEST)

    def reached(self, group: str, topic: str, ends: Mapping[int, int]) -> bool:
        """Whether the group has committed up to `ends`; a partition that was empty then counts as reached."""
        partitions = [TopicPartition(topic, partition) for partition in ends]
        start = self._offsets(partitions, EARLIEST)
        return lag(self._committed(group, partitions), start, ends) == 0

    def _committed(self, group: str, partitions: Sequence[TopicPartition]) -> dict[int, int]:
        # A consumer that never subscribes. AdminClient.list_consumer_group_offsets crashes the whole process when the coordinator
        # has moved or is not up yet (librdkafka issue 5040; seen with 2.16 at every second restart of a broker).
        if group not in self._consumers:
            self._consumers[group] = Consumer({**self._config, "group.id": group, "enable.auto.commit": False})
        found = self._consumers[group].committed(list(partitions), timeout=REQUEST_SECONDS)
        return {each.partition: each.offset for each in found}

    def _offsets(self, partitions: Sequence[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
        # list_offsets never looks again who leads a partition: after a broker's restart it would fail with FENCED_LEADER_EPOCH
        # until the client's metadata expires (15 minutes). This makes it look.
        self._admin.list_topics(partitions[0].topic, timeout=REQUEST_SECONDS)
        futures = self._admin.list_offsets(dict.fromkeys(partitions, spec), request_timeout=REQUEST_SECONDS)
        found = {partition.partition: future.result().offset for partition, future in futures.items()}
        if any(offset < 0 for offset in found.values()):  # seen while a broker started: no error, and no offset
            raise KafkaException(KafkaError(KafkaError._NO_OFFSET))
        return found


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
