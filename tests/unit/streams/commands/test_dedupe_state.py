"""What another generation's table gets of an old changelog, or of contacts.changes."""

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.mapping_rules import FieldMapping
from streams.cli import main
from streams.commands.dedupe_state.entries import (
    UnusableEntry,
    entry_of_change,
    entry_of_changelog,
)
from streams.dedupe.planner import DedupePlanner
from streams.dedupe.versions import DedupeState, decode, encode
from streams.events import Kind, change_headers
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.dedupe_load import event

CHANGELOG = "contactstream-dedupe-seen-changelog"
KEY = b"g0/c0"
BASE = 1_700_000_000

states = st.builds(
    DedupeState,
    st.integers(-1, 2**40),
    st.integers(-1, 2**40),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=4, max_size=4),
    st.lists(st.binary(min_size=8, max_size=8), max_size=8).map(tuple),
)


def entry(value: bytes | None, key: bytes | None = KEY) -> KafkaRecord:
    return KafkaRecord(CHANGELOG, key, value, [], 3, 17)


@given(states)
def test_an_entry_of_the_old_table_is_kept(state: DedupeState) -> None:
    assert entry_of_changelog(entry(encode(state))) == (KEY, encode(state))


def test_a_removed_entry_stays_removed_and_a_foreign_record_is_left_out() -> None:
    assert entry_of_changelog(entry(None)) == (KEY, None)
    assert entry_of_changelog(entry(b"x", key=None)) is None


def test_an_entry_that_cannot_be_read_is_named_with_the_remedy() -> None:
    with pytest.raises(UnusableEntry, match=r"changelog\[3\]: the entry at 17.*--from changes"):
        entry_of_changelog(entry(b"\x09" * 37))


def consumed(contact: int, version: int, kind: str = "contact.updated", id_: str = "") -> Any:
    key, value = event(contact, version, id_=id_)
    value = value.replace(b"contact.updated", kind.encode())
    headers = [("origin", b"webhook")]
    place = {"topic": "contacts.events", "partition": 0, "offset": 0, "timestamp": 0}
    return SimpleNamespace(key=key, value=value, headers=headers, **place)


def planned(planner: DedupePlanner, entries: dict[bytes, bytes], *records: Any) -> Any:
    return planner.plan(records, entries, BASE + 100)


def as_records(outputs: Any) -> list[KafkaRecord]:
    return [KafkaRecord(topic, key, value, headers) for topic, value, key, headers in outputs]


def made_of(forwarded: Any) -> dict[bytes, bytes]:
    """The table that is made of the records of contacts.changes of a plan."""
    found = [entry_of_change(each) for each in as_records(forwarded.outputs)]
    return {each[0]: each[1] for each in found if each is not None and each[1] is not None}


def test_a_table_made_of_changes_knows_what_was_forwarded() -> None:
    names, mapping = topics(load(KafkaSettings, {})), FieldMapping()
    planner = DedupePlanner(mapping, names)
    first = planned(planner, {}, consumed(0, 5), consumed(1, 7))
    made = made_of(first)
    for key, value in first.entries.items():
        assert decode(made[key]) == decode(value)._replace(ids=())

    # As the old table, it takes neither of these for news.
    again = planned(planner, made, consumed(0, 5), consumed(0, 4), consumed(1, 6))
    assert not again.outputs
    newer = planned(planner, made, consumed(0, 6))
    assert newer.forwarded == {"updated": 1}


def test_a_table_made_of_changes_takes_another_mapping_for_news_as_the_old_one_did() -> None:
    names, mapping = topics(load(KafkaSettings, {})), FieldMapping()
    forwarded = planned(DedupePlanner(mapping, names), {}, consumed(0, 5))
    made = made_of(forwarded)
    same = consumed(0, 6)
    same.value = same.value.replace(b"Name 6", b"Name 5")
    assert planned(DedupePlanner(mapping, names), made, same).dropped == {"duplicate": 1}
    other = FieldMapping(contact=mapping.contact[:-1])
    assert planned(DedupePlanner(other, names), made, same).forwarded == {"updated": 1}


def test_a_deleted_contact_stays_deleted() -> None:
    names, mapping = topics(load(KafkaSettings, {})), FieldMapping()
    planner = DedupePlanner(mapping, names)
    forwarded = planned(planner, {}, consumed(0, 5, "contact.deleted"))
    assert forwarded.forwarded == {"deleted": 1}
    made = made_of(forwarded)
    assert not planned(planner, made, consumed(0, 4)).outputs


def test_a_tombstone_of_changes_removes_the_entry_and_foreign_records_are_left_out() -> None:
    assert entry_of_change(KafkaRecord("contacts.changes", KEY, None, [])) == (KEY, None)
    assert entry_of_change(KafkaRecord("contacts.changes", KEY, b"{}", [])) is None
    assert entry_of_change(KafkaRecord("contacts.changes", b"no key", b"not JSON", [])) is None


@given(st.text(alphabet="0123456789abcdefxyz", max_size=40))
def test_a_change_without_a_usable_fingerprint_keeps_its_version(text: str) -> None:
    headers = change_headers(Kind.UPDATED, 5, text, "m", b"webhook", b"1")
    made = entry_of_change(KafkaRecord("contacts.changes", KEY, b"{}", headers))
    assert made is not None
    state = decode(made[1] or b"")
    assert (state.newest, state.forwarded) == (5, 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prepare"], "--to"),
        (["switch", "--to", "0"], "1<=x<=99"),
        (["switch", "--to", "two"], "is not a valid integer range"),
        (["switch", "--to", "2", "--from", "events"], "'changelog', 'changes'"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["dedupe-state", *arguments])
    assert result.exit_code == 2
    assert said in result.output
