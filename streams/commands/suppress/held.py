"""Finds everything that the topics and the table of dedupe hold of some people."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from streams.commands.explain.question import parse_question
from streams.commands.explain.search import WantedKeys, find
from streams.commands.explain.timeline import ContactRecords
from streams.commands.topic_records import topic_scan
from streams.kafka.records import KafkaRecord
from streams.kafka.scan import Wanted
from streams.reader.outcome_records import parse_outcome
from streams.settings import KafkaSettings
from streams.sink.deleted_topic import ADDRESS
from streams.topics import topics

# For one topic: as long as `contactstream explain` waits.
TOPIC_SECONDS = 120.0

Read = Callable[[str, Wanted], Iterable[KafkaRecord]]


@dataclass(slots=True)
class Held:
    """What is held of some people, by topic; records that hold nothing of them are not in it."""

    keys: list[str] = field(default_factory=list)
    """Their contact keys."""
    records: dict[str, list[KafkaRecord]] = field(default_factory=dict)
    """By the name of a topic, the oldest first."""
    record_ids: list[str] = field(default_factory=list)
    """IDs of the records in Salesforce that the outcomes and the journal name."""
    found_for: dict[str, list[str]] = field(default_factory=dict)
    """Of a contact key, the addresses and keys by which it was found."""


def held_of(kafka: KafkaSettings, people: Iterable[str]) -> Held:
    """Everything that is held of these addresses and contact keys. Blocks.

    Raises click.ClickException without a broker.
    """

    def read(topic: str, wanted: Wanted) -> Iterator[KafkaRecord]:
        return topic_scan(kafka, topic, wanted, lambda _: None, TOPIC_SECONDS)

    names = topics(kafka)
    contacts: dict[str, ContactRecords] = {}
    found_for: dict[str, list[str]] = {}
    for person in people:
        of_person = find(parse_question(person), read, names, bounded=False).contacts
        contacts |= of_person
        for key in of_person:
            found_for.setdefault(key, []).append(person)
    held = Held(
        sorted(key for key, found in contacts.items() if _something(found)), found_for=found_for
    )
    for key in held.keys:
        of_contact = contacts[key]
        for topic, found in (
            (names.events.name, of_contact.events),
            (names.changes.name, _living(of_contact.changes)),
            (names.refetch.name, of_contact.refetch),
            (names.outcomes.name, _living(of_contact.outcomes)),
            (names.journal.name, _living(of_contact.journal)),
            (names.dead_letter.name, _living(of_contact.dead_letters)),
        ):
            held.records.setdefault(topic, []).extend(found)
    wanted = WantedKeys(frozenset(key.encode() for key in held.keys))
    for topic in (names.deleted_records.name, names.seen_changelog.name):
        found = [
            record
            for record in (read(topic, wanted) if held.keys else ())
            if (record.key or b"").decode(errors="replace") in contacts
        ]
        held.records[topic] = _living(found)
    held.record_ids = sorted(_record_ids(held, names.outcomes.name, names.journal.name))
    return held


def counts(held: Held) -> Mapping[str, int]:
    """How many records each topic holds."""
    return {topic: len(found) for topic, found in held.records.items()}


def _something(found: ContactRecords) -> bool:
    return any(
        (
            found.events,
            found.changes,
            found.refetch,
            found.outcomes,
            found.journal,
            found.dead_letters,
        )
    )


def _living(records: Iterable[KafkaRecord]) -> list[KafkaRecord]:
    """The records with a value, but those that a later tombstone of their key erases."""
    living: dict[bytes, list[KafkaRecord]] = {}
    for record in records:
        if record.value is None:
            living.pop(record.key or b"", None)
        elif not (record.key or b"").startswith(ADDRESS.encode()):
            living.setdefault(record.key or b"", []).append(record)
    return [record for found in living.values() for record in found]


def _record_ids(held: Held, outcomes: str, journal: str) -> set[str]:
    found: set[str] = set()
    for record in held.records.get(outcomes, ()):
        found |= parse_outcome(record).record_ids
    for record in held.records.get(journal, ()):
        found.add((record.key or b"").decode(errors="replace").partition("/")[0])
    return found - {""}
