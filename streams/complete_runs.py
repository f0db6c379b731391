"""How far contacts.changes is complete: every change of the runs so far lies before an offset.

The reader writes the record `runs-complete` of contactstream.control when a run has ended, no other
run is at work, and dedupe has worked on everything that the runs had published. The sink then sends
what it gathers of these runs, although it fills no batch.

The record only ends a wait early, which SINK_BULK_LINGER bounds. So it may be lost, come twice or
late, or speak of a topic that was created again: then batches are smaller, or go later.
"""

import orjson

from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

COMPLETE_RUNS_KEY = b"runs-complete"

_SCHEMA = 1


def complete_runs_record(topics: Topics, changes_end: int) -> KafkaRecord:
    """Says that all changes of the runs so far lie before this offset of contacts.changes."""
    value = orjson.dumps({"schema": _SCHEMA, "changes_end": changes_end})
    return KafkaRecord(topics.control.name, COMPLETE_RUNS_KEY, value, [])


def parse_complete_runs(key: bytes, value: bytes) -> int | None:
    """The offset of a record; None for a record of another kind.

    Unknown fields are ignored. Raises UnreadableRecord, also for a later format.
    """
    if key != COMPLETE_RUNS_KEY:
        return None
    data = parse_object(value)
    end = data.get("changes_end")
    if data.get("schema") != _SCHEMA or not isinstance(end, int) or isinstance(end, bool):
        raise UnreadableRecord(
            "not_complete_runs", f"schema {data.get('schema')!r}; this version reads {_SCHEMA}"
        )
    return end
