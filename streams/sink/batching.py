"""Chooses the changes of the next batch: each contact once, at its highest version.

No two batches in flight hold the same person.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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


class ClaimIndex:
    """Which waiting rows claim the same address or Account, by their contact keys."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, None]] = {}  # of each claim, in the order of arrival

    def add(self, row: PendingChange) -> None:
        """A row waits."""
        for claim in row.claims:
            if claim != row.key:  # nobody else claims that
                self._keys.setdefault(claim, {})[row.key] = None

    def remove(self, row: PendingChange) -> None:
        """A row waits no more, or will claim something else."""
        for claim in row.claims:
            keys = self._keys.get(claim)
            if keys is not None:
                keys.pop(row.key, None)
                if not keys:
                    del self._keys[claim]

    def clear(self) -> None:
        """No row waits."""
        self._keys.clear()

    def sharing(self, claim: str) -> Collection[str]:
        """The keys of the rows that share a claim; empty if only one row has it."""
        keys = self._keys.get(claim, {})
        return keys if len(keys) > 1 else ()


class PendingChanges:
    """The changes that wait for a batch, by contact, in the order of their arrival.

    Rows that may not go before a time of their own are kept apart: they may be many, and wait for
    minutes. Holds no clock and does no I/O: times are handed in, as seconds of any one clock.
    """

    def __init__(self) -> None:
        self._rows: dict[str, PendingChange] = {}
        self._deferred: dict[str, PendingChange] = {}
        self._claims = ClaimIndex()
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
            self._claims.remove(other)
            other.change, other.record, other.claims = row.change, row.record, row.claims
            self._claims.add(other)
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
            if newer is not None:
                self._forget(newer)
            self._keep(row)
            if newer is not None:
                self.add(newer)
        self._rows |= others

    def _keep(self, row: PendingChange) -> None:
        self.bytes += row.size
        self._claims.add(row)
        self._place(row)

    def _forget(self, row: PendingChange) -> None:
        self.bytes -= row.size
        self._claims.remove(row)

    def _place(self, row: PendingChange) -> None:
        """Puts a row where its time belongs; it keeps its place if it is there already."""
        mine, other = self._rows, self._deferred
        if row.not_before > 0:
            mine, other = other, mine
            self._next_time = min(self._next_time, row.not_before)
        other.pop(row.key, None)
        mine[row.key] = row

    def claim_again(self, claims: Callable[[PendingChange], frozenset[str]]) -> None:
        """Each row claims what `claims` says of it now: more may be known than when it came."""
        for row in (*self._rows.values(), *self._deferred.values()):
            self._claims.remove(row)
            row.claims = claims(row)
            self._claims.add(row)

    def defer_bulk(self, until: float) -> None:
        """Changes of bulk runs that wait for no time of their own go into no batch before then."""
        for row in [each for each in self._rows.values() if each.change.origin in BULK]:
            row.not_before = until
            self._place(row)

    def clear(self) -> None:
        """Drops all rows: the partition is gone."""
        self._rows.clear()
        self._deferred.clear()
        self._claims.clear()
        self.bytes = 0

    def next_batch(
        self,
        claimed: Collection[str],
        now: float,
        size: int,
        *,
        hurry: bool = False,
        live_due_by: float = inf,
        suspected: bool = True,
        complete: CompleteRuns = NO_COMPLETE_RUNS,
    ) -> list[PendingChange]:
        """Removes and returns the next batch: up to `size` rows that claim nothing of `claimed`.

        The rows that came first go first. Each takes those along that share an address or an
        Account with it: in a batch of their own they would wait for the end of this one.
        Returns an empty list while fewer than `size` of them wait and none is due. Of live changes
        only those are due that were so by `live_due_by`, too. `complete` may let bulk changes go
        that are not due. In a `hurry` all are due, because no more can come.
        `claimed` must answer `in` quickly. Suspected rows (`batch_failures.max_rows` is set) come
        after all others, in batches of their own, those whose time came first go first; without
        `suspected` none goes.
        """
        if now >= self._next_time:
            self._end_deferral(now)
        if self._next_time <= now + complete.soon:
            complete = NO_COMPLETE_RUNS
        due_by = DueBy(inf, inf) if hurry else DueBy(now, min(now, live_due_by))
        chosen, due = self._gather(claimed, now, due_by, size)
        if not due and not complete.lets_go(chosen):
            if not suspected:
                return []
            chosen, due = self._gather_suspected(claimed, now, due_by, size)
            if not due and not complete.lets_go(chosen):
                return []
        for row in chosen:
            del self._rows[row.key]
            self._forget(row)
        return chosen

    def _end_deferral(self, now: float) -> None:
        """Puts the rows whose time has come before all others."""
        deferred = self._deferred
        come = {key: row for key, row in deferred.items() if row.not_before <= now}
        self._deferred = {key: row for key, row in deferred.items() if key not in come}
        self._rows = come | self._rows
        self._next_time = min((row.not_before for row in self._deferred.values()), default=inf)

    def _gather(
        self, claimed: Collection[str], now: float, due_by: DueBy, size: int
    ) -> tuple[list[PendingChange], bool]:
        """Rows that are not suspected, and whether they go now."""

        def may_go(row: PendingChange) -> bool:
            return row.not_before <= now and not row.is_suspected and row.claims.isdisjoint(claimed)

        chosen: dict[str, PendingChange] = {}
        seen: set[str] = set()  # claims whose rows were looked at
        for first in self._rows.values():
            if first.key in chosen or not may_go(first):
                continue
            chosen[first.key] = first
            along = [first]
            while along and len(chosen) < size:
                for key in self._sharing(along.pop(), seen):
                    row = self._rows.get(key)
                    if row is None or key in chosen or not may_go(row):
                        continue
                    chosen[key] = row
                    along.append(row)
                    if len(chosen) == size:
                        break
            if len(chosen) == size:
                break
        rows = list(chosen.values())
        return rows, len(rows) == size or any(map(due_by.is_due, rows))

    def _sharing(self, row: PendingChange, seen: set[str]) -> Iterator[str]:
        """The keys of the rows that share a claim with this one; each claim is looked at once."""
        for claim in row.claims:
            if claim not in seen and (keys := self._claims.sharing(claim)):
                seen.add(claim)
                yield from keys

    def _gather_suspected(
        self, claimed: Collection[str], now: float, due_by: DueBy, size: int
    ) -> tuple[list[PendingChange], bool]:
        """Suspected rows, those whose time came first, and whether they go now."""
        suspected = (row for row in self._rows.values() if row.is_suspected)
        chosen: list[PendingChange] = []
        for row in sorted(suspected, key=lambda row: row.not_before):
            if row.not_before > now or not row.claims.isdisjoint(claimed):
                continue
            size = min(size, row.batch_failures.max_rows or size)
            if len(chosen) >= size:
                return chosen, True
            chosen.append(row)
            if len(chosen) == size:
                return chosen, True
        return chosen, any(map(due_by.is_due, chosen))


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
