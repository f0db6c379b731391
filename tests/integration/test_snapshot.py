"""A topic read to its end: whole, or only its tail."""

import pytest
from confluent_kafka import TopicPartition

from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.snapshot import FETCH_BYTES, read_to_end
from streams.settings import KafkaSettings, load
from tests.support.kafka import Kafka

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(
    ("last", "expected"), [(None, range(50)), (10, range(40, 50)), (1000, range(50))]
)
def test_a_topic_is_read_to_its_end_from_where_it_was_asked(
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


def test_a_topic_is_read_from_an_offset_and_from_its_start_when_that_is_gone(kafka: Kafka) -> None:
    name = kafka.create("contacts.changes")
    kafka.produce("contacts.changes", [(b"k%d" % number, b"") for number in range(50)])
    settings = load(KafkaSettings, kafka.environ)
    assert [record.offset for record in read_to_end(settings, name, offset=30)] == list(
        range(30, 50)
    )
    admin = (
        kafka.admin()
    )  # held until the answer is there: a client that is collected ends its requests
    for future in admin.delete_records([TopicPartition(name, 0, 20)]).values():
        future.result()
    assert [record.offset for record in read_to_end(settings, name)] == list(range(20, 50))


def test_a_record_that_is_larger_than_what_is_fetched_at_once_is_read_all_the_same(
    kafka: Kafka,
) -> None:
    kafka.create("contacts.changes", config={"max.message.bytes": str(MAX_MESSAGE_BYTES)})
    large = bytes(MAX_MESSAGE_BYTES - 1000)
    kafka.produce("contacts.changes", [(b"a", b"1"), (b"b", large), (b"c", b"2")])
    found = read_to_end(load(KafkaSettings, kafka.environ), kafka.name("contacts.changes"))
    assert [len(record.value or b"") for record in found] == [1, len(large), 1]
    assert len(large) > FETCH_BYTES
