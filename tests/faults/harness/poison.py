"""Poison: records that are no record of their topic, as some other program might write them."""

import time
from collections.abc import Iterator

from confluent_kafka import Producer

from tests.faults.harness.load import envelope, grant_of, person
from tests.faults.harness.schedule import Step
from tests.faults.harness.settings import TOPIC_PREFIX

Headers = list[tuple[str, str | bytes | None]]

COMPACTED = (
    "contacts.changes",
    "contacts.outcomes",
    "contacts.dead-letter",
    "grants.events",
    "reader.runs",
)
"""In these topics the broker refuses a record without a key."""

ABSURD_NUMBERS = (b"1" + b"0" * 30, b"9" * 5000, b"\xff")
UNREADABLE = (b"\xff\xfe", b"[" * 5000, b'{"type":"contact.updated"}', b"", b'"\\ud800"', b"{}")

FLUSH_SECONDS = 10.0


def send_poison(producer: Producer, step: Step, contacts: int) -> None:
    """Writes poison to the step's topic: under a key of no contact, of a real one, without one."""
    for value, key, headers in _records(step, contacts):
        producer.produce(TOPIC_PREFIX + step.target, value, key, headers=headers)
    producer.flush(FLUSH_SECONDS)


def _records(step: Step, contacts: int) -> Iterator[tuple[bytes | None, bytes | None, Headers]]:
    number = int(step.draw * contacts)
    of_no_contact = f"poison/{step.at}".encode()
    real = f"{grant_of(number)}/c{number}".encode()
    third = of_no_contact if step.target in COMPACTED else None
    for place, value in enumerate(_values(step, number)):
        key = (of_no_contact, real, third)[place % 3]
        yield value, key, _headers(step.target, ABSURD_NUMBERS[place % len(ABSURD_NUMBERS)])


def _values(step: Step, number: int) -> list[bytes | None]:
    values: list[bytes | None] = list(UNREADABLE)
    # In contacts.changes a record without a value is an erasure, which never becomes a dead letter.
    if step.target != "contacts.changes":
        values.append(None)
    if step.target == "contacts.events":  # a good event under another contact's key
        another = person(number + 1, "poison")
        values.append(envelope(f"poison-{step.at}", int(time.time()), another))
    return values


def _headers(topic: str, absurd: bytes) -> Headers:
    names = ["version", "received_ms", "not_before"]
    # In other topics these two would be believed: a dead letter that was sent back carries them.
    if topic == "contacts.dead-letter":
        names += ["dlq.original.offset", "dlq.original.partition"]
    return [("kind", b"updated"), *((name, absurd) for name in names)]
