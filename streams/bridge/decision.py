"""Decides what one signed notification becomes. A plain function over plain data."""

from dataclasses import dataclass

from connectors.nylas.errors import UnreadableBody, UnsupportedEncoding
from connectors.nylas.model import contact_key, parse_notification
from connectors.nylas.webhook import inflate
from streams.events import Origin, dead_letter_headers, event_headers
from streams.kafka.records import KafkaRecord
from streams.metrics import NOTIFICATIONS
from streams.topics import Topics


@dataclass(frozen=True, slots=True)
class BridgeDecision:
    """What to do with a signed request: publish the record, if there is one, then answer."""

    status: int
    outcome: str
    kind: str = "other"
    record: KafkaRecord | None = None
    last_attempt: bool = False
    """Whether Nylas forgets the notification unless the answer is 200."""
    reason: str = ""
    """Why it goes to the dead letters; empty when it does not."""


def decide(
    raw: bytes, encoding: str | None, limit: int, names: Topics, received_ms: int
) -> BridgeDecision:
    """What becomes of a body whose signature holds. It is never thrown away: Nylas does not
    redeliver after a 4xx.

    A body that cannot be read is kept as it came: inflated if it could be, else still compressed,
    with its Content-Encoding as a header.
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
    came = KafkaRecord("webhook", None, body, headers, timestamp_ms=received_ms)
    record = KafkaRecord(
        names.dead_letter.name, None, body, dead_letter_headers(came, "bridge", reason)
    )
    return BridgeDecision(status, outcome, record=record, reason=reason)
