"""The bridge: takes Nylas' notifications, publishes them, and answers 200 only after the broker has acknowledged.

Nylas gives up on anything but 200, 408, 429, 502, 503, 504 and 507, so every passing fault is a 503, within the 10 s that Nylas waits.
"""

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry

from connectors.nylas.model import UnreadableBody, contact_key, parse_notification
from connectors.nylas.webhook import (
    MOCK_SECRET,
    BadCompression,
    BodyTooLarge,
    UnsupportedEncoding,
    challenge_answer,
    inflate,
    signature_matches,
)
from streams.events import Origin, Record, dead_letter_headers, event_headers, now_ms
from streams.kafka import producer_config, wait_for_broker
from streams.metrics import BridgeMetrics
from streams.ops import Health, OpsServer
from streams.publisher import Publisher, PublishFailed
from streams.settings import BridgeSettings, KafkaSettings, NylasSettings, ProcessSettings, load
from streams.topics import Topics, topics

log = structlog.get_logger()

DELIVERY_SECONDS = 7.0  # of the 10 s that Nylas waits; the rest is for the network and for us
STOP_SECONDS = 10.0  # what is in flight ends within the delivery time-out
STALLED_SECONDS = 30.0
SECRETS_SECONDS = 1.0  # between two looks at the secrets' file


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered, and the outcome that it counts as."""

    status: int
    outcome: str
    text: str = ""


class Bridge:
    """One URL: GET is the challenge, POST a notification."""

    def __init__(self, publisher: Publisher, names: Topics, settings: BridgeSettings, metrics: BridgeMetrics) -> None:
        self._publisher = publisher
        self._names = names
        self._settings = settings
        self._metrics = metrics
        self.secrets: Sequence[str] = ()
        self.stopping = False

    async def challenge(self, request: web.Request) -> web.Response:
        """Echoes the challenge, also before there is a secret: Nylas asks before it hands one out."""
        text = challenge_answer(request.query.get("challenge"))
        if text is None:
            return self._answer(Answer(400, "bad_request", "the challenge is missing or longer than Nylas' are"))
        self._metrics.requests.labels("challenge").inc()
        return web.Response(text=text, headers={"X-Content-Type-Options": "nosniff"})

    async def notification(self, request: web.Request) -> web.Response:
        """Answers one notification, whatever happens."""
        began = time.perf_counter()
        try:
            answer = await self._take(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001  Nylas gives up on 500
            log.error("unexpected", error=type(error).__name__)  # noqa: TRY400  a traceback could quote the body
            answer = Answer(503, "failed")
        self._metrics.request_seconds.observe(time.perf_counter() - began)
        return self._answer(answer)

    def _answer(self, answer: Answer) -> web.Response:
        self._metrics.requests.labels(answer.outcome).inc()
        headers = {"Retry-After": "5"} if answer.status == 503 else {}
        return web.Response(status=answer.status, text=answer.text, headers=headers)

    async def _take(self, request: web.Request) -> Answer:
        if self.stopping:
            return Answer(503, "stopping")
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return Answer(413, "too_large")
        if not self.secrets:
            return Answer(503, "no_secret")
        if not signature_matches(self.secrets, raw, request.headers.get("X-Nylas-Signature")):
            return Answer(401, "bad_signature")
        received = now_ms()
        try:
            body = inflate(raw, request.headers.get("Content-Encoding"), self._settings.body_limit)
        except UnsupportedEncoding:
            return Answer(415, "bad_encoding")
        except BodyTooLarge:
            return Answer(413, "too_large")
        except BadCompression:
            return await self._publish(self._dead(raw, "bad_compression", received), "dead_lettered")
        try:
            found = parse_notification(body)
        except UnreadableBody as error:
            return await self._publish(self._dead(body, error.reason, received), "dead_lettered")
        headers = event_headers(Origin.WEBHOOK, received)
        if found.type.startswith("contact."):
            key = contact_key(found.object["grant_id"], found.object["id"]).encode()
            return await self._publish(Record(self._names.events.name, key, body, headers), "published")
        if found.type.startswith("grant."):
            key = found.object["grant_id"].encode()
            return await self._publish(Record(self._names.grants.name, key, body, headers), "published")
        return Answer(200, "ignored_type")

    def _dead(self, body: bytes, reason: str, received: int) -> Record:
        record = Record("webhook", None, body, event_headers(Origin.WEBHOOK, received), timestamp_ms=received)
        headers = dead_letter_headers(record, "bridge", reason)
        return Record(self._names.dead_letter.name, None, body, headers)

    async def _publish(self, record: Record, outcome: str) -> Answer:
        self._metrics.in_flight.inc()
        try:
            await self._publisher.publish([record])
        except PublishFailed as error:
            log.warning("not acknowledged", error=str(error))
            return Answer(503, "broker_unavailable")
        finally:
            self._metrics.in_flight.dec()
        return Answer(200, outcome)


def usable_secrets(settings: NylasSettings, *, test_events: bool) -> list[str]:
    """The secrets that may sign; the public mock secret only where test events are accepted."""
    secrets = [secret.get_secret_value() for secret in settings.webhook_secrets]
    found = [secret for secret in secrets if secret and secret != MOCK_SECRET]
    return [*found, MOCK_SECRET] if test_events else found


def run(kafka: KafkaSettings, process: ProcessSettings, nylas: NylasSettings, settings: BridgeSettings) -> int:
    """The process: `contactstream bridge`. Returns its exit status."""
    return uvloop.run(_serve(kafka, process, nylas, settings))


async def _serve(kafka: KafkaSettings, process: ProcessSettings, nylas: NylasSettings, settings: BridgeSettings) -> int:
    registry = CollectorRegistry()
    metrics, health = BridgeMetrics(registry), Health(STALLED_SECONDS)
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    names = topics(kafka)
    publisher = Publisher(producer_config(kafka, delivery_timeout=DELIVERY_SECONDS, linger_ms=2))
    publisher.open()
    bridge = Bridge(publisher, names, settings, metrics)
    bridge.secrets = usable_secrets(nylas, test_events=settings.accept_test_events)
    application = web.Application(client_max_size=settings.body_limit)
    application.router.add_get("/", bridge.challenge, allow_head=False)
    application.router.add_post("/", bridge.notification)
    # The signature covers the bytes as they came, so aiohttp must not inflate them.
    runner = web.AppRunner(application, access_log=None, auto_decompress=False)
    await runner.setup()
    host, _, port = settings.listen.rpartition(":")
    await web.TCPSite(runner, host or None, int(port)).start()
    wanted = [names.events.name, names.grants.name, names.dead_letter.name]
    if await asyncio.to_thread(wait_for_broker, kafka, wanted, stopped=stopping.is_set, waiting=health.waiting):
        health.ready()
    while not stopping.is_set():
        health.beat()
        bridge.secrets = usable_secrets(load(NylasSettings), test_events=settings.accept_test_events)
        try:
            await asyncio.wait_for(stopping.wait(), SECRETS_SECONDS)
        except TimeoutError:
            continue
    bridge.stopping = True
    await runner.shutdown()
    left = await publisher.close(STOP_SECONDS)
    await runner.cleanup()
    ops.stop()
    return 1 if left else 0
