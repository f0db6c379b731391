"""Offers contacts to the sink again: publishes their last change to contacts.events as a replay.

Used for contacts without a record of their own, which filled another contact's record, were covered
or were ambiguous: that record may have been released or corrected since.
"""

from collections.abc import Iterable, Mapping
from functools import partial

from streams.events import Origin, UnreadableRecord, now_ms, parse_change
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.reader.context import ReaderContext
from streams.reader.records import contact_record
from streams.topics import Topics

# Records published together, which are in memory at once.
REOFFER_BATCH = 500


def reoffer_records(
    changes: Iterable[KafkaRecord], topics: Topics, offsets: Mapping[str, int]
) -> Iterable[KafkaRecord]:
    """The changes at these offsets, by contact key, as replayed events.

    An event keeps the version that dedupe forwarded, so that dedupe lets it pass again. A change
    that no event can carry becomes a dead letter; an unreadable one is skipped.
    """
    last = max(offsets.values(), default=-1)
    for record in changes:
        if record.offset > last:
            return
        key = (record.key or b"").decode(errors="replace")
        if offsets.get(key) != record.offset:
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


def _reoffer_list(
    topics: Topics, offsets: Mapping[str, int], changes: Iterable[KafkaRecord]
) -> list[KafkaRecord]:
    return list(reoffer_records(changes, topics, offsets))


class Reoffer:
    """Publishes the last change of contacts as a replay."""

    def __init__(self, context: ReaderContext, snapshots: Snapshots) -> None:
        self._context, self._snapshots = context, snapshots

    async def publish(self, offsets: Mapping[str, int]) -> None:
        """Publishes again; `offsets` is that of each contact's last change in contacts.changes.

        Reads contacts.changes batch by batch, after the gate has opened for a batch: the wait may
        be long, and nothing is held in memory meanwhile. Raises SnapshotStalled and KafkaException.
        """
        topics = self._context.topics
        keys = sorted(offsets, key=offsets.__getitem__)
        for start in range(0, len(keys), REOFFER_BATCH):
            batch = {key: offsets[key] for key in keys[start : start + REOFFER_BATCH]}
            await self._context.gate.wait(len(batch))
            records = await self._snapshots.read(
                topics.changes.name, partial(_reoffer_list, topics, batch), offsets[keys[start]]
            )
            await self._context.publish(records)
            self._context.metrics.reoffered.inc(len(records))
