"""Dedupe's producer: every record of a batch is acknowledged, or the process ends."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.dedupe.fence import ELECTION_SECONDS
from streams.dedupe.producer import AcknowledgedProducer
from streams.runtime.exit_codes import ExitCode
from tests.support.death import Clock, Died, die

CLOCK = Clock()
ATTEMPT_SECONDS = 5.0  # until a record counts as not acknowledged
FATAL = KafkaError(KafkaError._FATAL, "sequence lost", fatal=True)


@dataclass(frozen=True)
class Refused:
    """A message as a delivery report has it."""

    of: str
    body: bytes
    name: bytes

    def topic(self) -> str:
        return self.of

    def value(self) -> bytes:
        return self.body

    def key(self) -> bytes:
        return self.name


@dataclass
class FakeProducer:
    """Holds up to `room` unacknowledged records.

    A flush leaves `left` of them, or reports a failure.
    """

    config: dict[str, Any]
    produced: list[Any] = field(default_factory=list)
    left: int = 0
    fail: bool = False
    times_out: int = 0
    """How many flushes report a record that was not acknowledged in time."""
    room: int = 100
    acknowledged: int = 0
    fatal_at: str = ""
    limit: int | None = None
    """The most values, in one batch, that the broker takes; a batch is all since the last flush."""
    stored: list[Any] = field(default_factory=list)

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
        batch = self.produced[self.acknowledged :]
        self.acknowledged = len(self.produced) - self.left
        alone = "batch.size" in self.config
        for part in [[record] for record in batch] if alone else [batch]:
            size = sum(len(record[1]) for record in part)
            if self.limit is None or size <= self.limit:
                self.stored += part
                continue
            for topic, value, key, *_ in part:
                error = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
                self.config["on_delivery"](error, Refused(topic, value, key))
        if self.fail:
            self.config["on_delivery"](KafkaError(KafkaError.NOT_ENOUGH_REPLICAS), None)
        if self.times_out > 0:
            self.times_out -= 1
            CLOCK.now += ATTEMPT_SECONDS
            self.config["on_delivery"](KafkaError(KafkaError._MSG_TIMED_OUT), None)
        return self.left


@dataclass
class Wired:
    """A producer of the stage around fake ones; the second makes small batches."""

    stage: AcknowledgedProducer
    made: list[FakeProducer]

    @property
    def fake(self) -> FakeProducer:
        return self.made[0]


def wire(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[], None] = lambda: None, **fake: Any
) -> Wired:
    made: list[FakeProducer] = []

    def make(config: dict[str, Any]) -> FakeProducer:
        made.append(FakeProducer(config, **fake))
        return made[-1]

    monkeypatch.setattr("streams.dedupe.producer.Producer", make)
    monkeypatch.setattr("streams.kafka.sizes.Producer", make)
    return Wired(AcknowledgedProducer({}, 1.0, check, die, CLOCK), made)


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


def test_a_topic_that_our_user_may_not_write_to_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = wire(monkeypatch).stage
    denied = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not allowed")
    producer._failed(denied, cast("Any", Refused("contacts.changes", b"v", b"k")))
    with pytest.raises(Died) as died:
        producer.publish([("contacts.changes", b"v", b"k", [])])
    code, reason = died.value.args
    assert code is ExitCode.KAFKA_REFUSED
    assert reason.startswith("contacts.changes: not allowed; our user needs what this prints")


def test_a_batch_without_an_acknowledgement_is_published_again_in_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1

    wired = wire(monkeypatch, check, times_out=3)
    outputs: list[Any] = [("t", b"v1", b"k", []), ("t", b"v2", b"k", [])]
    wired.stage.publish(outputs)
    assert [value for _, value, *_ in wired.fake.produced] == [b"v1", b"v2"] * 4
    assert checks == 8, "the partitions are those of this worker before every record"
    wired.stage.publish_to("t", 0, {b"k": b"v"})
    assert len(wired.fake.produced) == 9


def test_a_worker_without_an_acknowledgement_for_longer_than_an_election_ends_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wired = wire(monkeypatch, times_out=100)
    began = CLOCK.now
    with pytest.raises(Died) as died:
        wired.stage.publish([("t", b"v", b"k", [])])
    assert died.value.args[0] is ExitCode.NOT_ACKNOWLEDGED
    assert 0 < CLOCK.now - began - ELECTION_SECONDS <= ATTEMPT_SECONDS


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
    assert [value for _, value, *_ in wired.fake.produced] == [value for _, value, _, _ in outputs]
    wired.stage.publish_to("t", 0, {b"k%d" % number: b"v" for number in range(5)})
    assert wired.fake.acknowledged == len(wired.fake.produced) == 10


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((), [[]]),
        ((1, 1), [[1, 1]]),
        ((400_000, 400_000, 400_000), [[400_000, 400_000], [400_000]]),
        ((2_000_000, 1, 2_000_000), [[2_000_000], [1], [2_000_000]]),
    ],
)
def test_a_batch_is_published_in_parts_of_which_each_is_acknowledged_before_the_next(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], expected: list[list[int]]
) -> None:
    wired = wire(monkeypatch)
    flushed: list[list[int]] = []
    flush = wired.fake.flush

    def noted(seconds: float) -> int:
        flushed.append([len(each[1]) for each in wired.fake.produced[wired.fake.acknowledged :]])
        return flush(seconds)

    wired.fake.flush = noted  # type: ignore[method-assign]
    wired.stage.publish([("t", b"v" * size, b"k", []) for size in sizes])
    assert flushed == expected


def test_after_a_time_out_no_later_part_is_sent_before_the_earlier_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wired = wire(monkeypatch, times_out=1)
    values = [bytes([number]) * 500_000 for number in range(3)]
    wired.stage.publish([("t", value, b"k", []) for value in values])
    assert [value for _, value, *_ in wired.fake.produced] == [values[0], *values]


def test_a_batch_that_is_refused_as_too_large_is_split_and_keeps_the_order_of_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.kafka.sizes.topic_limit", lambda _config, _topic: 10)
    wired = wire(monkeypatch, limit=10, room=2)
    # Two batches of two: the second is small enough, and it has the newer value of a key.
    values = [b"a" * 6, b"b" * 6, b"c", b"d"]
    keys = [b"k1", b"k2", b"k1", b"k3"]
    wired.stage.publish([("t", value, key, []) for value, key in zip(values, keys, strict=True)])
    first, alone = wired.made
    stored = [(record[2], record[1]) for record in (*first.stored, *alone.stored)]
    assert dict(stored) == {b"k1": b"c", b"k2": b"b" * 6, b"k3": b"d"}
    wired.stage.publish_to("t", 0, {b"k4": b"e" * 9, b"k5": b"f" * 9})
    assert [record[2] for record in alone.stored[-2:]] == [b"k4", b"k5"]


def test_a_record_that_is_too_large_by_itself_ends_the_process_with_its_topic_and_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.kafka.sizes.topic_limit", lambda _config, _topic: 10)
    wired = wire(monkeypatch, limit=10)
    with pytest.raises(Died, match=r"t refuses a record of 12 bytes.*max.message.bytes is 10") as e:
        wired.stage.publish([("t", b"v" * 11, b"k", [])])
    assert e.value.args[0] is ExitCode.KAFKA_REFUSED


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
