"""A topic read to its end: whole, or only its tail."""

import pytest

from streams.settings import KafkaSettings, load
from streams.snapshot import read_all
from tests.support.kafka import Kafka

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(("last", "expected"), [(None, range(50)), (10, range(40, 50)), (1000, range(50))])
def test_a_topic_is_read_to_its_end_from_where_it_was_asked(kafka: Kafka, last: int | None, expected: range) -> None:
    kafka.create("contacts.outcomes")
    kafka.produce("contacts.outcomes", [(b"k%d" % number, b"%d" % number) for number in range(50)])
    found = read_all(load(KafkaSettings, kafka.environ), kafka.name("contacts.outcomes"), last)
    assert [int(record.value or b"") for record in found] == list(expected)


def test_an_empty_topic_is_read_at_once(kafka: Kafka) -> None:
    kafka.create("contacts.outcomes")
    assert list(read_all(load(KafkaSettings, kafka.environ), kafka.name("contacts.outcomes"), 10)) == []
