"""What the sink may write: the mode, and how much of it before a person has to look.

1. Creations have a limit for each day, and one for each day and grant. Replaced values have one for
   each hour, which holds changes of bulk runs only: live changes of existing records go on.
2. What is beyond a limit is held. Nothing of it is written, its outcome says why, and
   `contactstream held release` offers it again in a run whose changes pass every limit.
3. What batches in flight may still write counts as written, until their outcomes are counted.
4. Creations are held while more of the org's data storage is used than its share.
5. While creations are paused every creation is held, also one that was released.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from connectors.salesforce.api.budget import Usage
from connectors.salesforce.api.own_calls import OwnCalls
from connectors.salesforce.outcome import Outcome, OutcomeStatus
from connectors.salesforce.person import grant_of
from connectors.salesforce.write_mode import WriteMode
from connectors.salesforce.write_rules import IntendedWrite
from streams.control import ControlTable, PausedPart
from streams.held import HeldReason
from streams.kafka.records import header
from streams.metrics import SinkMetrics
from streams.sink.batching import BULK, PendingChange
from streams.sink.spent import Spent

# Creations between two looks at the org's data storage: 4 MB, at the 2 KB that Salesforce counts
# for a Contact or a Lead (Help, "Salesforce Record Size Overview"). A small first sync costs no
# call.
CREATIONS_BETWEEN_STORAGE = 2000

# Where the storage is used up, people make room, or buy some, in hours.
STORAGE_AGAIN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is written before the rest is held; 0 is no limit."""

    creations_per_day: int = 0
    creations_per_grant: int = 0
    replaced_per_hour: int = 0
    storage_share: float = 1.0
    """Of the org's data storage; 1 is no limit."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What decides whether the limits count for the change of a contact."""

    bulk: bool
    """Whether it comes from a backfill, a reconcile or a replay."""
    released: bool
    """Whether a person released it."""
    restores: bool
    """Whether a person asked for its values to replace others."""


@dataclass(slots=True)
class _Reserved:
    """What batches in flight may still write."""

    creations: int = 0
    of_grant: Counter[str] = field(default_factory=Counter)
    replaced: int = 0

    def add(self, grant: str, write: IntendedWrite, sign: int = 1) -> None:
        self.creations += sign * write.creates
        self.replaced += sign * write.replaced
        if write.creates:
            self.of_grant[grant] += sign
            if not self.of_grant[grant]:
                del self.of_grant[grant]


class WriteLimits:
    """What the sink may write now. Used in the event loop only; `clock` in epoch seconds."""

    def __init__(
        self,
        table: ControlTable,
        start_mode: WriteMode = WriteMode.MIRROR,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        own_calls: OwnCalls | None = None,
    ) -> None:
        """`table` is contactstream.control; `start_mode` counts while no mode is in it."""
        self.own_calls = own_calls or OwnCalls()
        self._table = table
        self._start_mode = start_mode
        self._limits = limits or Limits()
        self._clock = clock
        self.spent = Spent()
        """What was written; of a predecessor too, once `restore` was called."""
        self._reserved = _Reserved()
        self._storage: Usage | None = None
        self._storage_asked_at = -STORAGE_AGAIN_SECONDS
        self._created_since_storage = 0

    @property
    def mode(self) -> WriteMode:
        """The mode in force."""
        return self._start_mode if self._table.mode is None else self._table.mode.mode

    def restore(self, spent: Spent) -> None:
        """Takes what was written until now, by whomever; before the first batch of a writer."""
        self.spent = spent
        self._created_since_storage = max(self._created_since_storage, spent.creations)

    def storage_is_due(self) -> bool:
        """Whether the org has to be asked now how much of its data storage is used.

        Whoever is told so has to ask, and to call `take_storage`.
        """
        if self._limits.storage_share >= 1:
            return False
        now = self._clock()
        again = self._storage_is_used and now - self._storage_asked_at >= STORAGE_AGAIN_SECONDS
        if not again and self._created_since_storage < CREATIONS_BETWEEN_STORAGE:
            return False
        self._storage_asked_at, self._created_since_storage = now, 0
        return True

    def take_storage(self, storage: Usage | None) -> None:
        """Takes what the org says of its data storage; None if our user may not see it."""
        self._storage = storage

    @property
    def _storage_is_used(self) -> bool:
        used = self._storage
        return used is not None and used.used >= used.allowed * self._limits.storage_share

    def report(self, metrics: SinkMetrics) -> None:
        """Sets the metrics of the limits and of the mode."""
        self.spent.move_to(self._clock())
        storage = self._storage
        share = storage.used / storage.allowed if storage and storage.allowed else 0.0
        limits, spent = self._limits, self.spent
        for name, limit, used in (
            ("creations_per_day", limits.creations_per_day, spent.creations),
            ("replaced_values_per_hour", limits.replaced_per_hour, spent.replaced),
            ("calls_per_day", self.own_calls.limit, self.own_calls.today),
            ("data_storage", limits.storage_share if limits.storage_share < 1 else 0, share),
        ):
            metrics.limit.labels(name).set(limit)
            metrics.limit_used.labels(name).set(used)
        for mode in WriteMode:
            metrics.mode.labels(mode.value).set(mode is self.mode)

    def for_batch(self, rows: Sequence[PendingChange]) -> "BatchRules":
        """The rules of a batch of these rows that starts now."""
        now_ms = int(self._clock() * 1000)
        changes = {
            row.key: _Change(
                row.change.origin in BULK,
                (header(row.record.headers, "replay.id") or b"").decode(errors="replace")
                in self._table.releases,
                bool(row.change.restore),
            )
            for row in rows
        }
        paused = self._table.pause_of(PausedPart.CREATIONS, now_ms) is not None
        return BatchRules(self, self.mode, changes, creations_paused=paused)

    def count(self, outcomes: Iterable[Outcome]) -> None:
        """Counts what final outcomes say was written."""
        self.spent.move_to(self._clock())
        for outcome in outcomes:
            self.spent.note(outcome)
            self._created_since_storage += outcome.status is OutcomeStatus.CREATED

    def reason(self, write: IntendedWrite, change: _Change) -> HeldReason | None:
        """Which limit a write would be beyond; None if it may be written."""
        if change.released:
            return None
        self.spent.move_to(self._clock())
        limits, spent, reserved = self._limits, self.spent, self._reserved
        if write.creates:
            if self._storage_is_used:
                return HeldReason.DATA_STORAGE
            if _is_reached(limits.creations_per_day, spent.creations + reserved.creations):
                return HeldReason.CREATIONS_PER_DAY
            grant = grant_of(write.key)
            of_grant = spent.of_grant[grant] + reserved.of_grant[grant]
            if _is_reached(limits.creations_per_grant, of_grant):
                return HeldReason.CREATIONS_PER_GRANT
        elif (
            write.replaced
            and change.bulk
            and not change.restores
            and _is_reached(limits.replaced_per_hour, spent.replaced + reserved.replaced)
        ):
            return HeldReason.REPLACED_VALUES
        return None

    def reserve(self, write: IntendedWrite, sign: int = 1) -> None:
        """Notes what a batch in flight may write; with -1 that it does not any more."""
        self._reserved.add(grant_of(write.key), write, sign)


def _is_reached(limit: int, spent: int) -> bool:
    return 0 < limit <= spent


_LIVE = _Change(bulk=False, released=False, restores=False)


class BatchRules:
    """The rules of one batch, with the mode at its start. `close` has to be called."""

    def __init__(
        self,
        limits: WriteLimits,
        mode: WriteMode,
        changes: dict[str, _Change],
        *,
        creations_paused: bool,
    ) -> None:
        self.mode = mode
        self._limits = limits
        self._changes = changes
        self._creations_paused = creations_paused
        self._reserved: dict[str, IntendedWrite] = {}

    def hold(self, write: IntendedWrite) -> str:
        """Why a row is held, a value of HeldReason; empty if it is written now.

        A row that failed, and is tried again in the same batch, counts once.
        """
        if write.key in self._reserved:
            return ""
        if write.creates and self._creations_paused:
            return HeldReason.CREATIONS_PAUSED.value
        reason = self._limits.reason(write, self._changes.get(write.key, _LIVE))
        if reason is not None:
            return reason.value
        self._reserved[write.key] = write
        self._limits.reserve(write)
        return ""

    def close(self) -> None:
        """The batch writes no more: what it wrote is counted by its outcomes alone."""
        for write in self._reserved.values():
            self._limits.reserve(write, -1)
        self._reserved.clear()
