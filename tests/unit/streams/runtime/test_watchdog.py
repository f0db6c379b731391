"""A process that may do harm by going on ends: the watchdog, the lease, the unacknowledged record,
the probe of one that does nothing.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import CollectorRegistry

from streams.dedupe.fence import HeartbeatFence
from streams.dedupe.process import STALLED_SECONDS, LagWatch
from streams.dedupe.producer import AcknowledgedProducer
from streams.metrics import DedupeMetrics
from streams.runtime.exit_codes import ExitCode
from streams.runtime.ops import Health
from streams.runtime.watchdog import Watchdog


class Died(BaseException):
    """Stands for the end of the process."""


def die(code: ExitCode, reason: str) -> NoReturn:
    raise Died(code)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_process_that_paused_too_long_dies_at_the_next_look_and_before_the_next_record() -> None:
    clock = Clock()
    watchdog = Watchdog(5.0, die, clock)
    for _ in range(100):
        clock.now += 4.9
        watchdog.look()
    clock.now += 5.1
    for next_step in (watchdog.check, watchdog.look):
        with pytest.raises(Died) as died:
            next_step()
        assert died.value.args == (ExitCode.PAUSED_TOO_LONG,)


def test_a_stop_that_takes_too_long_is_ended() -> None:
    clock = Clock()
    watchdog = Watchdog(5.0, die, clock)
    watchdog.stop_within(3.0)
    clock.now += 2.0
    watchdog.stop_within(3.0)  # a second signal buys no time
    watchdog.look()
    clock.now += 2.0
    with pytest.raises(Died) as died:
        watchdog.look()
    assert died.value.args == (ExitCode.STOP_OVERDUE,)


def test_death_runs_nothing_more_and_says_why() -> None:
    script = (
        "from streams.runtime.exit_codes import ExitCode, die\n"
        "try:\n    die(ExitCode.RECORDS_MISSING, 'what is missing')\nfinally:\n    print('acknowledged')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == ExitCode.RECORDS_MISSING
    assert "what is missing" in ended.stdout + ended.stderr
    assert "acknowledged" not in ended.stdout


def test_a_worker_unheard_for_half_its_session_publishes_nothing_more() -> None:
    clock = Clock()
    heard = clock.now
    watchdog = Watchdog(5.0, die, clock)
    lease = HeartbeatFence(lambda: clock.now - heard, 10.0, watchdog, die, clock)
    for _ in range(9):
        lease.check()
        clock.now += 1.0
        watchdog.look()
        heard = max(heard, clock.now - 4.0)
    clock.now = heard + 4.9
    lease.check()
    clock.now = heard + 5.1
    watchdog.look()
    with pytest.raises(Died) as died:
        lease.check()
    assert died.value.args == (ExitCode.NO_HEARTBEAT,)


def test_a_worker_that_paused_too_long_publishes_nothing_more_however_lately_it_was_heard() -> None:
    clock = Clock()
    lease = HeartbeatFence(lambda: 0.0, 10.0, Watchdog(5.0, die, clock), die, clock)
    lease.check()
    clock.now += 5.1
    with pytest.raises(Died) as died:
        lease.check()
    assert died.value.args == (ExitCode.PAUSED_TOO_LONG,)


@dataclass
class FakeProducer:
    """Of `produced` records it loses those that `fail` says. It holds `room` that are not
    acknowledged yet.
    """

    config: dict[str, Any]
    produced: list[Any] = field(default_factory=list)
    left: int = 0
    fail: bool = False
    room: int = 100
    acknowledged: int = 0

    def produce(self, *record: Any, **_: Any) -> None:
        if len(self.produced) - self.acknowledged >= self.room:
            raise BufferError("Local: Queue full")
        self.produced.append(record)

    def flush(self, seconds: float) -> int:
        self.acknowledged = len(self.produced) - self.left
        if self.fail:
            self.config["on_delivery"](KafkaError(KafkaError._MSG_TIMED_OUT), None)
        return self.left


@pytest.mark.parametrize(
    ("left", "fail", "dies"), [(0, False, False), (1, False, True), (0, True, True)]
)
def test_a_record_without_an_acknowledgement_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, left: int, fail: bool, dies: bool
) -> None:
    monkeypatch.setattr(
        "streams.dedupe.producer.Producer",
        lambda config: FakeProducer(config, left=left, fail=fail),
    )
    writer = AcknowledgedProducer({}, 1.0, lambda: None, die)
    outputs: list[Any] = [("t", b"v", b"k", [])]
    if not dies:
        writer.publish(outputs)
        writer.publish_to("t", 0, {b"k": b"v"})
        return
    with pytest.raises(Died) as died:
        writer.publish(outputs)
    assert died.value.args == (ExitCode.NOT_ACKNOWLEDGED,)
    with pytest.raises(Died):
        writer.publish_to("t", 0, {b"k": b"v"})


def test_a_batch_larger_than_the_producers_queue_is_handed_over_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = FakeProducer({}, room=2)
    monkeypatch.setattr("streams.dedupe.producer.Producer", lambda config: producer)
    writer = AcknowledgedProducer({}, 1.0, lambda: None, die)
    outputs: list[Any] = [("t", b"v%d" % number, b"k", []) for number in range(5)]
    writer.publish(outputs)
    assert [value for _, value, _ in producer.produced] == [value for _, value, _, _ in outputs]
    writer.publish_to("t", 0, {b"k%d" % number: b"v" for number in range(5)})
    assert producer.acknowledged == len(producer.produced) == 10


def test_a_part_of_a_batch_without_an_acknowledgement_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = FakeProducer({}, room=2, left=1)
    monkeypatch.setattr("streams.dedupe.producer.Producer", lambda config: producer)
    outputs: list[Any] = [("t", b"v", b"k", [])] * 5
    with pytest.raises(Died) as died:
        AcknowledgedProducer({}, 1.0, lambda: None, die).publish(outputs)
    assert died.value.args == (ExitCode.NOT_ACKNOWLEDGED,)
    assert len(producer.produced) == 2


def test_every_record_is_handed_over_behind_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = FakeProducer({})
    monkeypatch.setattr("streams.dedupe.producer.Producer", lambda config: producer)
    allowed = 2

    def check() -> None:
        if len(producer.produced) == allowed:
            raise Died

    writer = AcknowledgedProducer({}, 1.0, check, die)
    outputs: list[Any] = [("t", b"v", b"k", [])] * 3
    with pytest.raises(Died):
        writer.publish(outputs)
    assert len(producer.produced) == allowed


@dataclass
class Partition:
    """A partition as the stage and the broker see it."""

    finished: int = 0
    end: int = 0
    away: bool = False

    def positions(self) -> dict[Any, int]:
        return {SimpleTopicPartition(): self.finished}

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return {0: self.end}


@dataclass(frozen=True)
class SimpleTopicPartition:
    partition: int = 0


@pytest.mark.parametrize(
    ("then", "alive"),
    [
        (lambda partition: None, False),  # events wait and none is finished
        (lambda partition: setattr(partition, "finished", 6), True),
        (lambda partition: setattr(partition, "finished", 10), True),
        (lambda partition: setattr(partition, "away", True), True),
    ],
)
def test_a_worker_that_has_events_and_finishes_none_is_not_alive(
    then: Callable[[Partition], None], alive: bool
) -> None:
    clock, partition, metrics = (
        Clock(),
        Partition(finished=5, end=10),
        DedupeMetrics(CollectorRegistry()),
    )
    health = Health(STALLED_SECONDS, clock)
    health.ready()
    reader: Any = partition
    app: Any = SimpleNamespace(consumer=partition)
    watch = LagWatch(reader, "events", 1, app, metrics, health)
    watch.look()
    clock.now += STALLED_SECONDS - 1
    then(partition)
    watch.look()
    clock.now += 2
    assert health.alive is alive


def test_the_lag_is_measured_and_a_lost_partition_has_none() -> None:
    registry = CollectorRegistry()
    partition = Partition(finished=5, end=10)
    reader: Any = partition
    app: Any = SimpleNamespace(consumer=partition)
    health = Health(STALLED_SECONDS)
    health.ready()
    watch = LagWatch(reader, "events", 1, app, DedupeMetrics(registry), health)
    watch.look()
    assert registry.get_sample_value("contactstream_dedupe_lag_records", {"partition": "0"}) == 5
    app.consumer = SimpleNamespace(positions=dict)
    watch.look()
    assert registry.get_sample_value("contactstream_dedupe_lag_records", {"partition": "0"}) is None


@pytest.mark.parametrize("restoring", [True, False])
def test_a_worker_that_never_ends_its_recovery_is_not_alive(restoring: bool) -> None:
    clock = Clock()
    health = Health(STALLED_SECONDS, clock)
    reader: Any = Partition(end=10)
    app: Any = SimpleNamespace(consumer=SimpleNamespace(positions=dict))
    watch = LagWatch(reader, "events", 1, app, DedupeMetrics(CollectorRegistry()), health)
    health.waiting("the table is restored")
    for _ in range(3):
        clock.now += STALLED_SECONDS / 2
        watch.look()
        if restoring:
            health.beat()  # each batch of the changelog
    assert health.alive is restoring
