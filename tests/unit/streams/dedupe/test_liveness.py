"""A dedupe worker is alive while it makes progress or has none to make; its lag is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import CollectorRegistry

from streams.dedupe.liveness import LagWatch
from streams.dedupe.log_loss import LOSS_CONFIRM_SECONDS, ReadPosition
from streams.dedupe.process import STALLED_SECONDS
from streams.metrics import DedupeMetrics
from streams.runtime.exit_codes import ExitCode
from streams.runtime.ops import Health
from tests.support.death import Clock, Died, die


@dataclass(frozen=True)
class FakeTopicPartition:
    partition: int = 0


@dataclass
class Partition:
    """Partition 0, for the worker's consumer and for the reader of the lag."""

    finished: int = 0
    end: int = 0
    start: int = 0
    broker_away: bool = False

    def positions(self) -> dict[Any, int]:
        return {FakeTopicPartition(): self.finished}

    def reading(self) -> dict[Any, ReadPosition]:
        return {FakeTopicPartition(): ReadPosition(self.finished, idle=True)}

    def ranges(self, topic: str, partitions: int) -> tuple[dict[int, int], dict[int, int]]:
        if self.broker_away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return {0: self.start}, {0: self.end}


NOTHING_ASSIGNED = SimpleNamespace(positions=dict, reading=dict)


def watching(
    partition: Any,
    consumer: Any,
    health: Health,
    registry: CollectorRegistry | None = None,
    clock: Clock | None = None,
) -> tuple[LagWatch, Any]:
    """A watch, and the application that it watches."""
    app: Any = SimpleNamespace(consumer=consumer)
    metrics = DedupeMetrics(registry or CollectorRegistry())
    expiry: Any = SimpleNamespace(measure=lambda *_: None)
    watch = LagWatch(partition, "events", 1, app, metrics, health, expiry, die, clock or Clock())
    return watch, app


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [(0, 7, "the log lost its end"), (12, 20, "expired unread")],
    ids=["end lost", "expired"],
)
def test_a_log_that_lost_what_the_worker_reads_ends_the_process_once_it_is_certain(
    start: int, end: int, reason: str
) -> None:
    clock, partition = Clock(), Partition(finished=10, end=10)
    health = Health(STALLED_SECONDS, clock)
    health.ready()
    watch, _ = watching(partition, partition, health, clock=clock)
    watch.measure()
    partition.start, partition.end = start, end
    watch.measure()
    clock.now += LOSS_CONFIRM_SECONDS
    with pytest.raises(Died, match=reason) as died:
        watch.measure()
    assert died.value.args[0] is ExitCode.OFFSET_OUT_OF_RANGE


def test_an_end_that_lags_behind_for_a_moment_after_an_election_ends_nothing() -> None:
    clock, partition = Clock(), Partition(finished=10, end=10)
    health = Health(STALLED_SECONDS, clock)
    health.ready()
    watch, _ = watching(partition, partition, health, clock=clock)
    for end in (8, 9, 10, 8, 10):
        partition.end = end
        watch.measure()
        clock.now += LOSS_CONFIRM_SECONDS - 1


@pytest.mark.parametrize(
    ("then", "alive"),
    [
        (lambda partition: None, False),
        (lambda partition: setattr(partition, "finished", 6), True),
        (lambda partition: setattr(partition, "finished", 10), True),
        (lambda partition: setattr(partition, "broker_away", True), True),
    ],
    ids=["nothing finished", "one finished", "all finished", "broker away"],
)
def test_a_worker_that_has_events_and_finishes_none_is_not_alive(
    then: Callable[[Partition], None], alive: bool
) -> None:
    clock, partition = Clock(), Partition(finished=5, end=10)
    health = Health(STALLED_SECONDS, clock)
    health.ready()
    watch, _ = watching(partition, partition, health)
    watch.measure()
    clock.now += STALLED_SECONDS - 1
    then(partition)
    watch.measure()
    clock.now += 2
    assert health.alive is alive


def test_the_lag_is_measured_and_a_lost_partition_has_none() -> None:
    registry = CollectorRegistry()
    partition = Partition(finished=5, end=10)
    health = Health(STALLED_SECONDS)
    health.ready()
    watch, app = watching(partition, partition, health, registry)
    watch.measure()
    assert registry.get_sample_value("contactstream_dedupe_lag_records", {"partition": "0"}) == 5
    app.consumer = SimpleNamespace(positions=dict, reading=dict)
    watch.measure()
    assert registry.get_sample_value("contactstream_dedupe_lag_records", {"partition": "0"}) is None


@pytest.mark.parametrize("restoring", [True, False])
def test_a_worker_whose_recovery_makes_no_progress_is_not_alive(restoring: bool) -> None:
    clock = Clock()
    health = Health(STALLED_SECONDS, clock)
    watch, _ = watching(Partition(end=10), NOTHING_ASSIGNED, health)
    health.waiting("the table is restored")
    for _ in range(3):
        clock.now += STALLED_SECONDS / 2
        watch.measure()
        if restoring:
            health.beat()  # as each batch of the changelog does
    assert health.alive is restoring
