"""Which offset of a partition may be committed: the end of the unbroken run of finished records."""

from collections import deque


class OffsetTracker:
    """The records of one partition that were taken and are not committed yet.

    Records come in the order of their offsets, with holes where a topic is compacted, and finish in any order.
    """

    def __init__(self) -> None:
        self._taken: deque[int] = deque()  # from the oldest unfinished one
        self._finished: set[int] = set()
        self._uncommitted: deque[int] = deque()  # finished, before the oldest unfinished one
        self._next = -1

    def __len__(self) -> int:
        """Records taken since the last commit: what a successor may have to repeat."""
        return len(self._taken) + len(self._uncommitted)

    @property
    def position(self) -> int:
        """The offset after the last record taken; -1 before the first."""
        return self._next

    def take(self, offset: int) -> None:
        """A record was taken. Raises ValueError when it is not behind the last one: the position went back."""
        if offset < self._next:
            raise ValueError(f"offset {offset} was taken after {self._next - 1}")
        self._taken.append(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """The record's fate is acknowledged on a topic."""
        self._finished.add(offset)

    def committable(self) -> int | None:
        """The offset to commit: that of the oldest unfinished record, or the one after the last. None before the first."""
        while self._taken and self._taken[0] in self._finished:
            self._finished.discard(self._taken[0])
            self._uncommitted.append(self._taken.popleft())
        if self._taken:
            return self._taken[0]
        return self._next if self._next >= 0 else None

    def committed(self, offset: int) -> None:
        """The broker knows this offset now."""
        while self._uncommitted and self._uncommitted[0] < offset:
            self._uncommitted.popleft()
