"""The record format of contactstream.suppression: people who asked to be erased, as salted hashes.

| key | value |
|---|---|
| `salt ID/hash` | JSON: the salt, when the entry was made, and of a contact key for whom |

An entry is the HMAC of an address, or of a contact key, under its salt. Every entry carries its
salt: a list whose salt was lost or mistyped would name nobody, and people who were erased would be
written again. Whoever may read the topic can test whether an address that he knows is on the list,
and no more. A second salt comes from a list that was kept in a file before. A tombstone takes an
entry off the list: its person may be written again.
"""

import hashlib
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import orjson
import structlog

from connectors.salesforce.suppression import GrowingSuppression, Suppression
from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.runtime.logs import place
from streams.topics import Topics

log = structlog.get_logger()

NOBODY: Mapping[str, Collection[str]] = MappingProxyType({})

SCHEMA = 1
SALT_BYTES = 32

# A process that runs hears of a new entry with its next poll of the topic.
SUPPRESSION_OBEYED_SECONDS = 5


@dataclass(frozen=True, slots=True)
class SuppressionEntry:
    """An entry of the list."""

    salt: bytes
    hash: str
    listed_for: frozenset[str] = frozenset()
    """Of a contact key that an erasure found: the hashes of the people it was found for."""
    at_ms: int = 0
    """When it was made, in epoch milliseconds; known of an entry that was read."""

    @property
    def key(self) -> bytes:
        """The key of its record. The salt's ID keeps two lists with one hash apart."""
        return f"{salt_id(self.salt)}/{self.hash}".encode()


def salt_id(salt: bytes) -> str:
    """What stands for a salt in a key."""
    return hashlib.sha256(salt).hexdigest()[:8]


def entry_record(topics: Topics, entry: SuppressionEntry, now_ms: int) -> KafkaRecord:
    """The record of an entry."""
    value: dict[str, object] = {"schema": SCHEMA, "salt": entry.salt.hex(), "at_ms": now_ms}
    if entry.listed_for:
        value["listed_for"] = sorted(entry.listed_for)
    return KafkaRecord(topics.suppression.name, entry.key, orjson.dumps(value), [])


def parse_entry(record: KafkaRecord) -> SuppressionEntry | None:
    """The entry in a record; None for a tombstone. Raises UnreadableRecord."""
    if record.value is None:
        return None
    data = parse_object(record.value)
    if data.get("schema") != SCHEMA:
        raise UnreadableRecord("not_an_entry", f"schema {data.get('schema')!r}, not {SCHEMA}")
    try:
        salt = bytes.fromhex(data["salt"])
        hashed = (record.key or b"").decode("ascii").split("/", 1)[1]
        listed_for = frozenset(map(str, data.get("listed_for") or ()))
        at_ms = int(data.get("at_ms") or 0)
    except (LookupError, TypeError, ValueError) as error:
        raise UnreadableRecord("not_an_entry", repr(error)) from error
    return SuppressionEntry(salt, hashed, listed_for, at_ms)


def apply_record(listed: GrowingSuppression, record: KafkaRecord) -> None:
    """Adds the entry of the next record of the topic, or takes off what a tombstone names.

    An unreadable record is logged and skipped.
    """
    try:
        entry = parse_entry(record)
    except UnreadableRecord as error:
        log.warning(
            "record of contactstream.suppression skipped; somebody may be written who asked not "
            "to be",
            **place(record),
            error=str(error),
        )
        return
    if entry is not None:
        listed.add(entry.salt, entry.hash)
        return
    named, _, hashed = (record.key or b"").decode(errors="replace").partition("/")
    for salt in listed.salts:
        if salt_id(salt) == named:
            listed.remove(salt, hashed)


def new_entries(
    listed: GrowingSuppression,
    values: Iterable[str],
    found_for: Mapping[str, Collection[str]] = NOBODY,
) -> list[SuppressionEntry]:
    """Entries for the addresses and contact keys that are not listed yet, under the list's salt.

    The first entry of a list draws the salt. `found_for`: of a contact key, the addresses and keys
    by which it was found.
    """
    missing = [value for value in dict.fromkeys(values) if not listed.holds([value])]
    salt = next(iter(listed.salts), None) or secrets.token_bytes(SALT_BYTES)
    hashed = Suppression(salt).entry
    return [
        SuppressionEntry(salt, hashed(value), frozenset(map(hashed, found_for.get(value, ()))))
        for value in missing
    ]


def entries_of_file(listed: GrowingSuppression, file: Suppression) -> Iterator[SuppressionEntry]:
    """The entries of a list in a file that the topic does not have yet, under the file's salt."""
    for hashed in sorted(file.hashes):
        if not listed.has(file.salt, hashed):
            yield SuppressionEntry(file.salt, hashed)
