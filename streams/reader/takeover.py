"""Records that their contact has given up: whoever had only filled them is offered again, and takes
them over.

So an identity that moves (a contact deleted and another created with its address, in either order)
ends with the living contact as the owner of the record, without waiting for the next reconcile.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeVar

import structlog
from confluent_kafka import KafkaException

from streams.events import Origin, UnreadableRecord, now_ms, parse_change
from streams.kafka.assigned import AssignedPartition
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.records import KafkaRecord, header
from streams.kafka.snapshot import Snapshots, SnapshotStalled
from streams.metrics import ReaderMetrics
from streams.reader.comparison import _outcome, read_outcome
from streams.reader.gate import Gate
from streams.reader.records import Publish, contact_record
from streams.settings import KafkaSettings
from streams.topics import Topics, group

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

# After a release: an heir's outcome, written beside it by another batch, may be acknowledged later.
SETTLE_SECONDS = 5.0
# times what it took of the processor: looking for heirs costs a twentieth of a core at the most,
REST = 20
# unless it takes more than three seconds: an heir waits for no more than the rest and one look
MAX_REST = 60.0
MAX_RELEASED = 100_000  # records looked for at once, some MB


CHUNK = 500  # records published together


def released_in(outcomes: Iterable[KafkaRecord]) -> tuple[set[str], set[str]]:
    """The Salesforce records that these outcomes released, and the contacts whose deletion found no
    record any more.

    Of the latter a sink that ended before it could say so may have released the record.
    """
    released, gone = set(), set()
    for record in outcomes:
        outcome = _outcome(record)
        if outcome.get("outcome") == "released" and outcome.get("id"):
            released.add(str(outcome["id"]))
        elif outcome.get("reason") == "no_record":
            gone.add((record.key or b"").decode(errors="replace"))
    return released, gone


def successors(
    outcomes: Iterable[KafkaRecord], released: Collection[str], gone: Collection[str] = ()
) -> set[str]:
    """Contacts whose last outcome was to fill a record that has been released, or that a contact of
    `gone` ever owned.
    """
    records = set(released)
    filled: dict[str, str] = {}
    for record in outcomes:
        fate, record_id = read_outcome(record)
        key = (record.key or b"").decode(errors="replace")
        if fate == "filled":
            filled[key] = record_id
        else:
            filled.pop(key, None)
            if record_id and key in gone:
                records.add(record_id)
    return {key for key, record_id in filled.items() if record_id in records}


def living_offsets(changes: Iterable[KafkaRecord], keys: Collection[str]) -> dict[str, int]:
    """Of these contacts those whose last change is no deletion, with its offset."""
    living: dict[str, int] = {}
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        if key in keys:
            living.pop(key, None)
            if header(record.headers, "kind") == b"updated":
                living[key] = record.offset
    return living


def offer_records(
    changes: Iterable[KafkaRecord], topics: Topics, offered: Mapping[str, int]
) -> Iterable[KafkaRecord]:
    """The changes at the offsets of `offered` as replayed events: of the version that was
    forwarded, which the dedupe stage lets pass.
    """
    last = max(offered.values(), default=-1)
    for record in changes:
        if record.offset > last:
            return
        key = (record.key or b"").decode(errors="replace")
        if offered.get(key) != record.offset:
            continue
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue
        if change is not None:
            event_id = f"offer/{now_ms()}/{key}"
            yield contact_record(
                topics,
                key.encode(),
                Origin.REPLAY,
                event_id,
                change.version,
                change.contact,
                now_ms(),
            )


class Reoffer:
    """Offers contacts again: publishes their last change as a replay."""

    def __init__(
        self,
        snapshots: Snapshots,
        publish: Publish,
        gate: Gate,
        topics: Topics,
        metrics: ReaderMetrics,
    ) -> None:
        self._snapshots, self._publish, self._gate = snapshots, publish, gate
        self._topics, self._metrics = topics, metrics

    async def offer(self, offered: Mapping[str, int]) -> None:
        """`offered` is the offset of each contact's last change in contacts.changes. Raises
        SnapshotStalled and KafkaException.
        """
        ordered = sorted(offered, key=offered.__getitem__)
        for start in range(0, len(ordered), CHUNK):
            chunk = {key: offered[key] for key in ordered[start : start + CHUNK]}
            await self._gate.wait(
                len(chunk)
            )  # it may be long: nothing is held open or in memory meanwhile
            records = await self._snapshots.read(
                self._topics.changes.name,
                partial(_offer_list, self._topics, chunk),
                offered[ordered[start]],
            )
            await self._publish(records)
            self._metrics.reoffered.inc(len(records))


def _offer_list(
    topics: Topics, offered: Mapping[str, int], changes: Iterable[KafkaRecord]
) -> list[KafkaRecord]:
    return list(offer_records(changes, topics, offered))


class Takeover:
    """Watches contacts.outcomes for records that were released."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: Topics,
        snapshots: Snapshots,
        offerer: Reoffer,
        metrics: ReaderMetrics,
    ) -> None:
        self._kafka, self._topics, self._snapshots = kafka, topics, snapshots
        self._offerer, self._metrics = offerer, metrics

    async def run(self) -> None:
        """Works until it is cancelled."""
        lost = self._metrics.offset_resets.labels("contacts.outcomes")
        async with AssignedPartition(
            self._kafka, self._topics.outcomes.name, group(self._kafka, "reader-work"), lost.inc
        ) as source:
            await source.start()
            released: set[str] = set()
            gone: set[str] = set()
            not_before = 0.0
            while True:
                try:
                    records = (
                        await source.consume()
                        if len(released) + len(gone) < MAX_RELEASED
                        else await _nothing()
                    )
                except (
                    OffsetOutOfRange
                ):  # a compacted topic's start tells the last outcome of every contact
                    await source.start_over()
                    continue
                records_released, contacts_gone = released_in(records)
                if (records_released or contacts_gone) and not (released or gone):
                    not_before = max(not_before, time.monotonic() + SETTLE_SECONDS)
                released |= records_released
                gone |= contacts_gone
                if (released or gone) and time.monotonic() >= not_before:
                    try:
                        took = await self._hand_over(released, gone)
                    except (SnapshotStalled, KafkaException) as error:
                        log.warning(
                            "contacts.outcomes could not be read, tried again", error=str(error)
                        )
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
        keys, took = await self._snapshots.read(
            outcomes, timed(lambda records: successors(records, released, gone))
        )
        if keys:
            offered, more = await self._snapshots.read(
                changes, timed(lambda records: living_offsets(records, keys))
            )
            took += more
            await self._offerer.offer(offered)
            log.info(
                "heirs of released records offered",
                released=len(released) + len(gone),
                offered=len(offered),
            )
        return took


def rest_after(took: float) -> float:
    """Seconds until heirs are looked for again, after a look that took so many seconds of the
    processor.
    """
    return min(REST * took, MAX_REST)


def timed(
    function: Callable[[Iterator[KafkaRecord]], ResultT],
) -> Callable[[Iterator[KafkaRecord]], tuple[ResultT, float]]:
    """The function's result, and the processor seconds of its own thread: the process has others,
    whose work is not its own.
    """

    def work(records: Iterator[KafkaRecord]) -> tuple[ResultT, float]:
        began = time.thread_time()
        return function(records), time.thread_time() - began

    return work


async def _nothing() -> list[KafkaRecord]:
    await asyncio.sleep(SETTLE_SECONDS)
    return []
