"""The record of contactstream.control that says in which mode the sink writes.

Its key is `mode`. `contactstream mode set` writes it, and the sink, the reader and commands read
it. It wins over the setting SALESFORCE_MODE, which is the start value.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from connectors.salesforce.write_mode import WriteMode
from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

MODE_KEY = b"mode"

# The format of the value. A record of a later one is not read: what it allows is not known.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ModeChange:
    """The mode that a person set. `at_ms` is in epoch milliseconds."""

    mode: WriteMode
    by: str
    why: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ModeInForce:
    """The mode that counts, and where it comes from, in words for a person."""

    mode: WriteMode
    origin: str


def mode_record(topics: Topics, change: ModeChange) -> KafkaRecord:
    """The mode as a record of contactstream.control."""
    value = {
        "schema": SCHEMA,
        "mode": change.mode.value,
        "by": change.by,
        "why": change.why,
        "at_ms": change.at_ms,
    }
    return KafkaRecord(topics.control.name, MODE_KEY, orjson.dumps(value), [])


def parse_mode(key: bytes, value: bytes) -> ModeChange | None:
    """The mode of a record; None for a record of another kind.

    Unknown fields are ignored. Raises UnreadableRecord, also for a later format and for a mode that
    this version does not know.
    """
    if key != MODE_KEY:
        return None
    data = parse_object(value)
    if data.get("schema") != SCHEMA:
        raise UnreadableRecord("not_a_mode", f"schema {data.get('schema')!r}, not {SCHEMA}")
    try:
        return ModeChange(
            WriteMode(data["mode"]), str(data["by"]), str(data["why"]), int(data["at_ms"])
        )
    except (TypeError, ValueError, LookupError) as error:
        raise UnreadableRecord("not_a_mode", repr(error)) from error


def mode_in_force(
    change: ModeChange | None, setting: str, *, has_outcomes: bool
) -> ModeInForce | None:
    """The mode that counts; None while nobody has chosen one and nothing was written yet.

    `setting` is SALESFORCE_MODE, empty for none. A deployment that has outcomes and no mode is one
    of before the modes: it goes on as MIRROR.
    """
    if change is not None:
        at = f"{datetime.fromtimestamp(change.at_ms / 1000, UTC):%Y-%m-%d %H:%M}Z"
        return ModeInForce(change.mode, f"set by {change.by} at {at}, {change.why}")
    if setting:
        return ModeInForce(WriteMode(setting), "SALESFORCE_MODE")
    if has_outcomes:
        return ModeInForce(WriteMode.MIRROR, "nobody chose one, and there are outcomes already")
    return None
