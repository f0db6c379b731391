"""A batch: rows that are written together."""

from dataclasses import dataclass

from streams.sink.assignment import Assignment
from streams.sink.batching import PendingChange
from streams.sink.fence import BatchFence


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are written together, and the assignment that they belong to."""

    assignment: Assignment
    rows: list[PendingChange]
    fence: BatchFence

    @property
    def is_suspected(self) -> bool:
        """Whether one of its rows may be the cause that whole batches fail."""
        return any(row.is_suspected for row in self.rows)
