"""What each message of a consumer becomes: a record, the end of a partition, or an error."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka.assigned import AssignedPartition
from streams.kafka.polling import (
    GATHER_SECONDS,
    TOPIC_GONE_SECONDS,
    ConsumerErrors,
    EndOfPartition,
    OffsetOutOfRange,
    TopicReplaced,
    poll,
)
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings, load
from tests.support.death import Clock
from tests.support.fake_consumer import TIMESTAMP_MS, FakeConsumer, FakeMessage


def consumer(*answers: list[FakeMessage]) -> Any:
    return FakeConsumer(list(answers))


def fatal() -> KafkaError:
    return KafkaError(KafkaError._FENCED, "fenced", fatal=True)


def nothing() -> ConsumerErrors:
    def fails(_error: KafkaError) -> None:
        raise AssertionError("an error that is raised or yielded is not passed on as well")

    return ConsumerErrors(fails)


def test_a_message_becomes_a_record_in_the_order_of_the_client() -> None:
    fake = consumer([FakeMessage(7), FakeMessage(9)])
    found = list(poll(fake, 500, 0.3, nothing()))
    assert found == [
        KafkaRecord("t", b"k", b"v%d" % at, [("name", b"value")], 3, at, TIMESTAMP_MS)
        for at in (7, 9)
    ]
    assert fake.asked == [(1, 0.3), (499, GATHER_SECONDS)], "it waits for the first one only"


def test_a_poll_that_does_not_wait_is_one_call_of_the_client() -> None:
    fake = consumer([FakeMessage(7), FakeMessage(8), FakeMessage(9)])
    assert [event.offset for event in poll(fake, 2, 0.0, nothing())] == [7, 8]
    assert fake.asked == [(2, 0.0)]


def test_the_end_of_a_partition_is_yielded_with_its_place() -> None:
    end = FakeMessage(12, KafkaError(KafkaError._PARTITION_EOF))
    assert list(poll(consumer([end]), 1, 0.0, nothing())) == [EndOfPartition("t", 3, 12)]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (KafkaError(KafkaError._AUTO_OFFSET_RESET), OffsetOutOfRange),
        (KafkaError(KafkaError.OFFSET_OUT_OF_RANGE), OffsetOutOfRange),
        (KafkaError(KafkaError._LOG_TRUNCATION), OffsetOutOfRange),
        (KafkaError(KafkaError._AUTHENTICATION), KafkaException),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), KafkaException),
        (KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED), KafkaException),
        (fatal(), KafkaException),
    ],
    ids=lambda value: value.name() if isinstance(value, KafkaError) else None,
)
def test_records_before_an_error_are_yielded_before_it_is_raised(
    error: KafkaError, raised: type[Exception]
) -> None:
    events = poll(consumer([FakeMessage(7), FakeMessage(8, error)]), 500, 0.3, nothing())
    first = next(events)
    assert isinstance(first, KafkaRecord)
    assert first.offset == 7
    with pytest.raises(raised):
        next(events)


def test_an_offset_out_of_range_names_the_partition() -> None:
    error = KafkaError(KafkaError._AUTO_OFFSET_RESET, "no such offset")
    with pytest.raises(OffsetOutOfRange, match=r"t\[3\]: no such offset"):
        list(poll(consumer([FakeMessage(0, error)]), 500, 0.3, nothing()))


@pytest.mark.parametrize(
    "code",
    [KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError.NOT_LEADER_FOR_PARTITION],
)
def test_an_error_that_the_client_recovers_from_is_passed_on_and_reading_goes_on(code: int) -> None:
    passed: list[int] = []
    messages = [FakeMessage(7), FakeMessage(0, KafkaError(code)), FakeMessage(8)]
    errors = ConsumerErrors(lambda error: passed.append(error.code()))
    found = list(poll(consumer(messages), 500, 0.3, errors))
    assert [event.offset for event in found] == [7, 8]
    assert passed == [code]


UNKNOWN = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


def unknown_topic(
    clock: Clock, ends: dict[int, int], *more: list[FakeMessage]
) -> tuple[Any, ConsumerErrors, list[int]]:
    """A consumer that was told once that its topic is unknown; `ends` are its partitions now."""
    passed: list[int] = []
    errors = ConsumerErrors(lambda error: passed.append(error.code()), clock)
    fake: Any = FakeConsumer([[FakeMessage(0, UNKNOWN)], *more], ends)
    assert list(poll(fake, 500, 0.3, errors)) == []
    return fake, errors, passed


def test_a_topic_that_stays_unknown_ends_reading() -> None:
    clock = Clock()
    fake, errors, passed = unknown_topic(clock, {})
    assert passed == [KafkaError.UNKNOWN_TOPIC_OR_PART], "it is counted"
    clock.now += TOPIC_GONE_SECONDS - 1
    assert list(poll(fake, 500, 0.3, errors)) == []
    clock.now += 1
    with pytest.raises(TopicReplaced, match=r"the topic t was deleted.*topics create"):
        list(poll(fake, 500, 0.3, errors))


def test_a_topic_that_a_starting_broker_did_not_know_yet_ends_nothing() -> None:
    clock = Clock()
    fake, errors, _ = unknown_topic(clock, {0: 7}, [FakeMessage(7)])
    clock.now += TOPIC_GONE_SECONDS
    assert [event.offset for event in poll(fake, 500, 0.3, errors)] == [7]
    fake.ends.clear()
    clock.now += TOPIC_GONE_SECONDS
    assert list(poll(fake, 500, 0.3, errors)) == [], "only an error asks the broker again"


def test_a_broker_that_is_away_does_not_confirm_that_a_topic_is_gone() -> None:
    clock = Clock()
    fake, errors, _ = unknown_topic(clock, {})
    fake.away = True
    clock.now += TOPIC_GONE_SECONDS
    assert list(poll(fake, 500, 0.3, errors)) == []
    fake.away = False
    assert list(poll(fake, 500, 0.3, errors)) == []
    clock.now += TOPIC_GONE_SECONDS
    with pytest.raises(TopicReplaced):
        list(poll(fake, 500, 0.3, errors))


def assigned(monkeypatch: pytest.MonkeyPatch, *answers: list[FakeMessage]) -> AssignedPartition:
    """A partition whose client is a fake."""
    monkeypatch.setattr("streams.kafka.assigned.Consumer", lambda _config: consumer(*answers))
    return AssignedPartition(load(KafkaSettings, {}), "t", "group", lambda: None)


async def test_an_assigned_partition_returns_the_records_before_an_offset_out_of_range(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = FakeMessage(9, KafkaError(KafkaError._AUTO_OFFSET_RESET))
    first, second = [FakeMessage(7), FakeMessage(8), gone], [FakeMessage(99)]
    async with assigned(monkeypatch, first, second) as partition:
        assert [record.offset for record in await partition.consume()] == [7, 8]
        assert partition.position == 9
        for _ in range(2):
            with pytest.raises(OffsetOutOfRange):
                await partition.consume()
        assert partition.position == 9, "nothing is read before the caller starts over"


async def test_an_assigned_partition_returns_the_records_before_a_fatal_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with assigned(monkeypatch, [FakeMessage(7), FakeMessage(8, fatal())]) as partition:
        assert [record.offset for record in await partition.consume()] == [7]
        with pytest.raises(KafkaException):
            await partition.consume()


async def test_an_assigned_partition_notices_its_end_and_goes_on_after_a_passing_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = FakeMessage(8, KafkaError(KafkaError._PARTITION_EOF))
    away = FakeMessage(0, KafkaError(KafkaError._TRANSPORT))
    async with assigned(monkeypatch, [FakeMessage(7), away, end]) as partition:
        assert [record.offset for record in await partition.consume()] == [7]
        assert partition.at_end
        assert await partition.consume() == []
