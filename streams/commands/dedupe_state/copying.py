"""Copies the table of a generation of dedupe into the changelog of another one.

It goes on where the last copy ended, so that a copy beside the running generation leaves little to
do for the switch. Records keep their order, and their partition: what is copied a second time after
an interruption is followed by everything newer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.commands.dedupe_state.entries import Entry, EntryOf
from streams.dedupe.generation_groups import GenerationGroup
from streams.kafka.clients import producer_config
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import read_to_end
from streams.settings import KafkaSettings

# Some 700 KB of entries. What an interruption repeats at most, and what is held in memory.
RECORDS_A_BATCH = 5_000

# Longer than a leader election takes.
DELIVERY_SECONDS = 60.0

# Until the producer has reported every record after that: its timers run once a second.
REPORT_SECONDS = 5.0


class NotCopied(RuntimeError):
    """Kafka did not acknowledge a batch of entries, or refused it. The copy can be repeated."""


@dataclass(frozen=True, slots=True)
class CopySource:
    """Where the entries come from: an old changelog, or contacts.changes."""

    topic: str
    partitions: int
    entry_of: EntryOf
    keeps_partition: bool
    """Whether an entry goes to the partition that it comes from; else its key decides."""


@dataclass(slots=True)
class Copied:
    """What a copy did."""

    records: int = 0
    skipped: int = 0
    """Records of which no entry could be made: another program wrote them."""


class StateCopy:
    """Copies from one topic to the changelog of one generation.

    `note` names both topics by their IDs, so that nothing is taken for copied once one of them was
    made anew. `check` is called before each batch, and raises if the copy must not go on.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        source: CopySource,
        target: int,
        changelog: str,
        note: str,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.source = source
        self._kafka, self._target = kafka, target
        self._changelog, self._note, self._check = changelog, note, check

    def positions(self) -> list[int]:
        """The offset of each partition of the source from which a copy goes on. Blocks."""
        with GenerationGroup(self._kafka, self._target) as group:
            return self._positions(group)

    def _positions(self, group: GenerationGroup) -> list[int]:
        return group.copied_up_to(self.source.topic, self.source.partitions, self._note)

    def run(self, progress: Callable[[int], None]) -> Copied:
        """Copies up to the present end of every partition. Blocks.

        `progress` gets the number of records so far after each batch. Raises UnusableEntry,
        NotCopied, GroupHasMembers, SnapshotStalled and KafkaException; then the same copy may be
        made again.
        """
        copied = Copied()
        config = producer_config(self._kafka, delivery_timeout=DELIVERY_SECONDS)
        # A callback for each record would cost as much as publishing it.
        producer = Producer(config | {"delivery.report.only.error": True})
        with GenerationGroup(self._kafka, self._target) as group:
            for partition, position in enumerate(self._positions(group)):
                for batch in self._batches(partition, position):
                    self._check()
                    self._publish(producer, partition, batch, copied)
                    after = {partition: batch[-1].offset + 1}
                    group.commit_copied(self.source.topic, after, self._note)
                    progress(copied.records)
        return copied

    def _batches(self, partition: int, position: int) -> Iterator[list[KafkaRecord]]:
        topic = self.source.topic
        reading = read_to_end(self._kafka, topic, partition=partition, offset=position)
        with closing(reading) as records:
            while batch := list(islice(records, RECORDS_A_BATCH)):
                yield batch

    def _publish(
        self, producer: Producer, partition: int, batch: Sequence[KafkaRecord], copied: Copied
    ) -> None:
        entries = [entry for record in batch if (entry := self.source.entry_of(record))]
        publish_entries(
            producer, self._changelog, partition if self.source.keeps_partition else -1, entries
        )
        copied.records += len(batch)
        copied.skipped += len(batch) - len(entries)


def publish_entries(
    producer: Producer, changelog: str, partition: int, entries: Sequence[Entry]
) -> None:
    """Returns once every entry is acknowledged; partition -1 is that of the key.

    The producer reports failures only. Blocks for up to DELIVERY_SECONDS. Raises NotCopied.
    """
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    where: dict[str, Any] = {} if partition < 0 else {"partition": partition}
    for key, value in entries:
        try:
            producer.produce(changelog, value, key, on_delivery=delivered, **where)
        except (BufferError, KafkaException) as error:
            producer.purge()
            producer.flush(REPORT_SECONDS)
            raise NotCopied(f"{changelog}: {error}") from error
    left = producer.flush(DELIVERY_SECONDS + REPORT_SECONDS)
    if failures:
        raise NotCopied(
            f"{changelog}: Kafka did not take the entries: {failures[0].str()}. Examine it with "
            "contactstream topics check, and repeat the command"
        )
    if left:
        raise NotCopied(f"{changelog}: {left} entries were not acknowledged; repeat the command")
