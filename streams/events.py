"""What travels between the stages: the key of a contact, the headers and values of each topic's
records.

| topic | value | headers |
|---|---|---|
| contacts.events | a Nylas envelope, as received or made by us | origin, received_ms, (replay.id) |
| contacts.changes | the contact object in full; of a deleted one its two IDs | kind, version, fingerprint, mapping, origin, received_ms |
| contacts.refetch | empty | reason, not_before, received_ms |
| contacts.outcomes | `Outcome` as JSON | |
| contacts.dead-letter | the record exactly as it was | its own, and `dlq.*` |
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from streams.kafka.records import Headers, KafkaRecord, header

PAGE_MARGIN = 600
"""Seconds that a page is versioned before its `Date`: Nylas asks Google every five minutes
(`/google/contacts/incremental`), so a page may not yet show a change whose event is older than the
page. Twice that.
"""


class Origin(StrEnum):
    """Where an event came from."""

    WEBHOOK = "webhook"
    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    REFETCH = "refetch"
    REPLAY = "replay"
    REDRIVE = "redrive"


_ORIGINS = {origin.value.encode(): origin.value for origin in Origin}


class Kind(StrEnum):
    """What a change says of its contact."""

    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class ContactChange:
    """A record of contacts.changes."""

    key: str
    kind: Kind
    version: int
    """Seconds since the epoch; see `Version` in the design: the envelope's time, or a page's Date
    less the margin.
    """
    fingerprint: str
    mapping: str
    origin: str
    """A value of `Origin`; empty when somebody else wrote the event."""
    received_ms: int
    """When the event entered contactstream, for the latency from there to Salesforce; 0 when that
    is unknown.
    """
    contact: dict[str, Any]


class UnreadableRecord(ValueError):
    """A record that is not what its topic holds. `reason` is a word of a closed set, for the metric
    and the dead letter.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


LONGEST_NUMBER = 15
"""Digits of a number in a header: milliseconds until the year 33658, and far inside the 64 bits
that JSON is written with.
"""


def number(value: bytes | None) -> int | None:
    """A whole number that stands in a header, such as epoch seconds; None when it is none, or
    longer than any of ours.
    """
    return int(value) if value and len(value) <= LONGEST_NUMBER and value.isdigit() else None


def known_origin(value: bytes | None) -> str:
    """The header `origin`; empty when it is none of `Origin`: what ends in metrics and outcomes is
    of a closed set.
    """
    return _ORIGINS.get(value or b"", "")


def event_headers(origin: Origin, received_ms: int) -> Headers:
    """Headers of a record of contacts.events."""
    return [("origin", origin.value.encode()), ("received_ms", b"%d" % received_ms)]


def page_envelope(
    origin: Origin,
    event_id: str,
    version: int,
    contact: Mapping[str, Any],
    *,
    deleted: bool = False,
) -> bytes:
    """The envelope of a contact that was read, not notified: a page of a backfill, a page of one,
    or its absence.

    `version` is the `Date` of the answer less `PAGE_MARGIN`; `event_id` must be unique for each
    reading.
    """
    return orjson.dumps(
        {
            "specversion": "1.0",
            "type": "contact.deleted" if deleted else "contact.updated",
            "source": f"/contactstream/{origin.value}",
            "id": event_id,
            "time": version,
            "data": {"object": contact},
        }
    )


def change_headers(
    kind: Kind, version: int, fingerprint: str, mapping: str, origin: bytes, received_ms: bytes
) -> Headers:
    """Headers of a record of contacts.changes."""
    return [
        ("kind", kind.value.encode()),
        ("version", b"%d" % version),
        ("fingerprint", fingerprint.encode()),
        ("mapping", mapping.encode()),
        ("origin", origin),
        ("received_ms", received_ms),
    ]


def parse_change(
    key: bytes | None, value: bytes | None, headers: Headers | None
) -> ContactChange | None:
    """A record of contacts.changes; None for a tombstone (an erasure).

    Raises UnreadableRecord: only the dedupe stage writes here, so this is somebody else's record or
    a fault of ours.
    """
    if value is None:
        return None
    try:
        text = (key or b"").decode()
        contact = orjson.loads(value)
        kind = Kind((header(headers, "kind") or b"").decode())
        fingerprint = (header(headers, "fingerprint") or b"").decode()
        mapping = (header(headers, "mapping") or b"").decode()
    except ValueError as error:
        raise UnreadableRecord("not_a_change", str(error)) from error
    version = number(header(headers, "version"))
    if version is None:
        raise UnreadableRecord("not_a_change", "no version")
    if not isinstance(contact, dict) or "/" not in text:
        raise UnreadableRecord("not_a_change", "no contact, or no contact key")
    return ContactChange(
        key=text,
        kind=kind,
        version=version,
        fingerprint=fingerprint,
        mapping=mapping,
        origin=known_origin(header(headers, "origin")),
        received_ms=number(header(headers, "received_ms")) or 0,
        contact=contact,
    )


def refetch_headers(reason: str, not_before: int, received_ms: int) -> Headers:
    """Headers of a record of contacts.refetch: read this contact again, and not before `not_before`
    (epoch seconds).
    """
    return [
        ("reason", reason.encode()),
        ("not_before", b"%d" % not_before),
        ("received_ms", b"%d" % received_ms),
    ]


# characters of an error's text that a dead letter carries: enough to act on, small beside the
# record
MAX_DETAIL = 1000


def dead_letter_headers(
    record: KafkaRecord, stage: str, reason: str, detail: str = "", attempts: int = 1
) -> Headers:
    """The record's own headers and why it could not be processed; the value and the key stay as
    they were.

    `reason` is a word of a closed set. `detail` is free text for a person, and may quote the
    contact, as Salesforce's messages do: the value beside it holds the contact anyway, and a log
    must not take it over. A record that dies a second time keeps where it first came from:
    `dlq.original.*` and `dlq.first_failed_ms` are never overwritten.
    """
    now = b"%d" % now_ms()
    kept = {
        name
        for name, _ in record.headers
        if name.startswith(("dlq.original.", "dlq.first_failed_ms"))
    }
    old = [
        (name, value)
        for name, value in record.headers
        if not name.startswith("dlq.") or name in kept
    ]
    new: Headers = [
        ("dlq.stage", stage.encode()),
        ("dlq.reason", reason.encode()),
        ("dlq.detail", detail[:MAX_DETAIL].encode(errors="replace")),
        ("dlq.attempts", b"%d" % attempts),
        ("dlq.last_failed_ms", now),
        ("dlq.original.topic", record.topic.encode()),
        ("dlq.original.partition", b"%d" % record.partition),
        ("dlq.original.offset", b"%d" % record.offset),
        ("dlq.original.timestamp_ms", b"%d" % record.timestamp_ms),
        ("dlq.first_failed_ms", now),
    ]
    return old + [(name, value) for name, value in new if name not in kept]


def now_ms() -> int:
    """The wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def parse_object(value: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UnreadableRecord("not_json", str(error)) from error
    if not isinstance(data, dict):
        raise UnreadableRecord("not_json", "no object")
    return data
