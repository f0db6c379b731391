"""What a redrive publishes for a dead letter."""

import orjson
import pytest

from connectors.nylas.model import parse_notification
from streams.commands.dead_letters.redrive import NotRedrivable, redriven
from streams.dead_letters import DeadLetter, dead_letter, parse_dead_letter
from streams.events import Kind, Origin, change_headers, event_headers, page_envelope
from streams.kafka.records import Headers, KafkaRecord, header
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.unit.streams.test_dead_letters import STORED_BY_SCHEMA_1

TOPICS = topics(load(KafkaSettings, {}))
LIMIT = 2_000_000
CONTACT = {"id": "c", "grant_id": "g", "object": "contact", "surname": "Lovelace"}


def letter(
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    stage: str = "sink",
    reason: str = "string_too_long",
) -> DeadLetter:
    failed = KafkaRecord(topic, key, value, headers, 0, 7)
    found = parse_dead_letter(dead_letter(TOPICS.dead_letter.name, failed, stage, reason))
    assert found is not None
    return found


def change(kind: Kind = Kind.UPDATED, value: bytes | None = None) -> DeadLetter:
    headers = change_headers(kind, 1_760_000_000, "f", "m", b"webhook", b"1760000000123")
    return letter(TOPICS.changes.name, b"g/c", value or orjson.dumps(CONTACT), headers)


def redrive(found: DeadLetter) -> KafkaRecord:
    return redriven(TOPICS, found, "r1", 1_770_000_000_000, LIMIT)


def test_a_change_becomes_an_event_of_its_own_version_and_is_marked() -> None:
    event = redrive(change())
    assert (event.topic, event.key) == (TOPICS.events.name, b"g/c")
    notification = parse_notification(event.value or b"")
    assert (notification.type, notification.time) == ("contact.updated", 1_760_000_000)
    assert notification.object == CONTACT
    assert header(event.headers, "origin") == Origin.REDRIVE.value.encode()
    assert header(event.headers, "redrive.id") == b"r1"
    assert header(event.headers, "redrive.attempts") == b"1"


def test_a_deletion_stays_one() -> None:
    notification = parse_notification(redrive(change(Kind.DELETED)).value or b"")
    assert (notification.type, notification.time) == ("contact.deleted", 1_760_000_000)


def test_a_letter_of_the_version_before_is_redriven() -> None:
    stored = parse_dead_letter(STORED_BY_SCHEMA_1)
    assert stored is not None
    event = redrive(stored)
    assert (event.topic, event.key) == (TOPICS.events.name, b"g/c")
    notification = parse_notification(event.value or b"")
    assert (notification.time, notification.object["surname"]) == (1_760_000_000, "Lovelace")
    assert header(event.headers, "redrive.attempts") == b"2"


def test_an_event_goes_in_again_with_the_time_at_which_it_was_received() -> None:
    value = page_envelope(Origin.WEBHOOK, "n1", 1_760_000_000, CONTACT)
    headers = event_headers(Origin.WEBHOOK, 1_760_000_000_123)
    event = redrive(letter(TOPICS.events.name, b"g/c", value, headers, "dedupe", "too_deep_once"))
    assert (event.topic, event.key, event.value) == (TOPICS.events.name, b"g/c", value)
    assert header(event.headers, "origin") == b"redrive"
    assert header(event.headers, "received_ms") == b"1760000000123"
    assert [name for name, _ in event.headers].count("origin") == 1


def test_a_body_that_this_version_reads_goes_where_the_bridge_sends_it() -> None:
    body = orjson.dumps(
        {"type": "contact.updated", "id": "n", "time": 1, "data": {"object": CONTACT}}
    )
    found = letter("webhook", None, body, event_headers(Origin.WEBHOOK, 5), "bridge", "not_json")
    assert (redrive(found).topic, redrive(found).key) == (TOPICS.events.name, b"g/c")


@pytest.mark.parametrize(
    ("reason", "topic"),
    [("too_large", TOPICS.events.name), ("no_content", TOPICS.refetch.name)],
)
def test_a_contact_of_which_only_the_ids_were_kept_is_read_again(reason: str, topic: str) -> None:
    found = letter(topic, b"g/c", b"", [("received_ms", b"5")], "reader", reason)
    request = redrive(found)
    assert (request.topic, request.key, request.value) == (TOPICS.refetch.name, b"g/c", b"")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (change(value=b"\xff"), "no change"),
        (letter("webhook", None, b"junk", [], "bridge", "not_json"), "cannot read it either"),
        (letter(TOPICS.events.name, b"g", b"{}", [], "reader", "no_contact_id"), "backfill"),
        (letter(TOPICS.events.name, b"g/c", b"", [], "dedupe", "not_json"), "backfill"),
        (letter("of.another.prefix", b"g/c", b"{}", []), "backfill"),
    ],
)
def test_what_cannot_be_redriven_says_why(found: DeadLetter, why: str) -> None:
    with pytest.raises(NotRedrivable, match=why):
        redrive(found)
