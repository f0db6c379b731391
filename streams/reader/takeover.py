"""Finds successors for released Salesforce records and offers them to the sink again.

A contact that is deleted releases its record. Contacts that had only filled blanks of the record,
that it covered, or that it might have been, are its successors: once they are offered again, one
of them may take the record over. So when a person
moves from one contact to another (one is deleted and the other created, in either order), the
living contact becomes the owner without waiting for the next reconcile.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog
from confluent_kafka import KafkaException

from streams.kafka.assigned import AssignedPartition
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.records import KafkaRecord, header
from streams.kafka.snapshot import Snapshots, SnapshotStalled
from streams.reader.context import ReaderContext
from streams.reader.outcome_records import WITHOUT_OWN_RECORD, parse_outcome
from streams.reader.reoffer import Reoffer
from streams.runtime.current_work import doing
from streams.settings import KafkaSettings
from streams.topics import group

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

# Waited after a release: another batch of the sink may acknowledge the outcome of a successor a
# little later than the release.
OUTCOME_SETTLE_SECONDS = 5.0

# Waited before a search that failed is repeated, and before outcomes are read again while
# MAX_PENDING_RELEASES are pending.
SEARCH_RETRY_SECONDS = 5.0

# The pause after a search, in multiples of the processor time that it took: searches then use a
# twentieth of a core at the most.
SEARCH_PAUSE_FACTOR = 20

# The longest pause after a search, in which releases are gathered. It takes effect when a search
# takes more than 90 seconds of the processor, for some 20 million outcomes. A successor waits no
# longer than this pause and one search, which is far below the interval of reconciles.
MAX_SEARCH_PAUSE_SECONDS = 1800.0

# Releases searched for together; they take some MB.
MAX_PENDING_RELEASES = 100_000

# A value without any of them names no contact that is without a record of its own.
_WORDS_WITHOUT_OWN_RECORD = tuple(f'"{word}"'.encode() for word in sorted(WITHOUT_OWN_RECORD))


@dataclass(slots=True)
class Releases:
    """Releases whose successors have yet to be searched for."""

    records: set[str] = field(default_factory=set)
    """IDs of Salesforce records that their owners released."""
    deleted_contacts: set[str] = field(default_factory=set)
    """Keys of contacts whose deletion found no record.

    A sink that ended before it wrote the outcome may have released the record.
    """

    def __len__(self) -> int:
        return len(self.records) + len(self.deleted_contacts)

    def add(self, outcomes: Iterable[KafkaRecord]) -> None:
        """Adds what these records of contacts.outcomes released."""
        for record in outcomes:
            outcome = parse_outcome(record)
            if outcome.outcome == "released" and outcome.salesforce_id:
                self.records.add(outcome.salesforce_id)
            elif outcome.reason == "no_record":
                self.deleted_contacts.add(outcome.contact_key)


def released_records(outcomes: Iterable[KafkaRecord], releases: Releases) -> Releases:
    """The releases by their records: every record that a deleted contact ever owned is released.

    `outcomes` is contacts.outcomes from its start; only those of the deleted contacts are parsed.
    """
    released = set(releases.records)
    deleted = {key.encode() for key in releases.deleted_contacts}
    for record in outcomes:
        if record.key in deleted:
            outcome = parse_outcome(record)
            if outcome.salesforce_id and outcome.outcome not in WITHOUT_OWN_RECORD:
                released.add(outcome.salesforce_id)
    return Releases(released)


def successors(outcomes: Iterable[KafkaRecord], releases: Releases) -> set[str]:
    """Keys of contacts without a record of their own whose last outcome names a released record.

    `outcomes` is contacts.outcomes from its start. Only contacts that name a record in
    `releases.records` are held, and only outcomes that may name one are parsed.
    """
    found: set[str] = set()
    for record in outcomes:
        value = record.value or b""
        if any(word in value for word in _WORDS_WITHOUT_OWN_RECORD):
            outcome = parse_outcome(record)
            if outcome.outcome in WITHOUT_OWN_RECORD and not outcome.record_ids.isdisjoint(
                releases.records
            ):
                found.add(outcome.contact_key)
                continue
        if found:
            found.discard((record.key or b"").decode(errors="replace"))
    return found


def living_offsets(changes: Iterable[KafkaRecord], keys: Collection[str]) -> dict[str, int]:
    """The contacts among `keys` whose last change is no deletion: key to offset of that change."""
    living: dict[str, int] = {}
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        if key in keys:
            living.pop(key, None)
            if header(record.headers, "kind") == b"updated":
                living[key] = record.offset
    return living


class Takeover:
    """Watches contacts.outcomes for released records and offers their successors again."""

    def __init__(
        self, kafka: KafkaSettings, context: ReaderContext, snapshots: Snapshots, reoffer: Reoffer
    ) -> None:
        self._kafka, self._context = kafka, context
        self._snapshots, self._reoffer = snapshots, reoffer

    async def run(self) -> None:
        """Works until it is cancelled. Commits only when no release is pending."""
        lost = self._context.metrics.offset_resets.labels("contacts.outcomes")
        async with AssignedPartition(
            self._kafka,
            self._context.topics.outcomes.name,
            group(self._kafka, "reader-work"),
            lost.inc,
        ) as source:
            await source.start()
            pending = Releases()
            search_at = 0.0
            while True:
                try:
                    outcomes = await _consume(source, pending)
                except OffsetOutOfRange:
                    # The topic is compacted: from its start it holds the last outcome of every
                    # contact, so nothing is lost.
                    await source.start_over()
                    continue
                idle = not pending
                pending.add(outcomes)
                if pending and idle:
                    search_at = max(search_at, time.monotonic() + OUTCOME_SETTLE_SECONDS)
                if pending and time.monotonic() >= search_at:
                    try:
                        with doing(self._context.work.successors):
                            seconds = await self._offer_successors(pending)
                    except (SnapshotStalled, KafkaException) as error:
                        log.warning(
                            "searching for successors of released records failed; it is repeated",
                            error=str(error),
                        )
                        search_at = time.monotonic() + SEARCH_RETRY_SECONDS
                        continue
                    pending = Releases()
                    search_at = time.monotonic() + pause_after_search(seconds)
                if not pending:
                    await _commit_position(source)

    async def _offer_successors(self, releases: Releases) -> float:
        """Offers the successors again; returns the processor seconds that the search took."""
        topics = self._context.topics
        seconds = 0.0
        if releases.deleted_contacts:
            releases, seconds = await self._snapshots.read(
                topics.outcomes.name,
                with_thread_seconds(partial(released_records, releases=releases)),
            )
        keys, more_seconds = await self._snapshots.read(
            topics.outcomes.name, with_thread_seconds(partial(successors, releases=releases))
        )
        seconds += more_seconds
        if keys:
            offsets, more_seconds = await self._snapshots.read(
                topics.changes.name,
                with_thread_seconds(lambda records: living_offsets(records, keys)),
            )
            seconds += more_seconds
            await self._reoffer.publish(offsets)
            log.info(
                "successors of released records offered again",
                released=len(releases),
                successors=len(offsets),
            )
        return seconds


async def _consume(source: AssignedPartition, pending: Releases) -> list[KafkaRecord]:
    if len(pending) < MAX_PENDING_RELEASES:
        return await source.consume()
    await asyncio.sleep(SEARCH_RETRY_SECONDS)
    return []


async def _commit_position(source: AssignedPartition) -> None:
    if source.position > source.committed and await source.commit(source.position):
        source.committed = source.position


def pause_after_search(seconds: float) -> float:
    """Seconds until the next search, after one that took so many seconds of the processor."""
    return min(SEARCH_PAUSE_FACTOR * seconds, MAX_SEARCH_PAUSE_SECONDS)


def with_thread_seconds(
    function: Callable[[Iterator[KafkaRecord]], ResultT],
) -> Callable[[Iterator[KafkaRecord]], tuple[ResultT, float]]:
    """Wraps a function so that it also returns the processor seconds of its own thread.

    The process has other threads, whose work does not count.
    """

    def work(records: Iterator[KafkaRecord]) -> tuple[ResultT, float]:
        began = time.thread_time()
        return function(records), time.thread_time() - began

    return work
