"""What a replay publishes for a record of its source: plain functions.

An event keeps its value and the time of its receipt, so that it gets the version that it had. A
change becomes an event of the version that dedupe forwarded. Dedupe lets both pass only where the
contact has nothing newer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.model import parse_notification
from connectors.salesforce.emails import addresses
from streams.events import (
    RESTORE,
    Kind,
    Origin,
    UnreadableRecord,
    known_origin,
    now_ms,
    number,
    parse_change,
    restore_header,
)
from streams.kafka.records import KafkaRecord, header
from streams.reader.records import contact_hash, contact_record, deletion_record
from streams.runs import Replay, ReplaySource
from streams.selection import Candidate
from streams.topics import Topics

# Records that are read and published together, and so held in memory. What was published of a page
# is published again when the reader ends before its progress is acknowledged.
PAGE_RECORDS = 1_000
PAGE_BYTES = 4 * 1024 * 1024

# Records from one note of the progress to the next where none of them is selected.
SCANNED_RECORDS = 100_000

REPUBLISHED = frozenset({Origin.REPLAY.value, Origin.REDRIVE.value})
"""Origins of events that were published again. Their first publication is replayed, not they."""


REPLAY_HEADERS = frozenset({"origin", "replay.id", RESTORE})
"""Headers of an event that a replay writes itself."""


@dataclass(slots=True)
class ReplayPage:
    """The next records of a replay, and where reading goes on."""

    records: list[KafkaRecord] = field(default_factory=list)
    next_offset: int = 0
    done: bool = False


def candidate_of(source: ReplaySource, record: KafkaRecord) -> Candidate | None:
    """The record as a selection sees it; None for one that no replay publishes.

    That is an event that was published again itself, a tombstone, and an unreadable record.
    """
    key = (record.key or b"").decode(errors="replace")
    if source is ReplaySource.EVENTS:
        if known_origin(header(record.headers, "origin")) in REPUBLISHED:
            return None
        try:
            notification = parse_notification(record.value or b"")
        except UnreadableBody:
            return None
        if not notification.type.startswith("contact."):
            return None
        at_ms = number(header(record.headers, "received_ms")) or record.timestamp_ms
        kind = Kind.DELETED if notification.type.startswith("contact.deleted") else Kind.UPDATED
        return Candidate(
            key, at_ms, kind, addresses(notification.object), record.partition, record.offset
        )
    try:
        change = parse_change(record.key, record.value, record.headers)
    except UnreadableRecord:
        return None
    if change is None:
        return None
    return Candidate(
        key,
        change.received_ms,
        change.kind,
        addresses(change.contact),
        record.partition,
        record.offset,
    )


def replayed(topics: Topics, run_id: str, replay: Replay, record: KafkaRecord) -> KafkaRecord:
    """The event that a replay publishes for a record of its source; `topics` are the target's.

    A change that no event can carry becomes a dead letter. Raises UnreadableRecord for a record of
    contacts.changes that `candidate_of` leaves out.
    """
    marks = [("replay.id", run_id.encode()), *restore_header(replay.restore)]
    if replay.source is ReplaySource.EVENTS:
        kept = [each for each in record.headers if each[0] not in REPLAY_HEADERS]
        headers = [("origin", Origin.REPLAY.value.encode()), *kept, *marks]
        return KafkaRecord(topics.events.name, record.key, record.value, headers)
    change = parse_change(record.key, record.value, record.headers)
    if change is None:
        raise UnreadableRecord("not_a_change", "a tombstone")
    event_id = f"{run_id}/{record.offset}"
    grant, _, contact_id = change.key.partition("/")
    if change.kind is Kind.DELETED:
        event = deletion_record(topics, grant, contact_id, Origin.REPLAY, event_id, change.version)
    else:
        event = contact_record(
            topics,
            change.key.encode(),
            Origin.REPLAY,
            event_id,
            change.version,
            change.contact,
            now_ms(),
        )
    event.headers.extend(marks)
    return event


def next_page(
    topics: Topics,
    run_id: str,
    replay: Replay,
    selected: "SelectedContacts",
    records: Iterable[KafkaRecord],
    start: int,
    end: int,
) -> ReplayPage:
    """The next page of a partition, whose records are read from `start` and end before `end`.

    `topics` are those of the deployment that the page is published to.
    """
    page = ReplayPage(next_offset=start)
    size = 0
    for read, record in enumerate(records):
        if record.offset >= end:
            break
        if len(page.records) >= PAGE_RECORDS or size >= PAGE_BYTES or read >= SCANNED_RECORDS:
            return page
        page.next_offset = record.offset + 1
        candidate = candidate_of(replay.source, record)
        if candidate is None or not replay.selection.takes(candidate):
            continue
        if candidate.key not in selected:
            continue
        page.records.append(replayed(topics, run_id, replay, record))
        size += len(record.value or b"")
    page.next_offset, page.done = end, True
    return page


class TooManyContacts(ValueError):
    """More contacts have the outcome than a process may hold."""


class SelectedContacts:
    """The contacts whose last outcome is selected; all of them where none is asked for.

    Holds a hash of eight bytes for each contact: a million take some 70 MB.
    """

    def __init__(self, hashes: frozenset[int] | None = None) -> None:
        self._hashes = hashes

    def __contains__(self, key: str) -> bool:
        return self._hashes is None or contact_hash(key) in self._hashes
