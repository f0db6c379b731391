"""Keeps when unfinished work was received, so that a stage can tell its lag in seconds."""

import time
from collections.abc import Callable, Hashable


class UnfinishedTimes:
    """The receipt times of pieces of work that are not finished, in epoch milliseconds.

    Taking and finishing cost next to nothing, because they happen for each record. The oldest is
    looked for when it is asked for, some milliseconds for 100,000 pieces: that is once a scrape.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._received: dict[Hashable, int] = {}

    def begin(self, piece: Hashable, received_ms: int) -> None:
        """A piece of work was taken, which was received then. A time of 0 is unknown."""
        if received_ms > 0:
            self._received[piece] = received_ms

    def end(self, piece: Hashable) -> None:
        """The piece is finished; also one of which no time was known."""
        self._received.pop(piece, None)

    def oldest_seconds(self) -> float:
        """When the oldest unfinished piece was received, in epoch seconds, for any thread.

        Now when nothing is unfinished: so the time since then is 0.
        """
        # One step for the interpreter: another thread cannot change the dictionary meanwhile.
        received = list(self._received.values())
        return min(received) / 1000 if received else self._now()
