"""The command export: everything that is held of a person, for a request for access."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import click
import orjson

from streams.commands.suppress.held import Held, held_of
from streams.dedupe.versions import UnreadableState, decode
from streams.kafka.records import Headers, KafkaRecord
from streams.settings import KafkaSettings
from streams.topics import topics


def export(kafka: KafkaSettings, people: Sequence[str]) -> int:
    """Prints one JSON object; returns the exit code, 1 when nothing is held. Blocks.

    Raises click.ClickException.
    """
    held = held_of(kafka, people)
    click.echo(json.dumps(body(held, topics(kafka).seen_changelog.name), indent=2))
    return 0 if any(held.records.values()) else 1


def body(held: Held, changelog: str) -> dict[str, Any]:
    """What is held, as JSON takes it. `changelog` is the topic of the table of dedupe."""
    return {
        "contacts": held.keys,
        "salesforce_records": held.record_ids,
        "topics": {
            topic: [_entry(record, is_table=topic == changelog) for record in found]
            for topic, found in held.records.items()
            if found
        },
    }


def _entry(record: KafkaRecord, *, is_table: bool) -> dict[str, Any]:
    return {
        "partition": record.partition,
        "offset": record.offset,
        "at_ms": record.timestamp_ms,
        "key": (record.key or b"").decode(errors="replace"),
        "headers": _headers(record.headers),
        "value": _state(record.value) if is_table else _value(record.value),
    }


def _headers(headers: Headers | None) -> dict[str, str]:
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for name, value in headers or ()
    }


def _value(value: bytes | None) -> Any:
    """The JSON in a value; of a dead letter the text of the error and the record, as text."""
    try:
        return orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        return (value or b"").decode(errors="replace")


def _state(value: bytes | None) -> Any:
    """An entry of the table of dedupe: two versions, a fingerprint, hashes of notification IDs."""
    try:
        state = decode(value or b"")
    except UnreadableState:
        return base64.b64encode(value or b"").decode()
    return {
        "newest_version": state.newest,
        "forwarded_version": state.forwarded,
        "fingerprint": state.fingerprint.hex(),
        "mapping": state.mapping.hex(),
        "notification_id_hashes": [each.hex() for each in state.ids],
    }
