"""The stage plans the next batch while one is being published, and acknowledges none too early."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from streams.dedupe.faust_batches import BatchTable
from streams.dedupe.planner import DedupePlan, DedupePlanner
from streams.dedupe.producer import AcknowledgedProducer
from streams.dedupe.stage import Dedupe, Pending
from streams.dedupe.versions import UnreadableState
from streams.metrics import DedupeMetrics
from streams.runtime.exit_codes import ExitCode
from tests.support.death import Died, die
from tests.support.waiting import until

# Far more than anything here takes.
SECONDS = 10.0


class Event:
    """Faust's event of one batch."""

    def __init__(self, name: str, done: list[str]) -> None:
        self._name, self._done = name, done

    def ack(self) -> None:
        self._done.append(f"{self._name} acknowledged")


class Stream:
    """Batches of one record, each named and of a partition, as Faust gives them to the agent."""

    enable_acks = True
    current_event: Any = None

    def __init__(self, batches: Sequence[tuple[str, int]], done: list[str]) -> None:
        self._batches, self._done = batches, done

    async def __aiter__(self) -> AsyncIterator[Any]:
        for name, partition in self._batches:
            self.current_event = Event(name, self._done)
            yield [SimpleNamespace(partition=partition, name=name)]


@dataclass
class Scene:
    """A stage with a planner and a producer of the test; what it did, in its order."""

    done: list[str] = field(default_factory=list)
    table: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    seen: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    """The entries that each batch was planned with."""
    acknowledged: threading.Event = field(default_factory=threading.Event)
    wait_until_heard: Callable[[], None] = lambda: None
    fault: BaseException | None = None
    """Raised by the plan of a batch that is named `bad`."""

    # The planner
    def plan(self, records: Any, entries: Mapping[bytes, bytes], _now: int) -> DedupePlan:
        name = records[0].name
        if name == "bad" and self.fault is not None:
            raise self.fault
        self.done.append(f"{name} planned")
        self.seen[name] = dict(entries)
        return DedupePlan(outputs=[("t", name.encode(), b"k", [])], entries={b"k": name.encode()})

    # The producer
    def publish(self, outputs: Any) -> None:
        name = outputs[0][1].decode()
        self.done.append(f"{name} begun")
        assert self.acknowledged.wait(SECONDS)

    def publish_to(self, _topic: str, _partition: int, entries: Mapping[bytes, Any]) -> None:
        self.done.append(f"{entries[b'k'].decode()} published")

    # The table
    def entries(self, partition: int) -> dict[bytes, bytes]:
        return self.table.setdefault(partition, {})

    def remember(self, partition: int, entries: Mapping[bytes, Any]) -> None:
        self.table.setdefault(partition, {}).update(entries)

    def size(self) -> int:
        return 0

    def run(self, *batches: tuple[str, int]) -> "asyncio.Task[None]":
        dedupe = Dedupe(
            cast(DedupePlanner, self),
            cast(AcknowledgedProducer, self),
            cast(BatchTable, self),
            "changelog",
            DedupeMetrics(CollectorRegistry()),
            self.wait_until_heard,
            die,
        )
        return asyncio.create_task(dedupe.agent(Stream(batches, self.done)))


def reached(scene: Scene, step: str) -> Callable[[], bool]:
    return lambda: step in scene.done


async def test_the_next_batch_is_planned_while_one_waits_for_its_acknowledgement() -> None:
    scene = Scene()
    agent = scene.run(("1", 0), ("2", 0), ("3", 0))
    await until(reached(scene, "2 planned"), "the second batch is planned", SECONDS)
    assert "2 begun" not in scene.done
    assert "1 acknowledged" not in scene.done
    scene.acknowledged.set()
    await asyncio.wait_for(agent, SECONDS)
    await until(reached(scene, "3 acknowledged"), "the last batch is acknowledged", SECONDS)
    for name in ("1", "2", "3"):
        steps = [step for step in scene.done if step.startswith(name)]
        assert steps == [
            f"{name} {what}" for what in ("planned", "begun", "published", "acknowledged")
        ]
    published = [step for step in scene.done if "begun" in step or "acknowledged" in step]
    assert published == [f"{n} {what}" for n in "123" for what in ("begun", "acknowledged")]


async def test_a_plan_knows_what_is_being_published_for_its_partition_and_for_no_other() -> None:
    scene = Scene(table={0: {b"k": b"old", b"other": b"kept"}, 1: {b"k": b"its own"}})
    agent = scene.run(("1", 0), ("2", 0), ("3", 1))
    await until(reached(scene, "2 planned"), "the second batch is planned", SECONDS)
    scene.acknowledged.set()
    await asyncio.wait_for(agent, SECONDS)
    assert scene.seen["2"] == {b"k": b"1", b"other": b"kept"}
    assert scene.seen["3"] == {b"k": b"its own"}


async def test_what_another_worker_wrote_meanwhile_counts_more_than_what_was_published_here() -> (
    None
):
    scene = Scene()
    scene.acknowledged.set()
    more = asyncio.Event()

    class Interrupted(Stream):
        async def __aiter__(self) -> AsyncIterator[Any]:
            async for records in Stream([("1", 0)], scene.done):
                self.current_event = Event("1", scene.done)
                yield records
            await more.wait()
            self.current_event = Event("2", scene.done)
            yield [SimpleNamespace(partition=0, name="2")]

    stage: Any = scene
    dedupe = Dedupe(
        stage, stage, stage, "log", DedupeMetrics(CollectorRegistry()), lambda: None, die
    )
    agent = asyncio.create_task(dedupe.agent(Interrupted([], scene.done)))
    await until(reached(scene, "1 acknowledged"), "the first batch is acknowledged", SECONDS)
    scene.table[0] = {b"k": b"of the other worker"}
    more.set()
    await asyncio.wait_for(agent, SECONDS)
    assert scene.seen["2"] == {b"k": b"of the other worker"}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ValueError("a bug"), ExitCode.UNEXPECTED_ERROR),
        (SystemExit(1), ExitCode.UNEXPECTED_ERROR),
        (UnreadableState("9 bytes"), ExitCode.UNREADABLE_STATE),
    ],
)
async def test_a_batch_that_cannot_be_planned_ends_the_process_unacknowledged(
    fault: BaseException, code: ExitCode
) -> None:
    scene = Scene(fault=fault)
    with pytest.raises(Died) as died:
        await asyncio.wait_for(scene.run(("bad", 0)), SECONDS)
    assert died.value.args[0] is code
    assert scene.done == []


async def test_a_batch_that_cannot_be_published_ends_the_process_before_the_next_is_published() -> (
    None
):
    def lost() -> None:
        raise ValueError("a bug")

    scene = Scene(wait_until_heard=lost)
    with pytest.raises(Died) as died:
        await asyncio.wait_for(scene.run(("1", 0), ("2", 0)), SECONDS)
    assert died.value.args[0] is ExitCode.UNEXPECTED_ERROR
    assert not [step for step in scene.done if "planned" not in step]


def test_pending_entries_lie_before_those_of_the_table_and_may_end_them() -> None:
    both = Pending(
        {b"a": b"new", b"gone": None, b"never": None},
        {b"a": b"old", b"b": b"kept", b"gone": b"old"},
    )
    assert dict(both) == {b"a": b"new", b"b": b"kept"}
    assert len(both) == 2
    assert [both.get(key) for key in (b"a", b"b", b"gone", b"c")] == [b"new", b"kept", None, None]
    for absent in (b"gone", b"c"):
        assert absent not in both
        with pytest.raises(KeyError):
            both[absent]
