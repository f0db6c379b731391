"""A refused group or topic never looks like a group without a commit, or like a slow broker."""

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka.committed import committed_of_group, committed_offsets

SECONDS = 1.0
WANTED = [TopicPartition("t", 0)]


class AskedConsumer:
    """Answers as librdkafka does: the reason of a time-out is an error that `consume` returns."""

    def __init__(
        self, answer: list[Any] | KafkaException, errors: tuple[KafkaError, ...] = ()
    ) -> None:
        self._answer, self._errors = answer, errors

    def committed(self, _partitions: list[TopicPartition], timeout: float) -> list[Any]:
        assert timeout == SECONDS
        if isinstance(self._answer, KafkaException):
            raise self._answer
        return self._answer

    def consume(self, _limit: int, _seconds: float) -> list[Any]:
        return [SimpleNamespace(error=lambda error=error: error) for error in self._errors]


def found(offset: int, error: KafkaError | None = None) -> Any:
    return SimpleNamespace(topic="t", partition=0, offset=offset, error=error)


def timed_out() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, "no offsets"))


def test_offsets_are_returned_as_they_are() -> None:
    consumer: Any = AskedConsumer([found(7)])
    assert [each.offset for each in committed_offsets(consumer, WANTED, SECONDS)] == [7]
    assert [each.offset for each in committed_of_group(consumer, "g", WANTED, SECONDS)] == [7]


def test_a_partition_that_is_refused_is_an_error_and_no_missing_commit() -> None:
    refusal = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not allowed")
    consumer: Any = AskedConsumer([found(-1001, refusal)])
    with pytest.raises(KafkaException, match="t: not allowed") as raised:
        committed_offsets(consumer, WANTED, SECONDS)
    assert raised.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_a_group_that_is_refused_is_named_instead_of_the_time_out() -> None:
    away = KafkaError(KafkaError._ALL_BROKERS_DOWN, "down")
    refusal = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "Group authorization failed")
    consumer: Any = AskedConsumer(timed_out(), (away, refusal))
    with pytest.raises(KafkaException, match="the group g: Group authorization failed") as raised:
        committed_of_group(consumer, "g", WANTED, SECONDS)
    assert raised.value.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    assert "contactstream topics acls" in raised.value.args[0].str()


def test_a_broker_that_is_away_stays_a_time_out() -> None:
    away = KafkaError(KafkaError._ALL_BROKERS_DOWN, "down")
    consumer: Any = AskedConsumer(timed_out(), (away,))
    with pytest.raises(KafkaException, match="no offsets"):
        committed_of_group(consumer, "g", WANTED, SECONDS)
