"""The metric says how long dedupe has until the oldest unread event expires."""

import math
from dataclasses import dataclass, field

import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import CollectorRegistry

from streams.dedupe.expiry import EXPIRY_CHECK_SECONDS, ExpiryWatch, seconds_left
from streams.dedupe.log_loss import ReadPosition
from streams.metrics import DedupeMetrics
from tests.support.death import Clock

RETENTION_MS = 100_000


@dataclass
class Log:
    """Partition 0: the time of each record, and whether the broker is away."""

    times: dict[int, int]
    away: bool = False
    asked: list[int] = field(default_factory=list)

    def timestamp_ms(self, partition: int, offset: int) -> int | None:
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        self.asked.append(offset)
        return self.times.get(offset)


class Measured:
    """A watch of partition 0 at 1,000 s, and what its gauge says."""

    def __init__(self, log: Log) -> None:
        self.registry, self.clock = CollectorRegistry(), Clock()
        gauge = DedupeMetrics(self.registry).oldest_unread_expires
        self.watch = ExpiryWatch(
            log.timestamp_ms, lambda: RETENTION_MS, gauge, self.clock, lambda: 1000.0
        )

    def measure(self, due: int, start: int, end: int) -> float | None:
        self.clock.now += EXPIRY_CHECK_SECONDS
        self.watch.measure({0: ReadPosition(due, idle=True)}, {0: start}, {0: end})
        return self.value

    @property
    def value(self) -> float | None:
        return self.registry.get_sample_value(
            "contactstream_dedupe_oldest_unread_expires_seconds", {"partition": "0"}
        )


@pytest.mark.parametrize(
    ("due", "start", "end", "left"),
    [(5, 0, 9, 60), (3, 5, 9, 60), (9, 0, 9, 100), (7, 0, 9, None)],
    ids=["lags", "has lost some", "read to the end", "not readable now"],
)
def test_the_time_of_the_oldest_unread_record_counts(
    due: int, start: int, end: int, left: float | None
) -> None:
    assert Measured(Log({5: 960_000})).measure(due, start, end) == left


def test_it_is_measured_once_a_minute_and_not_for_a_partition_that_is_gone() -> None:
    log = Log({5: 960_000})
    measured = Measured(log)
    assert measured.measure(5, 0, 9) == 60
    measured.watch.measure({0: ReadPosition(6, idle=True)}, {0: 0}, {0: 9})
    assert log.asked == [5]
    log.away = True
    assert measured.measure(6, 0, 9) == 60, "what was measured stays while the broker is away"
    measured.watch.measure({}, {0: 0}, {0: 9})
    assert measured.value is None


@pytest.mark.parametrize(("retention_ms", "left"), [(100_000, 40.0), (10_000, 0.0), (-1, math.inf)])
def test_a_record_that_may_have_expired_has_no_time_left_and_one_without_retention_all(
    retention_ms: int, left: float
) -> None:
    assert seconds_left(940_000, retention_ms, 1_000_000) == left
