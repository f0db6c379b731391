"""Readings of topics as tables: one at a time, and none left open."""

import asyncio
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from streams.kafka import snapshot
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.settings import KafkaSettings, load


class Topic:
    """A topic in the place of `read_to_end`: how many read it now, how many did at most, and what each
    took.
    """

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


async def test_however_many_ask_one_topic_is_read_at_a_time(topic: Topic) -> None:
    async with Snapshots(load(KafkaSettings, {})) as snapshots:
        counts = await asyncio.gather(
            *(snapshots.read("t", lambda records: sum(1 for _ in records)) for _ in range(8))
        )
    assert counts == [20_000] * 8
    assert topic.most == 1


async def test_a_reading_that_takes_its_fill_leaves_no_client_open(topic: Topic) -> None:
    kept: list[Iterator[KafkaRecord]] = []

    def some(records: Iterator[KafkaRecord]) -> int:
        kept.append(records)  # else the garbage collector would close it
        return len(list(islice(records, 3)))

    async with Snapshots(load(KafkaSettings, {})) as snapshots:
        assert await snapshots.read("t", some) == 3
        assert (topic.open, topic.taken) == (0, [3])
