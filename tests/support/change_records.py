"""Records of contacts.changes for tests of what reads them."""

import orjson

from streams.events import Kind
from streams.kafka.records import Headers, KafkaRecord


def change(
    key: str,
    version: int,
    offset: int,
    kind: Kind | None = Kind.UPDATED,
    source: str | None = "address_book",
) -> KafkaRecord:
    """A change of a contact; a tombstone if `kind` is None."""
    headers: Headers = [
        ("version", b"%d" % version),
        ("kind", kind.value.encode() if kind else b""),
    ]
    value = {"source": source} if source else {}
    return KafkaRecord(
        "contacts.changes", key.encode(), orjson.dumps(value) if kind else None, headers, 0, offset
    )
