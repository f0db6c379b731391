"""Holds back bulk reading while dedupe or the sink lags behind, so that live changes go first.

Also while a failure breaker is open, because what is read now would only become dead letters, and
while a person has paused reading.
"""

import asyncio
import time
from collections.abc import Callable

from confluent_kafka import KafkaException

from streams.kafka.lag import LagReader
from streams.metrics import ReaderMetrics
from streams.runtime.current_work import waiting_on_purpose
from streams.settings import KafkaSettings
from streams.topics import group, topics

# How long a measured lag is relied on. At the speed of the reader only a few pages pass in a
# second, little beside the bound.
LAG_CHECK_SECONDS = 1.0


class Gate:
    """Lets bulk reading through while the lag is at most `bound` records and nothing stops it.

    `read_lag` blocks and may raise KafkaException. `stopped_by` says why nothing may pass whatever
    the lag; empty if nothing stops it. `on_wait` is called each time that the gate is found closed,
    with the reason.
    """

    def __init__(
        self,
        read_lag: Callable[[], int],
        bound: int,
        on_wait: Callable[[str], None],
        stopped_by: Callable[[], str] = lambda: "",
    ) -> None:
        self._read_lag, self._bound, self._on_wait = read_lag, bound, on_wait
        self._stopped_by = stopped_by
        self._lock = asyncio.Lock()
        self._checked_at = float("-inf")
        self._room = 0

    async def wait(self, records: int) -> None:
        """Returns when `records` more records may be published.

        Records that were let through since the last check count as lag. The wait has no deadline:
        live changes go first for as long as they take, and a breaker or a pause waits for a person.
        Callers are let through in their order.
        """
        with waiting_on_purpose():
            await self._wait(records)

    async def _wait(self, records: int) -> None:
        async with self._lock:
            while (stopped_by := self._stopped_by()) or not self._has_room():
                if stopped_by:
                    self._on_wait(stopped_by)
                    await asyncio.sleep(LAG_CHECK_SECONDS)
                    continue
                try:
                    self._room = self._bound - await asyncio.to_thread(self._read_lag)
                except KafkaException:
                    # The broker is away. The publisher reports that; the gate stays closed.
                    self._room = 0
                self._checked_at = time.monotonic()
                if self._room <= 0:
                    self._on_wait("sink_lag")
                    await asyncio.sleep(LAG_CHECK_SECONDS)
            self._room -= records

    def _has_room(self) -> bool:
        return self._room > 0 and time.monotonic() - self._checked_at < LAG_CHECK_SECONDS


def flow_gate(
    kafka: KafkaSettings,
    lags: LagReader,
    max_lag: int,
    metrics: ReaderMetrics,
    stopped_by: Callable[[], str],
) -> Gate:
    """The gate before the flow of a deployment: its dedupe and its sink together may lag so far."""
    names = topics(kafka)
    dedupe, sink = group(kafka, "dedupe"), group(kafka, "sink")

    def read_lag() -> int:
        dedupe_lag = lags.lag(dedupe, names.events.name, names.events.partitions)
        return dedupe_lag + lags.lag(sink, names.changes.name, names.changes.partitions)

    return Gate(read_lag, max_lag, lambda reason: metrics.waits.labels(reason).inc(), stopped_by)
