"""A live change goes at once on a quiet system; a trickle stays below its share of calls."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.client import Fence
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.unanswered_calls import UnansweredCalls
from streams.complete_runs import complete_runs_record
from streams.control import ControlTable
from streams.sink.failure_breakers import FailureBreakers
from streams.sink.live_pace import CALLS_OF_A_BATCH, DAY_SECONDS, LivePace
from tests.support.sink_harness import NAMES, running_sink

CALLS, SHARE = 100_000, 0.2
ALLOWED = CALLS * SHARE / CALLS_OF_A_BATCH


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def pace_and_clock(calls: int = CALLS) -> tuple[LivePace, Clock]:
    clock = Clock()
    pace = LivePace(SHARE, clock)
    pace.daily_calls(calls)
    return pace, clock


def starts(seconds_between_changes: Sequence[float]) -> list[float]:
    """When batches start: each as soon as it may, while a change waits."""
    pace, clock = pace_and_clock()
    started = []
    for seconds in seconds_between_changes:
        clock.now += seconds
        if pace.may_start:
            pace.started()
            started.append(clock.now)
    return started


def test_after_a_quiet_time_a_burst_of_changes_goes_without_a_wait() -> None:
    pace, clock = pace_and_clock()
    clock.now += DAY_SECONDS
    for _ in range(100):
        assert pace.may_start
        pace.started()
        clock.now += 0.3


def test_a_day_of_one_change_a_second_stays_below_its_share_of_the_calls() -> None:
    found = starts([1.0] * int(DAY_SECONDS))
    assert ALLOWED * 0.9 < len(found) <= ALLOWED
    waits = [after - before for before, after in itertools.pairwise(found)]
    assert waits[0] == 1.0, "at first nothing waits"
    assert max(waits) <= DAY_SECONDS / ALLOWED * 1.05 + 1, "and later nothing waits for long"


@given(st.lists(st.floats(0.05, 3600.0), min_size=1, max_size=300), st.integers(0, 4000))
def test_no_pattern_of_changes_takes_more_than_the_share_in_24_hours(
    waits: list[float], crowd: int
) -> None:
    found = starts([*waits, *[0.1] * crowd, *waits])
    for index, start in enumerate(found):
        later = [one for one in found[index:] if one < start + DAY_SECONDS]
        assert len(later) <= ALLOWED + 1


def test_an_org_with_more_calls_lets_changes_gather_for_less_time() -> None:
    small, _ = pace_and_clock(15_000)
    large, _ = pace_and_clock(1_000_000)
    for pace in (small, large):
        while pace.may_start:
            pace.started()
    assert large.seconds_between < small.seconds_between


class SlowOrg:
    """A stand-in for Sync: each batch ends when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go_on = asyncio.Semaphore(0)
        self.unanswered = UnansweredCalls()
        self.is_started = True

    def needed(self, contact: Mapping[str, Any]) -> dict[str, Any]:
        return dict(contact)

    def claims(self, change: ContactVersion) -> frozenset[str]:
        return frozenset((change.key,))

    async def restore(self) -> None: ...

    async def sync(
        self, changes: Sequence[ContactVersion], _fence: Fence, _rules: object
    ) -> list[Outcome]:
        self.batches.append([change.key for change in changes])
        await self.go_on.acquire()
        return [Outcome(change.key, OutcomeStatus.CREATED) for change in changes]


PERSON = {"surname": "Byron"}


async def test_a_change_goes_at_once_while_nothing_is_in_flight() -> None:
    org = SlowOrg()
    async with running_sink(org, linger=3600.0, bulk_linger=3600.0) as sink:
        sink.offer("g/1", 1, PERSON)
        await sink.until(lambda: org.batches == [["g/1"]], "it goes, whatever SINK_LINGER is")
        org.go_on.release()
        await sink.until_committed()


async def test_changes_gather_until_the_batch_in_flight_returns() -> None:
    org = SlowOrg()
    async with running_sink(org, linger=3600.0, bulk_linger=3600.0) as sink:
        sink.offer("g/1", 1, PERSON)
        await sink.until(lambda: len(org.batches) == 1, "the first goes")
        for number in range(2, 6):
            sink.offer(f"g/{number}", 1, PERSON)
            await sink.until_polled(3)
        assert len(org.batches) == 1
        org.go_on.release()
        await sink.until(lambda: len(org.batches) == 2, "the others go together")
        assert org.batches[1] == ["g/2", "g/3", "g/4", "g/5"]
        org.go_on.release()
        await sink.until_committed()


async def test_changes_wait_no_longer_than_the_linger_for_a_batch_in_flight() -> None:
    org = SlowOrg()
    async with running_sink(org, linger=30.0, bulk_linger=3600.0) as sink:
        sink.offer("g/1", 1, PERSON)
        await sink.until(lambda: len(org.batches) == 1, "the first goes")
        sink.offer("g/2", 1, PERSON)
        await sink.until_polled(3)
        sink.skip(31.0)
        await sink.until(lambda: len(org.batches) == 2, "the second goes beside it")
        org.go_on.release()
        org.go_on.release()
        await sink.until_committed()


def complete(table: ControlTable, changes_end: int) -> None:
    """The reader says that all changes of the runs so far lie before this offset."""
    table.apply(complete_runs_record(NAMES, changes_end))


async def test_what_a_run_has_read_goes_when_the_run_is_complete() -> None:
    org, failures = SlowOrg(), FailureBreakers()
    async with running_sink(org, failures=failures, bulk_linger=3600.0) as sink:
        for number in range(3):
            sink.offer(f"g/{number}", 1, PERSON, origin=b"backfill")
        await sink.until_polled(5)
        assert org.batches == []
        complete(failures.table, 3)
        await sink.until(lambda: org.batches == [["g/0", "g/1", "g/2"]], "the run is complete")
        org.go_on.release()
        await sink.until_committed()


async def test_a_small_rest_of_a_run_goes_when_the_batch_in_flight_has_returned() -> None:
    org, failures = SlowOrg(), FailureBreakers()
    async with running_sink(org, failures=failures, bulk_linger=3600.0, batch_size=4) as sink:
        for number in range(5):
            sink.offer(f"g/{number}", 1, PERSON, origin=b"backfill")
        await sink.until(lambda: len(org.batches) == 1, "a full batch goes")
        complete(failures.table, 5)
        await sink.until_polled(5)
        assert len(org.batches) == 1
        org.go_on.release()
        await sink.until(lambda: len(org.batches) == 2, "then the rest goes")
        org.go_on.release()
        await sink.until_committed()


async def test_the_end_of_a_run_that_comes_before_its_changes_waits_for_all_of_them() -> None:
    org, failures = SlowOrg(), FailureBreakers()
    complete(failures.table, 3)
    async with running_sink(org, failures=failures, bulk_linger=3600.0) as sink:
        for number in range(3):
            assert org.batches == [], "the sink has not read all that the run has brought"
            sink.offer(f"g/{number}", 1, PERSON, origin=b"backfill")
            await sink.until_polled(3)
        await sink.until(lambda: org.batches == [["g/0", "g/1", "g/2"]], "all go together")
        sink.offer("g/9", 1, PERSON, origin=b"reconcile")
        await sink.until_polled(5)
        assert len(org.batches) == 1, "the next run has not ended"
        sink.skip(3601.0)
        await sink.until(lambda: len(org.batches) == 2, "its end is lost: the linger is the bound")
        org.go_on.release()
        org.go_on.release()
        await sink.until_committed()


@pytest.mark.parametrize("origin", [b"backfill", b"reconcile", b"replay"])
async def test_what_a_run_reads_gathers_although_nothing_is_in_flight(origin: bytes) -> None:
    org = SlowOrg()
    async with running_sink(org, bulk_linger=3600.0) as sink:
        sink.offer("g/1", 1, PERSON, origin=origin)
        await sink.until_polled(5)
        assert org.batches == []
        sink.offer("g/2", 1, PERSON)
        await sink.until(lambda: org.batches == [["g/1", "g/2"]], "a live change takes it along")
        org.go_on.release()
        await sink.until_committed()
