"""Turns records of contacts.changes into pending changes."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import structlog

from connectors.salesforce.emails import addresses
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.person import record_key
from connectors.salesforce.sync import Sync
from streams.events import UnreadableRecord, parse_change, received_at
from streams.kafka.records import KafkaRecord, header
from streams.metrics import SinkMetrics
from streams.runtime.logs import place, reference
from streams.settings import SinkSettings
from streams.sink.assignment import Assignment
from streams.sink.batching import BULK, PendingChange, contact_version
from streams.sink.catch_up import SPAN_RECORDS
from streams.sink.consumer import Room
from streams.sink.memory_use import row_bytes
from streams.sink.running_tasks import RunningTasks

log = structlog.get_logger()

# Changes that come together go together: within the 50 ms in which a live one starts at the latest.
GATHER_SECONDS = 0.02


class Intake:
    """Takes records into an assignment: each becomes a pending change, or is finished, or returned.

    A live change is due at once, because a person waits for it; when it goes is decided by
    `live_pace`. A change that was read in bulk is due after `bulk_linger`, or when its run is
    complete (`streams.complete_runs`): it waits longer for a full batch, which costs no more calls.

    Two bounds hold. What is taken and not finished is bounded in rows and in bytes. A row that
    waits for a time of its own, for up to ten minutes, counts in bytes only: the rows behind it go
    on. What was taken since the last commit is bounded by SPAN_RECORDS.
    """

    def __init__(self, org: Sync, settings: SinkSettings, metrics: SinkMetrics) -> None:
        self._org = org
        self._settings = settings
        self._metrics = metrics

    def room(self, assignment: Assignment, in_flight: RunningTasks) -> Room | None:
        """How much may be read now; None if nothing."""
        pending, settings = assignment.pending, self._settings
        # As many as the batches in flight hold, and one more that gathers meanwhile.
        most = max(settings.max_unfinished, (settings.in_flight + 1) * settings.batch_size)
        rows = min(
            most - pending.ready - in_flight.rows,
            SPAN_RECORDS - len(assignment.tracker),
        )
        left = settings.max_held_bytes - pending.bytes - in_flight.bytes
        return Room(rows, left) if rows > 0 and left > 0 else None

    def take(
        self, assignment: Assignment, records: Sequence[KafkaRecord], now: float
    ) -> list[tuple[KafkaRecord, UnreadableRecord]]:
        """Takes all records. Returns those that hold no change, each with the reason."""
        unreadable: list[tuple[KafkaRecord, UnreadableRecord]] = []
        live_due, bulk_due = now + GATHER_SECONDS, now + self._settings.bulk_linger
        needed = self._org.needed
        for record in records:
            received_ms = received_at(header(record.headers, "received_ms"), record.timestamp_ms)
            assignment.took(record.offset, received_ms)
            try:
                change = parse_change(record.key, record.value, record.headers, needed)
            except UnreadableRecord as error:
                unreadable.append((record, error))
                continue
            if change is None:  # a tombstone: there is nothing to write
                assignment.tracker.finish(record.offset)
                continue
            if assignment.is_superseded(change.key, record.offset):
                assignment.tracker.finish(record.offset)
                self._metrics.coalesced.inc()
                continue
            # The whole contact is in the record's value, for a dead letter.
            if more := assignment.restored(change.key):
                change = replace(change, restore=change.restore | more)
            version = contact_version(change)
            row = PendingChange(
                change,
                record,
                self.claims(version, record),
                bulk_due if change.origin in BULK else live_due,
                [record.offset],
                size=row_bytes(record.value or b"", change.contact),
                version=version,
            )
            if assignment.pending.add(row):
                self._metrics.coalesced.inc()
        self._metrics.taken.inc(len(records))
        assignment.took_all()
        return unreadable

    def claims(self, version: ContactVersion, record: KafkaRecord) -> frozenset[str]:
        """What a change claims; its Account only once the org was read."""
        try:
            return self._org.claims(version)
        except Exception as error:  # noqa: BLE001 its batch meets the error too, and handles it
            log.warning(
                "could not compute what a contact claims; its key and addresses are claimed",
                error=type(error).__name__,
                **place(record),
                contact=reference(record.key or b""),
            )
        # The write may succeed all the same: then no other batch may hold the person.
        with contextlib.suppress(Exception):
            return frozenset((record_key(version.key), *addresses(version.contact or {})))
        return frozenset((record_key(version.key),))
