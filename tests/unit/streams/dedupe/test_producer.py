"""Dedupe's producer: every record of a batch is acknowledged, or the process ends."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.dedupe.producer import AcknowledgedProducer
from streams.runtime.exit_codes import ExitCode
from tests.support.death import Died, die

FATAL = KafkaError(KafkaError._FATAL, "sequence lost", fatal=True)


@dataclass
class FakeProducer:
    """Holds up to `room` unacknowledged records.

    A flush leaves `left` of them, or reports a failure.
    """

    config: dict[str, Any]
    produced: list[Any] = field(default_factory=list)
    left: int = 0
    fail: bool = False
    room: int = 100
    acknowledged: int = 0
    fatal_at: str = ""

    def produce(self, *record: Any, **_: Any) -> None:
        if self.fatal_at == "produce":
            raise KafkaException(FATAL)
        if len(self.produced) - self.acknowledged >= self.room:
            raise BufferError("Local: Queue full")
        self.produced.append(record)

    def flush(self, seconds: float) -> int:
        if self.fatal_at == "flush":
            raise KafkaException(FATAL)
        if self.fatal_at == "report":
            self.config["on_delivery"](FATAL, None)
        self.acknowledged = len(self.produced) - self.left
        if self.fail:
            self.config["on_delivery"](KafkaError(KafkaError._MSG_TIMED_OUT), None)
        return self.left


@dataclass
class Wired:
    """A producer of the stage around a fake one."""

    stage: AcknowledgedProducer
    fake: FakeProducer


def wire(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[], None] = lambda: None, **fake: Any
) -> Wired:
    made: list[FakeProducer] = []

    def make(config: dict[str, Any]) -> FakeProducer:
        made.append(FakeProducer(config, **fake))
        return made[0]

    monkeypatch.setattr("streams.dedupe.producer.Producer", make)
    return Wired(AcknowledgedProducer({}, 1.0, check, die), made[0])


@pytest.mark.parametrize(
    ("left", "fail", "dies"), [(0, False, False), (1, False, True), (0, True, True)]
)
def test_a_record_without_an_acknowledgement_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, left: int, fail: bool, dies: bool
) -> None:
    producer = wire(monkeypatch, left=left, fail=fail).stage
    outputs: list[Any] = [("t", b"v", b"k", [])]
    if not dies:
        producer.publish(outputs)
        producer.publish_to("t", 0, {b"k": b"v"})
        return
    with pytest.raises(Died) as died:
        producer.publish(outputs)
    assert died.value.args[0] is ExitCode.NOT_ACKNOWLEDGED
    with pytest.raises(Died):
        producer.publish_to("t", 0, {b"k": b"v"})


@pytest.mark.parametrize("fatal_at", ["produce", "flush", "report"])
def test_a_fatal_error_of_the_producer_ends_the_process_as_refused_by_kafka(
    monkeypatch: pytest.MonkeyPatch, fatal_at: str
) -> None:
    producer = wire(monkeypatch, fatal_at=fatal_at).stage
    with pytest.raises(Died) as died:
        producer.publish([("t", b"v", b"k", [])])
    assert died.value.args[0] is ExitCode.KAFKA_REFUSED
    assert "sequence lost" in died.value.args[1]


def test_a_batch_larger_than_the_producers_queue_is_published_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wired = wire(monkeypatch, room=2)
    outputs: list[Any] = [("t", b"v%d" % number, b"k", []) for number in range(5)]
    wired.stage.publish(outputs)
    assert [value for _, value, _ in wired.fake.produced] == [value for _, value, _, _ in outputs]
    wired.stage.publish_to("t", 0, {b"k%d" % number: b"v" for number in range(5)})
    assert wired.fake.acknowledged == len(wired.fake.produced) == 10


def test_a_part_of_a_batch_without_an_acknowledgement_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wired = wire(monkeypatch, room=2, left=1)
    outputs: list[Any] = [("t", b"v", b"k", [])] * 5
    with pytest.raises(Died) as died:
        wired.stage.publish(outputs)
    assert died.value.args[0] is ExitCode.NOT_ACKNOWLEDGED
    assert len(wired.fake.produced) == 2


def test_the_fence_is_checked_before_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = 2

    def check() -> None:
        if len(wired.fake.produced) == allowed:
            raise Died

    wired = wire(monkeypatch, check)
    outputs: list[Any] = [("t", b"v", b"k", [])] * 3
    with pytest.raises(Died):
        wired.stage.publish(outputs)
    assert len(wired.fake.produced) == allowed
