"""The bridge as a process, with a real Apache Kafka."""

import asyncio
import contextlib
import gzip
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deploy.local.broker import free_ports
from tests.support.kafka import Kafka
from tests.support.letters import failed_found
from tests.support.processes import Process, Processes
from tests.support.waiting import until
from tests.support.webhooks import (
    SECRET,
    Answer,
    Client,
    Webhook,
    contact_body,
    envelope_body,
    misplaced,
    request,
    send_all,
    sign,
    webhooks,
)

pytestmark = pytest.mark.kafka

TOPICS = {
    "contacts.events": "events",
    "grants.events": "grants",
    "contacts.dead-letter": "dead-letter",
}


@dataclass(frozen=True, slots=True)
class Served:
    """A bridge process, its public port, and the file of its secrets."""

    process: Process
    port: int
    secrets: Path

    async def send(self, data: bytes) -> Answer:
        client = Client(self.port)
        try:
            return await client.send(data)
        finally:
            await client.close()


def create_topics(kafka: Kafka) -> None:
    kafka.create("contacts.events", 4, {"max.message.bytes": "3145728"})
    kafka.create("grants.events", 1, {"cleanup.policy": "compact"})
    kafka.create("contacts.dead-letter", 1, {"max.message.bytes": "3145728"})
    kafka.create("reader.runs", 1, {"cleanup.policy": "compact"})


@pytest.fixture
def start(kafka: Kafka, processes: Processes, tmp_path: Path) -> Callable[[], Served]:
    """Starts a bridge, without waiting for it."""

    def start() -> Served:
        (port,) = free_ports(1)
        secrets = tmp_path / "secrets"
        secrets.write_text(SECRET + "\n")
        given = {"BRIDGE_LISTEN": f"127.0.0.1:{port}", "NYLAS_WEBHOOK_SECRETS_FILE": str(secrets)}
        return Served(processes.start("bridge", environ=kafka.environ | given), port, secrets)

    return start


@pytest.fixture
def bridge(kafka: Kafka, start: Callable[[], Served]) -> Served:
    """A bridge that is ready."""
    create_topics(kafka)
    served = start()
    served.process.wait_ready()
    return served


def values(kafka: Kafka, topic: str) -> list[bytes | None]:
    return [record.value for record in kafka.read(topic)]


async def test_each_kind_of_notification_is_in_its_topic_after_its_200(
    kafka: Kafka, bridge: Served
) -> None:
    contact, deleted = (
        contact_body("g", "c/#1", given_name="Zoë"),
        contact_body("g", "gone", "contact.deleted"),
    )
    grant, big = (
        envelope_body("grant.expired", {"grant_id": "g"}),
        contact_body("g", "big", notes="n" * 1_000_000),
    )
    packed = gzip.compress(deleted)
    for data, status in [
        (request(contact), 200),
        (request(packed, {"Content-Encoding": "gzip"}), 200),
        (request(grant), 200),
        (request(big), 200),
        (request(b"junk"), 200),
        (request(envelope_body("message.created", {})), 200),
        (request(contact, {"X-Nylas-Signature": "0" * 64}), 401),
        (request(contact, signed=False), 401),
        (request(contact, {"X-Nylas-Signature": sign(contact, "mock-webhook-secret")}), 401),
        (request(bytes(3_000_000)), 413),
        (request(contact, {"Content-Encoding": "br"}), 415),
    ]:
        assert (await bridge.send(data)).status == status, data[:300]
    events = {record.key: record for record in kafka.read("contacts.events")}
    assert {key: record.value for key, record in events.items()} == {
        b"g/c/#1": contact,
        b"g/gone": deleted,
        b"g/big": big,
    }
    assert events[b"g/gone"].headers["origin"] == b"webhook"
    assert [(record.key, record.value) for record in kafka.read("grants.events")] == [(b"g", grant)]
    dead = {
        record.headers["dlq.reason"]: failed_found(record).value
        for record in kafka.read("contacts.dead-letter")
    }
    assert dead == {b"not_json": b"junk", b"unsupported_encoding": contact}
    assert bridge.process.metric("contactstream_bridge_requests_total", outcome="published") == 4
    assert (
        bridge.process.metric("contactstream_bridge_requests_total", outcome="bad_signature") == 3
    )


async def test_a_contact_is_in_the_partition_that_the_clients_of_java_and_faust_choose(
    kafka: Kafka, bridge: Served
) -> None:
    keys = [f"g/{number}" for number in range(40)]
    answers = await send_all(bridge.port, [request(contact_body(*key.split("/"))) for key in keys])
    assert {answer.status for answer in answers} == {200}
    places = {record.key: record.partition for record in kafka.read("contacts.events")}
    # aiokafka's partitioner, which Faust uses: written after Java's, independently of librdkafka's,
    # which our producers use.
    assert places == {key.encode(): (murmur2(key.encode()) & 0x7FFFFFFF) % 4 for key in keys}
    assert set(places.values()) == {0, 1, 2, 3}


async def test_secrets_are_read_rotated_and_kept_without_a_restart(bridge: Served) -> None:
    raw = contact_body("g", "c")

    async def status(secret: str) -> int:
        return (await bridge.send(request(raw, {"X-Nylas-Signature": sign(raw, secret)}))).status

    async def becomes(secret: str, wanted: int) -> None:
        async def as_wanted() -> bool:
            return await status(secret) == wanted

        await until(as_wanted, f"{secret} is answered with {wanted}", 15)

    bridge.secrets.write_text("")
    await becomes(SECRET, 503)
    bridge.secrets.write_text(f"new,{SECRET}")
    await becomes("new", 200)
    assert await status(SECRET) == 200
    bridge.secrets.write_text("new\n")
    await becomes(SECRET, 401)
    bridge.secrets.unlink()
    await until(
        lambda: bridge.process.metric("contactstream_bridge_secret_reload_failures_total") > 1,
        "the missing file is counted",
        15,
    )
    assert await status("new") == 200
    bridge.secrets.write_text("mock-webhook-secret")
    await becomes("new", 503)
    assert await status("mock-webhook-secret") == 503


async def test_the_public_port_has_none_of_the_paths_of_the_operations_port(bridge: Served) -> None:
    for path in ("/metrics", "/livez", "/readyz"):
        assert (await bridge.send(f"GET {path} HTTP/1.1\r\nHost: b\r\n\r\n".encode())).status == 405
        assert bridge.process.ask(path)[0] == 200


async def test_a_bridge_that_starts_before_its_topics_waits_for_them_and_reports_it(
    kafka: Kafka, start: Callable[[], Served]
) -> None:
    bridge = start()
    await until(lambda: bridge.process.ask("/livez")[0] == 200, "the bridge lives", 30)
    await until(
        lambda: "topics are missing" in bridge.process.ask("/readyz")[1],
        "it reports what it waits for",
        30,
    )
    echoed = await bridge.send(b"GET /?challenge=hello HTTP/1.1\r\nHost: b\r\n\r\n")
    assert (echoed.status, echoed.body) == (200, b"hello")
    assert (await bridge.send(request(contact_body("g", "c")))).status == 503
    create_topics(kafka)
    bridge.process.wait_ready()
    assert (await bridge.send(request(contact_body("g", "c")))).status == 200


async def test_a_stop_under_load_loses_no_notification_that_got_its_200(
    kafka: Kafka, bridge: Served
) -> None:
    bodies = [contact_body("g", f"c{number}") for number in range(6000)]
    sending = asyncio.create_task(send_all(bridge.port, [request(body) for body in bodies], 64))
    await until(
        lambda: (
            bridge.process.metric("contactstream_bridge_requests_total", outcome="published") > 500
        ),
        "it is busy",
    )
    assert await asyncio.to_thread(bridge.process.stop) == 0, bridge.process.log
    statuses = [answer.status for answer in await sending]
    assert set(statuses) <= {200, 503, 0}, "0: the port is closed"
    taken = {body for body, status in zip(bodies, statuses, strict=True) if status == 200}
    assert 500 < len(taken) < len(bodies)
    assert taken <= set(values(kafka, "contacts.events"))


async def test_a_stop_of_an_idle_bridge_answers_before_it_closes_the_port(bridge: Served) -> None:
    raw = request(contact_body("g", "c"))
    assert (await bridge.send(raw)).status == 200
    bridge.process.send(signal.SIGTERM)

    async def refused() -> Answer | None:
        answer = await bridge.send(raw)
        return answer if answer.status != 200 else None

    answer = await until(refused, "it stops")
    assert answer is not None
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert "stopping" in bridge.process.ask("/readyz")[1]
    assert await asyncio.to_thread(bridge.process.stop) == 0, bridge.process.log


async def test_slow_senders_are_cut_off_and_counted(bridge: Served) -> None:
    head = b"POST / HTTP/1.1\r\nHost: b\r\n"
    began = [head + b"X-Slow: ", head + b"Content-Length: 1000\r\n\r\n"]

    async def send_slowly(begun: bytes) -> None:
        """Sends a byte a second until the bridge closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        try:
            writer.write(begun)
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    assert await asyncio.wait_for(reader.read(), 1.0) == b"", (
                        "cut off, not answered"
                    )
        except ConnectionError:
            return
        finally:
            writer.close()

    async with asyncio.timeout(60):
        await asyncio.gather(*(send_slowly(begun) for begun in began))
    assert (
        bridge.process.metric("contactstream_bridge_connections_closed_total", reason="slow") == 2
    )
    assert (await bridge.send(request(contact_body("g", "c")))).status == 200


async def test_any_of_20000_webhooks_is_answered_and_stored_exactly_where_it_belongs(
    kafka: Kafka, bridge: Served
) -> None:
    sent: list[tuple[Webhook, Answer]] = []
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=200,
        database=None,
        phases=[Phase.generate],  # a failure names the webhook
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(webhooks(), min_size=10, max_size=10))
    def fuzz(families: list[list[Webhook]]) -> None:
        batch = [webhook for family in families for webhook in family]
        requests = [webhook.data for webhook in batch]
        answers = asyncio.run_coroutine_threadsafe(
            send_all(bridge.port, requests, 16), loop
        ).result()
        sent.extend(zip(batch, answers, strict=True))

    await asyncio.to_thread(fuzz)
    assert len(sent) >= 20_000
    found: dict[bytes, list[tuple[str, bytes | None]]] = {}
    for topic, short in TOPICS.items():
        for read in kafka.read(topic):
            record = failed_found(read) if short == "dead-letter" else read
            found.setdefault(record.value or b"", []).append((short, record.key))
    astray = [
        (wrong, webhook) for webhook, answer in sent if (wrong := misplaced(webhook, answer, found))
    ]
    assert not astray, f"{len(astray)} of {len(sent)}, such as {astray[0]}"
    assert bridge.process.exit_code is None
    assert bridge.process.metric("contactstream_bridge_requests_total", outcome="failed") == 0
    for line in bridge.process.log.splitlines():
        # librdkafka's own lines about brokers: a new one is still loading its coordinator.
        if line.startswith("%"):
            continue
        assert set(json.loads(line)) <= {
            "event",
            "reason",
            "bytes",
            "stage",
            "level",
            "timestamp",
            "port",
            "in_use",
            "refused",
        }
