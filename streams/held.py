"""Why contacts are held, and the record of contactstream.control that releases them.

A contact is held when its write would be beyond a limit, or while creations are paused. The key of
a release is `held-release/RUN`: the changes that this run offers again are written whatever the
limits say. `contactstream held release` writes it, and the sink reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

RELEASE = "held-release"

# The format of the value. A record of a later one is not read: what it allows is not known.
SCHEMA = 1

# A run is forgotten after two weeks, and then its release allows nothing more.
RELEASE_KEPT_MS = 14 * 86_400_000


class HeldReason(StrEnum):
    """Which limit holds a contact."""

    CREATIONS_PER_DAY = "creations_per_day"
    CREATIONS_PER_GRANT = "creations_per_grant"
    REPLACED_VALUES = "replaced_values_per_hour"
    DATA_STORAGE = "data_storage"
    CREATIONS_PAUSED = "creations_paused"


HELD_MEANING: Mapping[str, str] = {
    HeldReason.CREATIONS_PER_DAY: "more people to create in a day than SINK_CREATIONS_PER_DAY",
    HeldReason.CREATIONS_PER_GRANT: "more of one mailbox in a day than SINK_CREATIONS_PER_GRANT",
    HeldReason.REPLACED_VALUES: "more values in an hour than SINK_REPLACED_VALUES_PER_HOUR",
    HeldReason.DATA_STORAGE: "the org's data storage is used beyond SINK_STORAGE_SHARE",
    HeldReason.CREATIONS_PAUSED: "creations are paused",
}


@dataclass(frozen=True, slots=True)
class HeldRelease:
    """The release of held contacts. `at_ms` is in epoch milliseconds."""

    run_id: str
    """The run that offers them to the sink again."""
    by: str
    why: str
    at_ms: int


def release_record(topics: Topics, release: HeldRelease) -> KafkaRecord:
    """A release as a record of contactstream.control."""
    value = {
        "schema": SCHEMA,
        "by": release.by,
        "why": release.why,
        "at_ms": release.at_ms,
    }
    key = release_key(release.run_id)
    return KafkaRecord(topics.control.name, key, orjson.dumps(value), [])


def release_key(run_id: str) -> bytes:
    """The key of the release that a run carries out."""
    return f"{RELEASE}/{run_id}".encode()


def parse_release(key: bytes, value: bytes) -> HeldRelease | None:
    """The release of a record; None for a record of another kind.

    Unknown fields are ignored. Raises UnreadableRecord, also for a later format.
    """
    kind, _, run_id = key.decode(errors="replace").partition("/")
    if kind != RELEASE:
        return None
    data = parse_object(value)
    if data.get("schema") != SCHEMA:
        raise UnreadableRecord("not_a_release", f"schema {data.get('schema')!r}, not {SCHEMA}")
    try:
        return HeldRelease(run_id, str(data["by"]), str(data["why"]), int(data["at_ms"]))
    except (TypeError, ValueError, LookupError) as error:
        raise UnreadableRecord("not_a_release", repr(error)) from error
