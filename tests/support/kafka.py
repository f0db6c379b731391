"""A test's topics on a broker, read and written without any code of the stages."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

# One admin request, or a flush, on a machine whose cores the stages under test share.
REQUEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Found:
    """A record as a test found it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    """The last value of each name, as Kafka's own clients read a repeated header."""
    timestamp_ms: int


def _ends_of(consumer: Consumer, partition: TopicPartition, deadline: float) -> tuple[int, int]:
    """The first and the last offset. A client may not know yet who leads a new partition."""
    while True:
        try:
            found = consumer.get_watermark_offsets(partition, timeout=REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._UNKNOWN_PARTITION or time.monotonic() > deadline:
                raise
            consumer.list_topics(partition.topic, timeout=REQUEST_SECONDS)
        else:
            assert found is not None
            return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker, and a topic prefix that no other test has."""

    bootstrap: str
    prefix: str
    replication_factor: int = 1

    @property
    def environ(self) -> dict[str, str]:
        """The environment for a stage that works on this test's topics."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "KAFKA_TOPIC_PREFIX": self.prefix,
            "KAFKA_REPLICATION_FACTOR": str(self.replication_factor),
        }

    def name(self, topic: str) -> str:
        """The topic's name with the prefix."""
        return self.prefix + topic

    def admin(self) -> AdminClient:
        """A new admin client."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 3})

    def create(
        self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        """Creates a topic and returns its name, prefix and all."""
        name = self.name(topic)
        new = NewTopic(
            name,
            num_partitions=partitions,
            replication_factor=self.replication_factor,
            config=dict(config or {}),
        )
        # Held until the answer is there: a client that is garbage-collected drops its requests.
        admin = self.admin()
        for future in admin.create_topics([new], request_timeout=REQUEST_SECONDS).values():
            future.result()
        return name

    def delete_all(self) -> None:
        """Deletes every topic with the prefix, including those that Faust made."""
        admin = self.admin()
        mine = [
            name
            for name in admin.list_topics(timeout=REQUEST_SECONDS).topics
            if name.startswith(self.prefix)
        ]
        for future in (
            admin.delete_topics(mine, request_timeout=REQUEST_SECONDS).values() if mine else ()
        ):
            future.result()

    def produce(
        self,
        topic: str,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: list[tuple[str, str | bytes | None]] | None = None,
        compression: str = "none",
    ) -> None:
        """Writes (key, value) pairs and waits for every acknowledgement.

        All have the same headers.
        """
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "delivery.timeout.ms": int(REQUEST_SECONDS * 1000),
                "message.max.bytes": 4_000_000,
                "compression.type": compression,
                "log_level": 3,
            }
        )
        errors: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                errors.append(error)

        for key, value in records:
            while True:
                try:
                    producer.produce(
                        self.name(topic), value, key, headers=headers or [], on_delivery=delivered
                    )
                    break
                except BufferError:  # librdkafka's queue is full: let acknowledgements come in
                    producer.poll(0.1)
            producer.poll(0)
        left = producer.flush(REQUEST_SECONDS)
        if errors or left:
            raise AssertionError(
                f"{left} records not acknowledged in time, {len(errors)} refused: {errors[:3]}"
            )

    def topics(self) -> list[str]:
        """The names of every topic with the prefix, those that Faust made too."""
        every = self.admin().list_topics(timeout=REQUEST_SECONDS).topics
        return sorted(name for name in every if name.startswith(self.prefix))

    def read(
        self, topic: str, seconds: float = 60.0, isolation: str = "read_committed"
    ) -> list[Found]:
        """Every record up to the present end, ordered by partition and offset.

        Raises AssertionError when the end is not reached within `seconds`, KafkaException when the
        topic is not there.
        """
        name = self.name(topic)
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.prefix}test-reader",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": isolation,
                # The end of a partition may be a transaction's marker or a compacted hole, which is
                # no record.
                "enable.partition.eof": True,
                "log_level": 3,
            }
        )
        found: list[Found] = []
        ends = time.monotonic() + seconds
        try:
            metadata = consumer.list_topics(name, timeout=REQUEST_SECONDS).topics[name]
            if metadata.error is not None:
                raise KafkaException(metadata.error)
            partitions = [TopicPartition(name, number) for number in metadata.partitions]
            high = {each.partition: _ends_of(consumer, each, ends) for each in partitions}
            reading = {number for number, (low, end) in high.items() if end > low}
            consumer.assign([TopicPartition(name, number, high[number][0]) for number in reading])
            while reading:
                if time.monotonic() > ends:
                    raise AssertionError(
                        f"{name} was not read to its end within {seconds:.0f} s: "
                        f"{len(found)} records"
                    )
                for message in consumer.consume(1000, 0.1):
                    error, partition = message.error(), message.partition()
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    offset = message.offset()
                    assert partition is not None
                    assert offset is not None
                    if error is None:
                        found.append(_found(message, partition, offset))
                    if error is not None or offset + 1 >= high[partition][1]:
                        reading.discard(partition)
        finally:
            consumer.close()
        return sorted(found, key=lambda each: (each.partition, each.offset))

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The committed offset of each partition; -1001 without a commit.

        Raises KafkaException while no coordinator answers.
        """
        observer = GroupObserver(self, group, topic)
        try:
            return observer.committed()
        finally:
            observer.close()


class GroupObserver:
    """Reads the committed offsets of a group and the end of a topic, repeatedly with one client.

    It is a consumer because the admin client's list_offsets takes three seconds now and then.
    """

    def __init__(self, kafka: Kafka, group: str, topic: str) -> None:
        self._topic = kafka.name(topic)
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "group.id": group,
                # The end of the log: a transaction is acknowledged a moment before readers of what
                # is committed may pass it.
                "isolation.level": "read_uncommitted",
                "log_level": 3,
            }
        )
        self._partitions: list[TopicPartition] = []

    def committed(self) -> dict[int, int]:
        """As `Kafka.committed`.

        It avoids AdminClient.list_consumer_group_offsets, which crashes the process when the
        coordinator moved (librdkafka issue 5040).
        """
        if not self._partitions:
            found = (
                self._consumer.list_topics(self._topic, timeout=REQUEST_SECONDS)
                .topics[self._topic]
                .partitions
            )
            self._partitions = [TopicPartition(self._topic, number) for number in found]
        asked = self._consumer.committed(self._partitions, timeout=REQUEST_SECONDS)
        return {each.partition: each.offset for each in asked}

    def end(self, partition: int = 0) -> int:
        """The end of a partition. Raises KafkaException when the broker does not answer in time."""
        _, end = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, partition), timeout=REQUEST_SECONDS
        )
        return int(end)

    def close(self) -> None:
        """Closes the client."""
        self._consumer.close()


def _found(message: Message, partition: int, offset: int) -> Found:
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Found(
        partition=partition,
        offset=offset,
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers={name: _bytes(value) or b"" for name, value in pairs},
        timestamp_ms=message.timestamp()[1],
    )


def _bytes(value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode()
