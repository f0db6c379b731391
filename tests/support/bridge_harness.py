"""The bridge over real HTTP, with a stand-in for the broker that behaves as the test wants."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from streams.bridge.broker_status import BrokerStatus
from streams.bridge.intake import NotificationIntake
from streams.bridge.owed_reconcile import OwedReconcile
from streams.bridge.reader_notice import ReaderNotice
from streams.bridge.server import WebhookServer
from streams.kafka.publisher import Publisher
from streams.kafka.records import KafkaRecord
from streams.metrics import BridgeMetrics
from streams.runtime.traces import NO_TRACES, Traces
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.webhooks import SECRET, Answer, Client, envelope_body, request

NAMES = topics(load(KafkaSettings, {}))

# Less than may be configured, so that tests with bodies over the limit are quick.
LIMIT = 64 * 1024

LAST_ATTEMPT = envelope_body(
    "contact.updated", {"grant_id": "g", "id": "last"}, webhook_delivery_attempt=3
)


class FakePublisher(Publisher):
    """Acknowledges at once, unless the test replaces `behave`.

    `behave` returns an exception to be raised, or an event to be waited for.
    """

    def __init__(self) -> None:
        super().__init__({})
        self.records: list[KafkaRecord] = []
        self.behave: Callable[[KafkaRecord], object] = lambda _: None

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        for record in records:
            outcome = self.behave(record)
            if isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, asyncio.Event):
                await outcome.wait()
            self.records.append(record)

    def send(self, record: KafkaRecord) -> "asyncio.Future[None]":
        return asyncio.ensure_future(self.publish([record]))


@dataclass(slots=True)
class RunningBridge:
    """A bridge that serves on `server.port`, wired as its process does."""

    server: WebhookServer
    intake: NotificationIntake
    notice: ReaderNotice
    owed: OwedReconcile
    status: BrokerStatus
    broker: FakePublisher
    registry: CollectorRegistry
    clients: list[Client] = field(default_factory=list)

    async def send(self, data: bytes) -> Answer:
        client = Client(self.server.port)
        self.clients.append(client)
        return await client.send(data)

    async def post(self, raw: bytes, **headers: str) -> Answer:
        return await self.send(
            request(raw, {name.replace("_", "-"): value for name, value in headers.items()})
        )

    async def publish_notices(self) -> None:
        """One round of the watch of the broker."""
        await self.notice.publish(accepting=self.intake.accepting)

    @property
    def in_flight(self) -> int:
        return self.intake.in_flight.count

    def counted(self, outcome: str) -> float:
        return self.metric("requests_total", outcome=outcome)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"contactstream_bridge_{name}", labels) or 0.0


@contextlib.asynccontextmanager
async def running_bridge(
    limit: int = LIMIT, owed_file: Path | None = None, traces: Traces = NO_TRACES
) -> AsyncIterator[RunningBridge]:
    registry, broker, status = CollectorRegistry(), FakePublisher(), BrokerStatus()
    folder = tempfile.TemporaryDirectory()
    owed = OwedReconcile(owed_file or Path(folder.name) / "owed")
    owed.load()
    metrics, notice = BridgeMetrics(registry), ReaderNotice(broker, NAMES, status, owed)
    intake = NotificationIntake(broker, NAMES, limit, metrics, status, notice, traces)
    intake.secrets = (SECRET.encode(),)
    server = WebhookServer(intake, limit, metrics)
    await server.listen("127.0.0.1:0")
    bridge = RunningBridge(server, intake, notice, owed, status, broker, registry)
    try:
        yield bridge
    finally:
        for client in bridge.clients:
            await client.close()
        await server.stop(lame_duck=0)
        folder.cleanup()
