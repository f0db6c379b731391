"""Reads dead letters by their documented format, without the code that writes them."""

import json
from dataclasses import replace
from typing import NamedTuple

from streams.kafka.records import KafkaRecord
from tests.support.kafka import Found


class Unwrapped(NamedTuple):
    """The failed record in a dead letter, and the text of the error."""

    key: bytes | None
    value: bytes | None
    detail: bytes


def unwrapped(key: bytes | None, value: bytes | None) -> Unwrapped:
    """What the key and the value of a dead letter hold: see streams/dead_letters.py."""
    line, _, rest = (value or b"").partition(b"\n")
    about = json.loads(line)
    original = (key or b"").split(b"/", 3)[3]
    return Unwrapped(
        original if about["has_key"] else None,
        rest if about["has_value"] else None,
        about["detail"].encode(),
    )


def failed_record(letter: KafkaRecord) -> KafkaRecord:
    """The letter with the key and the value of the failed record; the error as a header."""
    key, value, detail = unwrapped(letter.key, letter.value)
    return letter._replace(key=key, value=value, headers=[*letter.headers, ("dlq.detail", detail)])


def failed_found(letter: Found) -> Found:
    """The same for a letter that was found on a broker."""
    key, value, detail = unwrapped(letter.key, letter.value)
    return replace(letter, key=key, value=value, headers={**letter.headers, "dlq.detail": detail})
