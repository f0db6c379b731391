"""How dedupe's Faust application ends: by a signal, by a fault, or without a broker."""

import asyncio
from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError
from faust.types.tuples import TP
from structlog.testing import capture_logs

from deploy.local.broker import free_ports
from streams.dedupe.faust_app import failure, make_app, run_until_stopped
from streams.dedupe.faust_batches import App, BatchTable
from streams.runtime.exit_codes import ExitCode
from streams.runtime.ops import Health
from streams.runtime.watchdog import Watchdog
from streams.settings import KafkaSettings, load
from tests.support.death import Died, die

ENDS_SECONDS = 20.0


class FakeApp:
    """An application whose start fails, or that crashes later, or that runs until it is stopped."""

    die = staticmethod(die)

    def __init__(self, start: Exception | None = None, crash: Exception | None = None) -> None:
        self.start_error, self.crash_reason = start, crash
        self.rebalancing_count = 0
        self.ended = asyncio.Event()

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error
        if self.crash_reason is not None:
            self.ended.set()

    async def wait_until_stopped(self) -> None:
        await self.ended.wait()

    async def stop(self) -> None:
        self.ended.set()


async def run(app: Any, stopping: asyncio.Event | None = None) -> None:
    async with asyncio.timeout(ENDS_SECONDS):
        await run_until_stopped(app, stopping or asyncio.Event(), Watchdog(5.0, die), 5.0)


@pytest.mark.parametrize("role", ["start", "crash"])
async def test_an_application_that_fails_ends_the_process_with_the_reason(role: str) -> None:
    fault: Any = {role: ValueError("a bug")}
    with pytest.raises(Died, match="ValueError") as died:
        await run(FakeApp(**fault))
    assert died.value.args[0] is ExitCode.CRASHED


async def test_a_signal_stops_the_application_in_good_order() -> None:
    stopping = asyncio.Event()
    stopping.set()
    app = FakeApp()
    await run(app, stopping)
    assert app.ended.is_set()


@pytest.mark.parametrize("connects_first", ["producer", "consumer"])
async def test_a_broker_that_is_away_when_faust_connects_is_no_crash(
    monkeypatch: pytest.MonkeyPatch, connects_first: str
) -> None:
    if connects_first == "consumer":

        async def connected(_producer: Any) -> None: ...

        monkeypatch.setattr(aiokafka.AIOKafkaProducer, "start", connected)
        monkeypatch.setattr("threading.excepthook", lambda _: None)
    (port,) = free_ports(1)
    kafka = load(KafkaSettings, {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"})
    app = make_app(kafka, "group", 10.0, Health(60.0), {})
    app.die = die

    async def agent(batches: Any) -> None:
        async for _ in batches:
            raise AssertionError("nothing can be read")

    app.agent(app.bytes_topic("events"), name="dedupe", concurrency=1)(agent)
    try:
        with pytest.raises(Died, match=f"no broker could be reached.*{port}") as died:
            await run(app)
    finally:
        await app.stop()
        app.consumer._thread.thread_loop.close()
    assert died.value.args[0] is ExitCode.BROKER_UNAVAILABLE


def test_a_lost_connection_after_the_first_assignment_is_not_taken_for_a_failed_start() -> None:
    error = KafkaConnectionError("no connection to node 1")
    assert failure(error, joined=False)[0] is ExitCode.BROKER_UNAVAILABLE
    assert failure(error, joined=True)[0] is ExitCode.CRASHED
    assert failure(None, joined=False)[0] is ExitCode.CRASHED


def test_a_group_that_is_refused_is_named_with_the_acls_that_are_needed() -> None:
    code, reason = failure(GroupAuthorizationFailedError("contactstream-dedupe"), joined=True)
    assert code is ExitCode.KAFKA_REFUSED
    assert "contactstream-dedupe" in reason
    assert "contactstream topics acls" in reason


async def test_the_log_says_when_the_table_is_restored_and_the_worker_is_ready() -> None:
    health = Health(60.0)
    app = make_app(load(KafkaSettings, {}), "contactstream-dedupe", 10.0, health, {})
    table = BatchTable(app, "seen", "changelog", 4)
    with capture_logs() as logged:
        await table.on_recovery_completed({TP("events", 2), TP("events", 0)}, set())
        app.on_rebalance_end()
    assert [line["event"] for line in logged] == ["table restored", "ready"]
    assert (logged[0]["partitions"], logged[0]["entries"]) == ([0, 2], 0)
    assert not health.waiting_for


def changelog(partition: int, first: int, *keys: bytes) -> Any:
    """What Faust hands on of a changelog: one event, whose value is a batch of records."""
    message = SimpleNamespace(partition=partition, offset=first + len(keys) - 1)
    records = [SimpleNamespace(key=key, value=b"entry") for key in keys]
    return SimpleNamespace(message=message, value=records)


async def test_a_standby_copy_is_kept_and_read_on_from_where_it_is_when_it_becomes_active() -> None:
    health = Health(60.0)
    app = make_app(load(KafkaSettings, {}), "contactstream-dedupe", 10.0, health, {}, standbys=1)
    assert app.conf.table_standby_replicas == 1
    table = BatchTable(app, "seen", "changelog", 4)
    active, standby, foreign = (TP("changelog", partition) for partition in range(3))
    table.apply_changelog_batch([changelog(0, 10, b"a", b"b"), changelog(1, 5, b"c")])
    table.apply_changelog_batch([changelog(2, 7, b"d")])
    assert [table.persisted_offset(tp) for tp in (active, standby, foreign)] == [11, 5, 7]
    await table.on_recovery_completed({active}, {standby})
    assert (dict(table.entries(1)), dict(table.entries(2))) == ({b"c": b"entry"}, {})
    assert table.persisted_offset(standby) == 5
    assert table.persisted_offset(foreign) is None, "a lost partition is read from its start again"


async def test_a_standby_copy_that_follows_is_no_progress_of_the_worker() -> None:
    beats = []
    app = App("group", on_progress=lambda: beats.append(1), broker="kafka://127.0.0.1:1")
    table = BatchTable(app, "seen", "changelog", 1)
    app.in_recovery = True
    table.apply_changelog_batch([changelog(0, 0, b"a")])
    app.in_recovery = False
    table.apply_changelog_batch([changelog(0, 1, b"b")])
    assert len(beats) == 1
