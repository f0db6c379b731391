"""The loop of the reader: when it is active, and what ends it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from prometheus_client import CollectorRegistry

from streams.kafka.polling import EndOfPartition, OffsetOutOfRange
from streams.kafka.records import KafkaRecord
from streams.metrics import ReaderMetrics
from streams.reader import stage
from streams.reader.stage import Reader
from streams.runs import Run, RunKind, RunLog, encode, run_key
from streams.runtime.ops import Health
from tests.support.waiting import until

PARTITION = TopicPartition("reader.runs", 0)
RUN = KafkaRecord("reader.runs", run_key("r1"), encode(Run(RunKind.BACKFILL, None, 1, "x")), [])
UNREADABLE = KafkaRecord("reader.runs", run_key("r2"), b"{", [])
END = EndOfPartition("reader.runs", 0, 2)

Step = Callable[[], list[KafkaRecord | EndOfPartition]]


class FakeConsumer:
    """A consumer of the group: `steps` are what its next polls do."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.calls: list[str] = []
        self.callbacks: dict[str, Callable[[Any, list[TopicPartition]], None]] = {}

    def subscribe(self, _topics: list[str], **callbacks: Any) -> None:
        self.callbacks = callbacks

    def incremental_assign(self, _partitions: list[TopicPartition]) -> None:
        self.calls.append("assigned")

    def incremental_unassign(self, _partitions: list[TopicPartition]) -> None:
        self.calls.append("unassigned")

    def close(self) -> None:
        self.calls.append("closed")

    def assign(self, *events: KafkaRecord | EndOfPartition) -> None:
        def step() -> list[KafkaRecord | EndOfPartition]:
            self.callbacks["on_assign"](self, [PARTITION])
            return list(events)

        self.steps.append(step)

    def revoke(self) -> None:
        def step() -> list[KafkaRecord | EndOfPartition]:
            self.callbacks["on_revoke"](self, [PARTITION])
            return []

        self.steps.append(step)

    def fail(self, error: Exception) -> None:
        def step() -> list[KafkaRecord | EndOfPartition]:
            raise error

        self.steps.append(step)


def poll(consumer: FakeConsumer, *_: object) -> Iterator[KafkaRecord | EndOfPartition]:
    time.sleep(0.01)
    yield from consumer.steps.pop(0)() if consumer.steps else []


class Harness:
    """A reader whose work notes what it was given, and when it was stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: Exception | None = None) -> None:
        monkeypatch.setattr(stage, "poll", poll)
        self.consumer, self.stopping = FakeConsumer(), asyncio.Event()
        self.run_log: RunLog | None = None
        self.metrics = ReaderMetrics(CollectorRegistry())

        async def work(run_log: RunLog) -> None:
            self.run_log = run_log
            if failure is not None:
                raise failure
            try:
                await asyncio.Event().wait()
            finally:
                self.consumer.calls.append("work stopped")

        self.reader = Reader(
            cast(Consumer, self.consumer), "reader.runs", work, 5.0, self.metrics, Health(60)
        )
        self.task = asyncio.create_task(self.reader.run(self.stopping))

    @property
    def active(self) -> bool:
        return bool(self.metrics.active._value.get() == 1)

    async def stop(self) -> None:
        self.stopping.set()
        await asyncio.wait_for(self.task, 10)


async def test_a_reader_that_is_not_active_any_more_has_nothing_unfinished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness(monkeypatch)
    harness.consumer.assign(RUN, END)
    await until(lambda: harness.active, "the reader is active", 10)
    harness.metrics.runs_in_progress.set(2)
    harness.metrics.oldest_unfinished.set_function(lambda: 7.0)
    began = time.time()
    harness.consumer.revoke()
    await until(lambda: not harness.active, "the reader is not active", 10)
    assert harness.metrics.runs_in_progress._value.get() == 0
    (family,) = harness.metrics.oldest_unfinished.collect()
    assert family.samples[0].value >= began
    await harness.stop()


async def test_a_reader_works_only_after_its_partition_was_read_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness(monkeypatch)
    await asyncio.sleep(0.1)
    assert not harness.active, "a standby"
    harness.consumer.assign(RUN, UNREADABLE)
    await until(lambda: not harness.consumer.steps, "it is assigned")
    await asyncio.sleep(0.1)
    assert not harness.active, "the run log misses runs"
    harness.consumer.steps.append(lambda: [END])
    await until(lambda: harness.run_log, "it works")
    assert harness.run_log is not None
    assert harness.run_log.runs.keys() == {"r1"}
    assert harness.active
    await harness.stop()
    assert harness.consumer.calls == ["assigned", "work stopped", "closed"]
    assert not harness.active


async def test_the_work_has_stopped_before_another_reader_can_get_the_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness(monkeypatch)
    harness.consumer.assign(END)
    await until(lambda: harness.active, "it works")
    harness.consumer.revoke()
    await until(lambda: "unassigned" in harness.consumer.calls, "it is revoked")
    assert harness.consumer.calls == ["assigned", "work stopped", "unassigned"]
    assert not harness.active
    harness.run_log = None
    harness.consumer.assign(END)
    await until(lambda: harness.run_log, "it works again")
    await harness.stop()


@pytest.mark.parametrize(
    "error",
    [KafkaException(KafkaError(KafkaError._FATAL)), OffsetOutOfRange("reader.runs[0]")],
)
async def test_an_error_of_the_consumer_stops_the_work_and_ends_the_reader(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    harness = Harness(monkeypatch)
    harness.consumer.assign(END)
    await until(lambda: harness.active, "it works")
    harness.consumer.fail(error)
    with pytest.raises(type(error)):
        await asyncio.wait_for(harness.task, 10)
    assert harness.consumer.calls == ["assigned", "work stopped", "closed"]


async def test_a_failure_of_the_work_ends_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, failure=RuntimeError("broken"))
    harness.consumer.assign(END)
    with pytest.raises(RuntimeError, match="broken"):
        await asyncio.wait_for(harness.task, 10)
    assert harness.consumer.calls == ["assigned", "closed"]
