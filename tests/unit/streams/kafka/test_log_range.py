"""What is asked again when a broker does not know the offsets of a partition yet."""

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.kafka import log_range
from streams.kafka.log_range import offset_range

PARTITION = TopicPartition("contacts.changes", 0)


class AnsweringConsumer:
    """Answers requests for offsets with these errors first, and then with the offsets 3 and 7."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked_metadata = 0

    def get_watermark_offsets(self, _partition: TopicPartition, timeout: float) -> tuple[int, int]:
        if self.codes:
            raise KafkaException(KafkaError(self.codes.pop(0)))
        return 3, 7

    def list_topics(self, _topic: str, timeout: float) -> None:
        self.asked_metadata += 1


def found(consumer: AnsweringConsumer, seconds: float = 10.0) -> tuple[int, int]:
    return offset_range(cast(Consumer, consumer), PARTITION, seconds)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_range, "LEADER_RETRY_SECONDS", 0.0)


def test_a_partition_that_has_no_leader_yet_is_asked_for_again() -> None:
    consumer = AnsweringConsumer(
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    )
    assert found(consumer) == (3, 7)
    assert consumer.asked_metadata == 3


@pytest.mark.parametrize(
    ("codes", "seconds"),
    [
        ([KafkaError._UNKNOWN_PARTITION] * 2, 10.0),
        ([KafkaError.NOT_LEADER_FOR_PARTITION], 0.0),
        ([KafkaError._TRANSPORT], 10.0),
    ],
    ids=["no such partition", "no leader in time", "no broker"],
)
def test_what_another_request_does_not_mend_is_raised(codes: list[int], seconds: float) -> None:
    with pytest.raises(KafkaException) as raised:
        found(AnsweringConsumer(*codes), seconds)
    assert raised.value.args[0].code() == codes[-1]
