"""Ends a process that may do harm by going on: at once, as kill -9 would, so that nothing half done
is acknowledged.
"""

import threading
import time
from collections.abc import Callable

import structlog

from streams.runtime.exit_codes import Die, ExitCode, die

log = structlog.get_logger()


# Counts while the machine sleeps, unlike the monotonic clock, and does not jump, unlike the wall
# clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Seconds on a clock that never jumps and never stands still."""
    return time.clock_gettime(_CLOCK)


BEAT = 0.25  # seconds between two looks; small beside half a session of any length in use


class Watchdog:
    """Ends the process when it stood still for longer than `longest` seconds, or when a stop takes
    too long.

    A thread looks every quarter of a second; `check` is for the moment right before something that
    a stranger to the partition must not do.
    """

    def __init__(
        self, longest: float, die: Die = die, clock: Callable[[], float] = elapsed
    ) -> None:
        self._longest = longest
        self._die = die
        self._clock = clock
        self._last = clock()
        self._stop_by: float | None = None

    def start(self) -> None:
        """Looks from now on."""
        self._last = self._clock()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def check(self) -> None:
        """Ends the process if it stood still."""
        still = self._clock() - self._last
        if still > self._longest:
            self._die(
                ExitCode.PAUSED_TOO_LONG,
                f"stood still for {still:.1f} s, more than {self._longest:.1f} s",
            )

    @property
    def holds_until(self) -> float:
        """Until when `check` passes, whatever happens; on the clock given."""
        return self._last + self._longest

    def look(self) -> None:
        """What the thread does each time."""
        self.check()
        self._last = self._clock()
        if self._stop_by is not None and self._last > self._stop_by:
            self._die(ExitCode.STOP_OVERDUE, "the orderly stop did not end in time")

    def stop_within(self, seconds: float) -> None:
        """From now on an orderly stop is under way, and has so many seconds."""
        if self._stop_by is None:
            self._stop_by = self._clock() + seconds

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(BEAT)
