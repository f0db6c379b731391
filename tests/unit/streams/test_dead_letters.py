"""The format of dead letters: what is written is read again, and headers hold no personal data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letters import (
    MAX_DETAIL_CHARACTERS,
    REDRIVE_ATTEMPTS,
    REDRIVE_FIRST_FAILED_MS,
    DeadLetter,
    dead_letter,
    parse_dead_letter,
)
from streams.events import UnreadableRecord
from streams.kafka.records import Headers, KafkaRecord, header

TOPIC = "contacts.dead-letter"
CHANGE = KafkaRecord(
    "p.contacts.changes", b"g/c/1", b'{"id":"c/1"}', [("version", b"7")], 0, 41, 1_700_000_000_000
)
RECORDS = st.builds(
    KafkaRecord,
    st.sampled_from(["contacts.changes", "contacts.events", "webhook"]),
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=60),
    st.lists(
        st.tuples(
            st.sampled_from(["version", "kind", "dlq.reason", "dlq.schema", REDRIVE_ATTEMPTS]),
            st.binary(max_size=20),
        ),
        max_size=4,
    ),
    st.integers(-1, 3),
    st.integers(-1, 10**9),
    st.integers(0, 10**14),
)


def read(record: KafkaRecord) -> DeadLetter:
    found = parse_dead_letter(record)
    assert found is not None
    return found


@given(RECORDS, st.text(max_size=2 * MAX_DETAIL_CHARACTERS), st.integers(1, 99))
def test_a_letter_gives_back_the_failed_record_byte_for_byte(
    failed: KafkaRecord, detail: str, attempts: int
) -> None:
    letter = read(dead_letter(TOPIC, failed, "sink", "a_reason", detail, attempts=attempts))
    assert (letter.failed.topic, letter.failed.key) == (failed.topic, failed.key)
    assert letter.failed.value == failed.value
    assert (letter.stage, letter.reason) == ("sink", "a_reason")
    assert letter.attempts >= attempts
    assert letter.first_failed_ms <= letter.last_failed_ms
    readable = detail[:MAX_DETAIL_CHARACTERS].encode(errors="replace").decode()
    assert letter.detail == readable


@given(RECORDS, st.text(max_size=50))
def test_every_letter_has_a_key_because_a_compacted_topic_demands_one(
    failed: KafkaRecord, detail: str
) -> None:
    record = dead_letter(TOPIC, failed, "sink", "a_reason", detail)
    assert record.key
    assert read(record).letter_key == record.key


def test_the_address_of_the_grant_is_in_no_header() -> None:
    headers: Headers = [("origin", b"backfill"), ("grant.address", b"ada@acme.example")]
    failed = KafkaRecord("contacts.events", b"g/c", b"[]", headers, 3, 41, 1)
    letter = dead_letter("contacts.dead-letter", failed, "dedupe", "not_a_contact")
    assert header(letter.headers, "origin") == b"backfill"
    assert header(letter.headers, "grant.address") is None


def test_the_text_of_the_error_is_in_no_header() -> None:
    record = dead_letter(TOPIC, CHANGE, "sink", "string_too_long", "Ada Lovelace is too long")
    assert not [value for _, value in record.headers if b"Ada" in (value or b"")]
    assert read(record).detail == "Ada Lovelace is too long"


def test_a_letter_names_the_place_and_the_contact_of_the_failed_record() -> None:
    letter = read(dead_letter(TOPIC, CHANGE, "sink", "string_too_long"))
    assert letter.letter_id == "p.contacts.changes/0/41/g/c/1"
    assert letter.contact_key == "g/c/1"
    assert (letter.failed.partition, letter.failed.offset) == (0, 41)
    assert header(letter.failed.headers, "version") == b"7"


def test_a_body_that_nylas_sends_twice_is_one_letter() -> None:
    bodies = [KafkaRecord("webhook", None, body, []) for body in (b"junk", b"junk", b"other")]
    keys = [dead_letter(TOPIC, body, "bridge", "not_json").key for body in bodies]
    assert keys[0] == keys[1] != keys[2]


def test_a_letter_after_a_redrive_goes_on_counting() -> None:
    headers: Headers = [(REDRIVE_ATTEMPTS, b"3"), (REDRIVE_FIRST_FAILED_MS, b"1600000000000")]
    again = KafkaRecord(CHANGE.topic, CHANGE.key, CHANGE.value, headers, 0, 99)
    letter = read(dead_letter(TOPIC, again, "sink", "string_too_long"))
    assert (letter.attempts, letter.first_failed_ms) == (4, 1_600_000_000_000)


def test_a_tombstone_closes_a_letter() -> None:
    assert parse_dead_letter(KafkaRecord(TOPIC, b"a/0/1/g/c", None, [])) is None


# As the version before wrote it: the key and the value of the failed record, the error in a header.
STORED_BY_SCHEMA_1 = KafkaRecord(
    TOPIC,
    b"g/c",
    b'{"id":"c","grant_id":"g","surname":"Lovelace"}',
    [
        ("kind", b"updated"),
        ("version", b"1760000000"),
        ("fingerprint", b"f"),
        ("mapping", b"m"),
        ("origin", b"webhook"),
        ("received_ms", b"1760000000123"),
        ("dlq.stage", b"sink"),
        ("dlq.reason", b"required_field_missing"),
        ("dlq.detail", b"REQUIRED_FIELD_MISSING: LastName"),
        ("dlq.attempts", b"2"),
        ("dlq.last_failed_ms", b"1760000009000"),
        ("dlq.original.topic", b"contacts.changes"),
        ("dlq.original.partition", b"0"),
        ("dlq.original.offset", b"41"),
        ("dlq.original.timestamp_ms", b"1760000000200"),
        ("dlq.first_failed_ms", b"1760000001000"),
    ],
    0,
    5,
    1_760_000_009_000,
)


def test_a_letter_of_the_version_before_is_read() -> None:
    letter = read(STORED_BY_SCHEMA_1)
    assert (letter.schema, letter.letter_key, letter.attempts) == (1, b"g/c", 2)
    assert letter.detail == "REQUIRED_FIELD_MISSING: LastName"
    assert (letter.failed.topic, letter.failed.offset) == ("contacts.changes", 41)
    assert letter.failed.value == STORED_BY_SCHEMA_1.value
    assert (letter.first_failed_ms, letter.last_failed_ms) == (1_760_000_001_000, 1_760_000_009_000)


@pytest.mark.parametrize(
    "record",
    [
        KafkaRecord(TOPIC, b"k", b"what another program wrote", []),
        KafkaRecord(TOPIC, None, None, []),
        KafkaRecord(TOPIC, b"a/0/1/k", b"{}\n", [("dlq.schema", b"3"), ("dlq.stage", b"sink")]),
        KafkaRecord(TOPIC, b"a/0/1/k", b"junk", [("dlq.schema", b"2"), ("dlq.stage", b"sink")]),
        KafkaRecord(TOPIC, b"k", b"{}\n", [("dlq.schema", b"2"), ("dlq.stage", b"sink")]),
    ],
)
def test_what_no_stage_of_this_version_wrote_is_no_letter(record: KafkaRecord) -> None:
    with pytest.raises(UnreadableRecord):
        parse_dead_letter(record)
