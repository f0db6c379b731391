"""Plans a batch of events: the records to publish, and the entries of the table to remember.

An erasure, which `contactstream suppress` asks for, becomes a change that has the sink release the
record, a tombstone after it, and the end of the contact's entry. So does any event of a suppressed
person of whom something is known; of anybody else who is suppressed nothing is remembered.

A change carries only what later stages read of the contact, and of excluded people only the reason.
Of one who was synced before it says so: `contactstream selection` settles such records.
Without I/O; `stage` carries the plan out.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import orjson

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.model import Notification, contact_key, has_content, parse_notification
from connectors.salesforce.fingerprint import NEVER_SYNCED, excluded_fingerprint, fingerprint
from connectors.salesforce.kept_fields import (
    Exclusion,
    fields_read,
    is_unsettled,
    kept_part,
    left_out,
    nobody_excluded,
)
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.skip_reasons import SkipReason
from streams.dead_letters import dead_letter
from streams.dedupe.versions import (
    DELETED,
    NEVER,
    SETTLED,
    ContactEvent,
    DedupeState,
    decide,
    decode,
    encode,
    hash_id,
    mapping_tag,
)
from streams.events import (
    GRANT_ADDRESS,
    NO_FIELDS,
    RESTORE,
    Kind,
    Origin,
    change_headers,
    grant_address,
    handed_on,
    happened_at,
    known_origin,
    received_at,
    refetch_headers,
    restored_fields,
)
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.records import Headers, KafkaRecord
from streams.mailboxes import Choice, Why
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
    erased: set[bytes] = field(default_factory=set)
    """Keys whose entries of the table end."""
    forwarded: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    refetch: Counter[str] = field(default_factory=Counter)
    dead_lettered: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[Consumed, str]] = field(default_factory=list)
    """The records of `dead_lettered`, each with the reason."""

    @property
    def changelog(self) -> dict[bytes, bytes | None]:
        """What the changelog gets: the entries, and a tombstone for each that ends."""
        return {**self.entries, **dict.fromkeys(self.erased)}


def every_mailbox(_grant: str) -> Choice:
    """Selects every mailbox."""
    return _SELECTED


_SELECTED = Choice(True, Why.EVERYTHING)


def no_address_noted(_grant: str, _address: str) -> None:
    """For callers whose choice needs no addresses."""


class DedupePlanner:
    """Plans batches under one mapping."""

    def __init__(
        self,
        mapping: FieldMapping,
        topics: Topics,
        exclusion: Exclusion = nobody_excluded,
        choose: Callable[[str], Choice] = every_mailbox,
        note_address: Callable[[str, str], None] = no_address_noted,
    ) -> None:
        """`exclusion` says who is left out by the settings.

        `choose` says of a grant ID whether its mailbox is synced. `note_address` is told the
        address of a grant that an event names, before either is asked about the event.
        """
        self._exclusion, self._choose = exclusion, choose
        self._note_address = note_address
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
        plan.erased -= plan.entries.keys()
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
        if address := grant_address(headers.get(GRANT_ADDRESS)):
            self._note_address(contact["grant_id"], address)
        exclusion = self._exclusion(key.decode(), contact)
        if key in states:
            known = states[key]
        else:
            entry = entries.get(key)
            known = None if entry is None else decode(entry)
        asked = headers.get("origin") == Origin.ERASURE.value.encode()
        if asked or exclusion is SkipReason.SUPPRESSED:
            if asked or known is not None or (forced and deleted):
                self._erase(record, max(now, time or 0, known.newest if known else 0), plan)
                states[key] = None
            else:
                plan.dropped["suppressed"] += 1
            return
        choice = self._choose(contact["grant_id"])
        if not choice.selected and not (deleted and known is not None):
            # The deletion of a contact that was forwarded before still releases its record.
            if choice.why is Why.ADDRESS_UNKNOWN:
                event = ContactEvent(time, hash_id(notification.id))
                states[key] = self._ask_again(record, known, event, received, now, plan)
            else:
                plan.dropped["not_selected"] += 1
            return
        out = None if deleted or exclusion is None else _left_out(exclusion, known, contact)
        event = self._event(notification, time, deleted, forced, out)
        forward, reason, state, refetch = decide(known, event, now)

        if forward and event.version is not None:
            value = _change(self._kept_of(contact, deleted, out))
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

    def _ask_again(
        self,
        record: Consumed,
        known: DedupeState | None,
        event: ContactEvent,
        received: int,
        now: int,
        plan: DedupePlan,
    ) -> DedupeState | None:
        """Has an event asked for again of whose mailbox nothing is decided yet; returns the state.

        The reader asks Nylas for the address of the grant, and reads the contact if its mailbox is
        selected. As for an event without a body, the version counts as seen, so that no older event
        passes meanwhile, and the contact is read when that gives a newer version.
        """
        _, reason, state, refetch = decide(known, event, now)
        if refetch is None:
            plan.dropped[reason] += 1
            return state
        unknown = Why.ADDRESS_UNKNOWN.value
        not_before = refetch if event.version is None else max(now, event.version + SETTLED)
        headers = refetch_headers(unknown, not_before, received)
        plan.outputs.append((self._refetch, b"", record.key, headers))
        plan.refetch[unknown] += 1
        return state

    def _event(
        self,
        notification: Notification,
        time: int | None,
        deleted: bool,
        forced: bool,
        out: "_LeftOut | None",
    ) -> ContactEvent:
        contact = notification.object
        if deleted:
            content = DELETED
        elif out is not None:
            content = excluded_fingerprint(out.reason, was_synced=out.was_synced)
        elif notification.type.endswith(".truncated") or not has_content(contact):
            content = b""
        else:
            content = fingerprint(self._mapping, contact)
        return ContactEvent(time, hash_id(notification.id), content, self._tag, forced)

    def _erase(self, record: Consumed, version: int, plan: DedupePlan) -> None:
        """Has the sink release the record, and ends what is kept of the contact.

        The entry of the table ends even if none is known: an erasure may be repeated.
        """
        grant, _, contact = (record.key or b"").decode().partition("/")
        value = _change({"grant_id": grant, "id": contact, "object": "contact"})
        received = received_at(dict(record.headers).get("received_ms"), record.timestamp)
        origin = Origin.ERASURE.value.encode()
        written = change_headers(
            Kind.DELETED, version, DELETED.hex(), self._mapping.hash, origin, b"%d" % received
        )
        plan.outputs.append((self._changes, value, record.key, written))
        plan.outputs.append((self._changes, None, record.key, []))
        plan.erased.add(record.key or b"")
        plan.forwarded[Kind.DELETED.value] += 1

    def _kept_of(
        self, contact: Mapping[str, Any], deleted: bool, out: "_LeftOut | None"
    ) -> dict[str, Any]:
        if deleted:
            return kept_part(contact, ())
        if out is not None:
            return left_out(contact, out.reason, was_synced=out.was_synced)
        return kept_part(contact, self._kept)

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


class _LeftOut(NamedTuple):
    """A contact that the settings leave out."""

    reason: SkipReason
    was_synced: bool
    """Whether its record may carry our key, and nobody has settled that yet."""


def _left_out(
    reason: SkipReason, known: DedupeState | None, contact: Mapping[str, Any]
) -> _LeftOut:
    """`known` tells whether the contact was forwarded; of a replay, the contact itself does."""
    forwarded = (
        known is not None
        and known.forwarded != NEVER
        and known.fingerprint != DELETED
        and known.fingerprint not in NEVER_SYNCED
    )
    return _LeftOut(reason, forwarded or is_unsettled(contact))


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
