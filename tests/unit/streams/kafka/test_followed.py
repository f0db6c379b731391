"""A topic that is followed: every record is taken in order, and its end is known."""

import asyncio

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka import followed
from streams.kafka.followed import FollowedTopic
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled
from streams.settings import KafkaSettings, load


class FakePartition:
    """Stands for AssignedPartition: `log` holds the values, some of which a test adds later."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.position = 0
        self.lost = False
        self.failure: Exception | None = None
        self.starts = 0
        self.at_end = False

    async def __aenter__(self) -> "FakePartition":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def start(self, *, from_beginning: bool) -> bool:
        assert from_beginning
        self.starts += 1
        return False

    async def start_over(self) -> None:
        self.position, self.lost = 0, False
        self.starts += 1

    async def end(self) -> int:
        if self.failure is not None:
            raise self.failure
        return len(self.log)

    async def consume(self) -> list[KafkaRecord]:
        await asyncio.sleep(0)
        if self.lost:
            raise OffsetOutOfRange("t[0]")
        if self.failure is not None:
            raise self.failure
        new = [
            KafkaRecord("t", b"k", value, [], 0, offset)
            for offset, value in enumerate(self.log)
            if offset >= self.position
        ][:2]
        self.position += len(new)
        self.at_end = self.position == len(self.log)
        return new


@pytest.fixture
def partition(monkeypatch: pytest.MonkeyPatch) -> FakePartition:
    fake = FakePartition()
    monkeypatch.setattr(followed, "AssignedPartition", lambda *_: fake)
    return fake


async def test_what_is_there_is_taken_and_then_what_is_added(partition: FakePartition) -> None:
    partition.log = [b"1", b"2", b"3"]
    taken: list[bytes | None] = []
    topic = FollowedTopic(load(KafkaSettings, {}), "t", "g", lambda one: taken.append(one.value))
    with pytest.raises(SnapshotStalled):
        await topic.catch_up(0.01)  # nobody reads it
    running = asyncio.create_task(topic.run())
    await asyncio.wait_for(topic.caught_up.wait(), 5)
    assert taken == [b"1", b"2", b"3"]
    partition.log.append(b"4")
    await topic.catch_up(5)
    assert taken[3:] == [b"4"]
    partition.lost = True
    await asyncio.sleep(0)
    while len(taken) < 8:
        await asyncio.sleep(0)
    assert taken[4:] == [b"1", b"2", b"3", b"4"], "what the log holds is read again"
    running.cancel()


async def test_an_error_that_no_retry_helps_against_ends_it(partition: FakePartition) -> None:
    topic = FollowedTopic(load(KafkaSettings, {}), "t", "g", lambda _: None)
    running = asyncio.create_task(topic.run())
    await topic.catch_up(5)
    partition.failure = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(KafkaException):
        await topic.catch_up(5)
    with pytest.raises(KafkaException):
        await running
