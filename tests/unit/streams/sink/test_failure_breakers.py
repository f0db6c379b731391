"""When a failure breaker opens, what it holds back, and what a release does."""

import pytest
from structlog.testing import capture_logs

from connectors.salesforce.outcome import Outcome, OutcomeStatus
from streams.control import FailureBreaker, Stops, breaker_record, released
from streams.sink.failure_breakers import FailureBreakers
from streams.sink.failure_rates import FailureLimits
from tests.support.sink_harness import NAMES

LIMITS = FailureLimits(bulk_share=0.1, all_share=0.5, in_a_row=20, min_outcomes=10, window=50)


class Sink:
    """Failure breakers, and the log of contactstream.control that they publish to."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.log: list[FailureBreaker] = []
        self.failures = FailureBreakers(LIMITS, lambda: self.now)

    def take(self, count: int, reason: str = "", origin: str = "webhook") -> int:
        """So many outcomes more; returns how many of them have to wait."""
        status = OutcomeStatus.FAILED if reason else OutcomeStatus.CREATED
        self.now += 1
        return sum(
            self.failures.holds(Outcome(f"g/{number}", status, reason=reason), origin)
            for number in range(count)
        )

    def publish(self) -> list[FailureBreaker]:
        """Publishes what opened, and reads it back; returns it."""
        opened = self.failures.take_unpublished()
        for one in opened:
            self.read(one)
        return opened

    def read(self, breaker: FailureBreaker) -> None:
        self.log.append(breaker)
        self.failures.apply(breaker_record(NAMES, breaker))

    def open(self) -> dict[str, Stops]:
        return {one.reason: one.stops for one in self.failures.open}

    def restarted(self) -> "Sink":
        """Another process that reads the same topic."""
        other = Sink()
        other.now = self.now
        for breaker in self.log:
            other.read(breaker)
        return other


@pytest.fixture
def sink() -> Sink:
    return Sink()


def test_a_bulk_breaker_opens_once_and_holds_nothing_back(sink: Sink) -> None:
    sink.take(30)
    assert sink.take(3, "too_long", "backfill") == 0
    assert sink.open() == {}
    assert sink.take(7, "", "backfill") == 0
    assert sink.open() == {"too_long": Stops.BULK}
    assert sink.failures.stops_all is None
    assert sink.take(1, "too_long", "replay") == 0
    (opened,) = sink.publish()
    assert (opened.seen.failures, opened.seen.outcomes, opened.seen.example) == (3, 10, "g/2")
    sink.take(1, "too_long", "replay")
    assert sink.publish() == []


def test_while_everything_is_stopped_no_failure_is_final(sink: Sink) -> None:
    assert sink.take(9, "too_long") == 0
    assert sink.failures.stops_all is None
    assert sink.take(1, "too_long") == 0, "the one that opens it is the last dead letter"
    assert sink.take(5, "too_long") == 5
    assert sink.take(5, "another") == 5
    assert sink.take(5) == 0, "what was written is final"
    (opened,) = sink.publish()
    assert (opened.stops, opened.seen.failures) == (Stops.ALL, 10)


def test_a_bulk_breaker_becomes_one_that_stops_everything_and_never_the_reverse(sink: Sink) -> None:
    sink.take(8, "", "backfill")
    sink.take(2, "too_long", "backfill")
    sink.take(30, "too_long", "backfill")
    assert sink.open() == {"too_long": Stops.ALL}
    assert [one.stops for one in sink.publish()] == [Stops.BULK, Stops.ALL]
    sink.take(100, "", "backfill")
    assert sink.open() == {"too_long": Stops.ALL}


def test_a_restart_keeps_a_breaker_open(sink: Sink) -> None:
    sink.take(10, "too_long")
    sink.publish()
    other = sink.restarted()
    assert other.open() == {"too_long": Stops.ALL}
    assert other.take(3, "too_long") == 3


def test_a_release_lets_go_on_and_counting_starts_anew(sink: Sink) -> None:
    sink.take(10, "too_long")
    (opened,) = sink.publish()
    sink.read(released(opened, "ada", int(sink.now * 1000), 60))
    assert sink.open() == {}
    assert sink.take(9, "too_long") == 0
    assert sink.open() == {}
    sink.take(1, "too_long")
    assert sink.open() == {"too_long": Stops.ALL}, "limits of all changes count at once"


def test_a_released_reason_does_not_stop_bulk_runs_until_the_time_is_over(sink: Sink) -> None:
    sink.take(8, "", "backfill")
    sink.take(2, "too_long", "backfill")
    (opened,) = sink.publish()
    sink.read(released(opened, "ada", int(sink.now * 1000), 60))
    sink.take(8, "", "backfill")
    sink.take(2, "too_long", "backfill")
    assert sink.open() == {}
    sink.take(6, "", "backfill")
    sink.take(2, "another", "backfill")
    assert sink.open() == {"another": Stops.BULK}, "the release is of one reason"
    sink.now += 60
    sink.take(1, "too_long", "backfill")
    assert sink.open() == {"too_long": Stops.BULK, "another": Stops.BULK}


def test_a_release_of_an_earlier_opening_does_not_let_a_later_one_go(sink: Sink) -> None:
    sink.take(8, "", "backfill")
    sink.take(2, "too_long", "backfill")
    (first,) = sink.publish()
    sink.take(30, "too_long", "backfill")  # stops everything, and is not on the topic yet
    sink.read(released(first, "ada", int(sink.now * 1000), 60))
    assert sink.open() == {"too_long": Stops.ALL}


def test_what_never_came_to_the_topic_is_forgotten_with_the_partition(sink: Sink) -> None:
    sink.take(10, "too_long")
    assert sink.open()
    sink.failures.forget_unpublished()
    assert sink.open() == {}
    assert sink.publish() == []


def test_redriven_dead_letters_count_for_no_limit_but_wait_like_others(sink: Sink) -> None:
    assert sink.take(100, "too_long", "redrive") == 0
    assert sink.open() == {}
    sink.take(10, "too_long")
    assert sink.take(3, "too_long", "redrive") == 3


def test_opening_and_release_are_logged_for_an_operator(sink: Sink) -> None:
    with capture_logs() as logs:
        sink.take(10, "too_long")
        (opened,) = sink.publish()
        sink.read(released(opened, "ada", int(sink.now * 1000), 60))
    assert [one["reason"] for one in logs] == ["too_long", "too_long"]
    assert logs[0]["remedy"] == "contactstream breakers"
