"""Delivers notifications: envelopes, signatures, attempts, retries, failing destinations.

Documented behaviour: success is exactly 200; no answer within 10 s, 408, 429, 502, 503, 504 and 507
are tried twice more, with growing delays, the last one 10 to 20 minutes after the first; everything
else is given up at once. The signature is the lower-case hex HMAC-SHA256 of the bytes as sent, so
of the compressed ones where delivery is compressed.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from connectors.nylas.simulator.providers import notified
from connectors.nylas.simulator.world import Destination, Grant, World

RETRIED = frozenset({408, 429, 502, 503, 504, 507})
NO_ANSWER = 0
MOST_ATTEMPTS = 3
MOCK_SECRET = "mock-webhook-secret"  # documented: what send-test-event signs with

# A destination's answer is read so that its connection can be used again; more than this is not
# worth the connection.
MOST_ANSWER_BYTES = 65_536

# Share and spans of the documented circuit: 95 % over 15 minutes is failing, 95 % over the next 72
# hours is failed.
BAD_SHARE = 0.95
FAILING_AFTER = 15 * 60
FAILED_AFTER = 72 * 3600
# A re-authentication brings the backlog only if the grant was invalid for less than this.
BACKLOG_SPAN = 72 * 3600


@dataclass(slots=True)
class DeliveryAttempt:
    """One notification for one destination, with the status of each attempt.

    `attempts` holds the statuses, NO_ANSWER for no answer.

    `attempts` holds the status of each attempt, NO_ANSWER for none.

    `body` is the envelope, or the bytes to send as they are. `gzip` None follows the destination's
    setting. `signature` is one of SIGNATURES. `before` counts the attempts at another destination
    that this one repeats. `outcome` is pending, acknowledged, given_up, or unsent (the destination
    takes nothing).
    """

    id: str
    type: str
    body: dict[str, Any] | bytes
    destination_id: str
    gzip: bool | None = None
    signature: str = "good"
    headers: Mapping[str, str] = field(default_factory=dict)
    retry: bool = True
    before: int = 0
    attempts: list[int] = field(default_factory=list)
    outcome: str = "pending"
    done: asyncio.Event | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": self.type,
            "webhook_id": self.destination_id,
            "attempts": self.attempts,
            "outcome": self.outcome,
        }


SIGNATURES = ("good", "bad", "missing", "mock", "upper")


def encoded(value: object) -> bytes:
    """Compact JSON; what UTF-8 cannot carry (a lone surrogate) is escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def signature(secret: str, sent: bytes) -> str:
    return hmac.new(secret.encode(), sent, hashlib.sha256).hexdigest()


def envelope(
    world: World,
    kind: str,
    source: str,
    body: object,
    *,
    at: int | None = None,
    notification_id: str | None = None,
) -> dict[str, Any]:
    """A notification of the first attempt.

    `at` is the event's time in epoch seconds, now if not given.
    """
    head = {
        "specversion": "1.0",
        "type": kind,
        "source": source,
        "id": notification_id or str(uuid.uuid4()),
        "time": int(world.clock.now()) if at is None else at,
    }
    data = {"application_id": world.application_id, "object": body}
    # The order of the keys varies in the documented samples too.
    if kind in ("grant.deleted", "grant.updated"):
        return {**head, "data": data, "webhook_delivery_attempt": 1}
    return {**head, "webhook_delivery_attempt": 1, "data": data}


def contact_envelope(
    world: World, grant: Grant, contact: Mapping[str, Any], *, deleted: bool, at: int
) -> dict[str, Any]:
    """A contact.updated with the whole contact, or a contact.deleted with its identity only."""
    body = (
        {"grant_id": grant.id, "id": contact["id"], "object": "contact"}
        if deleted
        else notified(contact)
    )
    return envelope(
        world, "contact.deleted" if deleted else "contact.updated", grant.rules.source, body, at=at
    )


GRANT_CODES = {
    "grant.expired": 25009,
    "grant.created": 25012,
    "grant.deleted": 25013,
    "grant.updated": 25014,
}
REAUTHENTICATED = 25027


def grant_envelope(
    world: World, grant: Grant, kind: str, *, reauthenticated: bool = False
) -> dict[str, Any]:
    """grant.created, grant.updated, grant.expired or grant.deleted with its documented body."""
    body: dict[str, Any] = {
        "code": REAUTHENTICATED if reauthenticated else GRANT_CODES[kind],
        "grant_id": grant.id,
        "integration_id": grant.integration_id,
        "provider": grant.provider,
    }
    if kind == "grant.created":
        body |= {
            "login_id": str(uuid.uuid4()),
            "name": grant.name,
            "scope": grant.scope,
            "metadata": {},
        }
    else:
        body["email"] = grant.email
    if kind == "grant.updated":
        body["reauthentication_flag"] = reauthenticated
    if kind == "grant.expired":
        body["grant_updated_at"] = grant.updated_at
    return envelope(world, kind, "/nylas/system", body)


def judge(destination: Destination, status: int, now: float) -> None:
    """Counts an attempt and moves the destination between active, failing and failed."""
    minute = int(now // 60)
    if not destination.minutes or destination.minutes[-1][0] != minute:
        destination.minutes.append([minute, 0, 0])
    destination.minutes[-1][1] += 1
    destination.minutes[-1][2] += status != 200
    while destination.minutes[0][0] < minute - FAILED_AFTER // 60 - FAILING_AFTER // 60:
        destination.minutes.popleft()
    if destination.status == "active":
        if now - destination.minutes[0][0] * 60 >= FAILING_AFTER and _mostly_bad(
            destination, now - FAILING_AFTER
        ):
            _turn(destination, "failing", now)
    elif destination.status == "failing":
        if not _mostly_bad(destination, now - FAILING_AFTER):
            _turn(destination, "active", now)
        elif now - destination.status_updated_at >= FAILED_AFTER and _mostly_bad(
            destination, now - FAILED_AFTER
        ):
            _turn(destination, "failed", now)


def _mostly_bad(destination: Destination, since: float) -> bool:
    counted = [
        (sent, bad) for minute, sent, bad in destination.minutes if minute * 60 >= since - 60
    ]
    sent = sum(one for one, _ in counted)
    return sent > 0 and sum(bad for _, bad in counted) >= BAD_SHARE * sent


def _turn(destination: Destination, status: str, now: float) -> None:
    destination.status = status
    destination.status_updated_at = destination.updated_at = int(now)


@dataclass(slots=True)
class WebhookDelivery:
    """Delivers with `settings.concurrency` workers over pooled connections.

    Made running by `running`.
    """

    world: World
    deliveries: list[DeliveryAttempt] = field(default_factory=list)
    queue: asyncio.Queue[DeliveryAttempt] = field(default_factory=asyncio.Queue)
    timers: set[asyncio.TimerHandle] = field(default_factory=set)
    workers: list[asyncio.Task[None]] = field(default_factory=list)
    session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), skip_auto_headers={"Accept-Encoding"}
        ) as self.session:
            self._employ()
            try:
                yield
            finally:
                for timer in self.timers:
                    timer.cancel()
                for worker in self.workers:
                    worker.cancel()
                await asyncio.gather(*self.workers, return_exceptions=True)

    def _employ(self) -> None:
        """As many workers as the settings ask for.

        A lower setting takes effect with the next start.
        """
        for worker in self.workers:
            if worker.done():
                # a fault of the simulator itself becomes loud, instead of deliveries that stand
                # still
                worker.result()
        while len(self.workers) < self.world.settings.concurrency:
            self.workers.append(asyncio.create_task(self._work()))

    def forget(self) -> None:
        """Another world: what is under way is dropped, and nothing of before is counted."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        while not self.queue.empty():
            self.queue.get_nowait()
        for delivery in self.deliveries:
            if delivery.outcome == "pending":
                _end(delivery, "unsent")
        self.deliveries = []

    def counts(self) -> dict[str, Any]:
        """Attempts by status and by number, deliveries by outcome."""
        return {
            "total": len(self.deliveries),
            "outcomes": Counter(one.outcome for one in self.deliveries),
            "by_status": Counter(str(status) for one in self.deliveries for status in one.attempts),
            "by_attempt": Counter(
                str(number) for one in self.deliveries for number in range(1, len(one.attempts) + 1)
            ),
        }

    def publish(self, notification: dict[str, Any]) -> list[DeliveryAttempt]:
        """Sends a notification to every destination that subscribed to its type.

        A failed or paused destination gets nothing, ever.

        A failed or paused one gets nothing, ever.
        """
        return self.submit(
            DeliveryAttempt(notification["id"], notification["type"], notification, destination.id)
            for destination in self.world.destinations.values()
            if notification["type"] in destination.trigger_types
        )

    def submit(self, deliveries: Iterable[DeliveryAttempt]) -> list[DeliveryAttempt]:
        taken = list(deliveries)
        self._employ()
        for delivery in taken:
            delivery.done = asyncio.Event()
            self.deliveries.append(delivery)
            self.queue.put_nowait(delivery)
        return taken

    def later(self, delay: float, action: Any, *arguments: Any) -> None:
        """Runs the action after `delay` seconds.

        It is dropped when the simulator stops or gets another world before.
        """
        timer: asyncio.TimerHandle

        def run() -> None:
            self.timers.discard(timer)
            action(*arguments)

        timer = asyncio.get_running_loop().call_later(delay, run)
        self.timers.add(timer)

    async def _work(self) -> None:
        while True:
            delivery = await self.queue.get()
            await self._attempt(delivery)

    async def _attempt(self, delivery: DeliveryAttempt) -> None:
        destination = self.world.destinations.get(delivery.destination_id)
        if destination is None or destination.status in ("failed", "pause"):
            _end(delivery, "unsent")
            return
        sent, headers = letter(destination, delivery)
        status = await self.post(destination.url, sent, headers)
        if delivery.outcome != "pending":
            return  # forgotten meanwhile
        delivery.attempts.append(status)
        judge(destination, status, self.world.clock.now())
        if status == 200:
            _end(delivery, "acknowledged")
        elif (
            delivery.retry
            and len(delivery.attempts) < MOST_ATTEMPTS
            and (status in RETRIED or status == NO_ANSWER)
        ):
            delay = self.world.settings.retry_delay * 2 ** (len(delivery.attempts) - 1)
            self.later(delay, self._again, delivery)
        else:
            _end(delivery, "given_up")

    def _again(self, delivery: DeliveryAttempt) -> None:
        """A retry goes to every destination of the type (documented).

        So the other destinations get the notification once more.
        """
        self.queue.put_nowait(delivery)
        self.submit(
            replace(
                delivery,
                destination_id=other.id,
                retry=False,
                before=len(delivery.attempts),
                attempts=[],
            )
            for other in self.world.destinations.values()
            if other.id != delivery.destination_id and delivery.type in other.trigger_types
        )

    async def post(self, url: str, sent: bytes, headers: Mapping[str, str]) -> int:
        """One attempt; the status, or NO_ANSWER."""
        # An attempt before `running` would be a fault of this module.
        assert self.session is not None  # noqa: S101
        timeout = aiohttp.ClientTimeout(total=self.world.settings.timeout)
        try:
            async with self.session.post(
                url, data=sent, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                await answer.content.read(MOST_ANSWER_BYTES)
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return NO_ANSWER

    async def challenge(self, url: str) -> str | None:
        """The challenge of a new or reactivated destination.

        Returns what is wrong, in the words of Nylas, or None.
        """
        assert self.session is not None  # noqa: S101  as in `post`
        value = str(uuid.uuid4())
        asked = url + ("&" if "?" in url else "?") + urlencode({"challenge": value})
        try:
            async with self.session.get(
                asked, timeout=aiohttp.ClientTimeout(total=10), allow_redirects=False
            ) as answer:
                body = await answer.content.read(MOST_ANSWER_BYTES)
                chunked = "Content-Length" not in answer.headers
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return "no answer"
        if status != 200:
            return f"status is not ok, got {status}"
        if body != value.encode():
            return "challenge does not match"
        # A chunked answer fails the real handshake.
        return "response is chunked" if chunked else None


def _end(delivery: DeliveryAttempt, outcome: str) -> None:
    delivery.outcome = outcome
    if delivery.done is not None:
        delivery.done.set()


def letter(destination: Destination, delivery: DeliveryAttempt) -> tuple[bytes, dict[str, str]]:
    """The bytes and headers of the delivery's next attempt."""
    if isinstance(delivery.body, bytes):
        sent = delivery.body
    else:
        body = delivery.body
        if "webhook_delivery_attempt" in body:
            body = {
                **body,
                "webhook_delivery_attempt": delivery.before + len(delivery.attempts) + 1,
            }
        sent = encoded(body)
    headers = {"Content-Type": "application/json", "User-Agent": "Nylas"}
    compressed = destination.compressed if delivery.gzip is None else delivery.gzip
    if compressed:
        sent = gzip.compress(sent, compresslevel=1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    if delivery.signature != "missing":
        secret = MOCK_SECRET if delivery.signature == "mock" else destination.secret
        signed = signature(secret, sent + b"\0" if delivery.signature == "bad" else sent)
        headers["x-nylas-signature"] = signed.upper() if delivery.signature == "upper" else signed
    return sent, {**headers, **delivery.headers}
