"""Measures how long dedupe has until the oldest event that it has not read expires."""

import math
import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaException
from prometheus_client import Gauge

from streams.dedupe.log_loss import ReadPosition

# Between two measurements: each reads one record of every partition that lags.
EXPIRY_CHECK_SECONDS = 60.0


def seconds_left(timestamp_ms: int, retention_ms: int, now_ms: float) -> float:
    """Seconds until a record of this time may expire; never negative.

    Kafka deletes whole segments, so a record may stay longer. A negative retention is none.
    """
    if retention_ms < 0:
        return math.inf
    return max(0.0, (timestamp_ms + retention_ms - now_ms) / 1000)


class ExpiryWatch:
    """Sets a gauge, by partition, to the seconds until its oldest unread record expires.

    `timestamp_ms` returns Kafka's timestamp of the record at an offset of a partition, None if it
    cannot be read now. Kafka deletes by this time, not by that of the record's receipt.
    `retention_ms` returns the retention in force. Both block, and may raise KafkaException. A
    partition that is read to its end has all of the retention left.
    """

    def __init__(
        self,
        timestamp_ms: Callable[[int, int], int | None],
        retention_ms: Callable[[], int],
        gauge: Gauge,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._timestamp_ms, self._retention_ms = timestamp_ms, retention_ms
        self._gauge = gauge
        self._clock, self._now = clock, now
        self._due = clock()
        self._measured: set[int] = set()

    def measure(
        self,
        positions: Mapping[int, ReadPosition],
        starts: Mapping[int, int],
        ends: Mapping[int, int],
    ) -> None:
        """Measures, if that is due. Blocks for a request for each partition that lags."""
        for partition in self._measured - positions.keys():
            self._gauge.remove(str(partition))
        self._measured &= positions.keys()
        if self._clock() < self._due:
            return
        self._due = self._clock() + EXPIRY_CHECK_SECONDS
        try:
            retention_ms = self._retention_ms()
            for partition, position in positions.items():
                self._measure_one(partition, position, retention_ms, starts, ends)
        except KafkaException:
            return  # the broker is away; what was measured stays

    def _measure_one(
        self,
        partition: int,
        position: ReadPosition,
        retention_ms: int,
        starts: Mapping[int, int],
        ends: Mapping[int, int],
    ) -> None:
        now_ms = self._now() * 1000
        oldest: int | None = int(now_ms)
        unread = max(position.due, starts[partition])
        if unread < ends[partition]:
            oldest = self._timestamp_ms(partition, unread)
        if oldest is not None:
            self._measured.add(partition)
            left = seconds_left(oldest, retention_ms, now_ms)
            self._gauge.labels(str(partition)).set(left)
