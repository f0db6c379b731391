"""A clock that is an hour off is measured and named."""

from email.utils import formatdate

import pytest
from prometheus_client import CollectorRegistry, Gauge
from structlog.testing import capture_logs

from streams.events import CLOCK_DIFFERENCE_SECONDS
from streams.runtime.wall_clock import (
    CLOCK_BOUND_SECONDS,
    WARNING_SECONDS,
    ClockWatch,
    clock_fault,
    seconds_ahead,
)
from tests.support.death import Clock

NOW = 1_800_000_000.0


def test_the_bound_is_that_of_the_times_of_events() -> None:
    assert CLOCK_BOUND_SECONDS == CLOCK_DIFFERENCE_SECONDS


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (NOW, ""),
        (NOW + CLOCK_BOUND_SECONDS, ""),
        (NOW + 3600, "the clock of this machine is 3600 s ahead of the clock of Nylas"),
        (NOW - 3600, "the clock of this machine is 3600 s behind the clock of Nylas"),
    ],
)
def test_a_difference_above_the_bound_is_a_fault(ours: float, said: str) -> None:
    assert clock_fault(seconds_ahead(formatdate(NOW, usegmt=True), ours), "Nylas") == said


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Foo 99999 99:99:99 GMT"])
def test_an_answer_without_a_usable_date_proves_nothing(date: str | None) -> None:
    assert seconds_ahead(date, NOW) is None
    assert clock_fault(None, "Nylas") == ""


def test_a_wrong_clock_is_logged_once_an_hour_and_measured_with_each_answer() -> None:
    ours, elapsed = Clock(NOW), Clock(0.0)
    gauge = Gauge("ahead", "Seconds.", registry=CollectorRegistry())
    watch = ClockWatch("Nylas", gauge, ours, elapsed)
    date = formatdate(NOW, usegmt=True)
    with capture_logs() as lines:
        watch.on_date(date)
        assert lines == []
        ours.now += 7200
        for _ in range(3):
            watch.on_date(date)
        elapsed.now += WARNING_SECONDS
        watch.on_date(date)
        watch.on_date(None)
    assert [(line["log_level"], line["fault"]) for line in lines] == [
        ("warning", "the clock of this machine is 7200 s ahead of the clock of Nylas")
    ] * 2
    assert "NTP" in lines[0]["remedy"]
    assert gauge._value.get() == watch.ahead == 7200.0
