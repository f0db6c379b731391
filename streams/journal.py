"""The record format of contacts.journal: what contactstream replaced and created in Salesforce.

The sink writes an entry for each value that is not blank and that it replaced, and one for each
record that it created. `contactstream undo` writes an entry for each value that it restored.

| key | value |
|---|---|
| `record ID/field/at_ms/contact key` | JSON, with the version of its format as `schema` |

Every entry has a key of its own, so that an erasure removes each entry of a person by a tombstone.
The field is empty for a record that was created. Only the value holds personal data.

An entry follows the write of its row, in the transaction of the row's outcome. A row that was
written again finds the values as they should be, replaces none, and so has no second entry.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from connectors.salesforce.org_fields import EMAIL_FIELDS
from connectors.salesforce.outcome import Outcome, OutcomeStatus
from streams.dead_letters import REDRIVE_ID
from streams.events import RUN_ID, ContactChange, UnreadableRecord, now_ms, parse_object
from streams.kafka.records import Headers, KafkaRecord, header

SCHEMA = 1


class EntryKind(StrEnum):
    """What happened in Salesforce."""

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
        return f"{self.record_id}/{self.field}/{self.at_ms}/{self.contact_key}".encode()

    @property
    def grant(self) -> str:
        """The grant of the contact."""
        return self.contact_key.partition("/")[0]


def journal_record(topic: str, entry: JournalEntry) -> KafkaRecord:
    """The record of an entry."""
    value = {"schema": SCHEMA} | asdict(entry)
    for name in ("record_id", "field", "at_ms", "contact_key"):
        del value[name]  # the key says it
    return KafkaRecord(topic, entry.key, orjson.dumps(value), [])


def parse_journal(record: KafkaRecord) -> JournalEntry | None:
    """The entry in a record; None for a tombstone. Raises UnreadableRecord."""
    if record.value is None:
        return None
    data = parse_object(record.value)
    if data.get("schema") != SCHEMA:
        raise UnreadableRecord("not_a_journal_entry", f"schema {data.get('schema')!r}")
    try:
        record_id, field, at_ms, contact_key = (record.key or b"").decode().split("/", 3)
        return JournalEntry(
            EntryKind(data["kind"]),
            str(data["sobject"]),
            record_id,
            field,
            data["old"],
            data["new"],
            contact_key,
            str(data["run"]),
            str(data["origin"]),
            data["restored"] is True,
            int(data["version"]),
            int(at_ms),
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
    for name in (REDRIVE_ID, "replay.id", RUN_ID):
        if found := header(headers, name):
            return found.decode(errors="replace")
    return ""


def written_entries(
    outcome: Outcome, headers: Headers | None, change: ContactChange
) -> list[JournalEntry]:
    """What the journal says of a final outcome: nothing where no value was replaced.

    `headers` are those of the change's record in contacts.changes.
    """
    created = outcome.status is OutcomeStatus.CREATED and outcome.record_id is not None
    if not created and not outcome.replaced:
        return []
    first = JournalEntry(
        EntryKind.CREATED,
        outcome.sobject or "",
        outcome.record_id or "",
        "",
        None,
        None,
        change.key,
        run_of(headers),
        change.origin,
        False,
        change.version,
        now_ms(),
    )
    entries = [first] if created else []
    entries += (
        replace(
            first,
            kind=EntryKind.REPLACED,
            sobject=value.sobject,
            record_id=value.record_id,
            field=value.field,
            old=value.old,
            new=value.new,
            restored=_is_restored(value.field, change.restore),
        )
        for value in outcome.replaced
    )
    return entries


def journal_records(topic: str, entries: Sequence[JournalEntry]) -> list[KafkaRecord]:
    """The records of entries, in their order."""
    return [journal_record(topic, entry) for entry in entries]


def _is_restored(field: str, restored: frozenset[str]) -> bool:
    """Whether a restore names the field; the further addresses go with the primary one."""
    return field in restored or (field in EMAIL_FIELDS and EMAIL_FIELDS[0] in restored)
