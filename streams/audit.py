"""The record format of contactstream.audit: who did what by a command, when and why.

An action writes a record before it begins and one when it ended, under one ID, so that one that was
interrupted shows as begun.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

import orjson

from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord

SCHEMA = 1


class AuditState(StrEnum):
    """How far an action has come."""

    BEGUN = "begun"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An action of a person. It holds no personal data but the selection that the person typed."""

    action_id: str
    state: AuditState
    at_ms: int
    actor: str
    action: str
    """Such as `dead-letters redrive`."""
    why: str
    selection: Mapping[str, Any]
    """The conditions that were given; see `streams.selection.encode_selection`."""
    count: int
    """Begun: what was selected. Ended: what was done."""


def audit_record(topic: str, entry: AuditEntry) -> KafkaRecord:
    """The record of an entry."""
    value = orjson.dumps({"schema": SCHEMA, **asdict(entry)})
    return KafkaRecord(topic, entry.action_id.encode(), value, [])


def parse_audit(record: KafkaRecord) -> AuditEntry:
    """The entry in a record. Raises UnreadableRecord, also for one of a newer version."""
    data = parse_object(record.value or b"")
    if data.pop("schema", None) != SCHEMA:
        raise UnreadableRecord("not_an_audit_entry", "of another version")
    try:
        known = {name: data[name] for name in (each.name for each in fields(AuditEntry))}
        return AuditEntry(**{**known, "state": AuditState(known["state"])})
    except (KeyError, ValueError) as error:
        raise UnreadableRecord("not_an_audit_entry", repr(error)) from error
