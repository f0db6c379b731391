"""Polls a confluent-kafka consumer, with one rule for what each of its errors means.

So no consumer ignores an error that another one treats as fatal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException

from streams.kafka.records import KafkaRecord, to_record

_OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})


class OffsetOutOfRange(RuntimeError):
    """A position or a committed offset is outside of the log.

    Either records expired before they were read, or the topic was deleted and created again.
    """


@dataclass(frozen=True, slots=True)
class EndOfPartition:
    """The consumer has read everything that the partition holds now.

    Comes only with `enable.partition.eof`, each time that the end is reached.
    """

    topic: str
    partition: int
    offset: int
    """The offset that the next record of this partition will get."""


def poll(
    consumer: Consumer,
    limit: int,
    seconds: float,
    on_error: Callable[[KafkaError], None],
) -> Iterator[KafkaRecord | EndOfPartition]:
    """Yields what one call of `consume` returns, in its order. Blocks for up to `seconds`.

    Records that come before an error are yielded before it is raised. What comes after it is
    dropped, although the consumer's position is behind it: the caller assigns a position anew, or
    closes the consumer. The same holds for an iteration that is left early.

    Errors that librdkafka recovers from by itself, such as a broker that is away, are passed to
    `on_error`, and the iteration goes on.

    Raises OffsetOutOfRange when the position is outside of the log, which `auto.offset.reset=error`
    reports instead of skipping records silently. Raises KafkaException for an error that the client
    cannot recover from: a fatal one, or refused credentials.
    """
    for message in consumer.consume(limit, seconds):
        error = message.error()
        if error is None:
            yield to_record(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            yield EndOfPartition(
                message.topic() or "", message.partition() or 0, message.offset() or 0
            )
        elif error.code() in _OUT_OF_RANGE:
            raise OffsetOutOfRange(f"{message.topic()}[{message.partition()}]: {error.str()}")
        elif error.fatal() or error.code() == KafkaError._AUTHENTICATION:
            raise KafkaException(error)
        else:
            on_error(error)
