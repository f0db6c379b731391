"""Dedupe's producer: a batch's records are acknowledged, or the process ends."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.dedupe.planner import Output
from streams.kafka.sizes import one_record_a_batch, refused_as_too_large, topic_limit
from streams.runtime.exit_codes import Die, ExitCode, die

log = structlog.get_logger()

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
        self._client_config = {"queue.buffering.max.kbytes": QUEUED_KB} | config
        self._config = self._client_config | reporting
        self._producer = Producer(self._config)
        self._alone: Producer | None = None  # sends each record in a batch of its own
        self._too_large: dict[bytes | None, Message] = {}  # by key, refused in their batches
        self._seconds = seconds
        self._check = check
        self._die = die
        self._error: KafkaError | None = None

    def publish(self, outputs: Sequence[Output]) -> None:
        """Publishes records of several topics. Blocks until they are acknowledged."""
        for topic, value, key, headers in outputs:
            self._hand_over(topic, value, key, headers=headers)
        self._flush(len(outputs))
        if self._too_large:
            self._send_alone(
                ((topic, value, key), {"headers": headers})
                for topic, value, key, headers in outputs
            )

    def publish_to(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> None:
        """Publishes keys and values to one partition. Blocks until they are acknowledged."""
        for key, value in entries.items():
            self._hand_over(topic, value, key, partition)
        self._flush(len(entries))
        if self._too_large:
            self._send_alone(((topic, value, key, partition), {}) for key, value in entries.items())

    def _send_alone(self, records: Iterable[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
        """Sends the records again whose batches were refused as too large, each alone.

        All of a key, so that the newest comes last as before.
        """
        keys, self._too_large = self._too_large.keys(), {}
        if self._alone is None:
            log.warning(
                "a batch was refused as too large; its records are sent one by one; "
                "see contactstream topics check"
            )
            self._alone = Producer(one_record_a_batch(self._config))
        usual, self._producer = self._producer, self._alone
        try:
            sent = 0
            for record, more in records:
                if record[2] in keys:
                    self._hand_over(*record, **more)
                    sent += 1
            self._flush(sent)
        finally:
            self._producer = usual
        for message in self._too_large.values():
            topic = message.topic() or ""
            size = len(message.key() or b"") + len(message.value() or b"")
            limit = topic_limit(self._client_config, topic)
            self._die(ExitCode.KAFKA_REFUSED, refused_as_too_large(topic, size, limit))

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

    def _failed(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._too_large[message.key()] = message
        else:
            self._error = self._error or error
