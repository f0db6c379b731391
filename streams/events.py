"""The record formats of the contacts.* topics: what one stage writes and the next stage reads.

The key of every record is the contact key, `grant_id/contact_id`.

| topic | value | headers |
|---|---|---|
| contacts.events | the Nylas envelope of a notification, or one built here | origin, received_ms |
| contacts.changes | the contact object; only its two IDs if it was deleted | `change_headers` |
| contacts.refetch | empty | reason, not_before, received_ms |
| contacts.outcomes | the outcome as JSON (streams/sink/outcomes.py) | none |
| contacts.dead-letter | a failed record (streams/dead_letters.py) | its own, and `dlq.*` |
| contacts.journal | a value that was replaced (streams/journal.py) | none |

An event of a backfill or reconcile also carries the header `run.id`. An event that the reader read
from Nylas carries `grant.address` where the reader knows the address. A replayed event carries
`replay.id`, and `restore` where it restores fields; a
redriven one carries `redrive.*`; either carries `traceparent` (W3C Trace Context) where traces are
on. A change that follows from an event carries these on.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from streams.kafka.records import Headers, header_values
from streams.runtime.traceparent import TRACEPARENT, TraceContext, parse_traceparent

# The version of a page is its `Date` less this margin. Nylas asks Google for changes every five
# minutes (`/google/contacts/incremental`), so a page may not show a change yet whose notification
# is older than the page. The margin is twice those five minutes.
PAGE_MARGIN_SECONDS = 600

# How far the clocks of Nylas, of the bridges and of the broker may differ. Machines with NTP differ
# by far less than a second; two bridges that differ by more than this would reorder events.
CLOCK_DIFFERENCE_SECONDS = 60

# Headers that dedupe hands on from an event to the change that follows from it.
HANDED_ON = frozenset(
    {"run.id", "replay.id", "redrive.id", "redrive.attempts", "redrive.first_failed_ms"}
)

# Digits of a number in a header. 15 digits hold milliseconds until the year 33658 and stay far
# inside the 64 bits that JSON is written with.
MAX_NUMBER_DIGITS = 15

# Of the header `restore`: the names of a hundred fields, however long. A longer one is ignored.
MAX_RESTORE_BYTES = 4096

RUN_ID = "run.id"
"""Name of the header with the backfill or reconcile in which the reader read or missed a contact.
"""

GRANT_ADDRESS = "grant.address"
"""Name of the header with the address of the grant whose address book was read, as Nylas spells it.

Dedupe may take the event before it has followed the record of grants.events that says the same.
"""

MAX_ADDRESS_BYTES = 320
"""Of an address: 64 before the @, 255 behind it (RFC 5321, 4.5.3.1). A longer one is left out."""

RESTORE = "restore"
"""Name of the header with the fields that a replay restores: see `ContactChange.restore`."""

NO_FIELDS: frozenset[str] = frozenset()


class Origin(StrEnum):
    """Where an event came from."""

    WEBHOOK = "webhook"
    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    REFETCH = "refetch"
    REPLAY = "replay"
    REDRIVE = "redrive"
    ERASURE = "erasure"
    """A person asked to be erased; the record of the change says so too."""


_ORIGINS = {origin.value.encode(): origin.value for origin in Origin}


class Kind(StrEnum):
    """Whether a change updates its contact or deletes it."""

    UPDATED = "updated"
    DELETED = "deleted"


_KIND_HEADERS = {kind: ("kind", kind.value.encode()) for kind in Kind}
_KINDS = {kind.value.encode(): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class ContactChange:
    """A record of contacts.changes: the newest state of a contact."""

    key: str
    """The contact key, `grant_id/contact_id`."""
    kind: Kind
    version: int
    """Epoch seconds: the time of the envelope, or the `Date` of a page less `PAGE_MARGIN_SECONDS`.
    """
    fingerprint: str
    """Hash of the mapped fields."""
    mapping: str
    """Hash of the field mapping that the fingerprint was made with."""
    origin: str
    """A value of `Origin`; empty if the event named none of them."""
    received_ms: int
    """When the event entered contactstream, in epoch milliseconds; 0 if that is unknown. Serves to
    measure the latency to Salesforce.
    """
    contact: dict[str, Any]
    """The contact object of Nylas."""
    restore: frozenset[str] = NO_FIELDS
    """Fields of Salesforce that the owner of the record writes even over somebody else's value."""


class UnreadableRecord(ValueError):
    """A record does not have the format of its topic.

    `reason` is a word of a closed set, for the metric and the dead letter.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def number(value: bytes | None) -> int | None:
    """Parses a whole number in a header, such as epoch seconds; None if it is not such a number.

    A number of more than MAX_NUMBER_DIGITS digits counts as none.
    """
    return int(value) if value and len(value) <= MAX_NUMBER_DIGITS and value.isdigit() else None


def known_origin(value: bytes | None) -> str:
    """Parses the header `origin`; empty if its value is not an `Origin`.

    Metrics and outcomes carry the origin, so it must come from a closed set.
    """
    return _ORIGINS.get(value or b"", "")


def happened_at(claimed: int | None, received_ms: int) -> int | None:
    """When an event happened, in epoch seconds, given the time that its envelope claims.

    The one rule for times ahead of the clock: nothing happened after it was received, in epoch
    milliseconds. A later time comes from a wrong clock; as a version it would make everything stale
    that happens until then. CLOCK_DIFFERENCE_SECONDS are allowed, so that events which two bridges
    received keep their order. None where the envelope has no usable time; the time claimed where
    `received_ms` is 0, unknown.
    """
    if claimed is None or received_ms <= 0:
        return claimed
    return min(claimed, received_ms // 1000 + CLOCK_DIFFERENCE_SECONDS)


def received_at(header_value: bytes | None, timestamp_ms: int) -> int:
    """When a record's event entered contactstream, in epoch milliseconds; 0 if that is unknown.

    The one rule for the time of a record, for every version, filter and metric: its header
    `received_ms`, here `header_value`. Kafka's timestamp is when the broker appended the record
    (LogAppendTime), which is later by a backlog, and anew for each stage. So it counts only for a
    record without a usable header, which another program wrote.
    """
    # Written out as in `number`, because it is asked of each record.
    if header_value and len(header_value) <= MAX_NUMBER_DIGITS and header_value.isdigit():
        return int(header_value) or max(0, timestamp_ms)
    return max(0, timestamp_ms)


def event_headers(origin: Origin, received_ms: int) -> Headers:
    """Headers of a record of contacts.events."""
    return [("origin", origin.value.encode()), ("received_ms", b"%d" % received_ms)]


def run_header(run_id: str) -> Headers:
    """The header that names the run of an event; none without a run."""
    return [(RUN_ID, run_id.encode())] if run_id else []


def grant_address_header(address: str) -> Headers:
    """The header that names the address of an event's grant; none without a usable address."""
    value = address.encode(errors="replace")
    return [(GRANT_ADDRESS, value)] if 0 < len(value) <= MAX_ADDRESS_BYTES else []


def grant_address(value: bytes | None) -> str:
    """The address in the header `grant.address`; empty where it is missing, or is none."""
    if not value or len(value) > MAX_ADDRESS_BYTES:
        return ""
    return value.decode(errors="replace")


def page_envelope(
    origin: Origin,
    event_id: str,
    version: int,
    contact: Mapping[str, Any],
    *,
    deleted: bool = False,
) -> bytes:
    """Builds the envelope of a contact that the reader read from Nylas, or found to be deleted.

    `version` is the envelope's time in epoch seconds. `event_id` must be unique for each reading.
    Raises TypeError for a contact that is nested too deeply for orjson.
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


def handed_on(headers: Iterable[tuple[str, str | bytes | None]]) -> Headers:
    """The headers of an event that the change which follows from it carries as well.

    A broken `traceparent` is left out.
    """
    kept: Headers = []
    place = None
    for name, value in headers:
        if name in HANDED_ON:
            kept.append((name, value))
        elif name == TRACEPARENT:
            place = parse_traceparent(value)
    return [*kept, *trace_headers(place)]


def trace_headers(place: TraceContext | None) -> Headers:
    """The header `traceparent` of a record; none without a trace."""
    return [] if place is None else [(TRACEPARENT, str(place).encode())]


def restored_fields(value: bytes | None) -> frozenset[str]:
    """The names in the header `restore`; none where it is missing, or larger than it may be."""
    if not value or len(value) > MAX_RESTORE_BYTES:
        return NO_FIELDS
    return frozenset(filter(None, value.decode(errors="replace").split(",")))


def restore_header(names: Collection[str]) -> Headers:
    """The header `restore` with these fields; no header without any."""
    return [(RESTORE, ",".join(sorted(names)).encode())] if names else []


def change_headers(
    kind: Kind,
    version: int,
    fingerprint: str,
    mapping: str,
    origin: bytes,
    received_ms: bytes,
    restore: Collection[str] = (),
) -> Headers:
    """Headers of a record of contacts.changes, beside those that are `handed_on`."""
    headers: Headers = [
        _KIND_HEADERS[kind],
        ("version", b"%d" % version),
        ("fingerprint", fingerprint.encode()),
        ("mapping", mapping.encode()),
        ("origin", origin),
        ("received_ms", received_ms),
    ]
    return headers + restore_header(restore) if restore else headers


def _whole(contact: dict[str, Any]) -> dict[str, Any]:
    return contact


def parse_change(
    key: bytes | None,
    value: bytes | None,
    headers: Headers | None,
    kept: Callable[[dict[str, Any]], dict[str, Any]] = _whole,
) -> ContactChange | None:
    """Parses a record of contacts.changes; None for a tombstone, which erases the contact.

    Of its contact only what `kept` returns stays in memory.

    Raises UnreadableRecord. Only the dedupe stage writes to the topic, so an unreadable record
    comes from another program or from a bug.
    """
    if value is None:
        return None
    found = header_values(headers)
    try:
        text = (key or b"").decode()
        contact = orjson.loads(value)
        fingerprint = (found.get("fingerprint") or b"").decode()
        mapping = (found.get("mapping") or b"").decode()
    except ValueError as error:
        raise UnreadableRecord("not_a_change", str(error)) from error
    kind, version = _KINDS.get(found.get("kind") or b""), number(found.get("version"))
    if kind is None:
        raise UnreadableRecord("not_a_change", f"{found.get('kind')!r} is no kind of change")
    if version is None:
        raise UnreadableRecord("not_a_change", "no version")
    if not isinstance(contact, dict) or "/" not in text:
        raise UnreadableRecord("not_a_change", "no contact object, or no contact key")
    return ContactChange(
        key=text,
        kind=kind,
        version=version,
        fingerprint=fingerprint,
        mapping=mapping,
        origin=known_origin(found.get("origin")),
        received_ms=number(found.get("received_ms")) or 0,
        contact=kept(contact),
        restore=restored_fields(found.get(RESTORE)),
    )


def refetch_headers(reason: str, not_before: int, received_ms: int) -> Headers:
    """Headers of a record of contacts.refetch, a request to read a contact again from Nylas.

    The contact must not be read before `not_before` (epoch seconds, by the clock of Nylas).
    """
    return [
        ("reason", reason.encode()),
        ("not_before", b"%d" % not_before),
        ("received_ms", b"%d" % received_ms),
    ]


def now_ms() -> int:
    """The wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def parse_object(value: bytes) -> dict[str, Any]:
    """Parses the JSON object in a record's value. Raises UnreadableRecord."""
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UnreadableRecord("not_json", str(error)) from error
    if not isinstance(data, dict):
        raise UnreadableRecord("not_json", "not a JSON object")
    return data
