"""The sink and its partition: where it starts, how far it is behind, and with which exit code it
gives up.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka import TopicPartition
from structlog.testing import capture_logs

from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from streams.runtime.exit_codes import ExitCode
from streams.sink.stage import LAG_SECONDS
from tests.support.sink_harness import DEADLINE, Desk, FakeConsumer, desk


@pytest.fixture(autouse=True)
def said() -> Iterator[list[object]]:
    with capture_logs() as lines:
        yield lines  # type: ignore[misc]


class Org:
    """A stand-in for Sync: creates every contact once it is `open`."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    def claims(self, change: ContactVersion) -> frozenset[str]:
        return frozenset((change.key,))

    async def sync(
        self, changes: Sequence[ContactVersion], fence: Callable[[], None]
    ) -> list[Outcome]:
        await self.open.wait()
        return [Outcome(change.key, OutcomeStatus.CREATED) for change in changes]


def lag(sink: Desk) -> float:
    (metric,) = sink.metrics.lag.collect()
    return metric.samples[0].value


async def test_a_coordinator_that_does_not_answer_is_waited_for() -> None:
    org = Org()
    org.open.set()
    async with desk(org) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until_committed()
        sink.consumer.refuse = 2
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        await sink.until(
            lambda: "kafka does not say where to start" in sink.health.waiting_for, "it says so"
        )
        sink.offer("g/bob", 1, {})
        await sink.until_committed()
        assert sink.health.waiting_for == ""


async def test_a_coordinator_that_stays_away_ends_the_sink_with_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.sink.stage.ASSIGN_SECONDS", 0.0)
    async with desk(Org()) as sink:
        sink.consumer.refuse = 1_000
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        assert sink.running is not None
        stop = await asyncio.wait_for(sink.running, 15)
    assert stop.status is ExitCode.NO_COORDINATOR


async def test_the_lag_is_what_is_not_committed_and_of_a_lost_partition_nothing() -> None:
    org = Org()
    async with desk(org) as sink:
        for name in ("ada", "bob", "cleo"):
            sink.offer(f"g/{name}", 1, {})
        await sink.until(lambda: lag(sink) == 3, "three changes wait", skip=LAG_SECONDS)
        org.open.set()
        await sink.until(lambda: lag(sink) == 0, "nothing waits", skip=LAG_SECONDS)
        assert sink.committed == 3
        org.open.clear()
        sink.offer("g/dora", 1, {})
        await sink.until(lambda: lag(sink) == 1, "one waits", skip=LAG_SECONDS)
        sink.consumer.between_polls.append(sink.consumer.lose)
        await sink.until(lambda: lag(sink) == 0, "somebody else tells the lag", skip=LAG_SECONDS)
        org.open.set()


async def test_a_fault_that_nobody_foresaw_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with desk(Org()) as sink:
        assert sink.running is not None
        monkeypatch.setattr("streams.sink.outcomes.dead_letter_headers", lambda *_: 1 / 0)
        sink.offer("no key of a contact", 1, {})
        stop = await asyncio.wait_for(sink.running, 15)
    assert stop.status is ExitCode.UNEXPECTED_ERROR


async def beats(
    sink: Desk, monkeypatch: pytest.MonkeyPatch, condition: str, *, skip: float = 0.0
) -> None:
    """Waits until the main loop goes round some times and says so (`"alive"`), or goes round and
    does not (`"stalled"`).
    """
    said: list[None] = []
    monkeypatch.setattr(sink.health, "beat", lambda: said.append(None))
    sink.consumer.polls = 0

    def rounds() -> bool:
        if sink.consumer.polls < 20:
            return False
        found = "alive" if said else "stalled"
        said.clear()
        sink.consumer.polls = 0
        return found == condition

    await sink.until(rounds, condition, skip=skip)


async def test_a_sink_that_takes_nothing_of_what_waits_is_not_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    org = Org()
    org.open.set()
    async with desk(org) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until_committed()
        await beats(sink, monkeypatch, "alive", skip=LAG_SECONDS)
        sink.consumer.paused = True  # by nobody: the consumer hangs
        sink.offer("g/bob", 1, {})
        await beats(sink, monkeypatch, "stalled", skip=LAG_SECONDS)
        sink.consumer.paused = False
        await sink.until_committed()
        await beats(sink, monkeypatch, "alive", skip=LAG_SECONDS)


async def test_a_broker_that_holds_a_commit_for_long_does_not_make_the_sink_look_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.sink.stage.AGAIN_SECONDS", 0.01)
    held, answered, commit = threading.Event(), threading.Event(), FakeConsumer.commit

    def hangs(self: FakeConsumer, offsets: list[TopicPartition], asynchronous: bool) -> None:
        held.set()
        answered.wait(DEADLINE)
        commit(self, offsets, asynchronous)

    monkeypatch.setattr(FakeConsumer, "commit", hangs)
    org = Org()
    org.open.set()
    async with desk(org) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until(held.is_set, "it commits")
        said: list[None] = []
        monkeypatch.setattr(sink.health, "beat", lambda: said.append(None))
        await sink.until(lambda: len(said) > 2, "it says that it is alive")
        answered.set()
        await sink.until_committed()
