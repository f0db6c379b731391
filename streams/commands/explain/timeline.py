"""The timeline of a contact, from the records of the topics: plain functions over plain data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.model import has_content, parse_notification
from connectors.salesforce.kept_fields import (
    Exclusion,
    nobody_excluded,
    recorded_exclusion,
)
from connectors.salesforce.mapping_rules import FieldMapping
from streams.commands.dead_letters.open_letters import masked_value
from streams.dead_letters import parse_dead_letter
from streams.dedupe.planner import EVERY_GROUP, Consumed, DedupePlanner, GroupFilter
from streams.events import UnreadableRecord, happened_at, known_origin, number, parse_change
from streams.journal import EntryKind, parse_journal
from streams.kafka.records import KafkaRecord, header
from streams.topics import Topics


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened to a contact.

    `at_ms` is when contactstream saw it, in epoch milliseconds. `what` is event, change, refetch,
    outcome, journal or dead_letter; `result` is the decision, the kind or the outcome, a word of a
    closed set. `details` are further facts by name. `where` is topic, partition and offset.
    """

    at_ms: int
    what: str
    result: str
    version: int | None
    details: dict[str, Any]
    where: str


@dataclass(slots=True)
class ContactRecords:
    """The records of one contact, by topic, each list in the order of its offsets."""

    events: list[KafkaRecord] = field(default_factory=list)
    changes: list[KafkaRecord] = field(default_factory=list)
    refetch: list[KafkaRecord] = field(default_factory=list)
    outcomes: list[KafkaRecord] = field(default_factory=list)
    journal: list[KafkaRecord] = field(default_factory=list)
    dead_letters: list[KafkaRecord] = field(default_factory=list)
    left_out: int = 0
    """How many records were left out because there were too many."""


@dataclass(slots=True)
class _Consumed:
    """A record of contacts.events as dedupe's planner takes it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def timeline(
    records: ContactRecords,
    mapping: FieldMapping,
    topics: Topics,
    exclusion: Exclusion = nobody_excluded,
    groups: GroupFilter = EVERY_GROUP,
) -> list[Entry]:
    """Everything that the topics hold of a contact, by the time at which it was seen.

    The decisions of dedupe are made again, from the first event that the topic still holds.
    """
    entries = [
        *_events(records.events, mapping, DedupePlanner(mapping, topics, exclusion, groups=groups)),
        *filter(None, map(_change, records.changes)),
        *map(_refetch, records.refetch),
        *filter(None, map(_outcome, records.outcomes)),
        # an entry is written again under its key once the org has written the value
        *filter(None, map(_journal, {one.key: one for one in records.journal}.values())),
        *filter(None, map(_dead_letter, records.dead_letters)),
    ]
    return sorted(entries, key=lambda entry: entry.at_ms)


def _events(
    records: Iterable[KafkaRecord], mapping: FieldMapping, planner: DedupePlanner
) -> Iterable[Entry]:
    known: dict[bytes, bytes] = {}
    before: dict[str, Any] = {}
    for record in records:
        at_ms = number(header(record.headers, "received_ms")) or record.timestamp_ms
        plan = planner.plan([consumed(record)], known, at_ms // 1000)
        known |= plan.entries
        for key in plan.erased:
            known.pop(key, None)
        decisions = [*plan.forwarded, *plan.dropped, *plan.refetch, *plan.dead_lettered]
        forwarded = bool(plan.forwarded)
        details: dict[str, Any] = {
            "origin": known_origin(header(record.headers, "origin")),
            "reason": "; ".join([*plan.dropped, *plan.refetch, *plan.dead_lettered]),
        }
        version = None
        try:
            notification = parse_notification(record.value or b"")
        except UnreadableBody:
            pass
        else:
            version = happened_at(notification.time, at_ms)
            details |= {"type": notification.type, "id": notification.id}
            if has_content(notification.object):
                read = mapping.projection(notification.object)
                details["differs"] = sorted(
                    name for name in {*read, *before} if read.get(name) != before.get(name)
                )
                if forwarded:
                    before = read
        result = "forwarded" if forwarded else _result(plan.refetch, plan.dead_lettered, decisions)
        yield Entry(at_ms, "event", result, version, details, _where(record))


def _result(refetch: Iterable[str], dead_lettered: Iterable[str], decisions: list[str]) -> str:
    if any(dead_lettered):
        return "dead_lettered"
    return "read_again" if any(refetch) else "dropped" if decisions else "unknown"


def consumed(record: KafkaRecord) -> Consumed:
    """A record of contacts.events as dedupe's planner takes it."""
    headers = [
        (name, value.encode() if isinstance(value, str) else value)
        for name, value in record.headers
    ]
    return _Consumed(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp_ms,
        record.key,
        record.value,
        headers,
    )


def _change(record: KafkaRecord) -> Entry | None:
    try:
        change = parse_change(record.key, record.value, record.headers)
    except UnreadableRecord as error:
        return Entry(
            record.timestamp_ms,
            "change",
            "unreadable",
            None,
            {"reason": error.reason},
            _where(record),
        )
    if change is None:
        return Entry(record.timestamp_ms, "change", "erased", None, {}, _where(record))
    details = {"origin": change.origin, "mapping": change.mapping}
    if left_out := recorded_exclusion(change.contact):
        details["left_out"] = left_out.value
    at_ms = max(record.timestamp_ms, change.received_ms)
    return Entry(at_ms, "change", change.kind.value, change.version, details, _where(record))


def _refetch(record: KafkaRecord) -> Entry:
    reason = (header(record.headers, "reason") or b"").decode(errors="replace")
    not_before = number(header(record.headers, "not_before"))
    return Entry(
        record.timestamp_ms,
        "refetch",
        "requested",
        None,
        {"reason": reason, "not_before": not_before},
        _where(record),
    )


def _outcome(record: KafkaRecord) -> Entry | None:
    try:
        value = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        return None
    kept = (
        "sobject",
        "id",
        "matched",
        "account_by",
        "owner_rule",
        "reason",
        "candidates",
        "origin",
    )
    details = {name: value[name] for name in kept if value.get(name)}
    at_ms, version = value.get("at_ms"), value.get("version")
    return Entry(
        at_ms if isinstance(at_ms, int) else record.timestamp_ms,
        "outcome",
        str(value.get("outcome") or "unknown"),
        version if isinstance(version, int) else None,
        details,
        _where(record),
    )


def _journal(record: KafkaRecord) -> Entry | None:
    """A value that was replaced or restored. A creation has an outcome, which says the same.

    One that stayed `intended` was written if the org holds the value.
    """
    try:
        entry = parse_journal(record)
    except UnreadableRecord:
        return None
    if entry is None or entry.kind is EntryKind.CREATED:
        return None
    details = {
        "field": f"{entry.sobject}.{entry.field}",
        "before": masked_value(entry.old),
        "since": masked_value(entry.new) or "blank",
        "id": entry.record_id,
        "run": entry.run,
    }
    version = entry.version or None
    return Entry(entry.at_ms, "journal", entry.kind.value, version, details, _where(record))


def _dead_letter(record: KafkaRecord) -> Entry | None:
    try:
        letter = parse_dead_letter(record)
    except UnreadableRecord:
        return None
    if letter is None:
        return None
    details = {
        "stage": letter.stage,
        "attempts": letter.attempts,
        "first_failed_ms": letter.first_failed_ms,
    }
    version = number(header(letter.failed.headers, "version"))
    return Entry(
        letter.last_failed_ms, "dead_letter", letter.reason, version, details, _where(record)
    )


def _where(record: KafkaRecord) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"
