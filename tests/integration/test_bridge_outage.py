"""Notifications while the broker is away: one with a 200 is in Kafka, all others get a 503."""

import asyncio
import time
from pathlib import Path

import pytest

from deploy.local.broker import Broker, free_ports
from tests.support.kafka import Kafka
from tests.support.letters import failed_found
from tests.support.processes import Process, Processes
from tests.support.waiting import until
from tests.support.webhooks import (
    SECRET,
    Answer,
    Client,
    contact_body,
    envelope_body,
    request,
    send_all,
)

pytestmark = pytest.mark.kafka

NOTIFICATIONS = 20_000
CONNECTIONS = 500
NYLAS_SECONDS = 10.0  # how long Nylas waits for an answer


@pytest.fixture
def kafka(own_broker: Broker) -> Kafka:
    own = Kafka(own_broker.bootstrap, "outage.")
    own.create("contacts.events", 4)
    own.create("grants.events", 1, {"cleanup.policy": "compact"})
    own.create("contacts.dead-letter", 1)
    own.create("reader.runs", 1)
    return own


@pytest.fixture
def bridge(kafka: Kafka, processes: Processes, tmp_path: Path) -> tuple[Process, int]:
    (port,) = free_ports(1)
    secrets = tmp_path / "secrets"
    secrets.write_text(SECRET)
    given = {"BRIDGE_LISTEN": f"127.0.0.1:{port}", "NYLAS_WEBHOOK_SECRETS_FILE": str(secrets)}
    return processes.start("bridge", environ=kafka.environ | given).wait_ready(), port


def body(number: int) -> bytes:
    """Mostly contacts, some grants, some that cannot be read."""
    if number % 50 == 0:
        return envelope_body("grant.updated", {"grant_id": f"g{number}"})
    if number % 50 == 1:
        return b"unreadable %d" % number
    return contact_body(f"g{number % 20}", f"c{number}", notes="n" * 300)


def answered(bridge: Process, outcome: str) -> float:
    return bridge.metric("contactstream_bridge_requests_total", outcome=outcome)


async def test_a_burst_of_20000_during_a_restart_of_the_broker_loses_none_that_got_its_200(
    own_broker: Broker, kafka: Kafka, bridge: tuple[Process, int]
) -> None:
    process, port = bridge
    bodies = [body(number) for number in range(NOTIFICATIONS)]
    sending = asyncio.create_task(send_all(port, [request(raw) for raw in bodies], CONNECTIONS))
    await until(
        lambda: answered(process, "published") > NOTIFICATIONS / 10, "the burst has begun", 60
    )
    await asyncio.to_thread(own_broker.stop)
    await until(lambda: answered(process, "broker_unavailable") > 0, "the outage has begun", 30)
    await asyncio.to_thread(own_broker.start)
    answers = await sending

    accepted = {raw for raw, answer in zip(bodies, answers, strict=True) if answer.status == 200}
    assert {answer.status for answer in answers} == {200, 503}, "nothing but 200 and 503"
    assert len(accepted) > NOTIFICATIONS / 2
    stored = {
        record.value
        for topic in ("contacts.events", "grants.events")
        for record in kafka.read(topic)
    }
    stored |= {failed_found(letter).value for letter in kafka.read("contacts.dead-letter")}
    assert not accepted - stored, f"{len(accepted - stored)} notifications got a 200 and are lost"
    process.wait_ready()


async def test_while_the_broker_is_paused_each_answer_is_503_and_in_time(
    own_broker: Broker, kafka: Kafka, bridge: tuple[Process, int]
) -> None:
    process, port = bridge
    assert (await send_all(port, [request(contact_body("g", "before"))]))[0].status == 200
    own_broker.pause()
    try:
        began = time.monotonic()
        refused = await send_all(
            port, [request(contact_body("g", f"c{number}")) for number in range(50)], 50
        )
        seconds = time.monotonic() - began
        assert {answer.status for answer in refused} == {503}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        assert seconds < NYLAS_SECONDS
        await until(lambda: process.ask("/readyz")[0] == 503, "it reports that it is not ready", 30)
        assert process.ask("/livez")[0] == 200, "a restart would not help"
        challenge = await Client(port).send(
            b"GET /?challenge=x HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
        )
        assert challenge.status == 200
    finally:
        own_broker.resume()

    async def received_again() -> list[Answer]:
        return [
            answer
            for answer in await send_all(port, [request(contact_body("g", "after"))])
            if answer.status == 200
        ]

    await until(received_again, "notifications are received again", 30)
    process.wait_ready()
    assert b"g/after" in {record.key for record in kafka.read("contacts.events")}


async def test_a_stop_while_the_broker_is_away_is_bounded_and_answers_what_is_in_flight(
    own_broker: Broker, bridge: tuple[Process, int]
) -> None:
    process, port = bridge
    own_broker.kill()
    sending = asyncio.create_task(
        send_all(port, [request(body(number)) for number in range(20)], 20)
    )
    await until(
        lambda: process.metric("contactstream_bridge_in_flight") == 20, "they are in flight"
    )
    began = time.monotonic()
    code = await asyncio.to_thread(process.stop)
    assert code == 0, process.log
    assert time.monotonic() - began < 25, "within the grace of a pod"
    assert {answer.status for answer in await sending} == {503}
