"""The publisher answers every caller, also when its producer or its thread cannot go on."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka.publisher import (
    DELIVERY_MARGIN_SECONDS,
    BatchTooLarge,
    Publisher,
    PublishFailed,
)
from streams.kafka.records import KafkaRecord
from tests.support.death import Clock
from tests.support.waiting import until

RECORD = KafkaRecord("contacts.outcomes", b"g/ada", b"{}", [])
# Far more than anything here takes.
DEADLINE = 10.0


class FakeMessage:
    """A message as a delivery report has it."""

    def __init__(self, topic: str, value: bytes, key: bytes) -> None:
        self._topic, self._value, self._key = topic, value, key

    def topic(self) -> str:
        return self._topic

    def value(self) -> bytes:
        return self._value

    def key(self) -> bytes:
        return self._key


class FakeProducer:
    """Acknowledges what it is given while `answers` is set; the next poll raises `raises`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.answers = True
        self.raises: BaseException | None = None
        self.refuses: KafkaError | None = None
        self.reports: list[Callable[[], None]] = []
        self.produced: list[Any] = []
        self.batch = 0  # records of the last poll
        self._lock = threading.Lock()

    def produce(
        self, topic: str, value: bytes, key: bytes, headers: Any, on_delivery: Callable[..., None]
    ) -> None:
        if self.refuses is not None:
            raise KafkaException(self.refuses)
        message = FakeMessage(topic, value, key)
        self.produced.append((topic, value, key))
        with self._lock:
            self.reports.append(lambda: on_delivery(self.verdict(message), message))

    def verdict(self, message: FakeMessage) -> KafkaError | None:
        return None

    def poll(self, seconds: float) -> int:
        threading.Event().wait(0.001)
        if self.raises is not None:
            raise self.raises
        if not self.answers:
            return 0
        with self._lock:
            reports, self.reports = self.reports, []
        self.batch = len(reports)
        for report in reports:
            report()
        return len(reports)

    def flush(self, seconds: float) -> int:
        self.poll(0)
        return len(self.reports)

    def __len__(self) -> int:
        return len(self.reports)


@asynccontextmanager
async def publishing(
    monkeypatch: pytest.MonkeyPatch, make: type[FakeProducer] = FakeProducer
) -> AsyncIterator[tuple[Publisher, FakeProducer]]:
    made: list[FakeProducer] = []

    def producer(config: dict[str, Any]) -> FakeProducer:
        made.append(make(config))
        return made[-1]

    monkeypatch.setattr("streams.kafka.publisher.Producer", producer)
    monkeypatch.setattr("streams.kafka.sizes.Producer", producer)
    publisher = Publisher({"delivery.timeout.ms": 30_000})
    publisher.open()
    try:
        yield publisher, made[0]
    finally:
        await publisher.close(1.0)


def fatal() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._FATAL, "sequence lost", fatal=True))


@pytest.mark.parametrize("error", [fatal(), RuntimeError("a bug"), SystemExit(1)])
async def test_a_publisher_whose_thread_ends_by_an_error_answers_every_caller(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async with publishing(monkeypatch) as (publisher, producer):
        producer.answers = False
        waiting = [asyncio.create_task(publisher.publish([RECORD])) for _ in range(3)]
        await asyncio.sleep(0)
        producer.raises = error
        for task in waiting:
            with pytest.raises(PublishFailed) as raised:
                await asyncio.wait_for(task, DEADLINE)
            assert raised.value.fatal
        await asyncio.wait_for(publisher.failed.wait(), DEADLINE)
        assert publisher.failure is not None
        with pytest.raises(PublishFailed) as raised:
            await asyncio.wait_for(publisher.publish([RECORD]), DEADLINE)
        assert raised.value.fatal
        assert producer.produced == [(RECORD.topic, RECORD.value, RECORD.key)] * 3


async def test_a_fatal_delivery_report_fails_the_publisher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fatal(FakeProducer):
        def verdict(self, message: FakeMessage) -> KafkaError | None:
            return KafkaError(KafkaError._FATAL, "sequence lost", fatal=True)

    async with publishing(monkeypatch, Fatal) as (publisher, _):
        with pytest.raises(PublishFailed) as raised:
            await asyncio.wait_for(publisher.publish([RECORD]), DEADLINE)
        assert raised.value.fatal
        assert publisher.failed.is_set()


async def test_a_producer_that_takes_no_more_records_fails_the_publisher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with publishing(monkeypatch) as (publisher, producer):
        producer.refuses = KafkaError(KafkaError._FATAL, "sequence lost", fatal=True)
        with pytest.raises(PublishFailed, match="sequence lost") as raised:
            await asyncio.wait_for(publisher.publish([RECORD]), DEADLINE)
        assert raised.value.fatal
        assert publisher.failed.is_set()


async def test_a_record_that_is_not_acknowledged_in_time_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(FakeProducer):
        def verdict(self, message: FakeMessage) -> KafkaError | None:
            return KafkaError(KafkaError._MSG_TIMED_OUT) if message.key() == b"slow" else None

    async with publishing(monkeypatch, Slow) as (publisher, _):
        slow = KafkaRecord("contacts.outcomes", b"slow", b"{}", [])
        with pytest.raises(PublishFailed) as raised:
            await asyncio.wait_for(publisher.publish([RECORD, slow]), DEADLINE)
        assert not raised.value.fatal
        await asyncio.wait_for(publisher.publish([RECORD]), DEADLINE)
        assert not publisher.failed.is_set()


class Limited(FakeProducer):
    """A broker that takes batches of up to LIMIT bytes.

    The usual producer sends all that a poll finds in one batch, the others a record a batch.
    """

    LIMIT = 100

    def verdict(self, message: FakeMessage) -> KafkaError | None:
        sizes = [len(value) for _, value, _ in self.produced[-self.batch :]]
        size = len(message.value()) if "batch.size" in self.config else sum(sizes)
        return KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if size > self.LIMIT else None


def records(*sizes: int) -> list[KafkaRecord]:
    return [
        KafkaRecord("contacts.outcomes", b"g/%d" % number, b"x" * size, [])
        for number, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("sizes", [(60, 60, 60), (100,), (99, 100)])
async def test_a_batch_that_is_refused_as_too_large_is_split(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    monkeypatch.setattr("streams.kafka.sizes.topic_limit", lambda _config, _topic: 100)
    async with publishing(monkeypatch, Limited) as (publisher, usual):
        await asyncio.wait_for(publisher.publish(records(*sizes)), DEADLINE)
        before = len(usual.produced)
        await asyncio.wait_for(publisher.publish(records(*sizes)), DEADLINE)
        refused = sum(sizes) > Limited.LIMIT
        assert (len(usual.produced) == before) == refused, "no batch is refused twice"


async def test_groups_in_flight_that_are_refused_together_are_all_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.kafka.sizes.topic_limit", lambda _config, _topic: 100)
    async with publishing(monkeypatch, Limited) as (publisher, usual):
        usual.answers = False
        groups = [asyncio.create_task(publisher.publish(records(60))) for _ in range(3)]
        await asyncio.sleep(0)
        usual.answers = True
        await asyncio.wait_for(asyncio.gather(*groups), DEADLINE)


async def test_a_record_that_is_too_large_by_itself_is_refused_with_its_topic_and_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.kafka.sizes.topic_limit", lambda _config, _topic: 100)
    async with publishing(monkeypatch, Limited) as (publisher, _):
        with pytest.raises(PublishFailed) as raised:
            await asyncio.wait_for(publisher.publish(records(60, 101)), DEADLINE)
    assert raised.value.permanent
    assert "contacts.outcomes refuses a record of 104 bytes" in str(raised.value)
    assert "max.message.bytes is 100" in str(raised.value)
    assert "contactstream topics check" in str(raised.value)


async def test_a_record_without_any_answer_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    async with publishing(monkeypatch) as (publisher, producer):
        clock = Clock()
        monkeypatch.setattr(publisher.in_flight, "_clock", clock)
        producer.answers = False
        task = asyncio.create_task(publisher.publish([RECORD]))
        await asyncio.sleep(0)
        clock.now += 30.0
        assert not publisher.in_flight.overdue, "the producer has its delivery time-out"
        clock.now += DELIVERY_MARGIN_SECONDS + 1
        assert publisher.in_flight.overdue
        producer.answers = True
        await asyncio.wait_for(task, DEADLINE)
        assert not publisher.in_flight.overdue


def named(key: bytes) -> KafkaRecord:
    return KafkaRecord("contacts.events", key, b"{}", [])


async def all_done(futures: list[asyncio.Future[None]]) -> list[BaseException | None]:
    """What each future raised."""
    await asyncio.wait_for(asyncio.wait(futures), DEADLINE)
    return [future.exception() for future in futures]


async def test_records_that_come_while_others_are_in_flight_are_given_to_the_producer_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.kafka.publisher.GATHER_SECONDS", DEADLINE)
    async with publishing(monkeypatch) as (publisher, producer):
        producer.answers = False
        early = [publisher.send(named(b"g/1")), publisher.send(named(b"g/2"))]
        await until(lambda: len(producer.produced) == 2, "the first two are with the producer")
        late = [publisher.send(named(b"g/3")), publisher.send(named(b"g/4"))]
        await asyncio.sleep(0)
        assert len(producer.produced) == 2, "the others wait for the acknowledgement"
        producer.answers = True
        assert await all_done([*early, *late]) == [None] * 4
    assert [key for _, _, key in producer.produced] == [b"g/1", b"g/2", b"g/3", b"g/4"]


async def test_records_without_an_acknowledgement_hold_back_the_others_for_a_short_time_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Leaderless(FakeProducer):
        def produce(self, topic: str, value: bytes, key: bytes, *_: Any, **more: Any) -> None:
            if key == b"leaderless":
                self.produced.append((topic, value, key))  # never reported
            else:
                super().produce(topic, value, key, **more)

    async with publishing(monkeypatch, Leaderless) as (publisher, producer):
        stuck = publisher.send(named(b"leaderless"))
        await until(lambda: len(producer.produced) == 1, "it is with the producer")
        assert await all_done([publisher.send(named(b"g/1"))]) == [None]
        assert not stuck.done()


async def test_a_record_that_nobody_waits_for_any_more_is_not_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with publishing(monkeypatch) as (publisher, producer):
        given_up, other = publisher.send(named(b"g/1")), publisher.send(named(b"g/2"))
        given_up.cancel()
        assert await all_done([other]) == [None]
    assert [key for _, _, key in producer.produced] == [b"g/2"]


async def test_of_records_that_were_gathered_only_the_one_that_is_not_acknowledged_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(FakeProducer):
        def verdict(self, message: FakeMessage) -> KafkaError | None:
            return KafkaError(KafkaError._MSG_TIMED_OUT) if message.key() == b"slow" else None

    async with publishing(monkeypatch, Slow) as (publisher, _):
        first, slow, last = await all_done(
            [publisher.send(named(key)) for key in (b"g/1", b"slow", b"g/2")]
        )
        assert (first, last) == (None, None)
        assert isinstance(slow, PublishFailed)
        assert not slow.fatal
        assert not publisher.in_flight.overdue


async def test_a_gathered_batch_that_is_refused_as_too_large_is_split_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.kafka.sizes.topic_limit", lambda _config, _topic: 100)
    async with publishing(monkeypatch, Limited) as (publisher, _):
        for refused in await all_done([publisher.send(record) for record in records(60, 60)]):
            assert isinstance(refused, BatchTooLarge)
            await asyncio.wait_for(publisher.send_refused(records(60)[0], refused), DEADLINE)
        assert await all_done([publisher.send(record) for record in records(60, 60)]) == [None] * 2


@pytest.mark.parametrize("when", ["gathered", "with the producer"])
async def test_a_producer_that_fails_for_good_answers_whoever_sent_a_record(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr("streams.kafka.publisher.GATHER_SECONDS", DEADLINE)
    async with publishing(monkeypatch) as (publisher, producer):
        producer.answers = False
        sent = [publisher.send(named(b"g/1"))]
        await until(lambda: len(producer.produced) == 1, "it is with the producer")
        if when == "gathered":
            sent.append(publisher.send(named(b"g/2")))
        producer.raises = fatal()
        for failure in await all_done(sent):
            assert isinstance(failure, PublishFailed)
            assert failure.fatal
        (later,) = await all_done([publisher.send(named(b"g/3"))])
        assert isinstance(later, PublishFailed)
        assert later.fatal


async def test_a_record_that_the_producer_refuses_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with publishing(monkeypatch) as (publisher, producer):
        producer.refuses = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
        (failure,) = await all_done([publisher.send(named(b"g/1"))])
        assert isinstance(failure, PublishFailed)
        assert failure.permanent
        producer.refuses = None
        assert await all_done([publisher.send(named(b"g/2"))]) == [None]


async def test_a_gathered_record_that_is_too_large_by_itself_is_refused_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.kafka.sizes.topic_limit", lambda _config, _topic: 100)
    async with publishing(monkeypatch, Limited) as (publisher, _):
        (record,) = records(101)
        (refused,) = await all_done([publisher.send(record)])
        assert isinstance(refused, BatchTooLarge)
        with pytest.raises(PublishFailed, match=r"max\.message\.bytes is 100") as raised:
            await asyncio.wait_for(publisher.send_refused(record, refused), DEADLINE)
        assert raised.value.permanent
