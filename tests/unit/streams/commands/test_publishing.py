"""A command whose record is not written says why, and what to do about it."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.commands import publishing
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings, load

KAFKA = load(KafkaSettings, {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"})
RECORD = KafkaRecord("reader.runs", b"k", b"v", [])


class ReportingProducer:
    """Reports this error for each record, or nothing at all within the time."""

    error: KafkaError | None = None
    silent = False

    def __init__(self, _config: Any) -> None:
        self.asked = False

    def list_topics(self, _topic: str, timeout: float) -> None:
        self.asked = True
        if self.silent:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def produce(
        self, *_: Any, on_delivery: Callable[[KafkaError | None, Any], None], **__: Any
    ) -> None:
        assert self.asked, "not connected: the record waits for half a second"
        if not self.silent:
            on_delivery(self.error, None)

    def poll(self, _seconds: float) -> int:
        return 0

    def flush(self, _seconds: float) -> int:
        return int(self.silent)


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> type[ReportingProducer]:
    class Producer(ReportingProducer): ...

    monkeypatch.setattr(publishing, "Producer", Producer)
    return Producer


def said() -> str:
    with CommandPublisher(KAFKA) as publisher, pytest.raises(NotAcknowledged) as raised:
        publisher.publish([RECORD])
    return str(raised.value)


def test_a_record_that_is_acknowledged_is_no_error(producer: type[ReportingProducer]) -> None:
    with CommandPublisher(KAFKA) as publisher:
        publisher.publish([RECORD])


def test_a_topic_that_our_user_may_not_write_to_is_named_with_the_acls(
    producer: type[ReportingProducer],
) -> None:
    producer.error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not allowed")
    assert said().startswith(
        "reader.runs was not written: not allowed; our user needs what this prints: "
        "contactstream topics acls "
    )


def test_a_broker_that_does_not_answer_is_named(producer: type[ReportingProducer]) -> None:
    producer.silent = True
    assert said().startswith("reader.runs was not written: no answer within 30 s; check that")
    assert said().endswith("kafka:9092 runs")
