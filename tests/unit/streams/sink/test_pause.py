"""What the sink does while a person has paused all writing, without a broker."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from streams.control import Pause, PausedPart, pause_record, resume_record
from streams.events import now_ms
from streams.sink.consumer import LAG_SECONDS
from streams.sink.failure_breakers import FailureBreakers
from streams.sink.writing_stops import WritingStops
from tests.support.sink_harness import NAMES, SinkHarness, running_sink
from tests.unit.streams.sink.test_breaker_stage import Org, Topic


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


def pause(failures: FailureBreakers, seconds: float = 3600) -> None:
    now = now_ms()
    asked = Pause(PausedPart.WRITES, "ada", "a migration", now, now + int(seconds * 1000))
    failures.apply(pause_record(NAMES, asked))


def ends(sink: SinkHarness) -> float:
    (metric,) = sink.metrics.pause_ends.collect()
    (sample,) = [each for each in metric.samples if each.labels == {"part": "writes"}]
    assert sample.labels == {"part": "writes"}
    return sample.value


async def test_a_paused_sink_writes_nothing_and_goes_on_where_it_stopped() -> None:
    org, failures = Org(), FailureBreakers()
    async with running_sink(org, failures=failures, batch_size=10, in_flight=2) as sink:
        sink.offer("g/before", 1, {})
        await sink.until_committed()
        assert ends(sink) == 0
        pause(failures)
        await sink.until(lambda: ends(sink) > time.time(), "the metric says until when")
        for number in range(50):
            sink.offer(f"g/{number}", 1, {})
        for _ in range(3):
            sink.skip(2 * LAG_SECONDS)
            await sink.until_polled(3)
        assert org.stored == {"g/before"}
        assert sink.health.alive, "no restart would help"
        assert sink.health.waiting_for == "", "a rollout does not wait for the end of the pause"
        assert sink.dead_letters() == []
        failures.apply(resume_record(NAMES, PausedPart.WRITES))
        await sink.until_committed()
        assert org.stored == {"g/before", *(f"g/{number}" for number in range(50))}
        assert ends(sink) == 0


async def test_a_successor_writes_nothing_while_the_topic_says_that_writing_is_paused() -> None:
    org, failures = Org(), FailureBreakers()
    now = now_ms()
    log = [
        pause_record(NAMES, Pause(PausedPart.WRITES, "ada", "a migration", now, now + 3_600_000))
    ]
    async with running_sink(org, failures=failures, control=Topic(failures, log)) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until(lambda: ends(sink) > 0, "it has read the topic")
        await sink.until_polled(5)
        assert org.calls == 0
        failures.apply(resume_record(NAMES, PausedPart.WRITES))
        await sink.until_committed()
        assert org.stored == {"g/ada"}


async def test_changes_in_flight_when_the_pause_comes_are_finished() -> None:
    org, failures = Org(), FailureBreakers()
    org.hold = asyncio.Event()
    async with running_sink(org, failures=failures) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until(lambda: org.calls == 1, "the call is under way")
        pause(failures)
        org.hold.set()
        await sink.until_committed()
        assert org.stored == {"g/ada"}


def test_a_pause_ends_by_itself() -> None:
    clock = [1000.0]
    failures = FailureBreakers()
    stops = WritingStops(failures, lambda: clock[0])
    failures.apply(pause_record(NAMES, Pause(PausedPart.WRITES, "ada", "why", 900_000, 1_060_000)))
    assert stops.nothing_is_written
    clock[0] = 1060.0
    assert not stops.nothing_is_written


def test_a_pause_of_reading_stops_no_writing() -> None:
    failures = FailureBreakers()
    now = now_ms()
    failures.apply(
        pause_record(NAMES, Pause(PausedPart.READING, "ada", "why", now, now + 3_600_000))
    )
    assert not WritingStops(failures).nothing_is_written
