"""The fence of dedupe: no record is published for a partition that may belong to another worker."""

import math
import time
from collections.abc import Callable

from streams.runtime.exit_codes import Die, ExitCode, die
from streams.runtime.watchdog import Watchdog, elapsed

# Between two checks whether the coordinator has answered.
HEARTBEAT_CHECK_SECONDS = 0.05

# How long a worker waits for the coordinator, or for the leader of a partition, before it ends
# itself. When a broker dies, its successors are elected once the controller has missed its
# heartbeats for `broker.session.timeout.ms`, 9 s by default. If the broker was the controller too,
# another one is elected first, which takes some seconds. This is twice that.
ELECTION_SECONDS = 30.0

LOST = math.inf
"""Seconds without a heartbeat of a worker that the coordinator does not count as a member."""


class HeartbeatFence:
    """Lets no record pass while the group may have assigned its partitions to another worker.

    That is after a pause of half of the session time-out, which ends the process, or without an
    answered heartbeat for as long. An answered heartbeat proves that the partitions were not
    assigned to another worker meanwhile, so the worker waits for it for up to ELECTION_SECONDS.
    Then, or when the coordinator does not count it as a member, it ends the process.

    `seconds_unheard` are those since the coordinator last received a heartbeat, or LOST.
    """

    def __init__(
        self,
        seconds_unheard: Callable[[], float],
        session: float,
        watchdog: Watchdog,
        die: Die = die,
        clock: Callable[[], float] = elapsed,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds_unheard = seconds_unheard
        self._half_session = session / 2
        self._watchdog = watchdog
        self._die = die
        self._clock, self._sleep = clock, sleep
        self._holds_until = 0.0

    def check(self) -> None:
        """Returns when the partitions are certainly still those of this worker, or ends it.

        To be called right before each record that is given to the producer. Blocks while the
        coordinator does not answer.
        """
        # It is called for each record, so the result is kept for as long as it certainly holds.
        if self._clock() > self._holds_until:
            self._renew()

    def _renew(self) -> None:
        self._watchdog.check()
        unheard = self._wait_until_heard(self._half_session)
        self._watchdog.check()
        self._holds_until = min(
            self._clock() - unheard + self._half_session, self._watchdog.holds_until
        )

    def wait(self) -> None:
        """Gives a coordinator that has just come back the time to answer. Blocks.

        To be called before a batch, so that the batch does not have to wait in `check`.
        """
        self._wait_until_heard(self._half_session / 2)

    def _wait_until_heard(self, longest: float) -> float:
        """Waits for a heartbeat that is at most so old; returns its age in seconds."""
        until = self._clock() + ELECTION_SECONDS
        while (unheard := self._seconds_unheard()) > longest:
            if unheard == LOST:
                self._die(ExitCode.NO_HEARTBEAT, "the group does not count this worker as a member")
            if self._clock() > until:
                self._die(
                    ExitCode.NO_HEARTBEAT, f"the coordinator has not answered for {unheard:.1f} s"
                )
            self._sleep(HEARTBEAT_CHECK_SECONDS)
        return unheard
