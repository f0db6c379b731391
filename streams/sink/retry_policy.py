"""What follows from a failure: wait for the org, repeat a row, or dead-letter a contact.

Plain functions over plain data. The rule for a batch that failed as a whole: the org is at fault,
unless one contact alone breaks its calls again and again while other contacts are written.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from streams.sink.batching import BatchFailures, RowAttempts

# Failures of one batch for the same reason before its rows are suspected: two are often one outage.
SUSPECT_FAILURES = 3
# Failures of one contact alone before it is dead-lettered: of an org that fails every other call,
# one contact in 64 would be.
LONE_FAILURES = 6
# So many contacts in so many seconds are dead-lettered because they broke their whole calls. More
# are no bad contacts, but a fault of a part of the org (the Leads, say): the others wait, and the
# readiness probe and the log say so.
DEAD_LETTER_MOST, DEAD_LETTER_SECONDS = 10, 3600.0

# A row's passing fault (a lock) is retried beside the flow for this long, then dead-lettered.
RETRY_SECONDS = 300.0
# And this often at least: the time that the org is away is no attempt.
RETRY_ATTEMPTS = 8
# A row that waited out its back-off rides with the next batch that goes anyway. It starts a batch
# only this long after the longest back-off that its attempt may have: rows of several batches that
# met on the same locks then share one, which costs two calls whatever its size. A single locked row
# on a quiet topic is tried again after 4 s, 6 s, 10 s and so on, up to 62 s.
RIDE_SECONDS = 2.0
# Fewer attempts for faults that seldom pass, counted while they come one after the other.
ATTEMPTS_FOR_SAME_REASON = {
    # Another contact won the race for a new key: the next query finds its record. A row that is
    # refused after a new query as well meets a record that sharing hides from our user, and will be
    # refused every time.
    "duplicate_value": 2,
    # An approval takes a person: seconds are worth a wait, hours are not.
    "entity_is_locked": 4,
    # The record was deleted or merged between the lookup and the write. The next lookup knows it.
    # A row that is refused after that as well refers to another record that is gone.
    "entity_is_deleted": 3,
    "invalid_cross_reference_key": 4,
}


def backoff(
    attempt: int, jitter: Callable[[], float], first: float = 1.0, longest: float = 60.0
) -> float:
    """Seconds before the next attempt: doubled each time, between a half of that and all of it.

    The jitter parts batches that met on a lock. `jitter` returns a number from 0 to 1.
    """
    return longest_backoff(attempt, first, longest) * (0.5 + jitter() / 2)


def longest_backoff(attempt: int, first: float = 1.0, longest: float = 60.0) -> float:
    """The longest that `backoff` may return, in seconds."""
    return min(longest, first * 2.0 ** min(attempt, 30))


# Rows that failed alone.


def failed_attempt(known: RowAttempts, reason: str, now: float) -> RowAttempts:
    """The attempts of a row after one more that failed alone."""
    return RowAttempts(
        known.count + 1,
        known.first_failed if known.count else now,
        reason,
        known.same_reason + 1 if reason == known.reason else 1,
    )


def may_retry(attempts: RowAttempts, now: float) -> bool:
    """Whether a row that failed alone, with a fault that may pass, is tried again."""
    most = ATTEMPTS_FOR_SAME_REASON.get(attempts.reason)
    if most is not None and attempts.same_reason >= most:
        return False
    return attempts.count < RETRY_ATTEMPTS or now - attempts.first_failed < RETRY_SECONDS


# Batches that failed as a whole.


class Next(StrEnum):
    """What to do with a batch that failed."""

    RETRY = "retry"  # as it is, after a pause of all batches
    SPLIT = "split"  # after all other rows, and in halves if it has several rows
    DEAD_LETTER = "dead_letter"  # its only contact


@dataclass(frozen=True, slots=True)
class FailureDecision:
    """What follows from the failure of a batch."""

    next: Next
    org_works: bool
    """Other contacts were written all the while: the sink does not pause."""
    failures: int
    """How often the batch has failed for this reason, one time after the other."""
    rows: tuple[BatchFailures, ...]
    """What is known of each row from now on, in the order of the batch."""


def after_batch_failure(
    known: Sequence[BatchFailures], reason: str, *, batches_written: int, dead_lettered: int
) -> FailureDecision:
    """Decides what to do with a batch that failed as a whole.

    `known`: the failures of its rows so far. `reason`: empty when certainly no row is the cause.
    `batches_written`: batches that the org wrote so far. `dead_lettered`: contacts that this
    function had dead-lettered within the last DEAD_LETTER_SECONDS.
    """
    if not reason:
        failures = max(row.count for row in known)
        return FailureDecision(Next.RETRY, False, failures, tuple(known))
    rows = [_failed_again(row, reason, batches_written) for row in known]
    failures = max(row.count for row in rows)
    org_works = all(
        row.max_rows is not None and batches_written > row.written_before for row in rows
    )
    decided = next_step(len(rows), failures, others_written=org_works, dead_lettered=dead_lettered)
    if decided is Next.SPLIT:
        rows = _split(rows, batches_written)
    return FailureDecision(decided, org_works, failures, tuple(rows))


def _failed_again(known: BatchFailures, reason: str, batches_written: int) -> BatchFailures:
    if reason == known.reason and known.count:
        return replace(known, count=known.count + 1)
    return replace(known, count=1, reason=reason, written_before=batches_written)


def next_step(rows: int, failures: int, *, others_written: bool, dead_lettered: int) -> Next:
    """What to do with a batch of so many rows that failed so often for the same reason.

    `others_written`: contacts that were not in it were written meanwhile. `dead_lettered`: as for
    `after_batch_failure`.
    """
    if failures < SUSPECT_FAILURES:
        return Next.RETRY
    alone = rows == 1 and failures >= LONE_FAILURES
    if alone and others_written and dead_lettered < DEAD_LETTER_MOST:
        return Next.DEAD_LETTER
    return Next.SPLIT


def _split(rows: Sequence[BatchFailures], batches_written: int) -> list[BatchFailures]:
    if len(rows) == 1:
        return [replace(rows[0], max_rows=1)]
    half = -(-len(rows) // 2)
    return [
        replace(
            row, max_rows=half, count=failures_after_split(half), written_before=batches_written
        )
        for row in rows
    ]


def failures_after_split(half: int) -> int:
    """How often a half of so many rows counts as failed.

    One more failure and the half is split again; a contact alone starts anew.
    """
    return 0 if half == 1 else SUSPECT_FAILURES - 1


class DeadLetterWindow:
    """How many contacts were dead-lettered lately because they broke all their calls."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def count(self, now: float) -> int:
        """Those of the last DEAD_LETTER_SECONDS."""
        while self._times and now - self._times[0] >= DEAD_LETTER_SECONDS:
            self._times.popleft()
        return len(self._times)

    def add(self, now: float) -> None:
        """One more was dead-lettered."""
        self._times.append(now)
