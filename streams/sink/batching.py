"""Chooses the changes of the next batch: each contact once, at its highest version.

No two batches in flight hold the same person.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from connectors.salesforce.outcome import ContactVersion
from streams.events import ContactChange, Kind, Origin
from streams.kafka.records import KafkaRecord

BULK = frozenset({Origin.BACKFILL, Origin.RECONCILE, Origin.REPLAY})
"""The origins of changes that come from a run of the reader: nobody waits for one of them."""
# Of changes that somebody just made. What is redriven may have come from any run.
LIVE = frozenset({Origin.WEBHOOK, Origin.REFETCH})


@dataclass(frozen=True, slots=True)
class RowAttempts:
    """Faults of a row alone: Salesforce refused the row, and wrote others of the same batch."""

    count: int = 0
    """Attempts that failed."""
    first_failed: float = 0.0
    """When the first of them failed."""
    reason: str = ""
    """Why the last one failed."""
    same_reason: int = 0
    """How many of them failed for that reason, one after the other, up to the last."""


@dataclass(frozen=True, slots=True)
class BatchFailures:
    """Faults of the whole batches that a row was in, where a single row may be the cause."""

    count: int = 0
    """Failures for the same reason, one after the other."""
    reason: str = ""
    """Why the last batch failed."""
    max_rows: int | None = None
    """The largest batch that the row may be in, because it is suspected; None: any."""
    written_before: int = 0
    """How many batches had been written when the first of these failures came."""


NO_ROW_ATTEMPTS = RowAttempts()
NO_BATCH_FAILURES = BatchFailures()


@dataclass(slots=True)
class PendingChange:
    """A contact whose change waits for a batch, or is in one."""

    change: ContactChange
    record: KafkaRecord
    claims: frozenset[str]
    """What no second batch may hold meanwhile: the contact, its addresses, its Account."""
    due: float
    """When the change goes even in a batch that is not full."""
    offsets: list[int] = field(default_factory=list)
    """Of every change that this row stands for. All are finished when the row is."""
    size: int = 0
    """The bytes that the row takes in memory."""
    not_before: float = 0.0
    """The row goes into no batch before this time."""
    row_attempts: RowAttempts = NO_ROW_ATTEMPTS
    batch_failures: BatchFailures = NO_BATCH_FAILURES
    version: ContactVersion | None = None
    """The change as Sync takes it, and as it was read when it was taken in."""

    def for_sync(self) -> ContactVersion:
        """The change as Sync takes it."""
        if self.version is None:
            self.version = contact_version(self.change)
        return self.version

    @property
    def key(self) -> str:
        """The contact key."""
        return self.change.key

    @property
    def is_live(self) -> bool:
        """Whether a person may wait for it: it does not come from a run of the reader."""
        return self.change.origin not in BULK

    @property
    def is_suspected(self) -> bool:
        """Whether it may be the cause that whole batches fail."""
        return self.batch_failures.max_rows is not None


def contact_version(change: ContactChange) -> ContactVersion:
    """The change as Sync takes it."""
    contact = None if change.kind is Kind.DELETED else change.contact
    return ContactVersion(
        change.key,
        change.version,
        contact,
        change.restore,
        live=change.origin in LIVE,
        origin=change.origin,
        erase=change.origin == Origin.ERASURE,
    )


@dataclass(frozen=True, slots=True)
class DueBy:
    """Until when a row must have been due, so that a batch that is not full goes."""

    bulk: float
    live: float

    def is_due(self, row: PendingChange) -> bool:
        """Whether the row must go now, even in a batch that is not full."""
        return row.due <= (self.live if row.is_live else self.bulk)


@dataclass(frozen=True, slots=True)
class CompleteRuns:
    """Bulk changes of which no more come, so that they need not wait for a full batch."""

    end: int = 0
    """They lie before this offset of contacts.changes."""
    fewest: int = 1
    """They go in a batch of so many rows at least, until they are due by their time."""
    soon: float = 0.0
    """Seconds in which a row with a time of its own comes along: they wait for it."""

    def lets_go(self, rows: Sequence[PendingChange]) -> bool:
        """Whether a batch of these rows goes although none of them is due."""
        return len(rows) >= self.fewest and any(
            not row.is_live and row.record.offset < self.end for row in rows
        )


NO_COMPLETE_RUNS = CompleteRuns()


class PendingChanges:
    """The changes that wait for a batch, by contact, in the order of their arrival.

    Rows that may not go before a time of their own are kept apart: they may be many, and wait for
    minutes. Holds no clock and does no I/O: times are handed in, as seconds of any one clock.
    """

    def __init__(self) -> None:
        self._rows: dict[str, PendingChange] = {}
        self._deferred: dict[str, PendingChange] = {}
        self._next_time = inf  # of a deferred row
        self.bytes = 0
        """The bytes that all rows take in memory."""

    def __len__(self) -> int:
        return len(self._rows) + len(self._deferred)

    @property
    def ready(self) -> int:
        """The rows that wait for no time of their own."""
        return len(self._rows)

    def add(self, row: PendingChange) -> bool:
        """Adds a change. True when the contact had one already: one of the two is never written.

        The change of the higher version stays. Of equal versions the later offset stays, because
        the dedupe stage forwarded it on purpose. The fields that either of them restores are
        restored by the one that stays.
        """
        other = self._rows.get(row.key) or self._deferred.get(row.key)
        if other is None:
            self._keep(row)
            return False
        restore = row.change.restore | other.change.restore
        if row.change.version >= other.change.version:
            self.bytes += row.size - other.size
            other.change, other.record, other.claims = row.change, row.record, row.claims
            other.size, other.version = row.size, row.version
            # the failures so far were the older change's
            other.not_before = row.not_before
            other.row_attempts, other.batch_failures = row.row_attempts, row.batch_failures
            self._place(other)
        if restore != other.change.restore:
            other.change, other.version = replace(other.change, restore=restore), None
        other.offsets.extend(row.offsets)
        other.due = min(other.due, row.due)
        return True

    def put_back(self, rows: Iterable[PendingChange]) -> None:
        """Adds the unfinished rows of a batch before all others.

        If a change of the same contact came meanwhile, the higher version stays.
        """
        others, self._rows = self._rows, {}
        for row in rows:
            newer = others.pop(row.key, None) or self._deferred.pop(row.key, None)
            self._keep(row)
            if newer is not None:
                self.bytes -= newer.size
                self.add(newer)
        self._rows |= others

    def _keep(self, row: PendingChange) -> None:
        self.bytes += row.size
        self._place(row)

    def _place(self, row: PendingChange) -> None:
        """Puts a row where its time belongs; it keeps its place if it is there already."""
        mine, other = self._rows, self._deferred
        if row.not_before > 0:
            mine, other = other, mine
            self._next_time = min(self._next_time, row.not_before)
        other.pop(row.key, None)
        mine[row.key] = row

    def defer_bulk(self, until: float) -> None:
        """Changes of bulk runs that wait for no time of their own go into no batch before then."""
        for row in [each for each in self._rows.values() if each.change.origin in BULK]:
            row.not_before = until
            self._place(row)

    def clear(self) -> None:
        """Drops all rows: the partition is gone."""
        self._rows.clear()
        self._deferred.clear()
        self.bytes = 0

    def next_batch(
        self,
        claimed: Collection[str],
        now: float,
        size: int,
        *,
        hurry: bool = False,
        live_due_by: float = inf,
        complete: CompleteRuns = NO_COMPLETE_RUNS,
    ) -> list[PendingChange]:
        """Removes and returns the next batch: up to `size` rows that claim nothing of `claimed`.

        Returns an empty list while fewer than `size` of them wait and none is due. Of live changes
        only those are due that were so by `live_due_by`, too. `complete` may let bulk changes go
        that are not due. In a `hurry` all are due, because no more can come.
        `claimed` must answer `in` quickly. Suspected rows (`batch_failures.max_rows` is set) come
        after all others, in batches of their own; those whose time came first go first.
        """
        if now >= self._next_time:
            self._end_deferral(now)
        if self._next_time <= now + complete.soon:
            complete = NO_COMPLETE_RUNS
        due_by = DueBy(inf, inf) if hurry else DueBy(now, min(now, live_due_by))
        return self._choose(False, claimed, now, due_by, size, complete) or self._choose(
            True, claimed, now, due_by, size, complete
        )

    def _end_deferral(self, now: float) -> None:
        """Puts the rows whose time has come before all others."""
        deferred = self._deferred
        come = {key: row for key, row in deferred.items() if row.not_before <= now}
        self._deferred = {key: row for key, row in deferred.items() if key not in come}
        self._rows = come | self._rows
        self._next_time = min((row.not_before for row in self._deferred.values()), default=inf)

    def _choose(
        self,
        suspected: bool,
        claimed: Collection[str],
        now: float,
        due_by: DueBy,
        size: int,
        complete: CompleteRuns,
    ) -> list[PendingChange]:
        rows: Iterable[PendingChange] = (
            row for row in self._rows.values() if row.is_suspected is suspected
        )
        if suspected:
            rows = sorted(rows, key=lambda row: row.not_before)
        chosen: list[PendingChange] = []
        due = False
        for row in rows:
            if row.not_before > now or any(claim in claimed for claim in row.claims):
                continue
            if suspected:
                size = min(size, row.batch_failures.max_rows or size)
                if len(chosen) >= size:
                    due = True
                    break
            chosen.append(row)
            due = due or due_by.is_due(row)
            if len(chosen) == size:
                due = True
                break
        if not due and not complete.lets_go(chosen):
            return []
        for row in chosen:
            del self._rows[row.key]
            self.bytes -= row.size
        return chosen


def claims_of(rows: Iterable[PendingChange]) -> frozenset[str]:
    """What a batch of these rows claims while it is in flight."""
    return frozenset(claim for row in rows for claim in row.claims)


def is_small_live_batch(rows: Collection[PendingChange], batch_size: int) -> bool:
    """Whether the batch takes one of the allowances of `LivePace`.

    A batch of suspected rows takes none. It keeps the pace of its own back-off, and contacts that
    fail again and again would otherwise take every allowance that comes back.
    """
    if len(rows) >= batch_size or any(row.is_suspected for row in rows):
        return False
    return any(row.is_live for row in rows)
