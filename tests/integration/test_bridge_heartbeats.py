"""The bridge's heartbeats and the reader that reads them, as processes on a real Kafka.

After a gap, in which Nylas may have stopped resending notifications, everything is read again.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from deploy.local.broker import Broker, free_ports
from streams.events import now_ms
from streams.heartbeats import HEARTBEAT_KEY, NYLAS_RETRY_SECONDS, heartbeat_record, parse_heartbeat
from streams.runs import Run, RunKind, RunState, parse_run
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.reader_harness import ReaderHarness, grant, keys, people
from tests.support.waiting import until, wait_until
from tests.support.webhooks import SECRET, contact_body, envelope_body, request, send_all

pytestmark = pytest.mark.kafka

MINUTE = 60_000


@pytest.fixture
def harness(kafka: Kafka, processes: Processes, tmp_path: Path) -> ReaderHarness:
    return ReaderHarness(kafka, processes, tmp_path, {"grants": [grant("g1", people(3))]})


@pytest.fixture
def bridge(processes: Processes) -> Callable[[], tuple[Process, int]]:
    """Starts a bridge; returns it with its public port."""

    def start() -> tuple[Process, int]:
        (port,) = free_ports(1)
        given = {"BRIDGE_LISTEN": f"127.0.0.1:{port}", "NYLAS_WEBHOOK_SECRETS": SECRET}
        return processes.start("bridge", environ=given).wait_ready(), port

    return start


def beat(kafka: Kafka, *moments: int) -> None:
    """Publishes heartbeats of an earlier bridge."""
    names = topics(load(KafkaSettings, kafka.environ))
    kafka.produce(
        "reader.runs",
        [(HEARTBEAT_KEY, heartbeat_record(names, at_ms).value or b"") for at_ms in moments],
    )


def heartbeats(kafka: Kafka) -> Sequence[int]:
    return [
        parse_heartbeat(found.value or b"")
        for found in kafka.read("reader.runs")
        if found.key == HEARTBEAT_KEY
    ]


def runs(kafka: Kafka) -> dict[str, Run]:
    """The present state of each run."""
    found: dict[str, Run] = {}
    for record in kafka.read("reader.runs"):
        key = (record.key or b"").decode()
        if record.value is not None and "/" not in key:
            found[key] = parse_run(record.value)
    return found


def asked_by_bridge(kafka: Kafka) -> bool:
    try:
        return any(run.by == "bridge" for run in runs(kafka).values())
    except KafkaException:  # the broker has come back, its partitions follow a moment later
        return False


def all_over(kafka: Kafka) -> bool:
    found = runs(kafka)
    return bool(found) and all(run.state is RunState.DONE for run in found.values())


def test_after_a_gap_longer_than_nylas_retries_everything_is_read_again_once(
    kafka: Kafka, harness: ReaderHarness, bridge: Callable[[], tuple[Process, int]]
) -> None:
    last = now_ms() - int(NYLAS_RETRY_SECONDS * 1000) - MINUTE
    beat(kafka, last - MINUTE, last)
    reader = harness.reader(READER_RECONCILE_EVERY="0")
    wait_until(lambda: reader.metric("contactstream_reader_active") == 1, "the reader works", 60)
    assert runs(kafka) == {}, "no heartbeat ends the gap yet"
    bridge()
    wait_until(lambda: all_over(kafka), "everything is read again", 60)
    (run,) = runs(kafka).values()
    assert (run.kind, run.grants, run.by) == (RunKind.RECONCILE, None, "bridge")
    assert keys(harness.events()) == {"g1/c0", "g1/c1", "g1/c2"}
    reader.kill()
    again = harness.reader(READER_RECONCILE_EVERY="0", READER_SESSION_TIMEOUT="6")
    wait_until(
        lambda: again.metric("contactstream_reader_active") == 1,
        "another reader sees the same gap",
        60,
    )
    # The reader requests its own runs before it begins one of a command.
    harness.command("backfill", "--all")
    assert [run.by for run in runs(kafka).values()] == ["bridge", "command"]


def test_without_a_gap_nothing_is_read_again(
    kafka: Kafka, harness: ReaderHarness, bridge: Callable[[], tuple[Process, int]]
) -> None:
    beat(kafka, now_ms() - 5 * MINUTE)
    harness.reader(READER_RECONCILE_EVERY="0")
    bridge()
    wait_until(lambda: len(heartbeats(kafka)) > 1, "the bridge has sent a heartbeat", 30)
    harness.command("backfill", "--all")
    assert [run.by for run in runs(kafka).values()] == ["command"]


async def test_a_last_attempt_refused_while_the_broker_paused_too_long_has_everything_read_again(
    own_broker: Broker,
    processes: Processes,
    tmp_path: Path,
    bridge: Callable[[], tuple[Process, int]],
) -> None:
    kafka = Kafka(own_broker.bootstrap, "last.")
    harness = await asyncio.to_thread(
        ReaderHarness, kafka, processes, tmp_path, {"grants": [grant("g1", people(3))]}
    )
    process, port = await asyncio.to_thread(bridge)
    assert (await send_all(port, [request(contact_body("g", "before"))]))[0].status == 200
    last = envelope_body(
        "contact.updated", {"grant_id": "g", "id": "last"}, webhook_delivery_attempt=3
    )
    own_broker.pause()
    try:
        assert (await send_all(port, [request(last)]))[0].status == 503
    finally:
        own_broker.resume()
    await until(lambda: process.ask("/readyz")[0] == 200, "it is ready again", 60)
    await until(lambda: asyncio.to_thread(asked_by_bridge, kafka), "a reconcile is requested", 60)
    harness.reader(READER_RECONCILE_EVERY="0")
    await until(lambda: asyncio.to_thread(all_over, kafka), "everything is read again", 60)
    assert keys(harness.events()) >= {"g1/c0", "g1/c1", "g1/c2"}
