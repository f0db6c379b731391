"""What a redrive publishes for a dead letter: plain functions.

A letter goes in by the front door: it becomes an event of contacts.events, and dedupe decides about
it as about any other. Where the failed record was a request to read a contact again, it becomes
that request.
"""

from streams.bridge.decision import WEBHOOK, decide
from streams.dead_letters import (
    REDRIVE_ATTEMPTS,
    REDRIVE_FIRST_FAILED_MS,
    REDRIVE_ID,
    DeadLetter,
)
from streams.events import (
    RESTORE,
    Kind,
    Origin,
    UnreadableRecord,
    number,
    parse_change,
    received_at,
    refetch_headers,
)
from streams.kafka.records import Headers, KafkaRecord, header
from streams.reader.records import contact_record, deletion_record
from streams.topics import Topics

# Reasons for which the reader keeps only the IDs of a contact: it is read again.
_READ_AGAIN = frozenset({"too_large", "too_deep", "no_content", "refused"})


class NotRedrivable(ValueError):
    """A letter cannot be redriven; the text says why, and what to do instead."""


def redriven(
    topics: Topics, letter: DeadLetter, redrive_id: str, at_ms: int, body_limit: int
) -> KafkaRecord:
    """The record that a redrive publishes for a letter.

    `body_limit` bounds the inflated body of a webhook, in bytes. Raises NotRedrivable.
    """
    failed = letter.failed
    marks: Headers = [
        (REDRIVE_ID, redrive_id.encode()),
        (REDRIVE_ATTEMPTS, b"%d" % letter.attempts),
        (REDRIVE_FIRST_FAILED_MS, b"%d" % letter.first_failed_ms),
    ]
    if failed.topic == topics.changes.name:
        record = _from_change(topics, failed, redrive_id, letter, at_ms)
    elif failed.topic == WEBHOOK:
        record = _from_webhook(topics, failed, at_ms, body_limit)
    elif failed.topic == topics.refetch.name or letter.reason in _READ_AGAIN:
        record = _read_again(topics, letter, at_ms)
    elif failed.topic == topics.events.name and letter.reason != "no_contact_id":
        record = _from_event(failed)
    else:
        raise NotRedrivable(f"a {letter.reason} of {failed.topic}: run backfill for its grant")
    return record._replace(headers=[*record.headers, *marks])


def _from_change(
    topics: Topics, failed: KafkaRecord, redrive_id: str, letter: DeadLetter, at_ms: int
) -> KafkaRecord:
    try:
        change = parse_change(failed.key, failed.value, failed.headers)
    except UnreadableRecord:
        change = None
    if change is None:
        raise NotRedrivable("it holds no change: another program wrote it")
    event_id = f"{redrive_id}/{letter.letter_id}"
    grant, _, contact_id = change.key.partition("/")
    if change.kind is Kind.DELETED:
        return deletion_record(topics, grant, contact_id, Origin.REDRIVE, event_id, change.version)
    record = contact_record(
        topics,
        change.key.encode(),
        Origin.REDRIVE,
        event_id,
        change.version,
        change.contact,
        at_ms,
    )
    if record.topic != topics.events.name:
        raise NotRedrivable("no event can carry it: it is too large")
    restored = [each for each in failed.headers if each[0] == RESTORE]
    return record._replace(headers=[*record.headers, *restored])


def _from_webhook(topics: Topics, failed: KafkaRecord, at_ms: int, body_limit: int) -> KafkaRecord:
    encoding = header(failed.headers, "content_encoding")
    received_ms = number(header(failed.headers, "received_ms")) or at_ms
    text = None if encoding is None else encoding.decode(errors="replace")
    decision = decide(failed.value or b"", text, body_limit, topics, received_ms)
    if decision.record is None or decision.reason:
        raise NotRedrivable(f"this version cannot read it either: {decision.reason}")
    return decision.record


def _read_again(topics: Topics, letter: DeadLetter, at_ms: int) -> KafkaRecord:
    if not letter.contact_key:
        raise NotRedrivable("it names no contact: run backfill for its grant")
    headers = refetch_headers(Origin.REDRIVE.value, 0, at_ms)
    return KafkaRecord(topics.refetch.name, letter.contact_key.encode(), b"", headers)


def _from_event(failed: KafkaRecord) -> KafkaRecord:
    if not failed.value:
        raise NotRedrivable("its value was too large to keep: run backfill for its grant")
    replaced = {"origin", "received_ms", REDRIVE_ID, REDRIVE_ATTEMPTS, REDRIVE_FIRST_FAILED_MS}
    kept = [each for each in failed.headers if each[0] not in replaced]
    received_ms = received_at(header(failed.headers, "received_ms"), failed.timestamp_ms)
    headers: Headers = [
        ("origin", Origin.REDRIVE.value.encode()),
        ("received_ms", b"%d" % received_ms),
        *kept,
    ]
    return failed._replace(headers=headers)
