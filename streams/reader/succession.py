"""Records that their contact has given up: whoever had only filled them is offered again, and takes them over.

So an identity that moves (a contact deleted and another created with its address, in either order) ends with the living contact as
the owner of the record, without waiting for the next reconcile.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import structlog
from confluent_kafka import KafkaException

from streams.events import Record
from streams.metrics import ReaderMetrics
from streams.reader.assigned import AssignedPartition, OutOfLog
from streams.reader.reconcile import Offerer, given_up, heirs, living_offsets
from streams.settings import KafkaSettings
from streams.snapshot import Snapshots, SnapshotStalled
from streams.topics import Topics, group

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

# After a release: an heir's outcome, written beside it by another batch, may be acknowledged later.
SETTLE_SECONDS = 5.0
REST = 20  # times what it took of the processor: looking for heirs costs a twentieth of a core at the most,
MAX_REST = 60.0  # unless it takes more than three seconds: an heir waits for no more than the rest and one look
MAX_RELEASED = 100_000  # records looked for at once, some MB


class Succession:
    """Watches contacts.outcomes for records that were released."""

    def __init__(
        self, kafka: KafkaSettings, topics: Topics, snapshots: Snapshots, offerer: Offerer, metrics: ReaderMetrics
    ) -> None:
        self._kafka, self._topics, self._snapshots = kafka, topics, snapshots
        self._offerer, self._metrics = offerer, metrics

    async def run(self) -> None:
        """Works until it is cancelled."""
        lost = self._metrics.lost.labels("contacts.outcomes")
        async with AssignedPartition(
            self._kafka, self._topics.outcomes.name, group(self._kafka, "reader-work"), lost.inc
        ) as source:
            await source.start()
            released: set[str] = set()
            gone: set[str] = set()
            not_before = 0.0
            while True:
                try:
                    records = await source.consume() if len(released) + len(gone) < MAX_RELEASED else await _nothing()
                except OutOfLog:  # a compacted topic's start tells the last outcome of every contact
                    await source.start_over()
                    continue
                records_released, contacts_gone = given_up(records)
                if (records_released or contacts_gone) and not (released or gone):
                    not_before = max(not_before, time.monotonic() + SETTLE_SECONDS)
                released |= records_released
                gone |= contacts_gone
                if (released or gone) and time.monotonic() >= not_before:
                    try:
                        took = await self._hand_over(released, gone)
                    except (SnapshotStalled, KafkaException) as error:
                        log.warning("contacts.outcomes could not be read, tried again", error=str(error))
                        not_before = time.monotonic() + SETTLE_SECONDS
                        continue
                    released, gone = set(), set()
                    not_before = time.monotonic() + rest_after(took)
                if (
                    not released
                    and not gone
                    and source.position > source.committed
                    and await source.commit(source.position)
                ):
                    source.committed = source.position

    async def _hand_over(self, released: set[str], gone: set[str]) -> float:
        """Offers the heirs; returns the processor seconds that looking for them took."""
        outcomes, changes = self._topics.outcomes.name, self._topics.changes.name
        keys, took = await self._snapshots.read(outcomes, timed(lambda records: heirs(records, released, gone)))
        if keys:
            offered, more = await self._snapshots.read(changes, timed(lambda records: living_offsets(records, keys)))
            took += more
            await self._offerer.offer(offered)
            log.info("heirs of released records offered", released=len(released) + len(gone), offered=len(offered))
        return took


def rest_after(took: float) -> float:
    """Seconds until heirs are looked for again, after a look that took so many seconds of the processor."""
    return min(REST * took, MAX_REST)


def timed(function: Callable[[Iterator[Record]], ResultT]) -> Callable[[Iterator[Record]], tuple[ResultT, float]]:
    """The function's result, and the processor seconds of its own thread: the process has others, whose work is not its own."""

    def work(records: Iterator[Record]) -> tuple[ResultT, float]:
        began = time.thread_time()
        return function(records), time.thread_time() - began

    return work


async def _nothing() -> list[Record]:
    await asyncio.sleep(SETTLE_SECONDS)
    return []
