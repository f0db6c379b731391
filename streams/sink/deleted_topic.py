"""The record formats of sink.deleted-records: what people deleted or merged in Salesforce.

The topic is compacted and has one partition. The sink writes it, and `contactstream deletions`
writes the lifts. The values are JSON. It is small: only records that carried our key are in it.

| key | value |
|---|---|
| contact key, as Salesforce holds it | the deleted record, or since when its deletion is lifted |
| `address:` and a hash | since when deletions of records with this address are lifted |
| `salt` | the salt of the hashes |
| `cursor` | up to which time the recycle bin was read |

No address is in it in clear.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from connectors.salesforce.deleted_records import (
    ADDRESS_HASH_BYTES,
    SALT_BYTES,
    DeletedRecord,
    DeletedRecords,
)
from streams.kafka.records import KafkaRecord
from streams.runtime.logs import place
from streams.topics import Topics

log = structlog.get_logger()

CURSOR, SALT, ADDRESS = "cursor", "salt", "address:"


@dataclass(frozen=True, slots=True)
class SweepCursor:
    """How far the recycle bin was read.

    `read_up_to`: seconds since the epoch by object, where the next sweep begins. `swept_at`: when
    the last sweep was complete.
    """

    swept_at: int
    read_up_to: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Lift:
    """Deletions up to `at` (epoch seconds) count no more, of a contact key or an address."""

    at: int
    key: str | None = None
    address_hash: int | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A contact key whose deletion was forgotten."""

    key: str


Entry = DeletedRecord | Lift | Forgotten | SweepCursor | bytes
"""What a record of the topic says; bytes are the salt."""


def entry_record(names: Topics, entry: Entry) -> KafkaRecord:
    """The record that says this."""
    value: dict[str, Any] | None
    match entry:
        case DeletedRecord():
            key = entry.key
            value = {
                "record_id": entry.record_id,
                "master_id": entry.master_id,
                "deleted_at": entry.deleted_at,
                "addresses": [_hex(each) for each in entry.address_hashes],
            }
        case Lift():
            hashed = entry.address_hash
            key = (entry.key or "") if hashed is None else f"{ADDRESS}{_hex(hashed)}"
            value = {"lifted_at": entry.at}
        case Forgotten():
            key, value = entry.key, None
        case SweepCursor():
            key = CURSOR
            value = {"swept_at": entry.swept_at, "read_up_to": dict(entry.read_up_to)}
        case bytes():
            key, value = SALT, {"salt": entry.hex()}
    raw = None if value is None else orjson.dumps(value)
    return KafkaRecord(names.deleted_records.name, key.encode(), raw, [])


def entries(records: Iterable[KafkaRecord]) -> Iterator[Entry]:
    """What the records say, in their order. Those that cannot be read are logged and skipped."""
    for record in records:
        try:
            key = (record.key or b"").decode()
            value = None if record.value is None else orjson.loads(record.value)
            yield _entry(key, value)
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("record of sink.deleted-records skipped", **place(record))


def _entry(key: str, value: Any) -> Entry:
    if value is None:
        return Forgotten(key)
    if key == CURSOR:
        read_up_to = {str(name): int(at) for name, at in value["read_up_to"].items()}
        return SweepCursor(int(value["swept_at"]), read_up_to)
    if key == SALT:
        salt = bytes.fromhex(value["salt"])
        if len(salt) != SALT_BYTES:
            raise ValueError("the salt has another length")
        return salt
    if "lifted_at" in value:
        at = int(value["lifted_at"])
        if key.startswith(ADDRESS):
            return Lift(at, address_hash=int(key.removeprefix(ADDRESS), 16))
        return Lift(at, key=key)
    master_id = value["master_id"]
    return DeletedRecord(
        key,
        str(value["record_id"]),
        None if master_id is None else str(master_id),
        int(value["deleted_at"]),
        tuple(int(each, 16) for each in value["addresses"]),
    )


def apply_entry(entry: Entry, known: DeletedRecords) -> str | None:
    """Notes what a record of the topic says; a SweepCursor changes nothing.

    Returns the contact key that had to be forgotten, if there were too many.
    """
    match entry:
        case DeletedRecord():
            return known.remember(entry)
        case Lift(at, key, None) if key:
            known.lift_key(key, at)
        case Lift(at, _, int(address_hash)):
            known.lift_hash(address_hash, at)
        case Forgotten():
            known.forget(entry.key)
        case bytes():
            known.salt = entry
    return None


def _hex(address_hash: int) -> str:
    return f"{address_hash:0{2 * ADDRESS_HASH_BYTES}x}"
