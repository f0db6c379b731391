"""Plans a batch of events: the records to publish, and the entries of the table to remember.

An erasure, which `contactstream suppress` asks for, becomes a change that has the sink release the
record, a tombstone after it, and the end of the contact's entry. So does any event of a suppressed
person of whom something is known; of anybody else who is suppressed nothing is remembered.

A change carries only what later stages read of the contact, and of excluded people only the reason.
Of one who was synced before it says so: `contactstream selection` settles such records. Who leaves
the synced contact groups, under a filter that has not changed, becomes a deletion instead, which
has the sink release the record. A contact whose group has no known name is asked for again.
Without I/O; `stage` carries the plan out.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.model import Notification, contact_key, has_content, parse_notification
from connectors.salesforce.fingerprint import excluded_fingerprint, fingerprint, with_groups
from connectors.salesforce.kept_fields import (
    Exclusion,
    fields_read,
    kept_part,
    left_out,
    nobody_excluded,
)
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.skip_reasons import SkipReason
from streams.contact_groups import (
    EVERYBODY,
    FIELD,
    NO_GROUPS,
    NO_NAMES,
    GroupRule,
    GroupVerdict,
    judge,
)
from streams.dead_letters import dead_letter
from streams.dedupe.left_out import LeftOut, how_left_out, is_synced
from streams.dedupe.versions import (
    DELETED,
    SETTLED,
    ContactEvent,
    DedupeState,
    decide,
    decode,
    encode,
    group_tag,
    groups_moved,
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
READ_BY_US = {
    origin.value.encode() for origin in (Origin.BACKFILL, Origin.RECONCILE, Origin.REFETCH)
}
"""Origins of contacts that the reader read; it has added the names of their groups."""
NOT_SELECTED = "not_selected"
GROUPS_UNKNOWN = "groups_unknown"
ERASURE = Origin.ERASURE.value.encode()
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
    def changelog(self) -> Mapping[bytes, bytes | None]:
        """What the changelog gets: the entries, and a tombstone for each that ends."""
        return {**self.entries, **dict.fromkeys(self.erased)} if self.erased else self.entries


def every_mailbox(_grant: str) -> Choice:
    """Selects every mailbox."""
    return _SELECTED


_SELECTED = Choice(True, Why.EVERYTHING)


@dataclass(frozen=True, slots=True)
class GroupFilter:
    """What the contact groups decide, as it is in force at the moment of a question."""

    rule: Callable[[bool], GroupRule] = lambda _read_by_us: NO_GROUPS
    """Called with whether the reader has read the contact."""
    names: Callable[[str], Mapping[str, str]] = lambda _grant: NO_NAMES
    """Called with a grant ID: the names of its groups by ID, as far as they are known."""
    releases: bool = True
    """Whether the record of a contact that leaves the groups is settled as if it were deleted."""


EVERY_GROUP = GroupFilter()


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
        groups: GroupFilter = EVERY_GROUP,
    ) -> None:
        """`exclusion` says who is left out by the settings.

        `choose` says of a grant ID whether its mailbox is synced; `groups` what the contact groups
        decide. `note_address` is told the address of a grant that an event names, before any of
        them is asked about the event.
        """
        self._exclusion, self._choose, self._groups = exclusion, choose, groups
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
        origin = headers.get("origin")
        notification = parse_notification(record.value or b"")
        contact = notification.object
        if notification.family != "contact":
            raise UnreadableBody("not_a_contact")
        grant = contact["grant_id"]
        # The parser has refused lone surrogates, so this can always be encoded.
        name = contact_key(grant, contact["id"])
        if key != name.encode():
            raise UnreadableBody("wrong_key")
        received = received_at(headers.get("received_ms"), record.timestamp)
        deleted = notification.type.startswith("contact.deleted")
        time = happened_at(notification.time, received)
        forced = origin in FORCED
        if GRANT_ADDRESS in headers and (address := grant_address(headers[GRANT_ADDRESS])):
            self._note_address(grant, address)
        exclusion = self._exclusion(name, contact)
        known = _known(key, states, entries)
        asked = origin == ERASURE
        if asked or exclusion is SkipReason.SUPPRESSED:
            if asked or known is not None or (forced and deleted):
                self._erase(record, max(now, time or 0, known.newest if known else 0), plan)
                states[key] = None
            else:
                plan.dropped["suppressed"] += 1
            return
        rule = self._groups.rule(origin in READ_BY_US)
        verdict = EVERYBODY
        if rule.reads_groups and not exclusion:
            verdict = self._verdict(rule, notification, headers)
        choice = self._choose(grant)
        if verdict.undecided or not choice.selected:
            # The deletion of a contact that was forwarded before still releases its record.
            releases = deleted and known is not None
            undecided = _undecided(choice, verdict, releases=releases)
            if undecided == NOT_SELECTED:
                plan.dropped[NOT_SELECTED] += 1
                return
            if undecided:
                event = ContactEvent(time, hash_id(notification.id))
                asked_again = self._ask_again(record, known, event, undecided, received, now, plan)
                states[key] = asked_again
                return
        tag = self._tag
        if rule.reads_groups:
            tag = group_tag(self._mapping.hash, rule.hash, verdict.ids)
        out = None if deleted else self._out(exclusion, verdict, known, contact, tag)
        event = self._event(notification, time, deleted, forced, out, tag, verdict.read)
        forward, reason, state, refetch = decide(known, event, now)

        if forward and event.version is not None:
            released = out is not None and out.released
            kind = Kind.DELETED if deleted or released else Kind.UPDATED
            kept = self._kept_of(contact, deleted, out, rule)
            restore = restored_fields(headers.get(RESTORE)) & self._fields if forced else NO_FIELDS
            written = change_headers(
                kind,
                event.version,
                event.fingerprint.hex(),
                self._mapping.hash,
                known_origin(origin).encode(),
                b"%d" % received,
                restore,  # only mapped fields: so the header is as small as the mapping
            )
            written += handed_on(record.headers)
            plan.outputs.append((self._changes, _change(kept), key, written))
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

    def _verdict(
        self,
        rule: GroupRule,
        notification: Notification,
        headers: Mapping[str, bytes | None],
    ) -> GroupVerdict:
        """What the contact groups decide. Of a contact that the reader read, that is certain."""
        deleted = notification.type.startswith("contact.deleted")
        if not rule.reads_groups or deleted or _lacks_body(notification):
            return EVERYBODY
        contact = notification.object
        names = self._groups.names(contact["grant_id"])
        return judge(rule, contact, names, certain=headers.get("origin") in READ_BY_US)

    def _out(
        self,
        exclusion: SkipReason | None,
        verdict: GroupVerdict,
        known: DedupeState | None,
        contact: Mapping[str, Any],
        tag: bytes,
    ) -> LeftOut | None:
        """How the contact is left out; None if it is not. `tag` is that of its event."""
        reason = exclusion or verdict.reason
        if reason is None:
            return None
        if verdict.reason and known and is_synced(known) and groups_moved(known.mapping, tag):
            # It has left the groups by itself, under a rule that has not changed.
            return LeftOut(reason, was_synced=False, released=self._groups.releases)
        return how_left_out(reason, known, contact)

    def _ask_again(
        self,
        record: Consumed,
        known: DedupeState | None,
        event: ContactEvent,
        unknown: str,
        received: int,
        now: int,
        plan: DedupePlan,
    ) -> DedupeState | None:
        """Has an event asked for again about which nothing is decided yet; returns the state.

        `unknown` says what is not known. The reader asks Nylas for the address of the grant, or for
        the names of its groups, and reads the contact if its mailbox is selected. As for an event
        without a body, the version counts as seen, so that no older event passes meanwhile, and the
        contact is read when that gives a newer version.
        """
        _, reason, state, refetch = decide(known, event, now)
        if refetch is None:
            plan.dropped[reason] += 1
            return state
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
        out: LeftOut | None,
        tag: bytes,
        groups: tuple[str, ...],
    ) -> ContactEvent:
        contact = notification.object
        if deleted:
            content = DELETED
        elif out is not None:
            content = excluded_fingerprint(out.reason, was_synced=out.was_synced)
        elif _lacks_body(notification):
            content = b""
        else:
            content = fingerprint(self._mapping, contact)
            content = with_groups(content, groups) if groups else content
        return ContactEvent(time, hash_id(notification.id), content, tag, forced)

    def _erase(self, record: Consumed, version: int, plan: DedupePlan) -> None:
        """Has the sink release the record, and ends what is kept of the contact.

        The entry of the table ends even if none is known: an erasure may be repeated.
        """
        grant, _, contact = (record.key or b"").decode().partition("/")
        value = _change({"grant_id": grant, "id": contact, "object": "contact"})
        received = received_at(dict(record.headers).get("received_ms"), record.timestamp)
        written = change_headers(
            Kind.DELETED, version, DELETED.hex(), self._mapping.hash, ERASURE, b"%d" % received
        )
        plan.outputs.append((self._changes, value, record.key, written))
        plan.outputs.append((self._changes, None, record.key, []))
        plan.erased.add(record.key or b"")
        plan.forwarded[Kind.DELETED.value] += 1

    def _kept_of(
        self, contact: Mapping[str, Any], deleted: bool, out: LeftOut | None, rule: GroupRule
    ) -> dict[str, Any]:
        if deleted:
            return kept_part(contact, ())
        if out is not None:
            return left_out(contact, out.reason, was_synced=out.was_synced)
        kept = kept_part(contact, self._kept)
        return kept | {FIELD: contact.get(FIELD) or []} if rule.reads_groups else kept

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
            self._dead_letter, read._replace(value=value), STAGE, error.reason, detail
        )
        return letter.topic, letter.value, letter.key, letter.headers


def _known(
    key: bytes, states: Mapping[bytes, DedupeState | None], entries: Mapping[bytes, bytes]
) -> DedupeState | None:
    """What is known of a contact: from this batch, else from the table."""
    if key in states:
        return states[key]
    entry = entries.get(key)
    return None if entry is None else decode(entry)


def _undecided(choice: Choice, verdict: GroupVerdict, *, releases: bool) -> str:
    """Why an event goes no further now: NOT_SELECTED, or what is not known yet; else empty.

    `releases`: whether it releases a record, which no mailbox holds back.
    """
    if not choice.selected and not releases:
        unknown = choice.why is Why.ADDRESS_UNKNOWN
        return Why.ADDRESS_UNKNOWN.value if unknown else NOT_SELECTED
    return GROUPS_UNKNOWN if verdict.undecided else ""


def _lacks_body(notification: Notification) -> bool:
    """Whether a notification says only that its contact changed, or leaves fields out."""
    return notification.type.endswith(".truncated") or not has_content(notification.object)


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
