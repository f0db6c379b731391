"""What the sink does when too many contacts fail for one reason, without a broker."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from connectors.salesforce.api.client import Fence
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.unanswered_calls import UnansweredCalls
from streams.control import (
    FailureBreaker,
    FailuresSeen,
    Stops,
    breaker_record,
    parse_breaker,
    released,
)
from streams.events import now_ms
from streams.kafka.records import KafkaRecord
from streams.sink.consumer import LAG_SECONDS
from streams.sink.failure_breakers import FailureBreakers
from streams.sink.failure_rates import FailureLimits
from tests.support.sink_harness import NAMES, SinkHarness, running_sink

REASON = "field_custom_validation_exception"
LIMITS = FailureLimits(bulk_share=0.05, all_share=0.5, in_a_row=1000, min_outcomes=20, window=100)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Org:
    """A stand-in for Sync with a rule that refuses the contacts that it names, or all."""

    def __init__(self) -> None:
        self.refuses_all = False
        self.refuses: set[str] = set()
        self.stored: set[str] = set()
        self.calls = 0
        self.hold: asyncio.Event | None = None
        self.unanswered = UnansweredCalls()
        self.is_started = True

    def needed(self, contact: Mapping[str, Any]) -> dict[str, Any]:
        return dict(contact)

    def claims(self, change: ContactVersion) -> frozenset[str]:
        return frozenset((change.key,))

    async def restore(self) -> None:
        pass

    async def sync(
        self, changes: Sequence[ContactVersion], fence: Fence, _rules: object
    ) -> list[Outcome]:
        fence()
        self.calls += 1
        refused = {
            change.key for change in changes if self.refuses_all or change.key in self.refuses
        }
        if self.hold is not None:
            await self.hold.wait()
        self.stored |= {change.key for change in changes} - refused
        return [
            Outcome(change.key, OutcomeStatus.FAILED, reason=REASON)
            if change.key in refused
            else Outcome(change.key, OutcomeStatus.CREATED, "Lead", "00Q1")
            for change in changes
        ]


class Topic:
    """A stand-in for the FollowedTopic: contactstream.control as a list."""

    def __init__(self, failures: FailureBreakers, records: list[KafkaRecord]) -> None:
        self.failures, self.records = failures, records

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def catch_up(self, _seconds: float) -> None:
        for record in self.records:
            self.failures.apply(record)


def published(sink: SinkHarness) -> list[FailureBreaker]:
    found = (parse_breaker(one.key or b"", one.value or b"") for one in sink.control_records())
    return [one for one in found if one is not None]


async def until_stopped(sink: SinkHarness) -> None:
    await sink.until(lambda: "contactstream breakers" in sink.health.waiting_for, "it is stopped")
    await sink.until(lambda: not sink.sink.in_flight, "the batches in flight have ended")


def open_breakers(sink: SinkHarness, stops: Stops) -> float:
    (metric,) = sink.metrics.breakers_open.collect()
    return {one.labels["stops"]: one.value for one in metric.samples}[stops.value]


def release(failures: FailureBreakers, sink: SinkHarness) -> None:
    (opened,) = published(sink)
    failures.apply(breaker_record(NAMES, released(opened, "ada", now_ms(), 3600)))


async def test_a_bad_deploy_leaves_the_changes_on_the_topic_instead_of_in_the_dead_letters() -> (
    None
):
    org, failures = Org(), FailureBreakers(LIMITS)
    org.refuses_all = True
    async with running_sink(org, failures=failures, batch_size=50, in_flight=4) as sink:
        assert [open_breakers(sink, stops) for stops in Stops] == [0, 0]
        for number in range(400):
            sink.offer(f"g/{number}", 1, {})
        await until_stopped(sink)
        calls = org.calls
        for _ in range(3):
            sink.skip(2 * LAG_SECONDS)
            await sink.until_polled(3)
        assert org.calls == calls, "no batch is started"
        assert sink.consumer.paused
        assert sink.sink.is_writer, "it stays the writer"
        assert sink.health.alive
        assert REASON in sink.health.waiting_for
        assert "contactstream breakers" in sink.health.waiting_for
        assert len(sink.dead_letters()) == LIMITS.min_outcomes, "those that opened the breaker"
        assert sink.committed <= LIMITS.min_outcomes
        (opened,) = published(sink)
        assert (opened.stops, opened.seen.failures) == (Stops.ALL, LIMITS.min_outcomes)
        assert open_breakers(sink, Stops.ALL) == 1
        org.refuses_all = False
        release(failures, sink)
        await sink.until_committed()
        assert sink.health.waiting_for == ""
        assert open_breakers(sink, Stops.ALL) == 0
        failed = {(letter.key or b"").decode() for letter in sink.dead_letters()}
        assert len(failed) == LIMITS.min_outcomes
        assert org.stored == {f"g/{number}" for number in range(400)} - failed


async def test_a_breaker_of_bulk_runs_lets_the_sink_write_on() -> None:
    org = Org()
    org.refuses = {f"g/{number}" for number in range(0, 200, 10)}
    async with running_sink(org, failures=FailureBreakers(LIMITS), batch_size=50) as sink:
        for number in range(200):
            sink.offer(f"g/{number}", 1, {}, b"backfill")
        await sink.until_committed()
        (opened,) = published(sink)
        assert opened.stops is Stops.BULK
        assert open_breakers(sink, Stops.BULK) == 1
        sink.offer("g/live", 1, {})
        await sink.until_committed()
        assert "g/live" in org.stored
        assert sink.health.waiting_for == ""


async def test_the_breaker_comes_to_its_topic_together_with_what_opened_it() -> None:
    org = Org()
    org.refuses_all = True
    async with running_sink(org, failures=FailureBreakers(LIMITS), batch_size=40) as sink:
        together: list[set[str]] = []
        publish = sink.publisher.publish

        async def noted(records: Sequence[KafkaRecord]) -> None:
            together.append({record.topic for record in records})
            await publish(records)

        sink.publisher.publish = noted  # type: ignore[method-assign, assignment]
        sink.publisher.refuse = 2
        for number in range(40):
            sink.offer(f"g/{number}", 1, {})
        await sink.until(lambda: published(sink), "the breaker is published")
        assert together == [{NAMES.dead_letter.name, NAMES.outcomes.name, NAMES.control.name}] * 3


async def test_a_successor_writes_nothing_while_the_topic_says_that_a_breaker_is_open() -> None:
    org = Org()
    async with running_sink(org, failures=FailureBreakers(LIMITS), batch_size=20) as first:
        org.refuses_all = True
        for number in range(20):
            first.offer(f"g/{number}", 1, {})
        await until_stopped(first)
        log = first.control_records()
    org.refuses_all = False
    failures = FailureBreakers(LIMITS)
    async with running_sink(org, failures=failures, control=Topic(failures, log)) as second:
        second.offer("g/ada", 1, {})
        await until_stopped(second)
        await second.until_polled(5)
        assert "g/ada" not in org.stored
        second.publisher.records += log
        release(failures, second)
        await second.until_committed()
        assert org.stored == {"g/ada"}


async def test_a_standby_is_ready_while_a_breaker_is_open() -> None:
    failures = FailureBreakers(LIMITS)
    async with running_sink(Org(), failures=failures) as sink:
        breaker = FailureBreaker(REASON, Stops.ALL, 1, FailuresSeen(1, 1))
        failures.apply(breaker_record(NAMES, breaker))
        await until_stopped(sink)
        sink.consumer.between_polls.append(sink.consumer.revoke)
        await sink.until(lambda: not sink.sink.is_writer, "the partition is revoked")
        await sink.until(lambda: not sink.health.waiting_for, "the standby is ready")


def offer_unreadable(sink: SinkHarness, count: int) -> None:
    with sink.consumer.lock:
        for offset in range(count):
            sink.consumer.log.append(
                KafkaRecord(NAMES.changes.name, b"g/%d" % offset, b"new format", [], 0, offset)
            )


async def test_changes_that_a_bad_deploy_cannot_read_stay_on_the_topic_as_well() -> None:
    org, failures = Org(), FailureBreakers(LIMITS)
    async with running_sink(org, failures=failures) as sink:
        offer_unreadable(sink, 100)
        await until_stopped(sink)
        await sink.until_polled(3)
        assert len(sink.dead_letters()) == LIMITS.min_outcomes
        assert sink.committed == LIMITS.min_outcomes
        log = sink.control_records()
        release(failures, sink)
        await sink.until(lambda: len(sink.dead_letters()) > LIMITS.min_outcomes, "it goes on")
    failures = FailureBreakers(LIMITS)
    async with running_sink(org, failures=failures, control=Topic(failures, log)) as successor:
        offer_unreadable(successor, 100)
        await until_stopped(successor)
        await successor.until_polled(3)
        assert successor.dead_letters() == [], "not one more before it knows what is open"
        assert successor.committed == 0
