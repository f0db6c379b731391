"""The record format of contacts.dead-letter: a failed record as it was, and why it failed.

A letter is open until a record without a value (a tombstone) follows under its key. The key is the
letter's ID: topic, partition, offset and key of the failed record. The headers hold no personal
data. The value is a line of JSON with the free text of the error, and then the value of the failed
record, byte for byte.
"""

import hashlib
from dataclasses import dataclass

import orjson

from streams.events import GRANT_ADDRESS, UnreadableRecord, now_ms, number, parse_object
from streams.kafka.records import Headers, KafkaRecord, header

SCHEMA = 2
"""The version of this format. Of version 1, the key is that of the failed record, the value is its
value, and the error's text is a header."""

# Characters of an error's text that a dead letter carries: enough to act on, and small beside the
# record.
MAX_DETAIL_CHARACTERS = 1000

_PREFIX = "dlq."

# On an event that redrives a dead letter, and on the change that follows from it. A letter that
# follows from that goes on counting.
REDRIVE_ID = "redrive.id"
REDRIVE_ATTEMPTS = "redrive.attempts"
REDRIVE_FIRST_FAILED_MS = "redrive.first_failed_ms"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as plain data."""

    letter_key: bytes | None
    """The key under which a tombstone closes it; None for one of schema 1 without a key."""
    failed: KafkaRecord
    """The failed record as it was, with its own topic, partition, offset and headers."""
    stage: str
    """The stage that wrote the letter."""
    reason: str
    """A word of a closed set."""
    detail: str
    """Free text for a person, with personal data."""
    attempts: int
    first_failed_ms: int
    last_failed_ms: int
    schema: int

    @property
    def letter_id(self) -> str:
        """The letter's key as text; empty where it has none."""
        return (self.letter_key or b"").decode(errors="replace")

    @property
    def contact_key(self) -> str:
        """`grant_id/contact_id`; empty where the failed record has no such key."""
        key = (self.failed.key or b"").decode(errors="replace")
        return key if all(key.partition("/")) else ""

    @property
    def run_id(self) -> str:
        """The run or the redrive that the failed record came from; empty if there was none."""
        found = header(self.failed.headers, REDRIVE_ID) or header(self.failed.headers, "replay.id")
        return (found or b"").decode(errors="replace")


def dead_letter(
    topic: str,
    failed: KafkaRecord,
    stage: str,
    reason: str,
    detail: str = "",
    *,
    attempts: int = 1,
    duplicates: str = "",
    once_for_key: bool = False,
) -> KafkaRecord:
    """The dead letter of a record, for the topic of dead letters.

    `detail` may quote the contact, as messages of Salesforce do. Never copy it to a log.
    `attempts` are those of this failure; those before a redrive are added. `duplicates` are IDs of
    Salesforce records. `once_for_key`: a further letter of the same key replaces this one, although
    the failed record never was in Kafka.
    """
    now = now_ms()
    before = number(header(failed.headers, REDRIVE_ATTEMPTS)) or 0
    first = number(header(failed.headers, REDRIVE_FIRST_FAILED_MS)) or now
    kept = [
        each
        for each in failed.headers
        if not each[0].startswith(_PREFIX) and each[0] != GRANT_ADDRESS  # personal data
    ]
    said: Headers = [
        ("dlq.schema", b"%d" % SCHEMA),
        ("dlq.stage", stage.encode()),
        ("dlq.reason", reason.encode()),
        ("dlq.attempts", b"%d" % (before + attempts)),
        ("dlq.first_failed_ms", b"%d" % min(first, now)),
        ("dlq.last_failed_ms", b"%d" % now),
        ("dlq.original.topic", failed.topic.encode()),
        ("dlq.original.partition", b"%d" % max(0, failed.partition)),
        ("dlq.original.offset", b"%d" % max(0, failed.offset)),
        ("dlq.original.timestamp_ms", b"%d" % max(0, failed.timestamp_ms)),
    ]
    if duplicates:
        said.append(("dlq.duplicates", duplicates.encode()))
    return KafkaRecord(
        topic,
        _letter_key(failed, once_for_key=once_for_key),
        _value(failed, detail),
        [*kept, *said],
    )


def _letter_key(failed: KafkaRecord, *, once_for_key: bool) -> bytes:
    """The letter's key. Where the failed record never was in Kafka, a hash stands for its place."""
    if failed.offset >= 0:
        place = f"{failed.partition}/{failed.offset}"
    elif once_for_key:
        place = "-/-"
    else:
        place = f"-/{hashlib.sha256(failed.value or b'').hexdigest()[:32]}"
    return f"{failed.topic}/{place}/".encode() + (failed.key or b"")


def _value(failed: KafkaRecord, detail: str) -> bytes:
    about: dict[str, object] = {
        "detail": detail[:MAX_DETAIL_CHARACTERS].encode(errors="replace").decode(),
        "has_key": failed.key is not None,
        "has_value": failed.value is not None,
    }
    return orjson.dumps(about) + b"\n" + (failed.value or b"")


def parse_dead_letter(record: KafkaRecord) -> DeadLetter | None:
    """The dead letter in a record of contacts.dead-letter; None for a tombstone.

    Reads schema 2 and schema 1. Raises UnreadableRecord for what no stage wrote, and for a schema
    of a newer version.
    """
    if record.value is None and record.key is not None:
        return None
    written = header(record.headers, "dlq.schema")
    schema = 1 if written is None else number(written)
    if schema not in (1, SCHEMA) or header(record.headers, "dlq.stage") is None:
        raise UnreadableRecord("not_a_dead_letter", f"schema {written!r}")
    key, value, detail = record.key, record.value, _text(record, "detail")
    if schema == SCHEMA:
        line, _, rest = (record.value or b"").partition(b"\n")
        about = parse_object(line)
        # Topic, partition and offset hold no slash.
        original = (record.key or b"").split(b"/", 3)
        if len(original) < 4:
            raise UnreadableRecord("not_a_dead_letter", "its key is no ID of a letter")
        key = original[3] if about.get("has_key") else None
        value = rest if about.get("has_value") else None
        detail = str(about.get("detail", ""))
    last = number(header(record.headers, "dlq.last_failed_ms")) or record.timestamp_ms
    return DeadLetter(
        letter_key=record.key,
        failed=KafkaRecord(
            _text(record, "original.topic"),
            key,
            value,
            [each for each in record.headers if not each[0].startswith(_PREFIX)],
            number(header(record.headers, "dlq.original.partition")) or 0,
            number(header(record.headers, "dlq.original.offset")) or 0,
            number(header(record.headers, "dlq.original.timestamp_ms")) or 0,
        ),
        stage=_text(record, "stage"),
        reason=_text(record, "reason"),
        detail=detail,
        attempts=number(header(record.headers, "dlq.attempts")) or 1,
        first_failed_ms=number(header(record.headers, "dlq.first_failed_ms")) or last,
        last_failed_ms=last,
        schema=schema,
    )


def _text(record: KafkaRecord, name: str) -> str:
    return (header(record.headers, _PREFIX + name) or b"").decode(errors="replace")
