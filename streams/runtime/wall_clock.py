"""Compares the clock of this machine with those of the services that it calls.

A clock that is an hour off breaks things far from it: logins are refused, contacts are read too
early or much too late, events look stale. So its difference is measured and named.
"""

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

import structlog
from prometheus_client import Gauge

log = structlog.get_logger()

# As much as events may differ (`streams.events.CLOCK_DIFFERENCE_SECONDS`). Machines with NTP differ
# by far less than a second, and a Date header is exact to a second.
CLOCK_BOUND_SECONDS = 60.0

# Between two log lines about the same service: nobody sets a clock sooner.
WARNING_SECONDS = 3600.0

CLOCK_REMEDY = "set the clock of this machine by NTP"


def seconds_ahead(date: str | None, now: float) -> float | None:
    """Seconds that our clock, `now`, is ahead of a server's, by the Date header of its answer.

    Negative when it is behind; None where the header is absent or unreadable. Never raises.
    """
    if not date:
        return None
    try:
        moment = parsedate_to_datetime(date)
        return now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def clock_fault(ahead: float | None, service: str) -> str:
    """What is wrong with our clock, for an operator; empty if it is within the bound or unknown."""
    if ahead is None or abs(ahead) <= CLOCK_BOUND_SECONDS:
        return ""
    word = "ahead of" if ahead > 0 else "behind"
    return f"the clock of this machine is {abs(ahead):.0f} s {word} the clock of {service}"


class ClockWatch:
    """Measures the difference with each answer of a service, and warns of a clock that is wrong.

    `clock` is our own, in epoch seconds; `elapsed` a monotonic one.
    """

    def __init__(
        self,
        service: str,
        gauge: Gauge | None = None,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service, self._gauge = service, gauge
        self._clock, self._elapsed = clock, elapsed
        self._quiet_until: float | None = None
        self.ahead: float | None = None
        """Seconds that our clock was ahead at the last answer; None before the first."""

    @property
    def fault(self) -> str:
        """As `clock_fault`, for the last answer."""
        return clock_fault(self.ahead, self.service)

    def on_date(self, date: str | None) -> None:
        """Takes in the Date header of an answer that has just come."""
        ahead = seconds_ahead(date, self._clock())
        if ahead is None:
            return
        self.ahead = ahead
        if self._gauge is not None:
            self._gauge.set(ahead)
        if self.fault and (self._quiet_until is None or self._elapsed() >= self._quiet_until):
            self._quiet_until = self._elapsed() + WARNING_SECONDS
            log.warning("the clock is wrong", fault=self.fault, remedy=CLOCK_REMEDY)
