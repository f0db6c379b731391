"""A producer that returns once its records are acknowledged, or ends the process."""

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, Producer

from streams.dedupe.planner import Output
from streams.runtime.exit_codes import Die, ExitCode, die

QUEUED_KB = (
    32 * 1024
    # of the producer: a batch of common events many times; librdkafka's default of 1 GB would be
    # memory
)


class AcknowledgedProducer:
    """Publishes records and returns once they are acknowledged, or ends the process."""

    def __init__(
        self, config: dict[str, Any], seconds: float, check: Callable[[], None], die: Die = die
    ) -> None:
        # Only failures are reported: a callback for each record would cost as much as publishing
        # it.
        reporting = {"delivery.report.only.error": True, "on_delivery": self._failed}
        self._producer = Producer({"queue.buffering.max.kbytes": QUEUED_KB} | config | reporting)
        self._seconds = seconds
        self._check = check
        self._die = die
        self._error: KafkaError | None = None

    def publish(self, outputs: Sequence[Output]) -> None:
        """Each is (topic, value, key, headers)."""
        for topic, value, key, headers in outputs:
            self._hand_over(topic, value, key, headers=headers)
        self._flush(len(outputs))

    def publish_to(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> None:
        """Keys and values, to one partition."""
        for key, value in entries.items():
            self._hand_over(topic, value, key, partition)
        self._flush(len(entries))

    def _hand_over(self, *record: Any, **more: Any) -> None:
        self._check()
        try:
            self._producer.produce(*record, **more)
        except BufferError:  # the queue is full: the rest follows once this part is acknowledged
            self._flush(1)
            self._check()
            self._producer.produce(*record, **more)

    def _flush(self, handed_over: int) -> None:
        if handed_over and (self._producer.flush(self._seconds) or self._error):
            self._die(
                ExitCode.NOT_ACKNOWLEDGED,
                self._error.str() if self._error else f"nothing heard for {self._seconds} s",
            )

    def _failed(self, error: KafkaError | None, _: object) -> None:
        self._error = self._error or error
