"""The fence of dedupe: no record is published for a partition that may belong to another worker."""

import time
from collections.abc import Callable

from streams.runtime.exit_codes import Die, ExitCode, die
from streams.runtime.watchdog import Watchdog, elapsed

# Between two checks whether the coordinator has answered.
HEARTBEAT_CHECK_SECONDS = 0.05


class HeartbeatFence:
    """Ends the process when the group may have assigned its partitions to another worker.

    That is after a pause, or without an answered heartbeat, of half of the session time-out.
    `seconds_unheard` are those since the coordinator last received a heartbeat.
    """

    def __init__(
        self,
        seconds_unheard: Callable[[], float],
        session: float,
        watchdog: Watchdog,
        die: Die = die,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._seconds_unheard = seconds_unheard
        self._half_session = session / 2
        self._watchdog = watchdog
        self._die = die
        self._clock = clock
        self._holds_until = 0.0

    def check(self) -> None:
        """Ends the process if its partitions may be lost.

        To be called right before each record that is given to the producer.
        """
        # It is called for each record, so the result is kept for as long as it certainly holds.
        if self._clock() > self._holds_until:
            self._renew()

    def _renew(self) -> None:
        self._watchdog.check()
        now, unheard = self._clock(), self._seconds_unheard()
        if unheard > self._half_session:
            self._die(
                ExitCode.NO_HEARTBEAT, f"the coordinator has not answered for {unheard:.1f} s"
            )
        self._holds_until = min(now - unheard + self._half_session, self._watchdog.holds_until)

    def wait(self) -> None:
        """Gives a coordinator that has just come back the time to answer. Blocks.

        To be called before a batch, so that the batch does not end in `check`.
        """
        until = time.monotonic() + self._half_session
        while self._seconds_unheard() > self._half_session / 2 and time.monotonic() < until:
            time.sleep(HEARTBEAT_CHECK_SECONDS)
