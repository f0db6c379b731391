"""The webhook destinations of an application: where Nylas sends what, and whether it still does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.nylas.client import NylasClient
from connectors.nylas.errors import Passing

TRIGGERS = (
    "contact.updated",
    "contact.deleted",
    "grant.created",
    "grant.updated",
    "grant.expired",
    "grant.deleted",
)
"""What contactstream listens to. There is no contact.created: a new contact comes as
contact.updated.
"""

CONTACT_TRIGGERS = frozenset(TRIGGERS[:2])

STATUSES = ("active", "failing", "failed", "pause")
"""Every status of a destination in Nylas' OpenAPI description."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A webhook destination.

    `status` is one of STATUSES; `compressed` is None where the answer does not say.
    """

    id: str
    url: str
    status: str
    triggers: tuple[str, ...]
    description: str = ""
    compressed: bool | None = None


def parse_destination(data: Mapping[str, Any]) -> Destination:
    """A destination from the API's object.

    Every field but the ID may be absent, and any trigger may be there.
    """
    triggers, compressed = data.get("trigger_types"), data.get("compressed_delivery")
    return Destination(
        id=str(data.get("id") or ""),
        url=str(data.get("webhook_url") or ""),
        status=str(data.get("status") or "unknown"),
        triggers=tuple(str(trigger) for trigger in triggers) if isinstance(triggers, list) else (),
        description=str(data.get("description") or ""),
        compressed=compressed if isinstance(compressed, bool) else None,
    )


def sends_contacts(destination: Destination) -> bool:
    """Whether Nylas sends changes of contacts there."""
    return bool(CONTACT_TRIGGERS & set(destination.triggers))


async def list_destinations(client: NylasClient) -> list[Destination]:
    """Every webhook destination of the application, with one call. Raises as `NylasClient.get`."""
    data = (await client.get("list_webhooks", "/v3/webhooks")).body["data"]
    if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
        raise Passing(200, "Nylas answered 200 with data that is no list of webhooks")
    return [parse_destination(each) for each in data]
