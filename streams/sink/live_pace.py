"""When live changes may go in a batch that is not full.

On a quiet system they go at once. Under a steady trickle they gather, so that live batches take no
more than a share of the org's daily calls: one change a second, each in a batch of its own, would
take 172,800 calls a day.
"""

import time
from collections.abc import Callable
from math import inf

# Each batch: one Composite of queries, and one of collections.
CALLS_OF_A_BATCH = 2
DAY_SECONDS = 86_400.0
# The daily calls of a Developer Edition, which has the fewest, until the org says its own limit:
# Salesforce Developer Limits and Allocations Quick Reference, API Request Limits.
SMALLEST_DAILY_CALLS = 15_000
# So much of a day's allowance may be spent in a burst; it is saved up in quiet times.
SAVED_SHARE = 1 / 24
# A day, whatever the share: one that is saved, and one that comes back.
FEWEST_BATCHES = 2.0


class LivePace:
    """Spends a share of the daily calls on live batches that are not full.

    Allowances are counted in batches. They come back evenly over the day, and what is not spent is
    saved up to SAVED_SHARE of a day's. While half of that is there, nothing waits. Below, the time
    between two batches grows, up to the time in which one allowance comes back. In no 24 hours of
    a process more than the share is spent.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`share` of the daily calls, above 0, at most 1."""
        self._share = share
        self._clock = clock
        self._daily_calls = SMALLEST_DAILY_CALLS
        self._saved = self._most_saved
        self._counted_at = clock()
        self._last_batch = -inf

    def daily_calls(self, calls: int) -> None:
        """The org said how many calls it allows in 24 hours."""
        if calls <= 0 or calls == self._daily_calls:
            return
        self._count()
        full = self._saved / self._most_saved
        self._daily_calls = calls
        self._saved = full * self._most_saved

    @property
    def _batches_a_day(self) -> float:
        return max(FEWEST_BATCHES, self._daily_calls * self._share / CALLS_OF_A_BATCH)

    @property
    def _most_saved(self) -> float:
        return max(1.0, self._batches_a_day * SAVED_SHARE)

    @property
    def _seconds_for_one(self) -> float:
        """In which one allowance comes back."""
        return DAY_SECONDS / (self._batches_a_day - self._most_saved)

    @property
    def seconds_between(self) -> float:
        """Between two live batches that are not full, as things stand."""
        self._count()
        return self._seconds_for_one * max(0.0, 1 - 2 * self._saved / self._most_saved)

    @property
    def may_start(self) -> bool:
        """Whether a live batch that is not full may start now."""
        waited = self._clock() - self._last_batch
        return waited >= self.seconds_between and self._saved >= 1

    def started(self) -> None:
        """A live batch that is not full starts."""
        self._count()
        self._saved = max(0.0, self._saved - 1)
        self._last_batch = self._clock()

    def _count(self) -> None:
        now = self._clock()
        came_back = (now - self._counted_at) / self._seconds_for_one
        self._saved = min(self._most_saved, self._saved + came_back)
        self._counted_at = now
