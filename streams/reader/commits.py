"""When the offset of a partition that is read by assignment is committed."""

import time

from streams.kafka.assigned import AssignedPartition

# Kafka forgets the offsets of a group without members after a week by default
# (offsets.retention.minutes). An hour is far below that.
RECOMMIT_SECONDS = 3600.0


class OffsetCommitter:
    """Commits the offset of a partition when it has moved, and once an hour even if it has not.

    `committed` is the offset that the broker has. Two commits of a moving offset are at least
    `interval_seconds` apart.
    """

    def __init__(
        self, source: AssignedPartition, committed: int, interval_seconds: float = 0.0
    ) -> None:
        self.committed = committed
        self._source, self._interval_seconds = source, interval_seconds
        self._committed_at = time.monotonic()

    async def commit_if_due(self, offset: int) -> None:
        """Commits `offset` if it is due. A refused commit is repeated with the next call."""
        elapsed = time.monotonic() - self._committed_at
        moved = offset != self.committed and elapsed >= self._interval_seconds
        if (moved or elapsed > RECOMMIT_SECONDS) and await self._source.commit(offset):
            self.committed, self._committed_at = offset, time.monotonic()
