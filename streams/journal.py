"""The record format of contacts.journal: what contactstream replaced and created in Salesforce.

The sink writes an entry for each value that is not blank and that it replaces, and one for each
record that it created. `contactstream undo` writes an entry for each value that it restored.

| key | value |
|---|---|
| `record ID/field/change/contact key` | JSON, with the version of its format as `schema` |

The change is the contact's version and the offset of the change in contacts.changes, or the ID of
an undo. So every entry has a key of its own, and an erasure removes each entry of a person by a
tombstone. The field is empty for a record that was created. Only the value holds personal data.

1. An entry is written before its row is sent, as `intended`: a sink that is killed between the
   org's answer and the journal would otherwise take the former value with it.
2. Once the org has written the row, the entry is written again under the same key as `replaced`, in
   the transaction of the row's outcome.
3. A row that is sent again after a fault has the entry that it had. If the org had written it, it
   finds our own values there, replaces none, and leaves the entry as it is.

An entry that stayed `intended` may not have been written: whether it was, the org's value tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import orjson

from connectors.salesforce.org_fields import EMAIL_FIELDS
from connectors.salesforce.outcome import Outcome, OutcomeStatus, ReplacedValue
from streams.dead_letters import REDRIVE_ID
from streams.events import RUN_ID, ContactChange, UnreadableRecord, now_ms, parse_object
from streams.kafka.records import Headers, KafkaRecord, header_values

SCHEMA = 1


class EntryKind(StrEnum):
    """What happened in Salesforce."""

    INTENDED = "intended"
    """A value is about to be replaced."""
    REPLACED = "replaced"
    CREATED = "created"
    RESTORED = "restored"
    """`contactstream undo` put the value back that had been replaced."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A value that was replaced or restored, or a record that was created."""

    kind: EntryKind
    sobject: str
    record_id: str
    field: str
    """The field's API name; empty for a record that was created."""
    old: Any
    """The value before, as Salesforce returns it; None for a record that was created."""
    new: Any
    """The value since; None where the field was cleared."""
    change: str
    """By which change: see the module."""
    contact_key: str
    """The contact whose change it was, `grant_id/contact_id`."""
    run: str
    """The run, redrive or undo that it belongs to; empty for a live change."""
    origin: str
    """Where the change came from, a value of `streams.events.Origin`; empty for an undo."""
    restored: bool
    """Whether the run was a replay that restores this field over anybody's value."""
    version: int
    """Of the contact, in epoch seconds; 0 for an undo."""
    at_ms: int

    @property
    def key(self) -> bytes:
        """The key of the entry's record."""
        return f"{self.record_id}/{self.field}/{self.change}/{self.contact_key}".encode()

    @property
    def grant(self) -> str:
        """The grant of the contact."""
        return self.contact_key.partition("/")[0]


# The key says the others.
_VALUE_FIELDS = tuple(
    field.name
    for field in fields(JournalEntry)
    if field.name not in {"record_id", "field", "change", "contact_key"}
)


def journal_record(topic: str, entry: JournalEntry) -> KafkaRecord:
    """The record of an entry."""
    value = {"schema": SCHEMA, **{name: getattr(entry, name) for name in _VALUE_FIELDS}}
    return KafkaRecord(topic, entry.key, orjson.dumps(value), [])


def parse_journal(record: KafkaRecord) -> JournalEntry | None:
    """The entry in a record; None for a tombstone. Raises UnreadableRecord."""
    if record.value is None:
        return None
    data = parse_object(record.value)
    if data.get("schema") != SCHEMA:
        raise UnreadableRecord("not_a_journal_entry", f"schema {data.get('schema')!r}")
    try:
        record_id, field, change, contact_key = (record.key or b"").decode().split("/", 3)
        return JournalEntry(
            EntryKind(data["kind"]),
            str(data["sobject"]),
            record_id,
            field,
            data["old"],
            data["new"],
            change,
            contact_key,
            str(data["run"]),
            str(data["origin"]),
            data["restored"] is True,
            int(data["version"]),
            int(data["at_ms"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise UnreadableRecord("not_a_journal_entry", repr(error)) from error


def contact_key_of(journal_key: bytes | None) -> str:
    """The contact key in the key of an entry, for an erasure; empty if it is no such key."""
    parts = (journal_key or b"").decode(errors="replace").split("/", 3)
    return parts[3] if len(parts) == 4 else ""


def run_of(headers: Headers | None) -> str:
    """The run that a change came from: a redrive before a replay before a listing; empty if none.

    A replayed event keeps the headers of the event that it repeats.
    """
    named = header_values(headers)
    found = named.get(REDRIVE_ID) or named.get("replay.id") or named.get(RUN_ID)
    return found.decode(errors="replace") if found else ""


def change_of(change: ContactChange, offset: int) -> str:
    """How entries name a change, given its offset in contacts.changes."""
    return f"{change.version}-{offset}"


def written_entries(
    outcome: Outcome, record: KafkaRecord, change: ContactChange
) -> list[JournalEntry]:
    """What the journal says of a final outcome: nothing where no value was replaced.

    `record` is the change's record of contacts.changes.
    """
    entries = value_entries(EntryKind.REPLACED, outcome.replaced, record, change)
    if outcome.status is not OutcomeStatus.CREATED or outcome.record_id is None:
        return entries
    created = ReplacedValue(outcome.sobject or "", outcome.record_id, "", None, None)
    return [*value_entries(EntryKind.CREATED, [created], record, change), *entries]


def value_entries(
    kind: EntryKind,
    values: Sequence[ReplacedValue],
    record: KafkaRecord,
    change: ContactChange,
) -> list[JournalEntry]:
    """An entry for each value that a change replaces; `record` is that of contacts.changes."""
    if not values:  # nearly always
        return []
    at_ms, run = now_ms(), run_of(record.headers)
    return [
        JournalEntry(
            kind,
            value.sobject,
            value.record_id,
            value.field,
            value.old,
            value.new,
            change_of(change, record.offset),
            change.key,
            run,
            change.origin,
            _is_restored(value.field, change.restore),
            change.version,
            at_ms,
        )
        for value in values
    ]


def journal_records(topic: str, entries: Sequence[JournalEntry]) -> list[KafkaRecord]:
    """The records of entries, in their order."""
    return [journal_record(topic, entry) for entry in entries]


def _is_restored(field: str, restored: frozenset[str]) -> bool:
    """Whether a restore names the field; the further addresses go with the primary one."""
    return field in restored or (field in EMAIL_FIELDS and EMAIL_FIELDS[0] in restored)
