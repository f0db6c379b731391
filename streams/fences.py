"""Ends a process that may do harm by going on: at once, as kill -9 would, so that nothing half done is acknowledged."""

import os
import sys
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn

import structlog

log = structlog.get_logger()


class Exit(IntEnum):
    """Why a process ended itself: its exit code. What a shell or Python uses by itself (0, 1, 2, 126 and more) is left out.

    README.md says to operators what each means.
    """

    STOOD_STILL = 70
    """It was paused for so long that its partitions may have a new owner."""
    NOT_ACKNOWLEDGED = 71
    """The broker did not acknowledge a record in time."""
    UNEXPECTED = 72
    """An error that nobody foresaw, in the middle of a batch."""
    HOLE = 73
    """Records of the log did not reach the stage; going on would commit past them."""
    OFFSETS_EXPIRED = 74
    """The committed offset lies below the start of the log: records were lost to retention."""
    STOP_OVERDUE = 75
    """An orderly stop took longer than the grace period allows."""
    CRASHED = 76
    """A service inside the process crashed."""
    NO_HEARTBEAT = 77
    """The group's coordinator has not heard of it for so long that its partitions may have a new owner."""
    UNREADABLE_STATE = 78
    """The table's changelog holds what this version cannot read."""
    PARTITIONS_DIFFER = 79
    """Topics that must share their partitioning do not."""
    KAFKA_REFUSED = 80
    """Kafka refused the login or a record, or its client cannot go on."""
    NO_COORDINATOR = 81
    """Kafka gave it a partition, and then did not say for long where to start in it."""
    INCOMPATIBLE = 82
    """The installed Faust is not the one that this version was made for."""


def die(code: Exit, reason: str, **context: object) -> NoReturn:
    """Says why and ends the process without running anything more: no `finally`, no commit, no goodbye to the group."""
    log.critical("the process ends itself", exit=code.name.lower(), code=int(code), reason=reason, **context)
    sys.stderr.flush()
    os._exit(code)


Die = Callable[[Exit, str], NoReturn]

# Counts while the machine sleeps, unlike the monotonic clock, and does not jump, unlike the wall clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Seconds on a clock that never jumps and never stands still."""
    return time.clock_gettime(_CLOCK)


BEAT = 0.25  # seconds between two looks; small beside half a session of any length in use


class Watchdog:
    """Ends the process when it stood still for longer than `longest` seconds, or when a stop takes too long.

    A thread looks every quarter of a second; `check` is for the moment right before something that a stranger to the partition must not do.
    """

    def __init__(self, longest: float, die: Die = die, clock: Callable[[], float] = elapsed) -> None:
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
            self._die(Exit.STOOD_STILL, f"stood still for {still:.1f} s, more than {self._longest:.1f} s")

    @property
    def holds_until(self) -> float:
        """Until when `check` passes, whatever happens; on the clock given."""
        return self._last + self._longest

    def look(self) -> None:
        """What the thread does each time."""
        self.check()
        self._last = self._clock()
        if self._stop_by is not None and self._last > self._stop_by:
            self._die(Exit.STOP_OVERDUE, "the orderly stop did not end in time")

    def stop_within(self, seconds: float) -> None:
        """From now on an orderly stop is under way, and has so many seconds."""
        if self._stop_by is None:
            self._stop_by = self._clock() + seconds

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(BEAT)
