"""Ends a process that was paused for too long, or whose orderly stop takes too long.

The process ends at once, as by kill -9, so that unfinished work is not acknowledged.
"""

import threading
import time
from collections.abc import Callable

from streams.runtime.exit_codes import Die, EndFinished, ExitCode, die, end_finished

# CLOCK_BOOTTIME counts while the machine sleeps, unlike the monotonic clock, and does not jump,
# unlike the wall clock. Only Linux has it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Seconds on a clock that never jumps and never stops."""
    return time.clock_gettime(_CLOCK)


# Between two ticks of the watchdog's thread. Small beside half of any session time-out in use.
TICK_SECONDS = 0.25


class Watchdog:
    """Ends the process after a pause longer than `longest` seconds, or when a stop is overdue.

    A thread measures the time between its ticks. `check` is called besides right before an action
    that only the owner of a partition may take.
    """

    def __init__(
        self,
        longest: float,
        die: Die = die,
        clock: Callable[[], float] = elapsed,
        end_finished: EndFinished = end_finished,
    ) -> None:
        self._longest = longest
        self._die, self._end_finished = die, end_finished
        self._clock = clock
        self._last_tick = clock()
        self._stop_by: float | None = None
        self._status: int | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._last_tick = self._clock()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def check(self) -> None:
        """Ends the process if it was paused for too long, and still has work."""
        if self._status is not None:
            return
        paused = self._clock() - self._last_tick
        if paused > self._longest:
            self._die(
                ExitCode.PAUSED_TOO_LONG,
                f"was paused for {paused:.1f} s, more than {self._longest:.1f} s",
            )

    @property
    def holds_until(self) -> float:
        """Until when `check` certainly passes; a moment of the clock given."""
        return self._last_tick + self._longest

    def tick(self) -> None:
        """Checks for a pause and for an overdue stop; called by the thread."""
        self.check()
        self._last_tick = self._clock()
        if self._stop_by is not None and self._last_tick > self._stop_by:
            if self._status is not None:
                self._end_finished(self._status)
            self._die(ExitCode.STOP_OVERDUE, "the orderly stop did not end in time")

    def stop_within(self, seconds: float) -> None:
        """From now on an orderly stop is under way, and has so many seconds.

        A second call does not extend the time.
        """
        if self._stop_by is None:
            self._stop_by = self._clock() + seconds

    def work_done(self, status: int) -> None:
        """Everything is committed, and the process is no member of its group any more.

        From now on a pause does no harm. The process ends with this exit status, also when its
        interpreter does not end before the stop is overdue.
        """
        self._status = status

    def _watch(self) -> None:
        while True:
            self.tick()
            time.sleep(TICK_SECONDS)
