"""Builds the records that the reader publishes."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from connectors.nylas.model import contact_key, usable_id
from streams.events import (
    PAGE_MARGIN,
    Origin,
    dead_letter_headers,
    event_headers,
    now_ms,
    page_envelope,
)
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

ROOM_FOR_HEADERS = 4096  # bytes of a record beside its value, at the most


Publish = Callable[[Sequence[KafkaRecord]], Awaitable[None]]
"""Returns once all records are acknowledged; waits for a broker that is away."""


def contact_hash(contact_id: str) -> int:
    """Eight bytes that stand for a contact ID: a million of them are 8 MB."""
    return int.from_bytes(
        hashlib.blake2b(contact_id.encode(errors="surrogatepass"), digest_size=8).digest()
    )


def page_records(
    topics: Topics,
    grant: str,
    origin: Origin,
    request_id: str,
    served_at: int,
    contacts: Sequence[dict[str, Any]],
) -> list[KafkaRecord]:
    """The records of a page: events, and a dead letter for each contact that no event can carry.

    That is one without an ID, which nothing could ever update, one that is larger than a record may
    be, and one that is nested deeper than JSON is written here (254 levels with its envelope).
    """
    received = now_ms()
    records = []
    for index, contact in enumerate(contacts):
        identity = contact.get("id")
        if not usable_id(identity):
            slim = KafkaRecord(
                topics.events.name, grant.encode(), b"{}", event_headers(origin, received)
            )
            records.append(_dead(topics, slim, "no_contact_id", f"request {request_id}"))
            continue
        whole = contact if contact.get("grant_id") == grant else {**contact, "grant_id": grant}
        key = contact_key(grant, identity).encode()
        records.append(
            contact_record(
                topics,
                key,
                origin,
                f"{request_id}/{index}",
                served_at - PAGE_MARGIN,
                whole,
                received,
            )
        )
    return records


def contact_record(
    topics: Topics,
    key: bytes,
    origin: Origin,
    event_id: str,
    version: int,
    contact: Mapping[str, Any],
    received_ms: int,
) -> KafkaRecord:
    """The event of one contact, or the dead letter of what no event can carry, its two IDs without
    the rest.
    """
    headers = event_headers(origin, received_ms)
    try:
        value = page_envelope(origin, event_id, version, contact)
    except TypeError:
        reason, detail = "too_deep", "nested deeper than it can be written; the value is left out"
    else:
        if len(value) + len(key) + ROOM_FOR_HEADERS <= MAX_MESSAGE_BYTES:
            return KafkaRecord(topics.events.name, key, value, headers)
        reason, detail = "too_large", f"{len(value)} bytes; the value is left out"
    grant, _, contact_id = key.decode().partition("/")
    slim = page_envelope(
        origin, event_id, version, {"grant_id": grant, "id": contact_id, "object": "contact"}
    )
    return _dead(topics, KafkaRecord(topics.events.name, key, slim, headers), reason, detail)


def absence_record(
    topics: Topics, grant: str, contact_id: str, origin: Origin, event_id: str, version: int
) -> KafkaRecord:
    """The event that says that a contact is gone as of `version`."""
    gone = {"grant_id": grant, "id": contact_id, "object": "contact"}
    value = page_envelope(origin, event_id, version, gone, deleted=True)
    key = contact_key(grant, contact_id).encode()
    return KafkaRecord(topics.events.name, key, value, event_headers(origin, now_ms()))


def _dead(topics: Topics, record: KafkaRecord, reason: str, detail: str) -> KafkaRecord:
    headers = dead_letter_headers(record, "reader", reason, detail)
    return replace(record, topic=topics.dead_letter.name, headers=headers)
