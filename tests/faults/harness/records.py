"""Reads the records of a storm's topics by the plain rules, and tells readable ones from poison."""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.harness.evidence import Evidence, StoredRecord
from tests.faults.harness.model import DELETED, MAPPED, Event, NotAnEvent, parse

MAX_DIGITS = 15
"""Of a number in a header. A longer one is no number."""

PAGE_MARGIN_SECONDS = 600
"""A page's version is so much older than the moment at which Nylas served it (the design)."""

Events = Sequence[tuple[StoredRecord, Event]]


@dataclass(frozen=True)
class ReadChange:
    """A readable record of contacts.changes, or the dead letter of one."""

    offset: int
    key: str
    version: int
    content: Mapping[str, Any]


@dataclass(frozen=True)
class RefetchAnswer:
    """An event of a contact that was read again."""

    partition: int
    offset: int
    version: int


class VersionIndex:
    """By contact, from which offset of a topic on it has a version or a higher one."""

    def __init__(self, found: Iterable[tuple[str, int, int]]) -> None:
        """`found` are key, offset and version, by offset."""
        self._offsets: dict[str, list[int]] = defaultdict(list)
        self._highest: dict[str, list[int]] = defaultdict(list)
        for key, offset, version in found:
            highest = self._highest[key]
            if not highest or version > highest[-1]:
                self._offsets[key].append(offset)
                highest.append(version)

    def is_below(self, end: int, key: str, version: int) -> bool:
        """Whether a record below `end` has this version of the contact, or a higher one."""
        place = bisect_left(self._highest[key], version)
        return place < len(self._offsets[key]) and self._offsets[key][place] < end


def json_object(value: bytes | None) -> Mapping[str, Any] | None:
    """The JSON object in a value; None when there is none."""
    try:
        found = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def header_number(text: str | None) -> int | None:
    """The number in a header; None when there is none."""
    if not text or len(text) > MAX_DIGITS or not text.isascii() or not text.isdigit():
        return None
    return int(text)


def read_event(record: StoredRecord) -> Event:
    """The event in a record of contacts.events, or in the dead letter of one. Raises NotAnEvent."""
    origin = record.headers.get("origin", "")
    received_ms = header_number(record.headers.get("received_ms"))
    return parse(record.value, origin, record.key, received_ms or None)


def read_events(
    records: Sequence[StoredRecord],
) -> tuple[list[tuple[StoredRecord, Event]], list[StoredRecord]]:
    """The events and the poison of contacts.events, by partition and offset."""
    good, poison = [], []
    for record in sorted(records, key=lambda one: (one.partition, one.offset)):
        try:
            good.append((record, read_event(record)))
        except NotAnEvent:
            poison.append(record)
    return good, poison


def read_change(record: StoredRecord) -> ReadChange | None:
    """The change in a record of contacts.changes, or in the dead letter of one; None for poison."""
    subject = json_object(record.value)
    version = header_number(record.headers.get("version"))
    kind = record.headers.get("kind")
    if subject is None or version is None or "/" not in record.key:
        return None
    if kind == "deleted":
        return ReadChange(record.offset, record.key, version, DELETED)
    if kind == "updated":
        return ReadChange(record.offset, record.key, version, mapped_content(subject))
    return None


def read_changes(
    records: Sequence[StoredRecord],
) -> tuple[list[ReadChange], list[StoredRecord]]:
    """The changes and the poison of contacts.changes, by offset; an erasure is neither."""
    good, poison = [], []
    for record in sorted(records, key=lambda one: one.offset):
        change = read_change(record)
        if change is not None:
            good.append(change)
        elif record.value is not None:
            poison.append(record)
    return good, poison


def mapped_content(contact: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapped fields of a contact that have a value."""
    return {name: contact[name] for name in MAPPED if contact.get(name)}


def is_of_the_sink(letter: StoredRecord) -> bool:
    """Whether the sink wrote the dead letter."""
    return letter.headers.get("dlq.stage") == "sink"


def dead_lettered_changes(letters: Sequence[StoredRecord]) -> dict[str, list[ReadChange]]:
    """By contact, the readable changes that the sink has dead-lettered."""
    found: dict[str, list[ReadChange]] = defaultdict(list)
    for letter in letters:
        if is_of_the_sink(letter) and (change := read_change(letter)) is not None:
            found[letter.key].append(change)
    return found


def letters_by_origin(
    letters: Sequence[StoredRecord],
) -> dict[tuple[str, int, int], list[StoredRecord]]:
    """The dead letters by topic, partition and offset of the record that each was."""
    found: dict[tuple[str, int, int], list[StoredRecord]] = defaultdict(list)
    for letter in letters:
        topic = letter.headers.get("dlq.original.topic", "")
        partition = header_number(letter.headers.get("dlq.original.partition"))
        offset = header_number(letter.headers.get("dlq.original.offset"))
        if partition is None or offset is None:
            continue
        for name in ("contacts.events", "contacts.changes"):
            if topic.endswith(name):
                found[name, partition, offset].append(letter)
    return found


def refetch_answers(events: Events) -> dict[str, list[RefetchAnswer]]:
    """By contact, the events of contacts that were read again."""
    found: dict[str, list[RefetchAnswer]] = defaultdict(list)
    for record, event in events:
        if record.headers.get("origin") == "refetch" and event.time is not None:
            found[event.key].append(RefetchAnswer(record.partition, record.offset, event.time))
    return found


def is_answerable(request: StoredRecord, evidence: Evidence) -> bool:
    """Whether a record of contacts.refetch names a contact of a grant that Nylas knows."""
    grant, _, contact = request.key.partition("/")
    return grant in evidence.grants and bool(contact)


def least_version(request: StoredRecord) -> int:
    """The version that the answer to a record of contacts.refetch must have at least.

    0 for poison, which asks for no particular version.
    """
    not_before = request.headers.get("not_before", "")
    if len(not_before) != 10 or not not_before.isdigit():
        return 0
    return int(not_before) - PAGE_MARGIN_SECONDS
