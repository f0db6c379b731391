"""Records of grants.events: their format, what each asks of the reader, and the table of grants.

Most are notifications that the bridge stored. The reader adds records of type `grant.listed` and
`grant.deleted` where the listing of grants differs from what the notifications said. Plain
functions and data.
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
from streams.events import happened_at, received_at
from streams.grant_addresses import is_kept_address
from streams.kafka.records import KafkaRecord, header
from streams.topics import Topics

# The code of a grant.updated that follows a new sign-in. Nylas sends later what it could not notify
# of meanwhile, but only for the last 72 hours. So everything is compared.
REAUTHENTICATED_CODE = 25027

EVENT_TYPES = (
    "grant.created",
    "grant.updated",
    "grant.expired",
    "grant.deleted",
    "grant.listed",
    "other",
)
STATUSES = ("valid", "expired", "deleted")


class GrantAction(StrEnum):
    """What the reader does for an event of a grant."""

    NOTHING = "nothing"
    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class GrantEvent:
    """An event of a grant."""

    grant: str
    type: str
    """One of EVENT_TYPES."""
    id: str
    time: int
    """The time of the envelope, in epoch seconds."""
    action: GrantAction
    status: str | None
    """The status of the grant after the event, one of STATUSES; None if that is not known."""


def parse_grant_event(record: KafkaRecord) -> GrantEvent | None:
    """Parses a record of grants.events; None if it is not an event of a grant.

    The bridge stores every body whose signature is right, so the topic may hold other values. The
    grant is the one that the envelope names, else the key of the record. A record that keeps an
    address (streams/grant_addresses.py) is no event.
    """
    if is_kept_address(record):
        return None
    try:
        # The parser that the bridge uses, so that whatever the bridge stored can be read here.
        envelope = parse_json(record.value or b"null")
    except UnreadableBody:
        return None
    if not isinstance(envelope, dict):
        return None
    event_type = str(envelope.get("type") or "")
    data = envelope.get("data")
    inner = data.get("object") if isinstance(data, dict) else None
    grant_object: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    grant = grant_object.get("grant_id") or (record.key or b"").decode(errors="replace")
    if not isinstance(grant, str) or not grant:
        return None
    received_ms = received_at(header(record.headers, "received_ms"), record.timestamp_ms)
    envelope_time = happened_at(parse_time(envelope.get("time")), received_ms)
    event_id = envelope.get("id")
    if not event_id:
        event_id = hashlib.blake2b(record.value or b"", digest_size=8).hexdigest()
    action, status = _action_and_status(event_type, grant_object)
    return GrantEvent(
        grant=grant,
        type=event_type if event_type in EVENT_TYPES else "other",
        id=str(event_id),
        time=received_ms // 1000 if envelope_time is None else envelope_time,
        action=action,
        status=status,
    )


def _action_and_status(event_type: str, grant: Mapping[str, Any]) -> tuple[GrantAction, str | None]:
    if event_type == "grant.created":
        return GrantAction.BACKFILL, "valid"
    if event_type == "grant.expired":
        return GrantAction.NOTHING, "expired"
    if event_type == "grant.deleted":
        return GrantAction.REMOVE, "deleted"
    if event_type == "grant.updated":
        if grant.get("reauthentication_flag") is True or str(grant.get("code")) == str(
            REAUTHENTICATED_CODE
        ):
            return GrantAction.RECONCILE, "valid"
        return GrantAction.NOTHING, None
    if event_type == "grant.listed":
        valid = grant.get("grant_status", "valid") == "valid"
        return GrantAction.NOTHING, "valid" if valid else "expired"
    return GrantAction.NOTHING, None


@dataclass(slots=True)
class GrantTable:
    """The status of every grant, from the records of grants.events that were read so far."""

    status: dict[str, str] = field(default_factory=dict)
    """Grant ID to one of STATUSES."""
    since: dict[str, int] = field(default_factory=dict)
    """Grant ID to the time of the event that the status comes from, in epoch seconds."""

    def apply(self, event: GrantEvent) -> None:
        """Takes the next event of the topic in.

        Nylas promises no order of its notifications, so an event that happened earlier than the one
        known does not count.
        """
        if event.status is not None and event.time >= self.since.get(event.grant, 0):
            self.status[event.grant], self.since[event.grant] = event.status, event.time

    def deleted(self) -> set[str]:
        """IDs of the grants that were deleted."""
        return {grant for grant, status in self.status.items() if status == "deleted"}

    def count(self) -> dict[str, int]:
        """Numbers of grants by status."""
        statuses = list(self.status.values())
        return {status: statuses.count(status) for status in STATUSES}

    def changed_in(self, listed: Sequence[Grant]) -> list[Grant]:
        """The listed grants whose status differs from the one known here."""
        return [
            grant
            for grant in listed
            if self.status.get(grant.id) != ("valid" if grant.valid else "expired")
        ]

    def missing_from(self, listed: Sequence[Grant]) -> list[str]:
        """IDs of grants that are not known as deleted and that a complete listing lacks.

        The notification of their deletion was missed.
        """
        present = {grant.id for grant in listed}
        return sorted(
            grant
            for grant, status in self.status.items()
            if status != "deleted" and grant not in present
        )


def plausibly_deleted(missing: int, listed: int, max_share: float) -> bool:
    """Whether so many grants missing from the listing may have been deleted.

    The API key of another application lists none of the known grants.
    """
    return listed > 0 and (missing == 1 or missing <= max_share * (missing + listed))


def listed_record(topics: Topics, grant: Grant, listed_at: int) -> KafkaRecord:
    """The status of a grant in the listing, as a record of grants.events."""
    fields = {
        "grant_id": grant.id,
        "provider": grant.provider,
        "email": grant.email,
        "grant_status": "valid" if grant.valid else "invalid",
    }
    return _record(topics, grant.id, "grant.listed", listed_at, fields)


def deleted_record(topics: Topics, grant: str, deleted_at: int) -> KafkaRecord:
    """The deletion of a grant whose own notification was missed, as a record of grants.events."""
    return _record(topics, grant, "grant.deleted", deleted_at, {"grant_id": grant})


def _record(
    topics: Topics, grant: str, event_type: str, event_time: int, fields: Mapping[str, Any]
) -> KafkaRecord:
    value = orjson.dumps(
        {
            "specversion": "1.0",
            "type": event_type,
            "source": "/contactstream/listing",
            "id": f"{event_type}/{grant}/{event_time}",
            "time": event_time,
            "data": {"object": fields},
        }
    )
    return KafkaRecord(topics.grants.name, grant.encode(), value, [])
