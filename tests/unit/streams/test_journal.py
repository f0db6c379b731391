"""The journal: what a final outcome writes there, and how an entry is read back."""

from dataclasses import replace

import pytest

from connectors.salesforce.outcome import Outcome, OutcomeStatus, ReplacedValue
from streams.events import ContactChange, Kind, UnreadableRecord
from streams.journal import (
    EntryKind,
    contact_key_of,
    journal_record,
    parse_journal,
    run_of,
    value_entries,
    written_entries,
)
from streams.kafka.records import Headers, KafkaRecord

LEAD = "00Q5g00000000AAEAQ"
CHANGE = ContactChange("g/a/b", Kind.UPDATED, 100, "", "", "replay", 0, {})
TITLE = ReplacedValue("Lead", LEAD, "Title", "Engineer", "Analyst")
SECOND = ReplacedValue("Lead", LEAD, "Nylas_Email_2__c", "a@acme.example", None)
UPDATED = Outcome("g/a/b", OutcomeStatus.UPDATED, "Lead", LEAD, "key", replaced=(TITLE, SECOND))


def record(*headers: tuple[str, bytes]) -> KafkaRecord:
    """The record of CHANGE in contacts.changes."""
    return KafkaRecord("contacts.changes", b"g/a/b", b"{}", list(headers), 0, 7)


def test_what_is_intended_and_what_was_replaced_then_are_one_entry() -> None:
    (intended,) = value_entries(EntryKind.INTENDED, [TITLE], record(), CHANGE)
    first, _ = written_entries(UPDATED, record(), CHANGE)
    assert intended.key == first.key
    assert (intended.kind, first.kind) == (EntryKind.INTENDED, EntryKind.REPLACED)
    later = replace(CHANGE, version=101)
    (other,) = value_entries(EntryKind.INTENDED, [TITLE], record(), later)
    assert other.key != first.key


def test_each_replaced_value_has_an_entry_of_its_own_that_reads_back_as_it_was() -> None:
    change = replace(CHANGE, restore=frozenset({"Email"}))
    entries = written_entries(UPDATED, record(("replay.id", b"replay-1")), change)
    assert [(each.field, each.old, each.new, each.restored) for each in entries] == [
        ("Title", "Engineer", "Analyst", False),
        ("Nylas_Email_2__c", "a@acme.example", None, True),
    ]
    assert {(each.kind, each.run, each.origin, each.version) for each in entries} == {
        (EntryKind.REPLACED, "replay-1", "replay", 100)
    }
    records = [journal_record("contacts.journal", each) for each in entries]
    assert [parse_journal(record) for record in records] == entries
    assert len({record.key for record in records}) == 2
    assert {contact_key_of(record.key) for record in records} == {"g/a/b"}
    assert all(b"Engineer" not in (record.key or b"") for record in records)


def test_a_created_record_has_an_entry_without_values() -> None:
    created = Outcome("g/a/b", OutcomeStatus.CREATED, "Lead", LEAD, first=True)
    (entry,) = written_entries(created, record(("run.id", b"backfill-1")), CHANGE)
    assert (entry.kind, entry.record_id, entry.field, entry.old, entry.new, entry.run) == (
        EntryKind.CREATED,
        LEAD,
        "",
        None,
        None,
        "backfill-1",
    )


@pytest.mark.parametrize(
    "outcome",
    [
        replace(UPDATED, replaced=()),
        Outcome("g/a/b", OutcomeStatus.SKIPPED, reason="excluded"),
        Outcome("g/a/b", OutcomeStatus.RELEASED, "Lead", LEAD, "key"),
    ],
)
def test_what_replaces_nothing_has_no_entry(outcome: Outcome) -> None:
    assert written_entries(outcome, record(), CHANGE) == []


def test_a_redrive_of_a_replayed_page_belongs_to_the_redrive() -> None:
    headers: Headers = [
        ("run.id", b"backfill-1"),
        ("replay.id", b"replay-1"),
        ("redrive.id", b"redrive-1"),
    ]
    assert [run_of(headers[:end]) for end in range(4)] == [
        "",
        "backfill-1",
        "replay-1",
        "redrive-1",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"00Q/Title/1/g/1", b'{"schema": 2}'),
        (b"00Q/Title/1/g/1", b'{"schema": 1}'),
        (b"no key of an entry", b'{"schema": 1}'),
        (b"00Q/Title/1/g/1", b"no JSON"),
    ],
)
def test_what_nobody_wrote_here_is_unreadable(key: bytes, value: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        parse_journal(KafkaRecord("contacts.journal", key, value, []))


def test_a_tombstone_is_no_entry() -> None:
    assert parse_journal(KafkaRecord("contacts.journal", b"00Q/Title/1/g/1", None, [])) is None
    assert contact_key_of(b"g/1") == ""
