"""Measures dedupe's lag, and from it whether the worker is alive and its log is whole."""

import threading
import time
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaException
from faust.types.tuples import TP

from streams.dedupe.expiry import ExpiryWatch
from streams.dedupe.faust_batches import App, out_of_range
from streams.dedupe.log_loss import LossWatch, losses
from streams.kafka.lag import LagReader
from streams.metrics import DedupeMetrics
from streams.runtime.exit_codes import Die, ExitCode, die
from streams.runtime.logs import where
from streams.runtime.ops import Health

log = structlog.get_logger()

# Between two measurements of the lag.
LAG_SECONDS = 5.0


class LagWatch:
    """Reports each partition's lag as a metric, and beats while the worker makes progress.

    The worker is alive while it finishes records, has none to finish, or the broker is away. It
    ends the process when the log lost what the worker has read, or what it has yet to read.
    """

    def __init__(
        self,
        lag: LagReader,
        topic: str,
        partitions: int,
        app: App,
        metrics: DedupeMetrics,
        health: Health,
        expiry: ExpiryWatch,
        die: Die = die,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lag, self._topic, self._partitions, self._app = lag, topic, partitions, app
        self._metrics, self._health = metrics, health
        self._expiry = expiry
        self._die = die
        self._losses = LossWatch(clock)
        self._finished_before: dict[int, int] = {}

    def start(self) -> None:
        """Measures every LAG_SECONDS from now on, in a thread of its own."""
        threading.Thread(target=self._watch, name="lag", daemon=True).start()

    def measure(self) -> None:
        """Measures once. Blocks for a few requests to the broker."""
        consumer = self._app.consumer
        finished = {tp.partition: offset for tp, offset in consumer.positions().items()}
        # Before the broker is asked: later the worker may have read records that are newer.
        reading = {tp.partition: position for tp, position in consumer.reading().items()}
        try:
            starts, ends = self._lag.ranges(self._topic, self._partitions)
        except KafkaException:
            self._health.beat()  # the broker is away: a restart of this process would not help
            return
        if self._health.waiting_for:
            # A rebalance or a recovery is under way. Its own steps beat; if it hangs, none comes.
            return
        lost = self._losses.confirmed(losses(reading, starts, ends))
        if lost is not None:
            where = TP(self._topic, lost.partition)
            reason = out_of_range(where, lost.due, lost.start, lost.end)
            self._die(ExitCode.OFFSET_OUT_OF_RANGE, reason)
        self._expiry.measure(reading, starts, ends)
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
