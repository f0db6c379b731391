"""Which dead letters are open, selected and superseded."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.commands.dead_letters.open_letters import LastOutcomes, LetterScan, OpenLetter, scan
from streams.dead_letters import dead_letter
from streams.events import Kind, change_headers
from streams.kafka.records import KafkaRecord
from streams.selection import Selection
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.unit.streams.test_dead_letters import STORED_BY_SCHEMA_1

TOPICS = topics(load(KafkaSettings, {}))
BASE = 1_760_000_000


def failed(
    contact_key: str = "g/c",
    version: int = BASE,
    offset: int = 0,
    reason: str = "string_too_long",
    email: str = "ada@acme.example",
) -> KafkaRecord:
    """The dead letter of a change."""
    headers = change_headers(Kind.UPDATED, version, "f", "m", b"webhook", b"1")
    value = orjson.dumps({"surname": "Lovelace", "emails": [{"email": email}]})
    record = KafkaRecord(TOPICS.changes.name, contact_key.encode(), value, headers, 0, offset)
    return dead_letter(TOPICS.dead_letter.name, record, "sink", reason)


def tombstone(record: KafkaRecord) -> KafkaRecord:
    return KafkaRecord(record.topic, record.key, None, [])


def scanned(*records: KafkaRecord, selection: Selection | None = None) -> LetterScan:
    placed = [
        KafkaRecord(one.topic, one.key, one.value, one.headers, 0, place, one.timestamp_ms)
        for place, one in enumerate(records)
    ]
    return scan(placed, selection or Selection(), TOPICS)


def ids(found: LetterScan) -> list[str]:
    return [letter.letter_id for letter in found.in_order]


def test_a_letter_is_open_until_its_tombstone() -> None:
    first, second = failed(offset=1), failed(offset=2)
    assert ids(scanned(first, second)) == [
        "contacts.changes/0/1/g/c",
        "contacts.changes/0/2/g/c",
    ]
    assert ids(scanned(first, second, tombstone(first))) == ["contacts.changes/0/2/g/c"]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=25))
def test_what_is_open_is_what_was_written_last(steps: list[tuple[int, bool]]) -> None:
    last: dict[int, bool] = {}
    records = []
    for number, is_letter in steps:
        last[number] = is_letter
        record = failed(offset=number)
        records.append(record if is_letter else tombstone(record))
    expected = {f"contacts.changes/0/{number}/g/c" for number, is_open in last.items() if is_open}
    assert set(ids(scanned(*records))) == expected


def test_a_letter_that_is_no_more_selected_is_not_found_in_an_older_state() -> None:
    old = failed(offset=1, reason="string_too_long")
    new = failed(offset=1, reason="apex_error")
    assert ids(scanned(old, new, selection=Selection(reasons=("string_too_long",)))) == []


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(reasons=("apex_error",)), ["contacts.changes/0/2/h/c"]),
        (Selection(grants=("h",)), ["contacts.changes/0/2/h/c"]),
        (Selection(keys=("g/c",)), ["contacts.changes/0/1/g/c"]),
        (Selection(addresses=("bob@acme.example",)), ["contacts.changes/0/2/h/c"]),
        (
            Selection(domains=("acme.example",), reasons=("string_too_long",)),
            ["contacts.changes/0/1/g/c"],
        ),
        (Selection(kinds=("deleted",)), []),
        (Selection(until_ms=1), []),
    ],
)
def test_every_condition_selects(selection: Selection, found: list[str]) -> None:
    letters = (
        failed(offset=1),
        failed("h/c", offset=2, reason="apex_error", email="bob@acme.example"),
    )
    assert ids(scanned(*letters, selection=selection)) == found


def test_a_person_is_found_in_a_letter_that_nobody_could_read() -> None:
    body = KafkaRecord("webhook", None, b'{"emails":[{"email":"Ada@Acme.example"}', [])
    letter = dead_letter(TOPICS.dead_letter.name, body, "bridge", "not_json")
    assert len(ids(scanned(letter, selection=Selection(addresses=("ada@acme.example",))))) == 1


def test_records_that_are_no_letters_are_counted() -> None:
    found = scanned(KafkaRecord(TOPICS.dead_letter.name, b"k", b"?", []), failed())
    assert (found.unreadable, len(found.letters)) == (1, 1)


def test_the_sample_of_a_reason_is_masked() -> None:
    (sample,) = scanned(failed()).samples.values()
    assert sample == "L*** a***@a***"


def test_a_letter_of_the_version_before_is_open_under_the_key_of_the_contact() -> None:
    (letter,) = scanned(STORED_BY_SCHEMA_1).in_order
    assert (letter.key, letter.contact_key, letter.version) == (b"g/c", "g/c", 1_760_000_000)


def outcome(version: int, status: str = "updated", key: str = "g/c") -> KafkaRecord:
    value = orjson.dumps({"version": version, "outcome": status, "reason": ""})
    return KafkaRecord(TOPICS.outcomes.name, key.encode(), value, [])


def open_letter() -> OpenLetter:
    (letter,) = scanned(failed(version=BASE)).in_order
    return letter


@pytest.mark.parametrize(
    ("records", "superseded"),
    [
        ([], False),
        ([outcome(BASE, "failed")], False),
        ([outcome(BASE, "updated")], True),
        ([outcome(BASE + 1, "failed")], True),
        ([outcome(BASE - 1)], False),
        ([outcome(BASE + 1), outcome(BASE, "failed")], False),
        ([outcome(BASE + 1, key="g/other")], False),
        (
            [
                KafkaRecord("o", b"g/c", b"junk", []),
                KafkaRecord("o", b"g/c", b'{"version":"x"}', []),
            ],
            False,
        ),
    ],
)
def test_a_letter_is_superseded_by_a_newer_outcome(
    records: list[KafkaRecord], superseded: bool
) -> None:
    assert LastOutcomes(records, frozenset({"g/c"})).supersedes(open_letter()) is superseded


def test_the_last_outcome_is_a_condition() -> None:
    outcomes = LastOutcomes([outcome(BASE, "skipped")], frozenset({"g/c"}))
    assert outcomes.takes(Selection(outcomes=("skipped",)), "g/c")
    assert not outcomes.takes(Selection(outcomes=("failed",)), "g/c")
    assert not outcomes.takes(Selection(outcomes=("failed",)), "g/unknown")
