"""The record of contactstream.control that says which Salesforce org this deployment writes to.

Its key is `org`. The sink writes it before it first writes to an org. `contactstream org adopt`
replaces it, and the next writer clears what is known of the former org.
"""

from dataclasses import dataclass

import orjson

from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

ORG_KEY = b"org"

# The format of the value. A record of a later one is not read: which org it pins is not known.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class OrgPin:
    """The org that a deployment writes to. Times are epoch milliseconds."""

    org_id: str
    """18 characters."""
    by: str
    """Who pinned it: `sink`, or the person who adopted it."""
    pinned_ms: int
    adopting: bool = False
    """Whether the next writer still has to clear what is known of the former org."""
    former: str = ""
    """The org that was pinned before; empty if there was none."""


def org_record(topics: Topics, pin: OrgPin) -> KafkaRecord:
    """The pin as a record of contactstream.control."""
    value = {
        "schema": SCHEMA,
        "org_id": pin.org_id,
        "by": pin.by,
        "pinned_ms": pin.pinned_ms,
        "adopting": pin.adopting,
        "former": pin.former,
    }
    return KafkaRecord(topics.control.name, ORG_KEY, orjson.dumps(value), [])


def parse_org(key: bytes, value: bytes) -> OrgPin | None:
    """The pin of a record; None for a record of another kind.

    Unknown fields are ignored. Raises UnreadableRecord, also for a later format.
    """
    if key != ORG_KEY:
        return None
    data = parse_object(value)
    if data.get("schema") != SCHEMA:
        raise UnreadableRecord("not_an_org", f"schema {data.get('schema')!r}, not {SCHEMA}")
    try:
        return OrgPin(
            org_id=str(data["org_id"]),
            by=str(data["by"]),
            pinned_ms=int(data["pinned_ms"]),
            adopting=data.get("adopting") is True,
            former=str(data.get("former") or ""),
        )
    except (TypeError, ValueError, LookupError) as error:
        raise UnreadableRecord("not_an_org", repr(error)) from error
