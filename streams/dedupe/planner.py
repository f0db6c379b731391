"""Plans a batch of events: the records to publish, and the entries of the table to remember.

A change carries only what later stages read of the contact, and of excluded people only the reason.
Without I/O; `stage` carries the plan out.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import orjson

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.model import Notification, contact_key, has_content, parse_notification
from connectors.salesforce.fingerprint import excluded_fingerprint, fingerprint
from connectors.salesforce.kept_fields import (
    Exclusion,
    fields_read,
    kept_part,
    left_out,
    nobody_excluded,
)
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.skip_reasons import SkipReason
from streams.dead_letters import dead_letter
from streams.dedupe.versions import (
    DELETED,
    ContactEvent,
    DedupeState,
    decide,
    decode,
    encode,
    hash_id,
    mapping_tag,
)
from streams.events import (
    NO_FIELDS,
    RESTORE,
    Kind,
    Origin,
    change_headers,
    handed_on,
    happened_at,
    known_origin,
    received_at,
    refetch_headers,
    restored_fields,
)
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.records import Headers, KafkaRecord
from streams.topics import Topics

STAGE = "dedupe"
FORCED = {Origin.REPLAY.value.encode(), Origin.REDRIVE.value.encode()}

MAX_CHANGE_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
"""The largest value of a change; leaves room for the key and the headers."""


class Consumed(Protocol):
    """A record as aiokafka returns it; its headers are a tuple of names and bytes."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


Output = tuple[str, bytes | None, bytes | None, Headers]
"""Topic, value, key, headers: the order in which confluent-kafka takes them."""


@dataclass(slots=True)
class DedupePlan:
    """The results of a batch: publish `outputs` first, then remember `entries`.

    The counters hold numbers of events by kind or reason, for the metrics.
    """

    outputs: list[Output] = field(default_factory=list)
    entries: dict[bytes, bytes] = field(default_factory=dict)
    forwarded: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    refetch: Counter[str] = field(default_factory=Counter)
    dead_lettered: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[Consumed, str]] = field(default_factory=list)
    """The records of `dead_lettered`, each with the reason."""


class DedupePlanner:
    """Plans batches under one mapping."""

    def __init__(
        self, mapping: FieldMapping, topics: Topics, exclusion: Exclusion = nobody_excluded
    ) -> None:
        """`exclusion` says who is left out by the settings."""
        self._exclusion = exclusion
        self._kept = fields_read(mapping)
        self._mapping = mapping
        self._tag = mapping_tag(mapping.hash)
        self._fields = frozenset(rule.field for rule in (*mapping.contact, *mapping.lead))
        self._changes = topics.changes.name
        self._refetch = topics.refetch.name
        self._dead_letter = topics.dead_letter.name

    def plan(
        self, records: Iterable[Consumed], entries: Mapping[bytes, bytes], now: int
    ) -> DedupePlan:
        """Plans records of one partition, in their order, given that partition's table entries.

        `now` is in seconds since the epoch. Raises UnreadableState for an entry that cannot be
        read. A record that cannot be read becomes a dead letter.
        """
        plan = DedupePlan()
        states: dict[bytes, DedupeState | None] = {}
        for record in records:
            try:
                self._add(record, entries, states, now, plan)
            except UnreadableBody as error:
                plan.outputs.append(self._unreadable(record, error))
                plan.dead_lettered[error.reason] += 1
                plan.unreadable.append((record, error.reason))
        plan.entries = {key: encode(state) for key, state in states.items() if state is not None}
        return plan

    def _add(
        self,
        record: Consumed,
        entries: Mapping[bytes, bytes],
        states: dict[bytes, DedupeState | None],
        now: int,
        plan: DedupePlan,
    ) -> None:
        key, headers = record.key, dict(record.headers)
        notification = parse_notification(record.value or b"")
        contact = notification.object
        if not notification.type.startswith("contact."):
            raise UnreadableBody("not_a_contact")
        if key != _key(contact):
            raise UnreadableBody("wrong_key")
        received = received_at(headers.get("received_ms"), record.timestamp)
        deleted = notification.type.startswith("contact.deleted")
        time = happened_at(notification.time, received)
        forced = headers.get("origin") in FORCED
        exclusion = None if deleted else self._exclusion(key.decode(), contact)
        event = self._event(notification, time, deleted, forced, exclusion)

        if key in states:
            known = states[key]
        else:
            entry = entries.get(key)
            known = None if entry is None else decode(entry)
        forward, reason, state, refetch = decide(known, event, now)

        if forward and event.version is not None:
            value = _change(self._kept_of(contact, deleted, exclusion))
            kind = Kind.DELETED if deleted else Kind.UPDATED
            # Only mapped fields: so the header is as small as the mapping.
            restore = restored_fields(headers.get(RESTORE)) & self._fields if forced else NO_FIELDS
            written = change_headers(
                kind,
                event.version,
                event.fingerprint.hex(),
                self._mapping.hash,
                known_origin(headers.get("origin")).encode(),
                b"%d" % received,
                restore,
            )
            written += handed_on(record.headers)
            plan.outputs.append((self._changes, value, key, written))
            plan.forwarded[kind.value] += 1
        elif refetch is None:
            plan.dropped[reason] += 1
        if refetch is not None:
            plan.outputs.append(
                (self._refetch, b"", key, refetch_headers(reason, refetch, received))
            )
            plan.refetch[reason] += 1
        if state is not known:
            states[key] = state

    def _event(
        self,
        notification: Notification,
        time: int | None,
        deleted: bool,
        forced: bool,
        exclusion: SkipReason | None,
    ) -> ContactEvent:
        contact = notification.object
        if deleted:
            content = DELETED
        elif exclusion is not None:
            content = excluded_fingerprint(exclusion)
        elif notification.type.endswith(".truncated") or not has_content(contact):
            content = b""
        else:
            content = fingerprint(self._mapping, contact)
        return ContactEvent(time, hash_id(notification.id), content, self._tag, forced)

    def _kept_of(
        self, contact: Mapping[str, Any], deleted: bool, exclusion: SkipReason | None
    ) -> dict[str, Any]:
        if exclusion is not None:
            return left_out(contact, exclusion)
        return kept_part(contact, () if deleted else self._kept)

    def _unreadable(self, record: Consumed, error: UnreadableBody) -> Output:
        read = KafkaRecord(
            record.topic,
            record.key,
            record.value,
            list(record.headers),
            record.partition,
            record.offset,
            record.timestamp,
        )
        value, detail = record.value, str(error)
        # It came compressed; our topics accept no larger ones.
        if value is not None and len(value) > MAX_CHANGE_BYTES:
            value, detail = b"", f"{detail}: {len(value)} bytes; the value is left out"
        letter = dead_letter(
            self._dead_letter, replace(read, value=value), STAGE, error.reason, detail
        )
        return letter.topic, letter.value, letter.key, letter.headers


def _key(contact: Mapping[str, Any]) -> bytes:
    # The parser has refused lone surrogates, so this never fails.
    return contact_key(contact["grant_id"], contact["id"]).encode()


def _change(contact: Mapping[str, Any]) -> bytes:
    """The value of a change.

    Raises UnreadableBody when the contact is nested too deeply, or too large for the topic.
    """
    try:
        value = orjson.dumps(contact)
    except TypeError:  # nested deeper than 254, which orjson reads but does not write
        try:
            value = json.dumps(contact, ensure_ascii=False, separators=(",", ":")).encode()
        except RecursionError:
            raise UnreadableBody("too_deep") from None
    if len(value) > MAX_CHANGE_BYTES:
        raise UnreadableBody("too_large")
    return value
