"""Samples committed offsets and topic ends during a storm, as any operator could read them."""

import asyncio
import contextlib

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.faults.harness.environment import Environment
from tests.faults.harness.evidence import Sample
from tests.faults.harness.settings import PARTITIONS, TOPIC_PREFIX

SAMPLE_SECONDS = 2.0
REQUEST_SECONDS = 3.0  # the broker may be away; the next sample asks again

GROUPS = ("dedupe", "sink", "reader-work")
READERS = (
    ("dedupe", "contacts.events", PARTITIONS),
    ("sink", "contacts.changes", 1),
    ("reader-work", "contacts.refetch", 1),
    ("reader-work", "grants.events", 1),
    ("reader-work", "contacts.outcomes", 1),
)
"""Group, topic and number of partitions of everything that a stage reads and commits."""


class OffsetsReader:
    """Reads offsets with consumers that never join their group. Every method blocks.

    Not with librdkafka's admin client: it aborts the process (rd_kafka_enq_once_del_source_return)
    when a broker dies under a request of list_offsets.
    """

    def __init__(self, bootstrap: str) -> None:
        self._consumers = {
            name: Consumer(
                {
                    "bootstrap.servers": bootstrap,
                    "group.id": f"{TOPIC_PREFIX}contactstream-{name}",
                    "enable.auto.commit": False,
                    # The end of the log: a transaction is acknowledged a moment before readers of
                    # what is committed may pass it.
                    "isolation.level": "read_uncommitted",
                    "log_level": 0,
                }
            )
            for name in GROUPS
        }

    def committed(self, group: str, topic: str, partitions: int = 1) -> dict[int, int]:
        """The committed offset of each partition; 0 without a commit. Raises KafkaException."""
        asked = [TopicPartition(TOPIC_PREFIX + topic, number) for number in range(partitions)]
        found = self._consumers[group].committed(asked, timeout=REQUEST_SECONDS)
        return {each.partition: max(0, each.offset) for each in found}

    def ends(self, topic: str, partitions: int = 1) -> dict[int, int]:
        """The end offset of each partition. Raises KafkaException."""
        watermarks = self._consumers["sink"].get_watermark_offsets
        return {
            number: watermarks(
                TopicPartition(TOPIC_PREFIX + topic, number), timeout=REQUEST_SECONDS
            )[1]
            for number in range(partitions)
        }

    def sample(self) -> Sample:
        """Offsets at one moment. Raises KafkaException.

        The committed offsets are read first, and the ends of the result topics after them: what was
        committed had its result before.
        """
        dedupe = self.committed("dedupe", "contacts.events", PARTITIONS)
        sink = self.committed("sink", "contacts.changes")[0]
        reader = self.committed("reader-work", "contacts.refetch")[0]
        return Sample(
            dedupe_committed=dedupe,
            sink_committed=sink,
            changes_end=self.ends("contacts.changes")[0],
            outcomes_end=self.ends("contacts.outcomes")[0],
            refetch_end=self.ends("contacts.refetch")[0],
            dead_letter_end=self.ends("contacts.dead-letter")[0],
            reader_committed=reader,
            events_end=self.ends("contacts.events", PARTITIONS),
        )

    def lag(self) -> tuple[dict[str, int], int]:
        """The uncommitted records of each topic that has some, and the number of records in all.

        Raises KafkaException.
        """
        lags: dict[str, int] = {}
        total = 0
        for group, topic, partitions in READERS:
            committed = self.committed(group, topic, partitions)
            ends = self.ends(topic, partitions)
            total += sum(ends.values())
            if lag := sum(end - committed[number] for number, end in ends.items()):
                lags[topic] = lag
        return lags, total

    def close(self) -> None:
        """Closes the clients."""
        for consumer in self._consumers.values():
            consumer.close()


async def sample_until_cancelled(environment: Environment, samples: list[Sample]) -> None:
    """Adds samples of the offsets, and measures the memory of every replica."""
    offsets = OffsetsReader(environment.kafka.bootstrap)
    try:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            for replica in environment.stages.replicas:
                replica.measure()
            with contextlib.suppress(KafkaException):  # the broker is away: nothing is committed
                samples.append(await asyncio.to_thread(offsets.sample))
    finally:
        offsets.close()
