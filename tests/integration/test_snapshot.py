"""A topic is read to its end: from its start, an offset, a moment, or only its tail."""

import pytest
from confluent_kafka import KafkaException, TopicPartition

from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.snapshot import FETCH_BYTES, read_to_end
from streams.settings import KafkaSettings, load
from tests.support.kafka import Kafka

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(
    ("last", "expected"), [(None, range(50)), (10, range(40, 50)), (1000, range(50))]
)
def test_a_topic_is_read_to_its_end_whole_or_only_its_tail(
    kafka: Kafka, last: int | None, expected: range
) -> None:
    kafka.create("contacts.outcomes")
    kafka.produce("contacts.outcomes", [(b"k%d" % number, b"%d" % number) for number in range(50)])
    found = read_to_end(
        load(KafkaSettings, kafka.environ), kafka.name("contacts.outcomes"), last=last
    )
    assert [int(record.value or b"") for record in found] == list(expected)


def test_an_empty_topic_is_read_at_once(kafka: Kafka) -> None:
    kafka.create("contacts.outcomes")
    assert (
        list(
            read_to_end(
                load(KafkaSettings, kafka.environ), kafka.name("contacts.outcomes"), last=10
            )
        )
        == []
    )


def test_a_topic_is_read_from_an_offset_or_from_its_start_if_that_has_expired(kafka: Kafka) -> None:
    name = kafka.create("contacts.changes")
    kafka.produce("contacts.changes", [(b"k%d" % number, b"") for number in range(50)])
    settings = load(KafkaSettings, kafka.environ)
    assert [record.offset for record in read_to_end(settings, name, offset=30)] == list(
        range(30, 50)
    )
    # In a variable, because a client that is garbage-collected ends its requests.
    admin = kafka.admin()
    for future in admin.delete_records([TopicPartition(name, 0, 20)]).values():
        future.result()
    assert [record.offset for record in read_to_end(settings, name)] == list(range(20, 50))


def test_a_record_larger_than_one_fetch_is_read(
    kafka: Kafka,
) -> None:
    kafka.create("contacts.changes", config={"max.message.bytes": str(MAX_MESSAGE_BYTES)})
    large = bytes(MAX_MESSAGE_BYTES - 1000)
    kafka.produce("contacts.changes", [(b"a", b"1"), (b"b", large), (b"c", b"2")])
    found = read_to_end(load(KafkaSettings, kafka.environ), kafka.name("contacts.changes"))
    assert [len(record.value or b"") for record in found] == [1, len(large), 1]
    assert len(large) > FETCH_BYTES


@pytest.mark.parametrize(("times", "after_the_last"), [("LogAppendTime", 0), ("CreateTime", 20)])
def test_every_partition_is_read_from_a_moment_or_whole_if_its_times_are_the_producers(
    kafka: Kafka, times: str, after_the_last: int
) -> None:
    name = kafka.create("contacts.changes", 3, {"message.timestamp.type": times})
    settings = load(KafkaSettings, kafka.environ)
    kafka.produce("contacts.changes", [(b"k%d" % number, b"") for number in range(20)])
    found = list(read_to_end(settings, name, since=0.0, within=30.0))
    assert {record.key for record in found} == {b"k%d" % number for number in range(20)}
    moment = max(record.timestamp_ms for record in found) / 1000 + 1
    assert len(list(read_to_end(settings, name, since=moment, within=30.0))) == after_the_last


def test_a_topic_that_does_not_exist_cannot_be_read_from_a_moment(kafka: Kafka) -> None:
    settings = load(KafkaSettings, kafka.environ)
    with pytest.raises(KafkaException):
        list(read_to_end(settings, kafka.name("nowhere"), since=0.0))
