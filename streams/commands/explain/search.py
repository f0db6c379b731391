"""Finds the records of contacts in the topics. Reads through a function, so it knows no Kafka."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.model import parse_notification
from connectors.salesforce.emails import addresses
from streams.commands.explain.question import SHORT_ID_LENGTH, Mention, Question, Subject
from streams.commands.explain.timeline import ContactRecords
from streams.dead_letters import parse_dead_letter
from streams.events import UnreadableRecord, number
from streams.journal import contact_key_of
from streams.kafka.records import KafkaRecord, header
from streams.reader.grant_events import GrantTable, parse_grant_event
from streams.topics import Topics

# Of one address or record. A shared mailbox may be in every address book.
MAX_CONTACTS = 50

# Of one contact, the newest. A contact that changes every minute has 20,000 events in two weeks.
MAX_RECORDS = 1_000

Values = Sequence[bytes | None]

Wanted = Callable[[Values, Values], Iterable[int]]
"""The places of the records that are looked for, given the keys and the values of some records."""

Read = Callable[[str, Wanted], Iterable[KafkaRecord]]
"""Reads a topic from its start to its present end; each partition by its offsets.

Returns the records that are wanted, and of each partition the oldest one in any case.
"""


@dataclass(slots=True)
class Found:
    """What the topics hold about a question."""

    contacts: dict[str, ContactRecords] = field(default_factory=dict)
    """By contact key."""
    more_contacts: int = 0
    """How many contacts were left out beyond MAX_CONTACTS."""
    oldest_event_ms: int | None = None
    """When the oldest event that is still kept was received, in epoch milliseconds."""
    grants: GrantTable = field(default_factory=GrantTable)


Begin = Callable[[str, Wanted], None]
"""Begins to read a topic beside the others; `read` returns its records later."""


def begin_nothing(_topic: str, _wanted: Wanted) -> None:
    """For a caller that reads one topic after the other."""


def find(
    question: Question,
    read: Read,
    topics: Topics,
    begin: Begin = begin_nothing,
    *,
    bounded: bool = True,
) -> Found:
    """Everything that the topics hold about a question. Blocks as `read` does.

    Unless `bounded`, all contacts are kept and not only MAX_CONTACTS.

    For an address or a record the topics that may name it are read first, for the contact keys.
    Raises what `read` raises.
    """
    found = Found()
    keys = _keys(question, read, begin, topics, found)
    kept = sorted(keys)[:MAX_CONTACTS] if bounded else sorted(keys)
    found.more_contacts = len(keys) - len(kept)
    found.contacts = {key: ContactRecords() for key in kept}
    for record in read(topics.grants.name, everything):
        if event := parse_grant_event(record):
            found.grants.apply(event)
    if kept:
        _collect(found, read, begin, topics)
    return found


@dataclass(frozen=True, slots=True)
class WantedMention:
    """Wants records whose value may name an address or a Salesforce record."""

    mention: Mention

    def __call__(self, _keys: Values, values: Values) -> Iterable[int]:
        return self.mention.places(values)


@dataclass(frozen=True, slots=True)
class WantedKeys:
    """Wants the records of some contacts."""

    keys: frozenset[bytes | None]

    def __call__(self, keys: Values, _values: Values) -> Iterable[int]:
        if self.keys.isdisjoint(keys):
            return ()
        return [place for place, key in enumerate(keys) if key in self.keys]


@dataclass(frozen=True, slots=True)
class WantedKeyEnds:
    """Wants the records of some contacts in a topic whose keys have three words before theirs.

    Such are the keys of dead letters and of the journal.
    """

    keys: frozenset[bytes | None]

    def __call__(self, keys: Values, _values: Values) -> Iterable[int]:
        return [
            place
            for place, key in enumerate(keys)
            if key in self.keys or (key or b"").split(b"/", 3)[-1] in self.keys
        ]


def everything(keys: Values, _values: Values) -> Iterable[int]:
    """Wants every record."""
    return range(len(keys))


def _keys(question: Question, read: Read, begin: Begin, topics: Topics, found: Found) -> set[str]:
    if question.subject is Subject.CONTACT:
        return {question.value}
    wanted = WantedMention(question.mention())
    if question.subject is Subject.RECORD:
        return {
            _key(record)
            for record in read(topics.outcomes.name, wanted)
            if _names_record(record, question.value)
        }
    begin(topics.changes.name, wanted)
    keys = set()
    for record in read(topics.events.name, wanted):
        found.oldest_event_ms = _older(found.oldest_event_ms, record)
        if question.value in _event_addresses(record):
            keys.add(_key(record))
    return keys | {
        _key(record)
        for record in read(topics.changes.name, wanted)
        if question.value in addresses(_object(record.value))
    }


def _collect(found: Found, read: Read, begin: Begin, topics: Topics) -> None:
    by_topic: Mapping[str, Callable[[ContactRecords], list[KafkaRecord]]] = {
        topics.events.name: lambda contact: contact.events,
        topics.changes.name: lambda contact: contact.changes,
        topics.refetch.name: lambda contact: contact.refetch,
        topics.outcomes.name: lambda contact: contact.outcomes,
        topics.journal.name: lambda contact: contact.journal,
        topics.dead_letter.name: lambda contact: contact.dead_letters,
    }
    keys = {key.encode(): contact for key, contact in found.contacts.items()}
    wanted = WantedKeys(frozenset(keys))
    wanted_ends = WantedKeyEnds(frozenset(keys))
    begin(topics.outcomes.name, wanted)
    for topic, records_of in by_topic.items():
        is_events = topic == topics.events.name
        long_keys = topic in {topics.journal.name, topics.dead_letter.name}
        for record in read(topic, wanted_ends if long_keys else wanted):
            if is_events:
                found.oldest_event_ms = _older(found.oldest_event_ms, record)
            contact = keys.get(_contact_key(record, topics))
            if contact is not None:
                records = records_of(contact)
                records.append(record)
                if len(records) > MAX_RECORDS:
                    del records[0]
                    contact.left_out += 1


def _contact_key(record: KafkaRecord, topics: Topics) -> bytes:
    if record.topic == topics.journal.name:
        return contact_key_of(record.key).encode()
    if record.topic != topics.dead_letter.name:
        return record.key or b""
    try:
        letter = parse_dead_letter(record)
    except UnreadableRecord:
        return b""
    return b"" if letter is None else letter.contact_key.encode()


def _older(before: int | None, record: KafkaRecord) -> int:
    at_ms = number(header(record.headers, "received_ms")) or record.timestamp_ms
    return at_ms if before is None else min(before, at_ms)


def _key(record: KafkaRecord) -> str:
    return (record.key or b"").decode(errors="replace")


def _object(value: bytes | None) -> Mapping[str, Any]:
    try:
        found = orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _names_record(record: KafkaRecord, record_id: str) -> bool:
    outcome = _object(record.value)
    candidates = outcome.get("candidates")
    named = [outcome.get("id"), *(candidates if isinstance(candidates, list) else ())]
    return any(str(each or "")[:SHORT_ID_LENGTH] == record_id for each in named)


def _event_addresses(record: KafkaRecord) -> Iterator[str]:
    try:
        yield from addresses(parse_notification(record.value or b"").object)
    except UnreadableBody:
        return
