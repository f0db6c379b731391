"""What the life of a grant asks of the reader: a new one is read, one that signed in again is
compared, a deleted one's contacts go.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.grants import Grant
from connectors.nylas.model import parse_json, parse_time
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

REAUTHENTICATED = 25027
"""Code of a grant.updated that follows a new sign-in. Nylas replays what it missed for 72 hours at
the most, so all is compared.
"""

EVENTS = (
    "grant.created",
    "grant.updated",
    "grant.expired",
    "grant.deleted",
    "grant.listed",
    "other",
)
STATUSES = ("valid", "expired", "deleted")


class GrantAction(StrEnum):
    """What a grant's event asks for."""

    NOTHING = "nothing"
    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class GrantEvent:
    """A record of grants.events. `time` is the envelope's (epoch seconds), `status` what the grant
    is after it.
    """

    grant: str
    type: str
    id: str
    time: int
    ask: GrantAction
    status: str | None


def parse_grant_event(record: KafkaRecord) -> GrantEvent | None:
    """A grant's event; None for what is none (it was kept because its signature was right, and says
    nothing to us).

    The grant is the one that the envelope names, else the record's key.
    """
    try:
        envelope = parse_json(
            record.value or b"null"
        )  # as the bridge: what it stored for its signature is read here too
    except UnreadableBody:
        return None
    if not isinstance(envelope, dict):
        return None
    kind = str(envelope.get("type") or "")
    data = envelope.get("data")
    inner = data.get("object") if isinstance(data, dict) else None
    grant_object: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    grant = grant_object.get("grant_id") or (record.key or b"").decode(errors="replace")
    moment = parse_time(envelope.get("time"))
    event_id = envelope.get("id")
    if not isinstance(grant, str) or not grant:
        return None
    ask, status = _meaning(kind, grant_object)
    return GrantEvent(
        grant=grant,
        type=kind if kind in EVENTS else "other",
        id=str(event_id)
        if event_id
        else hashlib.blake2b(record.value or b"", digest_size=8).hexdigest(),
        time=record.timestamp_ms // 1000 if moment is None else moment,
        ask=ask,
        status=status,
    )


def _meaning(kind: str, grant: Mapping[str, Any]) -> tuple[GrantAction, str | None]:
    if kind == "grant.created":
        return GrantAction.BACKFILL, "valid"
    if kind == "grant.expired":
        return GrantAction.NOTHING, "expired"
    if kind == "grant.deleted":
        return GrantAction.REMOVE, "deleted"
    if kind == "grant.updated":
        again = grant.get("reauthentication_flag") is True or str(grant.get("code")) == str(
            REAUTHENTICATED
        )
        return (GrantAction.RECONCILE if again else GrantAction.NOTHING), "valid" if again else None
    if kind == "grant.listed":
        return GrantAction.NOTHING, "valid" if grant.get(
            "grant_status", "valid"
        ) == "valid" else "expired"
    return GrantAction.NOTHING, None


@dataclass(slots=True)
class GrantTable:
    """Every grant's status, as grants.events has told it so far."""

    status: dict[str, str] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    """When the event happened that the status is from, epoch seconds."""

    def apply(self, event: GrantEvent) -> None:
        """An event, in the order of the topic, which is not always that in which they happened:
        Nylas promises none.
        """
        if event.status is not None and event.time >= self.since.get(event.grant, 0):
            self.status[event.grant], self.since[event.grant] = event.status, event.time

    def deleted(self) -> set[str]:
        """Grants that are gone."""
        return {grant for grant, status in self.status.items() if status == "deleted"}

    def count(self) -> dict[str, int]:
        """Grants by status."""
        statuses = list(self.status.values())
        return {status: statuses.count(status) for status in STATUSES}

    def news(self, listed: Sequence[Grant]) -> list[Grant]:
        """Those whose status in the listing is another than the one known."""
        return [
            grant
            for grant in listed
            if self.status.get(grant.id) != ("valid" if grant.valid else "expired")
        ]

    def vanished(self, listed: Sequence[Grant]) -> list[str]:
        """Grants known as living that a whole listing lacks: their deletion was missed."""
        present = {grant.id for grant in listed}
        return sorted(
            grant
            for grant, status in self.status.items()
            if status != "deleted" and grant not in present
        )


def plausible(vanished: int, listed: int, share: float) -> bool:
    """Whether so many vanished grants may be believed: with the key of another application none is
    found at all.
    """
    return listed > 0 and (vanished == 1 or vanished <= share * (vanished + listed))


def listed_record(topics: Topics, grant: Grant, served_at: int) -> KafkaRecord:
    """What the listing says of a grant, as an event of grants.events."""
    described = {
        "grant_id": grant.id,
        "provider": grant.provider,
        "email": grant.email,
        "grant_status": "valid" if grant.valid else "invalid",
    }
    return _record(topics, grant.id, "grant.listed", served_at, described)


def deleted_record(topics: Topics, grant: str, served_at: int) -> KafkaRecord:
    """The deletion of a grant that Nylas no longer knows, whose own notification was missed."""
    return _record(topics, grant, "grant.deleted", served_at, {"grant_id": grant})


def _record(
    topics: Topics, grant: str, kind: str, served_at: int, described: Mapping[str, Any]
) -> KafkaRecord:
    value = orjson.dumps(
        {
            "specversion": "1.0",
            "type": kind,
            "source": "/contactstream/listing",
            "id": f"{kind}/{grant}/{served_at}",
            "time": served_at,
            "data": {"object": described},
        }
    )
    return KafkaRecord(topics.grants.name, grant.encode(), value, [])
