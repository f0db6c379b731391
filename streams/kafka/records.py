"""A Kafka record as plain data, independent of the client library."""

from typing import NamedTuple

from confluent_kafka import Message

Headers = list[tuple[str, str | bytes | None]]
"""Headers in confluent-kafka's form. A name may repeat; `header` reads the last value, as Kafka's
own clients do.
"""


class KafkaRecord(NamedTuple):
    """A Kafka record that was read or is to be published.

    Publishing ignores `partition`, `offset` and `timestamp_ms`. The last is Kafka's, in epoch
    milliseconds: when the broker appended the record. It is not the time of what the record is
    about; `streams.events.received_at` is.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int = -1
    offset: int = -1
    timestamp_ms: int = 0


def header(headers: Headers | None, name: str) -> bytes | None:
    """The last value of a header, or None."""
    for key, value in reversed(headers or ()):
        if key == name:
            return value.encode() if isinstance(value, str) else value
    return None


def header_values(headers: Headers | None) -> dict[str, bytes | None]:
    """The last value of each header by its name: for who needs several of them."""
    return {
        name: value.encode() if isinstance(value, str) else value for name, value in headers or ()
    }


def to_record(message: Message) -> KafkaRecord:
    """Converts a message of confluent-kafka that carries no error."""
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return KafkaRecord(
        topic=message.topic() or "",
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=[(name, _bytes(value) or b"") for name, value in pairs],
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
    )


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data
