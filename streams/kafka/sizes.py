"""How large the batches are that the producers send, and what follows when a topic refuses one.

A topic's limit (`max.message.bytes`, by default the broker's `message.max.bytes`) holds for a
batch of records. A batch of small records is refused as a whole, and librdkafka does not split it:
https://github.com/confluentinc/librdkafka/issues/1716.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from streams.kafka.admin import topic_setting
from streams.kafka.records import KafkaRecord
from streams.kafka.topic_policy import LIMIT

# Of a batch, besides its records: the header has 61 bytes, and librdkafka counts it in part.
BATCH_HEADER_BYTES = 100

# Of a record, and of each of its headers: lengths, times and offsets, each at its longest.
RECORD_FRAMING_BYTES, HEADER_FRAMING_BYTES = 40, 10


def topic_limit(config: Mapping[str, Any], topic: str) -> int | None:
    """The largest batch that a topic takes, in bytes; None when no broker says it. Blocks."""
    try:
        return int(topic_setting(AdminClient(dict(config)), topic, LIMIT))
    except (KafkaException, KeyError):
        return None


class TopicRefusesRecord(RuntimeError):
    """A topic refuses a record although it came in a batch of its own; for an operator."""


class SplitProducers:
    """Producers for topics that refused a batch, whose batches stay below the topic's limit.

    `config` is that of the usual producer. Each is made when a batch is refused: nobody needs them
    where `contactstream topics check` finds nothing.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._limits: dict[str, int] = {}
        self._by_limit: dict[int, Producer] = {}

    @property
    def all(self) -> list[Producer]:
        """The producers so far, a few at most: one for each limit of a topic."""
        return list(self._by_limit.values())

    def learn(
        self, used: Producer, topic: str, record_bytes: int, client_config: Mapping[str, Any]
    ) -> None:
        """A topic refused a batch of the producer `used`, of which one record has so many bytes.

        Blocks for a request. Raises TopicRefusesRecord when that producer's batches were below the
        limit already. What another one sent before the limit was known proves nothing.
        """
        limit = topic_limit(client_config, topic)
        # Where no broker says the limit, each record is sent alone.
        most = max(1, (limit or 0) - BATCH_HEADER_BYTES)
        if any(one is used and below <= most for below, one in self._by_limit.items()):
            raise _refused(topic, record_bytes, limit)
        self._limits[topic] = most
        if most not in self._by_limit:
            # librdkafka applies it from the second record of a batch on: a larger one goes alone.
            self._by_limit[most] = Producer({**self._config, "batch.size": most})

    def suited(self, usual: Producer, topics: Iterable[str]) -> Producer:
        """The producer for records of these topics: `usual`, where none of them refused a batch."""
        if not self._limits:  # the usual case, which must cost nothing
            return usual
        limits = [self._limits[topic] for topic in set(topics) if topic in self._limits]
        return self._by_limit[min(limits)] if limits else usual


class RecordSlices:
    """The same for a single producer, for which there is no second one: a transactional one.

    Records for a topic that refused a batch are sent in slices, each of which is a batch: the
    producer is flushed after each. `client_config` serves to ask for a topic's limit.
    """

    def __init__(self, client_config: Mapping[str, Any]) -> None:
        self._client_config = {
            name: value
            for name, value in client_config.items()
            if not name.startswith("transaction")
        }
        self._limits: dict[str, int] = {}

    def learn(self, topic: str, record_bytes: int) -> None:
        """A topic refused a batch, of which one record has so many bytes. Blocks for a request.

        Raises TopicRefusesRecord when the batches were below the limit already.
        """
        limit = topic_limit(self._client_config, topic)
        # Where no broker says the limit, each record is sent alone.
        most = max(1, (limit or 0) - BATCH_HEADER_BYTES)
        if self._limits.get(topic, most + 1) <= most:
            raise _refused(topic, record_bytes, limit)
        self._limits[topic] = most

    def of(self, records: Sequence[KafkaRecord]) -> Iterator[tuple[Sequence[KafkaRecord], bool]]:
        """The records in slices, and whether the producer has to be flushed after each."""
        limits = [self._limits[each.topic] for each in records if each.topic in self._limits]
        if not limits:  # the usual case, which must cost nothing
            yield records, False
            return
        part, size = list[KafkaRecord](), 0
        for record in records:
            added = published_bytes(record)
            if part and size + added > min(limits):
                yield part, True
                part, size = [], 0
            part.append(record)
            size += added
        yield part, True


def _refused(topic: str, record_bytes: int, limit: int | None) -> TopicRefusesRecord:
    return TopicRefusesRecord(
        f"{topic} refuses a record of {record_bytes} bytes, because its {LIMIT} is "
        f"{limit or 'too low'}. Run `contactstream topics check`, which names the limit "
        "that the topic has to have"
    )


def published_bytes(record: KafkaRecord) -> int:
    """What a record takes of a batch at most, uncompressed."""
    size = RECORD_FRAMING_BYTES + len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += HEADER_FRAMING_BYTES + len(name.encode()) + len(value or b"")
    return size


def record_bytes(message: Message) -> int:
    """The size of a record in a delivery report, without its headers."""
    return len(message.key() or b"") + len(message.value() or b"")
