"""The control plane under /_sim/: tests change the world here and read its state."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from connectors.nylas.simulator import events
from connectors.nylas.simulator.delivery import (
    SIGNATURES,
    DeliveryAttempt,
    WebhookDelivery,
    encoded,
    envelope,
)
from connectors.nylas.simulator.faults import CALLS, KINDS, PASSING, Faults, Rule
from connectors.nylas.simulator.world import (
    BadInput,
    Destination,
    Grant,
    World,
    only,
    texts,
    wanted,
)

# `wait` covers three attempts of 10 s each and the short delays of a test, and ends before its
# client loses patience.
LONGEST_WAIT = 60.0


@dataclass(slots=True)
class Control:
    """The handlers of /_sim over the same world and delivery as the API's."""

    world: World
    delivery: WebhookDelivery

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_sim/state", self._handler(self.state)),
            web.get("/_sim/deliveries", self._handler(self.deliveries)),
            web.put("/_sim/world", self._handler(self.put_world)),
            web.post("/_sim/settings", self._handler(self.settings)),
            web.post("/_sim/contacts", self._handler(self.contacts)),
            web.post("/_sim/grants", self._handler(self.grants)),
            web.post("/_sim/notify", self._handler(self.notify)),
            web.post("/_sim/faults", self._handler(self.faults)),
            web.post("/_sim/clock", self._handler(self.clock)),
        ]

    def _handler(
        self, handler: Callable[[web.Request], Awaitable[object]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def run(request: web.Request) -> web.Response:
            try:
                value, status = await handler(request), 200
            except BadInput as error:
                value, status = {"error": str(error)}, 400
            return web.Response(status=status, body=encoded(value), content_type="application/json")

        return run

    async def state(self, request: web.Request) -> object:
        counts = self.delivery.counts()
        if request.query.get("ids") != "false":
            counts["acknowledged"] = [
                one.id for one in self.delivery.deliveries if one.outcome == "acknowledged"
            ]
            counts["given_up"] = [
                one.id for one in self.delivery.deliveries if one.outcome == "given_up"
            ]
        return {
            "now": self.world.clock.now(),
            "grants": [
                grant.as_json()
                | {
                    "contacts": len(grant.contacts),
                    "shown": len(grant.visible(self.world.clock.now())),
                }
                for grant in self.world.grants.values()
            ],
            "contacts": sum(len(grant.contacts) for grant in self.world.grants.values()),
            "calls": self.world.calls,
            "answers": self.world.answers,
            "faults": self.world.faults.played,
            "webhooks": [_destination(one) for one in self.world.destinations.values()],
            "deliveries": counts,
        }

    async def deliveries(self, request: web.Request) -> object:
        return {"deliveries": [one.as_json() for one in self.delivery.deliveries]}

    async def put_world(self, request: web.Request) -> object:
        world = World.from_json(await _given(request))
        self.delivery.forget()
        self.world.replace(world)
        return {
            "grants": len(world.grants),
            "webhooks": [_destination(one) for one in world.destinations.values()],
        }

    async def settings(self, request: web.Request) -> object:
        self.world.settings.change(await _given(request))
        return {"ok": True}

    async def contacts(self, request: web.Request) -> object:
        given = only(
            await _given(request),
            "contacts",
            {"grant_id", "upsert", "patch", "delete", "move", "notify", "time", "wait"},
        )
        grant, wait = self._grant(given), wanted(given, "wait", bool, False)
        changes = list(self._changes(grant, given))
        announce = wanted(given, "notify", bool, True)
        at = (
            wanted(given, "time", int, int(self.world.clock.now()))
            if given.get("time") is not None
            else None
        )
        now = self.world.clock.now()
        deliveries: list[DeliveryAttempt] = []
        for contact, deleted in changes:
            grant.change(now, contact["id"], None if deleted else contact)
            if announce:
                deliveries += events.contact_changed(
                    self.world,
                    self.delivery,
                    grant,
                    contact,
                    deleted=deleted,
                    at=int(now) if at is None else at,
                )
        return {"ids": [contact["id"] for contact, _ in changes]} | await self._results(
            deliveries, wait=wait
        )

    def _changes(
        self, grant: Grant, given: Mapping[str, Any]
    ) -> Iterable[tuple[dict[str, Any], bool]]:
        """The contacts to store (False) or delete (True), in order.

        All are checked before the first is stored.

        All are checked before the first is stored.
        """
        for contact in wanted(given, "upsert", list, []):
            yield self.world.contact_of(grant, contact), False
        for patch in wanted(given, "patch", list, []):
            if not isinstance(patch, dict):
                raise BadInput(f"patch: {patch!r} is not an object")
            yield self.world.contact_of(grant, _known(grant, patch.get("id")) | patch), False
        for contact_id in wanted(given, "delete", list, []):
            yield _known(grant, contact_id), True
        for one in wanted(given, "move", list, []):
            move = only(one, "move", {"id", "to", "created_first"})
            old = _known(grant, move.get("id"))
            new = self.world.contact_of(grant, old | {"id": wanted(move, "to", str, "")})
            pair = [(old, True), (new, False)]
            yield from reversed(pair) if wanted(move, "created_first", bool, False) else pair

    async def grants(self, request: web.Request) -> object:
        given = only(await _given(request), "grants", {"action", "grant", "grant_id", "wait"})
        action, wait = wanted(given, "action", str, ""), wanted(given, "wait", bool, False)
        if action == "create":
            grant, deliveries = events.created(self.world, self.delivery, given.get("grant", {}))
        else:
            grant = self._grant(given)
            if action == "update":
                changes = only(given.get("grant", {}), "grant", {"scope", "name"})
                checked = {
                    name: texts(changes, name, [])
                    if name == "scope"
                    else wanted(changes, name, str, "")
                    for name in changes
                }
                deliveries = events.updated(self.world, self.delivery, grant, checked)
            elif action == "expire":
                deliveries = events.expired(self.world, self.delivery, grant)
            elif action == "reauthenticate":
                deliveries = events.reauthenticated(self.world, self.delivery, grant)
            elif action == "delete":
                deliveries = events.deleted(self.world, self.delivery, grant)
            elif action == "groups":  # Nylas notifies of no change of a group
                changes = only(given.get("grant", {}), "grant", {"groups"})
                self.world.put_groups(grant, changes.get("groups", []))
                deliveries = []
            else:
                raise BadInput(
                    f"action: {action!r} is none of create, update, expire, reauthenticate, "
                    "delete, groups"
                )
        return {"grant_id": grant.id} | await self._results(deliveries, wait=wait)

    async def notify(self, request: web.Request) -> object:
        given = only(
            await _given(request),
            "notify",
            {"notifications", "order", "seed", "sequential", "wait"},
        )
        deliveries = [
            delivery
            for source in wanted(given, "notifications", list, [])
            for delivery in self._notification(source)
        ]
        order = wanted(given, "order", str, "given")
        if order == "reversed":
            deliveries.reverse()
        elif order == "shuffled":
            random.Random(wanted(given, "seed", int, 0)).shuffle(deliveries)
        elif order != "given":
            raise BadInput(f"order: {order!r} is none of given, reversed, shuffled")
        wait = wanted(given, "wait", bool, False)
        if wanted(given, "sequential", bool, False):
            for delivery in deliveries:
                self.delivery.submit([delivery])
                await _finished([delivery])
        else:
            self.delivery.submit(deliveries)
        return await self._results(deliveries, wait=wait)

    def _notification(self, source: object) -> list[DeliveryAttempt]:
        """The deliveries of one entry: copies times destinations."""
        bodies = {"envelope", "object", "raw", "raw_base64"}
        names = {
            "type",
            "time",
            "id",
            "source",
            "gzip",
            "signature",
            "copies",
            "same_id",
            "retry",
            "headers",
            "webhook_id",
        }
        given = only(source, "notification", bodies | names)
        if len(given.keys() & bodies) != 1:
            raise BadInput(
                f"notification: exactly one of {', '.join(sorted(bodies))} is needed, got "
                f"{sorted(given)}"
            )
        sign = wanted(given, "signature", str, "good")
        if sign not in SIGNATURES:
            raise BadInput(f"signature: {sign!r} is none of {', '.join(SIGNATURES)}")
        headers = wanted(given, "headers", dict, {})
        if any(
            not isinstance(one, str) or "\n" in one or "\r" in one
            for pair in headers.items()
            for one in pair
        ):
            raise BadInput(f"headers: {headers!r} are not plain texts")
        copies = wanted(given, "copies", int, 1)
        if copies < 1:
            raise BadInput(f"copies: {copies!r} is less than 1")
        compressed = None if given.get("gzip") is None else wanted(given, "gzip", bool, False)
        body, kind, notification_id = self._body(given)
        deliveries = []
        for number in range(copies):
            sent = body
            if number and not wanted(given, "same_id", bool, True) and isinstance(body, dict):
                notification_id = str(uuid.uuid4())
                sent = {**body, "id": notification_id}
            deliveries += [
                DeliveryAttempt(
                    notification_id,
                    kind,
                    sent,
                    target.id,
                    gzip=compressed,
                    signature=sign,
                    headers=headers,
                    retry=wanted(given, "retry", bool, True),
                )
                for target in self._targets(given)
            ]
        return deliveries

    def _body(self, given: Mapping[str, Any]) -> tuple[dict[str, Any] | bytes, str, str]:
        """What to send, its type and its ID for the records."""
        kind = wanted(given, "type", str, "contact.updated")
        given_id = wanted(given, "id", str, str(uuid.uuid4()))
        if "raw" in given:
            return wanted(given, "raw", str, "").encode("utf-8", "surrogatepass"), kind, given_id
        if "raw_base64" in given:
            try:
                return (
                    base64.b64decode(wanted(given, "raw_base64", str, ""), validate=True),
                    kind,
                    given_id,
                )
            except binascii.Error:
                raise BadInput(f"raw_base64: {given['raw_base64']!r} is not base64") from None
        if "envelope" in given:
            whole = dict(wanted(given, "envelope", dict, {}))
            return whole, str(whole.get("type", kind)), str(whole.get("id", given_id))
        source = wanted(given, "source", str, "/google/contacts/incremental")
        at = None if given.get("time") is None else wanted(given, "time", int, 0)
        return (
            envelope(self.world, kind, source, given["object"], at=at, notification_id=given_id),
            kind,
            given_id,
        )

    def _targets(self, given: Mapping[str, Any]) -> list[Destination]:
        if given.get("webhook_id") is not None:
            one = self.world.destinations.get(wanted(given, "webhook_id", str, ""))
            if one is None:
                raise BadInput(f"webhook_id: {given['webhook_id']!r} does not exist")
            return [one]
        if not self.world.destinations:
            raise BadInput("notify: there is no webhook destination")
        return list(self.world.destinations.values())

    async def faults(self, request: web.Request) -> object:
        given = only(await _given(request), "faults", {"rules", "random", "clear"})
        rules = [_rule(source) for source in wanted(given, "rules", list, [])]
        mode = None
        if given.get("random") is not None:
            mode = only(given["random"], "random", {"seed", "share", "kinds"})
            share, kinds = (
                wanted(mode, "share", float, 0.0),
                wanted(mode, "kinds", list, list(PASSING)),
            )
            seed = wanted(mode, "seed", int, 0)
            if not 0 <= share <= 1:
                raise BadInput(f"random.share: {share!r} is not between 0 and 1")
            for kind in kinds:
                if kind not in KINDS:
                    raise BadInput(f"random.kinds: {kind!r} is none of {', '.join(KINDS)}")
        faults = self.world.faults
        if wanted(given, "clear", bool, False):
            faults = self.world.faults = Faults(played=faults.played)
        faults.rules += rules
        if mode is not None:
            faults.share, faults.kinds, faults.random = share, tuple(kinds), random.Random(seed)
        return {"rules": len(faults.rules), "share": faults.share}

    async def clock(self, request: web.Request) -> object:
        given = only(await _given(request), "clock", {"offset", "at", "frozen"})
        clock = self.world.clock
        frozen = wanted(given, "frozen", bool, False)
        offset = wanted(given, "offset", float, 0.0) if "offset" in given else None
        at = wanted(given, "at", float, 0.0) if "at" in given else None
        if offset is not None or at is not None:
            clock.offset, clock.frozen_at = offset or 0.0, None
        if at is not None:
            clock.offset = at - clock.now()
        if frozen:
            clock.frozen_at = clock.now() if at is None else at
        return {"now": clock.now()}

    def _grant(self, given: Mapping[str, Any]) -> Grant:
        grant = self.world.grant(wanted(given, "grant_id", str, ""))
        if grant is None:
            raise BadInput(f"grant_id: {given.get('grant_id')!r} does not exist")
        return grant

    async def _results(self, deliveries: list[DeliveryAttempt], *, wait: bool) -> dict[str, Any]:
        if wait:
            await _finished(deliveries)
        return {"deliveries": [one.as_json() for one in deliveries]}


async def _finished(deliveries: list[DeliveryAttempt]) -> None:
    """Waits until every delivery has ended, for LONGEST_WAIT at most.

    Those that have not ended by then show as pending.
    """
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            for delivery in deliveries:
                if delivery.done is not None:
                    await delivery.done.wait()
    except TimeoutError:
        return


async def _given(request: web.Request) -> object:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"body: not JSON ({error})") from None


def _known(grant: Grant, contact_id: object) -> dict[str, Any]:
    contact = grant.contacts.get(contact_id) if isinstance(contact_id, str) else None
    if contact is None:
        raise BadInput(f"contact.id: {contact_id!r} does not exist in the grant {grant.id!r}")
    return contact


def _rule(source: object) -> Rule:
    given = only(
        source, "rule", {"kind", "on", "grant_id", "after", "times", "retry_after", "seconds"}
    )
    rule = Rule(
        kind=wanted(given, "kind", str, ""),
        on=wanted(given, "on", str, ""),
        grant_id=wanted(given, "grant_id", str, ""),
        after=wanted(given, "after", int, 0),
        times=None if given.get("times", 1) is None else wanted(given, "times", int, 1),
        retry_after=None
        if given.get("retry_after") is None
        else wanted(given, "retry_after", float, 0.0),
        seconds=wanted(given, "seconds", float, 0.0),
    )
    if rule.kind not in KINDS:
        raise BadInput(f"rule.kind: {rule.kind!r} is none of {', '.join(KINDS)}")
    if rule.on not in CALLS:
        raise BadInput(f"rule.on: {rule.on!r} is none of {', '.join(one for one in CALLS if one)}")
    if rule.after < 0 or rule.seconds < 0 or (rule.times is not None and rule.times < 1):
        raise BadInput(
            f"rule: after {rule.after}, times {rule.times}, seconds {rule.seconds}: too small"
        )
    return rule


def _destination(destination: Destination) -> dict[str, Any]:
    return {
        "id": destination.id,
        "url": destination.url,
        "secret": destination.secret,
        "compressed": destination.compressed,
        "status": destination.status,
        "trigger_types": destination.trigger_types,
    }
