"""Changes of contacts and grants, and the notifications that Nylas sends for them.

Which ones depends on the provider and on the state of the grant, and some wait for the next poll.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.nylas.simulator.delivery import (
    BACKLOG_SPAN,
    DeliveryAttempt,
    WebhookDelivery,
    contact_envelope,
    grant_envelope,
)
from connectors.nylas.simulator.world import Contact, Grant, World


def contact_changed(
    world: World,
    delivery: WebhookDelivery,
    grant: Grant,
    contact: Contact,
    *,
    deleted: bool,
    at: int,
) -> list[DeliveryAttempt]:
    """Announces a change that is stored already.

    Nothing for Yahoo, later for Google, kept back while the grant is invalid.
    """
    if not grant.rules.notifies:
        return []
    if grant.grant_status != "valid":
        grant.backlog.append(("deleted" if deleted else "updated", contact, at))
        return []
    if grant.rules.polled and world.settings.poll_interval:
        if not grant.unpolled:
            delivery.later(world.settings.poll_interval, poll, world, delivery, grant)
        grant.unpolled[contact["id"]] = at
        return []
    return delivery.publish(contact_envelope(world, grant, contact, deleted=deleted, at=at))


def poll(world: World, delivery: WebhookDelivery, grant: Grant) -> list[DeliveryAttempt]:
    """What a poll of the provider finds.

    One event for each contact that changed since, with its present content.
    """
    changed, grant.unpolled = grant.unpolled, {}
    if grant.id not in world.grants:
        return []
    found = []
    for contact_id, at in changed.items():
        contact = grant.contacts.get(contact_id)
        found.append((contact or {"id": contact_id}, contact is None, at))
    if grant.grant_status != "valid":
        grant.backlog.extend(
            ("deleted" if deleted else "updated", contact, at) for contact, deleted, at in found
        )
        return []
    return [
        attempt
        for contact, deleted, at in found
        for attempt in delivery.publish(
            contact_envelope(world, grant, contact, deleted=deleted, at=at)
        )
    ]


def created(
    world: World, delivery: WebhookDelivery, source: object
) -> tuple[Grant, list[DeliveryAttempt]]:
    """A new grant. Raises BadInput."""
    grant = world.add_grant(source)
    return grant, delivery.publish(grant_envelope(world, grant, "grant.created"))


def updated(
    world: World, delivery: WebhookDelivery, grant: Grant, changes: Mapping[str, Any]
) -> list[DeliveryAttempt]:
    """A grant changed without a new login: 25014.

    `changes` are fields of the grant, checked already.
    """
    for name, value in changes.items():
        setattr(grant, name, value)
    return delivery.publish(grant_envelope(world, grant, "grant.updated"))


def expired(world: World, delivery: WebhookDelivery, grant: Grant) -> list[DeliveryAttempt]:
    """The provider refuses the grant from now on.

    Its calls are answered 401, and its notifications are kept back.
    """
    if grant.grant_status == "invalid":
        return []
    grant.grant_status = "invalid"
    grant.expired_at = world.clock.now()
    return delivery.publish(grant_envelope(world, grant, "grant.expired"))


def reauthenticated(world: World, delivery: WebhookDelivery, grant: Grant) -> list[DeliveryAttempt]:
    """Sends grant.updated with code 25027 and the flag, then what was kept back.

    A grant that was invalid for 72 hours or more gets nothing of what was kept back.
    """
    now = world.clock.now()
    in_time = grant.expired_at is not None and now - grant.expired_at < BACKLOG_SPAN
    backlog, grant.backlog = grant.backlog, []
    grant.grant_status = "valid"
    grant.expired_at = None
    grant.updated_at = int(now)
    deliveries = delivery.publish(
        grant_envelope(world, grant, "grant.updated", reauthenticated=True)
    )
    for kind, contact, at in backlog if in_time else ():
        deliveries += delivery.publish(
            contact_envelope(world, grant, contact, deleted=kind == "deleted", at=at)
        )
    return deliveries


def deleted(world: World, delivery: WebhookDelivery, grant: Grant) -> list[DeliveryAttempt]:
    """The grant is gone, with its contacts."""
    del world.grants[grant.id]
    return delivery.publish(grant_envelope(world, grant, "grant.deleted"))
