"""Dedupe's producer: a batch's records are acknowledged, or the process ends."""

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, Producer

from streams.dedupe.planner import Output
from streams.runtime.exit_codes import Die, ExitCode, die

# The producer's queue: many times a batch of common events. librdkafka's default of 1 GB would be
# too much memory.
QUEUED_KB = 32 * 1024


class AcknowledgedProducer:
    """Publishes records and returns once they are acknowledged, or ends the process.

    `seconds` bound the wait for the acknowledgements; they are longer than the delivery time-out in
    `config`, so that the producer reports a failure first. `check` is called before each record.
    """

    def __init__(
        self, config: dict[str, Any], seconds: float, check: Callable[[], None], die: Die = die
    ) -> None:
        # Only failures are reported: a callback for each record would cost as much as publishing.
        reporting = {"delivery.report.only.error": True, "on_delivery": self._failed}
        self._producer = Producer({"queue.buffering.max.kbytes": QUEUED_KB} | config | reporting)
        self._seconds = seconds
        self._check = check
        self._die = die
        self._error: KafkaError | None = None

    def publish(self, outputs: Sequence[Output]) -> None:
        """Publishes records of several topics. Blocks until they are acknowledged."""
        for topic, value, key, headers in outputs:
            self._hand_over(topic, value, key, headers=headers)
        self._flush(len(outputs))

    def publish_to(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> None:
        """Publishes keys and values to one partition. Blocks until they are acknowledged."""
        for key, value in entries.items():
            self._hand_over(topic, value, key, partition)
        self._flush(len(entries))

    def _hand_over(self, *record: Any, **more: Any) -> None:
        self._check()
        try:
            self._producer.produce(*record, **more)
        except BufferError:  # the queue is full: the other records follow its acknowledgement
            self._flush(1)
            self._check()
            self._producer.produce(*record, **more)

    def _flush(self, handed_over: int) -> None:
        if handed_over and (self._producer.flush(self._seconds) or self._error):
            silent = f"no acknowledgement within {self._seconds:.1f} s"
            self._die(ExitCode.NOT_ACKNOWLEDGED, self._error.str() if self._error else silent)

    def _failed(self, error: KafkaError | None, _: object) -> None:
        self._error = self._error or error
