"""Builds the records that the reader publishes to contacts.events: pages and deletions."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.nylas.model import contact_key, usable_id
from streams.dead_letters import dead_letter
from streams.events import (
    PAGE_MARGIN_SECONDS,
    Origin,
    event_headers,
    grant_address_header,
    now_ms,
    page_envelope,
    run_header,
    trace_headers,
)
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.records import KafkaRecord
from streams.runtime.traceparent import TraceContext
from streams.topics import Topics

# The most that a record holds beside its key and value.
MAX_HEADER_BYTES = 4096


def contact_hash(contact_id: str) -> int:
    """A hash of a contact ID in eight bytes; a million of them take 8 MB."""
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
    trace: TraceContext | None = None,
    run_id: str = "",
    grant_address: str = "",
) -> list[KafkaRecord]:
    """The records of a page: an event for each contact, or a dead letter if no event can carry it.

    `served_at` is the `Date` of the answer in epoch seconds. `run_id` is the run that the page was
    read for, and `grant_address` is the address of the grant; each may be empty. Contacts that no
    event can carry: one without a usable ID, which no later event could update; one that is larger
    than a record may be; and one that is nested deeper than orjson writes (254 levels with its
    envelope).
    """
    received, whose = now_ms(), grant_address_header(grant_address)
    records = []
    for index, contact in enumerate(contacts):
        contact_id = contact.get("id")
        if not usable_id(contact_id):
            without_content = KafkaRecord(
                topics.events.name, grant.encode(), b"{}", event_headers(origin, received)
            )
            records.append(
                _dead_letter(topics, without_content, "no_contact_id", f"request {request_id}")
            )
            continue
        if contact.get("grant_id") != grant:
            contact = {**contact, "grant_id": grant}
        key = contact_key(grant, contact_id).encode()
        record = contact_record(
            topics,
            key,
            origin,
            f"{request_id}/{index}",
            served_at - PAGE_MARGIN_SECONDS,
            contact,
            received,
            trace,
            run_id,
        )
        if record.topic == topics.events.name:
            record.headers.extend(whose)
        records.append(record)
    return records


def contact_record(
    topics: Topics,
    key: bytes,
    origin: Origin,
    event_id: str,
    version: int,
    contact: Mapping[str, Any],
    received_ms: int,
    trace: TraceContext | None = None,
    run_id: str = "",
) -> KafkaRecord:
    """The event of one contact, or a dead letter with its two IDs if no event can carry it.

    `version` is in epoch seconds.
    """
    headers = [*event_headers(origin, received_ms), *run_header(run_id), *trace_headers(trace)]
    try:
        value = page_envelope(origin, event_id, version, contact)
    except TypeError:
        reason, detail = "too_deep", "nested deeper than it can be written; the value is left out"
    else:
        if len(value) + len(key) + MAX_HEADER_BYTES <= MAX_MESSAGE_BYTES:
            return KafkaRecord(topics.events.name, key, value, headers)
        reason, detail = "too_large", f"{len(value)} bytes; the value is left out"
    grant, _, contact_id = key.decode().partition("/")
    only_ids = page_envelope(
        origin, event_id, version, {"grant_id": grant, "id": contact_id, "object": "contact"}
    )
    record = KafkaRecord(topics.events.name, key, only_ids, headers)
    return _dead_letter(topics, record, reason, detail)


def deletion_record(
    topics: Topics,
    grant: str,
    contact_id: str,
    origin: Origin,
    event_id: str,
    version: int,
    run_id: str = "",
) -> KafkaRecord:
    """The event of a contact that is deleted as of `version` (epoch seconds)."""
    only_ids = {"grant_id": grant, "id": contact_id, "object": "contact"}
    value = page_envelope(origin, event_id, version, only_ids, deleted=True)
    key = contact_key(grant, contact_id).encode()
    headers = [*event_headers(origin, now_ms()), *run_header(run_id)]
    return KafkaRecord(topics.events.name, key, value, headers)


def _dead_letter(topics: Topics, record: KafkaRecord, reason: str, detail: str) -> KafkaRecord:
    return dead_letter(topics.dead_letter.name, record, "reader", reason, detail, once_for_key=True)
