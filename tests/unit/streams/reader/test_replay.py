"""A replay that is killed anywhere and resumed, and what dedupe makes of it."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import orjson
import pytest
from prometheus_client import CollectorRegistry

from connectors.salesforce.mapping_rules import FieldMapping
from streams.commands.explain.timeline import consumed
from streams.dedupe.planner import DedupePlanner
from streams.events import Origin, event_headers, page_envelope
from streams.kafka.records import KafkaRecord
from streams.metrics import ReaderMetrics
from streams.reader import replay as replay_module
from streams.reader import replay_page
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.replay import Replayer
from streams.reader.run_writer import RunWriter
from streams.runs import (
    Replay,
    ReplaySource,
    ReplayTarget,
    Run,
    RunKind,
    RunLog,
    RunState,
    partition_name,
)
from streams.selection import Selection
from streams.settings import KafkaSettings, load
from streams.topics import Topics, topics

ResultT = TypeVar("ResultT")
TOPICS = topics(load(KafkaSettings, {}))
SANDBOX = topics(load(KafkaSettings, {"KAFKA_TOPIC_PREFIX": "sandbox."}))
BASE = 1_760_000_000
PARTITIONS, PAGE, KILLS = 3, 7, 20
RUN_ID = "20260101T000000Z-replay-1"


class Killed(Exception):
    """The reader was killed."""


class Broker:
    """The topics: what is in them when a reader is killed is there for the next one.

    `survive` decides about each request: how much of it is done before the reader dies, from 0 to
    1, or None if the reader lives on.
    """

    def __init__(self, source: Sequence[Sequence[KafkaRecord]]) -> None:
        self.source = source
        self.events: list[KafkaRecord] = []
        self.runs: list[KafkaRecord] = []
        self.survive: Callable[[], float | None] = lambda: None

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        done = self.survive()
        stored = records if done is None else records[: round(done * len(records))]
        for record in stored:
            (self.runs if record.topic == TOPICS.runs.name else self.events).append(record)
        if done is not None:
            raise Killed

    async def read(
        self,
        _topic: str,
        function: Callable[[Iterator[KafkaRecord]], ResultT],
        offset: int = 0,
        partition: int = 0,
    ) -> ResultT:
        """Stands for `Snapshots.read`."""
        if self.survive() is not None:
            raise Killed
        return function(record for record in self.source[partition] if record.offset >= offset)


def history(seed: int = 1) -> list[list[KafkaRecord]]:
    """contacts.events: three versions of thirty contacts, some of them out of order."""
    choose = random.Random(seed)
    partitions: list[list[KafkaRecord]] = [[] for _ in range(PARTITIONS)]
    versions = [(number, version) for version in range(3) for number in range(30)]
    for number, version in sorted(versions, key=lambda one: one[1] + choose.random() * 1.5):
        log = partitions[number % PARTITIONS]
        body = {"grant_id": "g", "id": f"c{number}", "given_name": f"v{version}"}
        value = page_envelope(Origin.WEBHOOK, f"n{number}-{version}", BASE + version, body)
        headers = event_headers(Origin.WEBHOOK, (BASE + version) * 1000)
        key = f"g/c{number}".encode()
        log.append(
            KafkaRecord(TOPICS.events.name, key, value, headers, number % PARTITIONS, len(log))
        )
    return partitions


async def one_reader(broker: Broker, run: Run, theirs: Topics | None = None) -> Run:
    """What an active reader does of the run: all that is left, unless it is killed."""
    log = RunLog()
    for record in broker.runs:
        log.apply(record.key or b"", record.value)
    gate = Gate(lambda: 0, 10**9, lambda _reason: None)
    context = ReaderContext(TOPICS, broker.publish, gate, ReaderMetrics(CollectorRegistry()))
    snapshots: Any = broker
    other = replace(context, topics=theirs or TOPICS)
    replayer = Replayer(
        context,
        snapshots,
        RunWriter(log, broker.publish, TOPICS),
        log,
        lambda _target: nullcontext(other),
    )
    return await replayer.execute(RUN_ID, run)


def forwarded(
    source: Iterable[Iterable[KafkaRecord]], events: Iterable[KafkaRecord]
) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]:
    """What dedupe forwards of the replayed events, after it has seen the source; and its table."""
    planner, entries = DedupePlanner(FieldMapping(), TOPICS), dict[bytes, bytes]()
    for log in source:
        entries |= planner.plan(map(consumed, log), entries, BASE).entries
    plan = planner.plan(map(consumed, events), entries, BASE)
    changes = [(key or b"", value or b"") for topic, value, key, _ in plan.outputs]
    return changes, entries | plan.entries


@pytest.mark.parametrize("seed", range(5))
async def test_a_replay_killed_twenty_times_equals_an_undisturbed_one(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(replay_page, "PAGE_RECORDS", PAGE)
    monkeypatch.setattr(replay_page, "SCANNED_RECORDS", PAGE + 2)
    source = history(seed)
    ends = tuple(map(len, source))
    replay = Replay(ReplaySource.EVENTS, Selection(), ends, expected=ends)
    run = Run(RunKind.REPLAY, None, BASE, "command", replay=replay)
    undisturbed = Broker(source)
    assert (await one_reader(undisturbed, run)).state is RunState.DONE

    choose, disturbed, kills = random.Random(seed), Broker(source), 0

    def survive() -> float | None:
        return choose.random() if kills < KILLS and choose.random() < 0.35 else None

    disturbed.survive = survive
    while True:
        try:
            ended = await one_reader(disturbed, run)
        except Killed:
            kills += 1
        else:
            break
    assert kills == KILLS
    assert ended.state is RunState.DONE

    counts = Counter(record.value for record in disturbed.events)
    assert counts.keys() == {record.value for record in undisturbed.events}
    assert counts.total() - len(counts) <= KILLS * PAGE, "a kill repeats at most a page"
    changes, table = forwarded(source, undisturbed.events)
    changes_again, table_again = forwarded(source, disturbed.events)
    assert table_again == table
    assert dict(changes_again) == dict(changes), "each contact ends in the same state"
    assert len(changes) == 30, "each contact once, in its newest version"
    assert all(b'"v2"' in value for _, value in changes_again), "nothing older passes in between"


async def test_a_replay_reads_from_its_start_to_its_end_and_knows_how_much_is_left() -> None:
    source = history()
    replay = Replay(
        ReplaySource.EVENTS,
        Selection(),
        (20, 5, 12),
        starts=(10, 5, 0),
        expected=(10, 0, 12),
    )
    broker = Broker(source)
    await one_reader(broker, Run(RunKind.REPLAY, None, BASE, "command", replay=replay))
    expected = [*source[0][10:20], *source[2][:12]]
    assert [record.value for record in broker.events] == [record.value for record in expected]
    log = RunLog()
    for record in broker.runs:
        log.apply(record.key or b"", record.value)
    progress = log.progress(RUN_ID)
    assert [progress[partition_name(each)].expected for each in range(3)] == [10, 0, 12]
    assert [progress[partition_name(each)].contacts for each in range(3)] == [10, 0, 12]


async def test_another_deployment_is_filled_while_the_progress_stays_here() -> None:
    broker = Broker(history())
    replay = Replay(
        ReplaySource.EVENTS, Selection(), (30, 30, 30), target=ReplayTarget("sandbox.", 2)
    )
    run = Run(RunKind.REPLAY, None, BASE, "command", replay=replay)
    assert (await one_reader(broker, run, SANDBOX)).state is RunState.DONE
    assert {record.topic for record in broker.events} == {"sandbox.contacts.events"}
    assert {record.topic for record in broker.runs} == {TOPICS.runs.name}


async def test_more_contacts_with_an_outcome_than_fit_into_memory_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay_module, "MAX_SELECTED_CONTACTS", 3)
    outcomes = [
        KafkaRecord(
            TOPICS.outcomes.name,
            b"g/%d" % number,
            orjson.dumps({"outcome": "failed"}),
            [],
            0,
            number,
        )
        for number in range(4)
    ]
    replay = Replay(ReplaySource.EVENTS, Selection(outcomes=("failed",)), (4,))
    run = Run(RunKind.REPLAY, None, BASE, "command", replay=replay)
    ended = await one_reader(Broker([outcomes]), run)
    assert ended.state is RunState.FAILED
    assert "grant by grant" in ended.error
