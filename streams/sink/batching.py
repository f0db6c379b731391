"""Which waiting changes go into the next batch: each contact once, at its highest version, and no
person in two batches at once.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from streams.events import ContactChange
from streams.kafka.records import KafkaRecord


@dataclass(slots=True)
class PendingChange:
    """A contact whose change waits, or is at work.

    `offsets` are those of every change that this row stands for; all of them are finished when it
    is. `claims` are what no second batch may hold meanwhile: the contact, its addresses, the
    Account that it would belong to. `due` is when it goes even in a batch that is not full.
    `attempts` and the four after it are about faults of this row alone; `failures` and the three
    after it about those of the whole batches that it was in: how often, how, how many rows it may
    be with since, and how many batches had been written before.
    """

    change: ContactChange
    record: KafkaRecord
    claims: frozenset[str]
    due: float
    offsets: list[int] = field(default_factory=list)
    attempts: int = 0
    not_before: float = 0.0
    first_failed: float = 0.0
    refused_for: str = ""
    refused_equally: int = 0
    failures: int = 0
    failed_as: str = ""
    together: int | None = None
    written_before: int = 0

    @property
    def key(self) -> str:
        """The contact key."""
        return self.change.key


_OF_FAULTS = (
    *("attempts", "not_before", "first_failed", "refused_for", "refused_equally"),
    *("failures", "failed_as", "together", "written_before"),
)


class PendingChanges:
    """The changes that wait for a batch, by contact, in the order of their arrival.

    Holds no clock and does no I/O: times are handed in, seconds of any one clock.
    """

    def __init__(self) -> None:
        self._rows: dict[str, PendingChange] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: PendingChange) -> bool:
        """A change arrives. True when it met another of its contact, so that one of the two is
        never written.

        The higher version stays; of equal ones the later offset, which the dedupe stage let win.
        """
        other = self._rows.get(row.key)
        if other is None:
            self._rows[row.key] = row
            return False
        newer = row if row.change.version >= other.change.version else other
        other.change, other.record, other.claims = newer.change, newer.record, newer.claims
        other.offsets.extend(row.offsets)
        other.due = min(other.due, row.due)
        if newer is row:  # what it failed with was the older change
            for name in _OF_FAULTS:
                setattr(other, name, getattr(row, name))
        return True

    def put_back(self, rows: Iterable[PendingChange]) -> None:
        """Rows of a batch that were not finished wait again, before all others; a change that came
        meanwhile is kept by version.
        """
        newer = self._rows
        self._rows = {}
        for row in rows:
            self._rows[row.key] = row
        for row in newer.values():
            self.add(row)

    def clear(self) -> None:
        """The partition is somebody else's now."""
        self._rows.clear()

    def next_batch(self, claimed: Collection[str], now: float, size: int) -> list[PendingChange]:
        """Takes the next batch out: up to `size` rows that claim nothing of `claimed`, once `size`
        of them wait or one is due.

        Returns an empty list when it is too early. `claimed` must answer `in` quickly. Rows of
        batches that are suspected (`together` is set) come after all others, in batches of their
        own, those first whose time came first.
        """
        return self._choose(False, claimed, now, size) or self._choose(True, claimed, now, size)

    def _choose(
        self, suspected: bool, claimed: Collection[str], now: float, size: int
    ) -> list[PendingChange]:
        rows: Iterable[PendingChange] = (
            row for row in self._rows.values() if (row.together is not None) is suspected
        )
        if suspected:
            rows = sorted(rows, key=lambda row: row.not_before)
        chosen: list[PendingChange] = []
        due = False
        for row in rows:
            if row.not_before > now or any(claim in claimed for claim in row.claims):
                continue
            size = min(size, row.together or size)
            if len(chosen) >= size:
                due = True
                break
            chosen.append(row)
            due = due or row.due <= now
            if len(chosen) == size:
                due = True
                break
        if not due:
            return []
        for row in chosen:
            del self._rows[row.key]
        return chosen


def claims_of(rows: Iterable[PendingChange]) -> set[str]:
    """What a batch holds while it is at work."""
    return {claim for row in rows for claim in row.claims}


def backoff(
    attempt: int, jitter: Callable[[], float], first: float = 1.0, longest: float = 60.0
) -> float:
    """Seconds before the next attempt: doubled each time, with full jitter upwards of a half, so
    that rows that met on a lock part.

    `jitter` returns a number from 0 to 1.
    """
    ceiling = min(longest, first * 2.0 ** min(attempt, 30))
    return ceiling * (0.5 + jitter() / 2)
