"""Publishes records for a command, and waits until the broker has them."""

import contextlib
from collections.abc import Iterable
from types import TracebackType

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.kafka.access import is_denied, named_denial
from streams.kafka.clients import producer_config
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings

# A person waits for the acknowledgement.
ACKNOWLEDGE_SECONDS = 30.0
# To connect before the first record; where that fails, the record says why.
CONNECT_SECONDS = 2.0


class NotAcknowledged(RuntimeError):
    """The broker did not acknowledge a record, so nobody may ever see it."""


class CommandPublisher:
    """A producer of a command; a context manager. Nothing is connected before the first record."""

    def __init__(self, kafka: KafkaSettings, within: float = ACKNOWLEDGE_SECONDS) -> None:
        self._kafka, self._within = kafka, within
        self._producer: Producer | None = None
        # Collected instead of logged: a log line would stand between the command's own output.
        self._connection_errors: list[str] = []

    def __enter__(self) -> "CommandPublisher":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._producer = None

    def publish(self, records: Iterable[KafkaRecord]) -> None:
        """Returns once the broker has acknowledged every record. Blocks for up to `within` seconds.

        Raises NotAcknowledged. Some of the records may be there all the same.
        """
        errors: list[KafkaError] = []
        topic = ""
        producer: Producer | None = None
        for record in records:
            topic = record.topic
            producer = self._connected(topic)
            try:
                producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    headers=record.headers,
                    on_delivery=lambda error, _: errors.append(error) if error else None,
                )
            except (KafkaException, BufferError) as error:
                raise self._failure(topic, str(error)) from error
            producer.poll(0)
        unsent = producer.flush(self._within) if producer else 0
        if denied := next(filter(is_denied, errors), None):
            raise NotAcknowledged(f"{topic} was not written: {named_denial(denied).str()}")
        if unsent or errors:
            reasons = (
                self._connection_errors
                or [error.str() for error in errors]
                or [f"no answer within {self._within:.0f} s"]
            )
            raise self._failure(topic, reasons[-1])

    def _connected(self, topic: str) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                producer_config(self._kafka, delivery_timeout=self._within)
                | {
                    "log_level": 0,
                    "error_cb": lambda error: self._connection_errors.append(error.str()),
                }
            )
            # An idempotent producer that is not connected when it gets its first record asks for
            # its ID half a second later.
            with contextlib.suppress(KafkaException):
                self._producer.list_topics(topic, timeout=min(CONNECT_SECONDS, self._within))
        return self._producer

    def _failure(self, topic: str, reason: str) -> NotAcknowledged:
        return NotAcknowledged(
            f"{topic} was not written: {reason}; "
            f"check that the broker at {self._kafka.bootstrap_servers} runs"
        )
