"""Measures dedupe's lag, and from it whether the worker is alive."""

import threading
import time

import structlog
from confluent_kafka import KafkaException

from streams.dedupe.faust_batches import App
from streams.kafka.lag import LagReader
from streams.metrics import DedupeMetrics
from streams.runtime.logs import where
from streams.runtime.ops import Health

log = structlog.get_logger()

# Between two measurements of the lag.
LAG_SECONDS = 5.0


class LagWatch:
    """Reports each partition's lag as a metric, and beats while the worker makes progress.

    The worker is alive while it finishes records, has none to finish, or the broker is away.
    """

    def __init__(
        self,
        lag: LagReader,
        topic: str,
        partitions: int,
        app: App,
        metrics: DedupeMetrics,
        health: Health,
    ) -> None:
        self._lag, self._topic, self._partitions, self._app = lag, topic, partitions, app
        self._metrics, self._health = metrics, health
        self._finished_before: dict[int, int] = {}

    def start(self) -> None:
        """Measures every LAG_SECONDS from now on, in a thread of its own."""
        threading.Thread(target=self._watch, name="lag", daemon=True).start()

    def measure(self) -> None:
        """Measures once. Blocks for a few requests to the broker."""
        finished = {tp.partition: offset for tp, offset in self._app.consumer.positions().items()}
        try:
            ends = self._lag.ends(self._topic, self._partitions)
        except KafkaException:
            self._health.beat()  # the broker is away: a restart of this process would not help
            return
        if self._health.waiting_for:
            # A rebalance or a recovery is under way. Its own steps beat; if it hangs, none comes.
            return
        behind = {
            partition: max(0, ends[partition] - offset) for partition, offset in finished.items()
        }
        if finished != self._finished_before or not any(behind.values()):
            self._health.beat()
        for partition in self._finished_before.keys() - behind.keys():
            self._metrics.lag.remove(str(partition))
        for partition, records in behind.items():
            self._metrics.lag.labels(str(partition)).set(records)
        self._finished_before = finished

    def _watch(self) -> None:
        while True:
            time.sleep(LAG_SECONDS)
            try:
                self.measure()
            except Exception as error:  # noqa: BLE001
                # Without a beat the liveness probe fails, which is right.
                log.warning("lag could not be measured", error=where(error))
