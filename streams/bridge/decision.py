"""Decides which record a signed notification becomes, and how it is answered. Without I/O."""

from typing import NamedTuple

from connectors.nylas.errors import UnreadableBody, UnsupportedEncoding
from connectors.nylas.model import contact_key, parse_notification
from connectors.nylas.webhook import inflate
from streams.dead_letters import dead_letter
from streams.events import Origin, event_headers
from streams.kafka.records import KafkaRecord
from streams.metrics import NOTIFICATIONS
from streams.topics import Topics

WEBHOOK = "webhook"
"""Stands for the topic of a body that never was in Kafka."""


class BridgeDecision(NamedTuple):
    """Publish the record, if there is one, then answer with the status.

    `outcome` and `kind` are labels of metrics.
    """

    status: int
    outcome: str
    kind: str = "other"
    record: KafkaRecord | None = None
    last_attempt: bool = False
    """Whether Nylas does not send the notification again, whatever the answer."""
    reason: str = ""
    """Why it is dead-lettered; empty when it is not."""


def decide(
    raw: bytes, encoding: str | None, limit: int, names: Topics, received_ms: int
) -> BridgeDecision:
    """Decides on the body of a request whose signature is valid.

    The body is never thrown away, because Nylas does not redeliver after a 4xx. One that cannot be
    read is dead-lettered as it was sent: inflated if possible, else still compressed, with its
    Content-Encoding as a header. `limit` bounds the inflated size in bytes.
    """
    body = raw
    try:
        body = inflate(raw, encoding, limit)
        found = parse_notification(body)
    except UnsupportedEncoding:
        return _dead(415, "bad_encoding", "unsupported_encoding", raw, encoding, names, received_ms)
    except UnreadableBody as error:
        kept = encoding if body is raw else None
        return _dead(200, "dead_lettered", error.reason, body, kept, names, received_ms)
    kind = found.type
    if found.family == "contact":
        key, topic = contact_key(found.object["grant_id"], found.object["id"]), names.events.name
    elif found.family == "grant":
        key, topic = found.object["grant_id"], names.grants.name
    else:
        return BridgeDecision(200, "ignored_type")
    record = KafkaRecord(topic, key.encode(), body, event_headers(Origin.WEBHOOK, received_ms))
    return BridgeDecision(
        200,
        "published",
        kind if kind in NOTIFICATIONS else f"{found.family}.*",
        record,
        found.last_attempt,
    )


def _dead(
    status: int,
    outcome: str,
    reason: str,
    body: bytes,
    encoding: str | None,
    names: Topics,
    received_ms: int,
) -> BridgeDecision:
    headers = event_headers(Origin.WEBHOOK, received_ms)
    if encoding:
        headers.append(("content_encoding", encoding.encode(errors="replace")))
    original = KafkaRecord(WEBHOOK, None, body, headers, timestamp_ms=received_ms)
    record = dead_letter(names.dead_letter.name, original, "bridge", reason)
    return BridgeDecision(status, outcome, record=record, reason=reason)
