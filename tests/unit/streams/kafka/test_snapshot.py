"""Topics are read one at a time, to their end, and no consumer is left open."""

import asyncio
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka import snapshot
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import (
    OFFSET_TAIL,
    LogRange,
    Snapshots,
    SnapshotStalled,
    log_ranges,
    read_ranges,
    read_to_end,
)
from streams.settings import KafkaSettings, load
from tests.support.fake_consumer import FakeConsumer, FakeMessage
from tests.support.waiting import until


class Topic:
    """Stands for `read_to_end`: counts the readers now and at most, and what each one took."""

    def __init__(self, records: int) -> None:
        self.records, self.open, self.most = records, 0, 0
        self.taken: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, _kafka: KafkaSettings, topic: str, **_since: Any) -> Iterator[KafkaRecord]:
        taken = 0
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        try:
            for offset in range(self.records):
                taken += 1
                yield KafkaRecord(topic, b"k", b"", [], 0, offset)
        finally:
            with self.lock:
                self.open -= 1
                self.taken.append(taken)


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    made = Topic(20_000)
    monkeypatch.setattr(snapshot, "read_to_end", made)
    return made


async def test_topics_are_read_one_at_a_time(topic: Topic) -> None:
    async with Snapshots(load(KafkaSettings, {})) as snapshots:
        counts = await asyncio.gather(
            *(snapshots.read("t", lambda records: sum(1 for _ in records)) for _ in range(8))
        )
    assert counts == [20_000] * 8
    assert topic.most == 1


async def test_a_reader_that_stops_early_leaves_no_consumer_open(topic: Topic) -> None:
    kept: list[Iterator[KafkaRecord]] = []

    def some(records: Iterator[KafkaRecord]) -> int:
        kept.append(records)  # otherwise the garbage collector would close it
        return len(list(islice(records, 3)))

    async with Snapshots(load(KafkaSettings, {})) as snapshots:
        assert await snapshots.read("t", some) == 3
        assert (topic.open, topic.taken) == (0, [3])


def record(partition: int, offset: int) -> FakeMessage:
    return FakeMessage(offset, of=partition)


def end(partition: int, offset: int) -> FakeMessage:
    return FakeMessage(offset, KafkaError(KafkaError._PARTITION_EOF), partition)


def use(monkeypatch: pytest.MonkeyPatch, fake: FakeConsumer) -> KafkaSettings:
    monkeypatch.setattr(snapshot, "Consumer", lambda _config: fake)
    return load(KafkaSettings, {})


@pytest.mark.parametrize(
    ("start", "assigned"),
    [({}, 0), ({"offset": 30}, 30), ({"last": 10}, OFFSET_TAIL - 10)],
)
def test_partition_0_is_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, start: dict[str, Any], assigned: int
) -> None:
    fake = FakeConsumer([[record(0, 7), record(0, 8)], [record(0, 9), end(0, 10), record(0, 10)]])
    kafka = use(monkeypatch, fake)
    assert [each.offset for each in read_to_end(kafka, "t", **start)] == [7, 8, 9]
    assert [(each.partition, each.offset) for each in fake.assigned] == [(0, assigned)]
    assert fake.closed


def test_every_partition_is_read_from_a_moment_to_the_end_that_it_had_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeConsumer(
        [
            [record(0, 0), record(1, 0), record(0, 1), record(0, 2)],
            # Partition 0 is written to on and on; 1 ends with an offset without a record.
            [record(0, 3), record(1, 1), end(1, 3)],
        ],
        ends={0: 2, 1: 3, 2: 0},
    )
    kafka = use(monkeypatch, fake)
    found = [(each.partition, each.offset) for each in read_to_end(kafka, "t", since=1.0)]
    assert found == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [each.partition for each in fake.assigned] == [0, 1], "2 has no record since then"
    assert [each.offset for each in fake.assigned] == [1, 2], "where the search led"


def test_only_a_log_whose_oldest_record_has_the_brokers_time_is_searched_by_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Producers' times may go back, also where the topic was altered later: records were missed."""
    fake = FakeConsumer(
        [[record(0, 1), record(1, 0), record(1, 1)]],
        ends={0: 2, 1: 2},
        producers_clocks=frozenset({1}),
    )
    kafka = use(monkeypatch, fake)
    found = [(each.partition, each.offset) for each in read_to_end(kafka, "t", since=1.0)]
    assert found == [(0, 1), (1, 0), (1, 1)]
    assert [(each.partition, each.offset) for each in fake.assigned] == [(0, 1), (1, 0)]


def test_a_log_that_is_read_whole_for_its_producers_times_says_so_when_it_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeConsumer([[record(0, 0)]], ends={0: 5}, producers_clocks=frozenset({0}))
    with pytest.raises(SnapshotStalled, match=r"within 0 s.*clocks of their producers"):
        list(read_to_end(use(monkeypatch, fake), "t", since=1.0, within=0.0))


def test_a_passing_error_fails_the_command_that_reads_from_a_moment_and_no_other_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = FakeMessage(0, KafkaError(KafkaError._TRANSPORT), 0)
    fake = FakeConsumer([[record(0, 0), away]], ends={0: 5})
    with pytest.raises(KafkaException):
        list(read_to_end(use(monkeypatch, fake), "t", since=1.0))
    assert fake.closed
    fake = FakeConsumer([[away, record(0, 0), end(0, 1)]])
    assert [each.offset for each in read_to_end(use(monkeypatch, fake), "t")] == [0]


def test_a_topic_that_may_not_be_read_fails_every_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = FakeMessage(0, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), 0)
    fake = FakeConsumer([[refused, record(0, 0), end(0, 1)]])
    with pytest.raises(KafkaException):
        list(read_to_end(use(monkeypatch, fake), "t"))


def test_a_topic_whose_end_is_not_reached_in_time_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = use(monkeypatch, FakeConsumer([[record(0, 0)]], ends={0: 5}))
    with pytest.raises(SnapshotStalled, match="not read to its end within 0 s"):
        list(read_to_end(kafka, "t", since=1.0, within=0.0))
    monkeypatch.setattr(snapshot, "STALL_SECONDS", -1.0)
    with pytest.raises(SnapshotStalled, match="no record for"):
        list(read_to_end(use(monkeypatch, FakeConsumer([])), "t"))


class EndlessTopic(FakeConsumer):
    """A topic whose end is minutes away."""

    polls = 0

    def consume(self, limit: int, seconds: float) -> list[FakeMessage]:
        self.polls += 1
        time.sleep(0.005)
        return [record(0, self.polls)] if self.polls < 2000 else [end(0, self.polls)]


async def test_a_reading_ends_with_the_task_that_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = EndlessTopic([])
    kafka = use(monkeypatch, fake)
    async with Snapshots(kafka) as snapshots:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                snapshots.read("t", lambda records: sum(1 for _ in records)), 0.1
            )
        await until(lambda: fake.closed, "the thread gives up", 3)
        other = FakeConsumer([[record(0, 1), end(0, 2)]])
        use(monkeypatch, other)
        assert await snapshots.read("t", lambda records: sum(1 for _ in records)) == 1
    assert fake.polls < 1500


def test_the_ranges_of_a_log_say_where_a_moment_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeConsumer([], ends={0: 9, 1: 0, 2: 7}, producers_clocks=frozenset({2}))
    kafka = use(monkeypatch, fake)
    assert log_ranges(kafka, "t") == {
        0: LogRange(0, 0, 9),
        1: LogRange(0, 0, 0),
        2: LogRange(0, 0, 7),
    }
    assert log_ranges(kafka, "t", since=1.0) == {
        0: LogRange(0, 8, 9),  # the broker's own clock: it can be searched
        1: LogRange(0, 0, 0),
        2: LogRange(0, 0, 7),  # clocks of producers: it is read from its start
    }
    assert fake.closed


def test_only_the_records_of_a_range_are_yielded(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeConsumer([[record(0, 3), record(0, 4), record(2, 6)], [record(0, 9), end(2, 8)]])
    found = read_ranges(use(monkeypatch, fake), "t", {0: (3, 6), 1: (5, 5), 2: (6, 8)})
    assert [(each.partition, each.offset) for each in found] == [(0, 3), (0, 4), (2, 6)]
    assert [(each.partition, each.offset) for each in fake.assigned] == [(0, 3), (2, 6)]
    assert fake.closed
