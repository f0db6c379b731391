"""Keeps when unfinished work was received, so that a stage can tell its lag in seconds."""

import heapq
import time
from collections import Counter
from collections.abc import Callable


class UnfinishedTimes:
    """The receipt times of work that is not finished, of which the oldest is asked for.

    Times are epoch milliseconds. `begin` and `end` belong to one thread; `oldest_seconds` may be
    called in any, because it reads one list in one step.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._times: list[int] = []  # a heap
        # Times that ended and are in the heap still, because they are not its first.
        self._ended: Counter[int] = Counter()

    def begin(self, received_ms: int) -> None:
        """Work that was received then was taken. A time of 0 is unknown, and not kept."""
        if received_ms > 0:
            heapq.heappush(self._times, received_ms)

    def end(self, received_ms: int) -> None:
        """Work that was received then is finished. Each call belongs to one of `begin`."""
        if received_ms <= 0:
            return
        self._ended[received_ms] += 1
        while self._times and self._ended[self._times[0]]:
            first = heapq.heappop(self._times)
            self._ended[first] -= 1
            if not self._ended[first]:
                del self._ended[first]

    def oldest_seconds(self) -> float:
        """When the oldest unfinished work was received, in epoch seconds.

        Now when nothing is unfinished: so the time since then is 0.
        """
        first = self._times[:1]
        return first[0] / 1000 if first else self._now()
