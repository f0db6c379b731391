"""Our own calls of a day, against a limit that people set beside the org's.

Days are those of UTC. Bulk runs stop first, so that live changes have the rest of the day.
"""

import time
from collections.abc import Callable

DAY_SECONDS = 86_400

# Of the limit. What is left is for live changes: two calls a batch, however small it is.
BULK_SHARE = 0.8

_NOTE = "own-calls="


class OwnCalls:
    """Counts calls. `limit` 0 is none; `clock` in epoch seconds.

    The count is noted with commits, so that a successor goes on with it. The calls after the last
    commit of a process that is killed are not in it.
    """

    def __init__(self, limit: int = 0, clock: Callable[[], float] = time.time) -> None:
        self.limit = limit
        self._clock = clock
        self._day = 0
        self._calls = 0

    def note_call(self) -> None:
        """A call is sent."""
        self._calls = self.today + 1

    @property
    def today(self) -> int:
        """The calls of this day. A clock that goes back gives none back."""
        day = int(self._clock()) // DAY_SECONDS
        if day > self._day:
            self._day, self._calls = day, 0
        return self._calls

    @property
    def exhausted(self) -> bool:
        """Whether no call may be made any more today."""
        return 0 < self.limit <= self.today

    @property
    def bulk_waits(self) -> bool:
        """Whether what bulk runs read has to wait for the next day."""
        return self.limit > 0 and self.today >= self.limit * BULK_SHARE

    @property
    def note(self) -> str:
        """The count as a word for the metadata of a commit; empty without a limit."""
        return f"{_NOTE}{self._day}:{self.today}" if self.limit else ""

    def restore(self, metadata: str | None) -> None:
        """Takes the count in the metadata of a commit, if it is of this day and higher."""
        for word in (metadata or "").split():
            day, colon, calls = word.removeprefix(_NOTE).partition(":")
            known = word.startswith(_NOTE) and colon and day.isdecimal() and calls.isdecimal()
            today = self.today
            if known and int(day) == self._day:
                self._calls = max(today, int(calls))
