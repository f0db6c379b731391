"""The records of contactstream.control about deleted grants whose contacts wait for a person.

| key | value | written by |
|---|---|---|
| `grants-held/deletions` | the grants that wait; a tombstone when none does | the reader |
| `grants-confirmed/deletions` | until when deletions are confirmed | `grants confirm` |
"""

from collections.abc import Collection
from dataclasses import dataclass

import orjson

from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

_HELD = b"grants-held/deletions"
_CONFIRMED = b"grants-confirmed/deletions"
_SCHEMA = 1


@dataclass(slots=True)
class GrantDeletions:
    """The newest of these records that were read so far."""

    held: frozenset[str] = frozenset()
    """IDs of the grants whose contacts wait."""
    confirmed_until: int = 0
    """Deletions that happened until then are confirmed, in epoch seconds."""

    def apply(self, record: KafkaRecord) -> None:
        """Takes the next record of the topic in; one of another kind changes nothing.

        Raises UnreadableRecord, also for a later format.
        """
        if record.key not in (_HELD, _CONFIRMED):
            return
        if record.value is None:
            if record.key == _HELD:
                self.held = frozenset()
            else:
                self.confirmed_until = 0
            return
        data = parse_object(record.value)
        if data.get("schema") != _SCHEMA:
            raise UnreadableRecord("not_grant_deletions", f"schema {data.get('schema')!r}")
        try:
            if record.key == _HELD:
                self.held = frozenset(str(grant) for grant in data["grants"])
            else:
                self.confirmed_until = int(data["until"])
        except (TypeError, ValueError, LookupError) as error:
            raise UnreadableRecord("not_grant_deletions", repr(error)) from error


def held_record(topics: Topics, grants: Collection[str]) -> KafkaRecord:
    """The grants whose contacts wait; a tombstone without any."""
    value = orjson.dumps({"schema": _SCHEMA, "grants": sorted(grants)}) if grants else None
    return KafkaRecord(topics.control.name, _HELD, value, [])


def confirmed_record(topics: Topics, until: int) -> KafkaRecord:
    """The confirmation of all deletions until a moment, in epoch seconds."""
    value = orjson.dumps({"schema": _SCHEMA, "until": until})
    return KafkaRecord(topics.control.name, _CONFIRMED, value, [])
