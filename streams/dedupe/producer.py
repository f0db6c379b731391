"""Dedupe's producer: a batch's records are acknowledged, or the process ends."""

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

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
            self._produce(*record, **more)
        except BufferError:  # the queue is full: the other records follow its acknowledgement
            self._flush(1)
            self._check()
            self._produce(*record, **more)

    def _produce(self, *record: Any, **more: Any) -> None:
        try:
            self._producer.produce(*record, **more)
        except KafkaException as error:
            self._die(ExitCode.KAFKA_REFUSED, f"{record[0]}: {error.args[0].str()}")

    def _flush(self, handed_over: int) -> None:
        if not handed_over:
            return
        try:
            left = self._producer.flush(self._seconds)
        except KafkaException as error:  # a fatal error, which is not given to `error_cb`
            self._die(ExitCode.KAFKA_REFUSED, error.args[0].str())
        if self._error is not None:
            fatal = self._error.fatal() or self._error.code() == KafkaError._FATAL
            code = ExitCode.KAFKA_REFUSED if fatal else ExitCode.NOT_ACKNOWLEDGED
            self._die(code, self._error.str())
        if left:
            self._die(ExitCode.NOT_ACKNOWLEDGED, f"no acknowledgement within {self._seconds:.1f} s")

    def _failed(self, error: KafkaError | None, _: object) -> None:
        self._error = self._error or error
