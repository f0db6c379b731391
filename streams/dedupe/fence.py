"""The fence of the dedupe stage: ends the process before it writes for a partition that it may have
lost.
"""

import time
from collections.abc import Callable

from streams.runtime.exit_codes import Die, ExitCode, die
from streams.runtime.watchdog import Watchdog, elapsed


class HeartbeatFence:
    """Whether the group's coordinator still counts on this process, as far as one can know."""

    def __init__(
        self,
        unheard: Callable[[], float],
        session: float,
        watchdog: Watchdog,
        die: Die = die,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._unheard, self._half, self._watchdog, self._die, self._clock = (
            unheard,
            session / 2,
            watchdog,
            die,
            clock,
        )
        self._holds_until = 0.0

    def check(self) -> None:
        """Right before a record is handed to the producer: ends the process when the partition may
        have a new owner.
        """
        if (
            self._clock() > self._holds_until
        ):  # asked for every record: what held once holds until then
            self._renew()

    def _renew(self) -> None:
        self._watchdog.check()
        now, unheard = self._clock(), self._unheard()
        if unheard > self._half:
            self._die(
                ExitCode.NO_HEARTBEAT, f"the coordinator has not answered for {unheard:.1f} s"
            )
        self._holds_until = min(now - unheard + self._half, self._watchdog.holds_until)

    def wait(self) -> None:
        """Before a batch: gives a coordinator that has just come back the time to answer, so that
        the batch does not end in `check`.
        """
        until = time.monotonic() + self._half
        while self._unheard() > self._half / 2 and time.monotonic() < until:
            time.sleep(0.05)
