"""What follows from the outcomes of a batch: records for the topics, rows that wait again, counts.

Plain functions over plain data.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import orjson
from prometheus_client import Histogram

from connectors.salesforce.kept_fields import recorded_exclusion
from connectors.salesforce.outcome import (
    NEXT_BATCH,
    NO_ROOM,
    UNANSWERED_CALL,
    Outcome,
    OutcomeStatus,
)
from streams.dead_letters import dead_letter
from streams.events import ContactChange, Origin, UnreadableRecord, now_ms
from streams.journal import journal_records, written_entries
from streams.kafka.records import KafkaRecord
from streams.metrics import SinkMetrics
from streams.sink.batching import NO_BATCH_FAILURES, PendingChange
from streams.sink.retry_policy import (
    RIDE_SECONDS,
    backoff,
    failed_attempt,
    longest_backoff,
    may_retry,
)
from streams.topics import Topics

STAGE = "sink"
HIDDEN_DUPLICATE = (
    "refused after a new query as well: a record that sharing hides from our user may hold the "
    "value; see contactstream doctor"
)
EXHAUSTED = "retries_exhausted_"
# Before a row whose person or Account another batch holds goes again: about what a call takes.
HELD_SECONDS = 0.25
NOT_DONE = frozenset({OutcomeStatus.FAILED, OutcomeStatus.HELD, OutcomeStatus.PLANNED})
WRITTEN = frozenset({OutcomeStatus.CREATED, OutcomeStatus.UPDATED, OutcomeStatus.RELEASED})


def never_held(_outcome: Outcome, _origin: str) -> bool:
    """For callers without failure breakers: every outcome is final."""
    return False


@dataclass(frozen=True, slots=True)
class OutcomePlan:
    """What follows from the outcomes of a batch."""

    retries: list[PendingChange] = field(default_factory=list)
    """Rows that wait again."""
    retry_reasons: list[str] = field(default_factory=list)
    """Of the retries that are attempts of their own."""
    outcomes: list[Outcome] = field(default_factory=list)
    """The final ones."""
    records: list[KafkaRecord] = field(default_factory=list)
    """For contacts.outcomes, contacts.journal and contacts.dead-letter."""
    finished: list[PendingChange] = field(default_factory=list)
    """The rows with a final outcome, in the order of `outcomes`: finished once the records are
    acknowledged.
    """
    held: list[PendingChange] = field(default_factory=list)
    """Rows that failed while everything is stopped: they wait again, and are no dead letters."""

    @property
    def dead_letters(self) -> list[tuple[KafkaRecord, str]]:
        """The records of the changes that failed for good, each with the reason."""
        final = zip(self.outcomes, self.finished, strict=True)
        return [
            (row.record, one.reason) for one, row in final if one.status is OutcomeStatus.FAILED
        ]

    @property
    def anything_written(self) -> bool:
        """Whether the org wrote anything for this batch."""
        return any(outcome.status in WRITTEN for outcome in self.outcomes)


def plan_outcomes(
    names: Topics,
    outcomes: Iterable[Outcome],
    rows: Sequence[PendingChange],
    now: float,
    jitter: Callable[[], float],
    holds: Callable[[Outcome, str], bool] = never_held,
) -> OutcomePlan:
    """Decides what follows from the outcomes of the batch of these rows. Changes no row.

    `holds` is called with each final outcome, in their order, and with the origin of its change; it
    says whether the row has to wait (`FailureBreakers.holds`).

    Raises RuntimeError when a row has no outcome, KeyError for the outcome of another contact.
    """
    by_key = {row.key: row for row in rows}
    plan = OutcomePlan()
    for outcome in outcomes:
        row = by_key.pop(outcome.key)
        attempts, final = row.row_attempts, outcome
        if outcome.status is OutcomeStatus.RETRY:
            # The org took the batch: failures of earlier batches count no more.
            if outcome.reason == NO_ROOM:  # the next batch may start at once
                plan.retries.append(replace(row, not_before=0, batch_failures=NO_BATCH_FAILURES))
                continue
            if outcome.reason in {NEXT_BATCH, UNANSWERED_CALL}:
                again = now + max(HELD_SECONDS, outcome.retry_after)
                plan.retries.append(
                    replace(row, not_before=again, batch_failures=NO_BATCH_FAILURES)
                )
                continue
            attempts = failed_attempt(attempts, outcome.reason, now)
            if may_retry(attempts, now):
                plan.retries.append(
                    replace(
                        row,
                        not_before=now + backoff(attempts.count, jitter),
                        # the same for all rows of the batch, so that they go together
                        due=now + longest_backoff(attempts.count) + RIDE_SECONDS,
                        row_attempts=attempts,
                        batch_failures=NO_BATCH_FAILURES,
                    )
                )
                plan.retry_reasons.append(outcome.reason)
                continue
            final = exhausted(outcome)
        if final.status is OutcomeStatus.RELEASED and not final.reason:
            # of a contact that is still in the address book
            left_out = recorded_exclusion(row.change.contact)
            final = replace(final, reason=left_out.value) if left_out else final
        if holds(final, row.change.origin):
            plan.held.append(row)
            continue
        plan.outcomes.append(final)
        plan.records.extend(outcome_records(names, final, row.record, row.change, attempts.count))
        plan.finished.append(row)
    if by_key:
        raise RuntimeError(f"{len(by_key)} contacts of a batch have no outcome")
    return plan


def exhausted(outcome: Outcome) -> Outcome:
    """The outcome of a row whose passing fault outlived its attempts: a failure, named as such."""
    return replace(outcome, status=OutcomeStatus.FAILED, reason=f"{EXHAUSTED}{outcome.reason}")


def outcome_records(
    names: Topics, outcome: Outcome, record: KafkaRecord, change: ContactChange, attempts: int
) -> list[KafkaRecord]:
    """The record of a final outcome, and what the journal says of it; of a failure the dead letter.

    `attempts`: those that failed with a fault that might have passed.
    """
    if outcome.status is not OutcomeStatus.FAILED:
        if change.origin == Origin.ERASURE:  # a journal would keep what is erased
            return [_outcome_record(names, outcome, record, change)]
        entries = written_entries(outcome, record, change)
        return [
            _outcome_record(names, outcome, record, change),
            *journal_records(names.journal.name, entries),
        ]
    detail = "; ".join(f"{error.code}: {error.message}" for error in outcome.errors)
    if outcome.reason == f"{EXHAUSTED}duplicate_value":
        detail = f"{HIDDEN_DUPLICATE}; {detail}"
    if not outcome.reason.startswith(EXHAUSTED):
        attempts += 1
    return dead_letter_records(names, outcome, record, change, attempts, detail)


def dead_letter_records(
    names: Topics,
    outcome: Outcome,
    record: KafkaRecord,
    change: ContactChange,
    attempts: int,
    detail: str,
) -> list[KafkaRecord]:
    """The dead letter, and the outcome that reports it in the compacted topic."""
    ids = dict.fromkeys(match.record_id for error in outcome.errors for match in error.duplicates)
    letter = dead_letter(
        names.dead_letter.name,
        record,
        STAGE,
        outcome.reason,
        detail,
        attempts=attempts,
        duplicates=" ".join(ids),
    )
    return [letter, _outcome_record(names, outcome, record, change)]


def unreadable_record(names: Topics, record: KafkaRecord, error: UnreadableRecord) -> KafkaRecord:
    """The dead letter of a record that holds no change."""
    return dead_letter(names.dead_letter.name, record, STAGE, error.reason, str(error))


def _outcome_record(
    names: Topics, outcome: Outcome, record: KafkaRecord, change: ContactChange
) -> KafkaRecord:
    """A tombstone for a person who asked to be erased, once that is done."""
    erased = change.origin == Origin.ERASURE and outcome.status not in NOT_DONE
    value = None if erased else outcome_value(outcome, change)
    return KafkaRecord(names.outcomes.name, record.key, value, [])


def outcome_value(outcome: Outcome, change: ContactChange) -> bytes:
    """The value of a record of contacts.outcomes."""
    # counted by `streams.sink.spent`; nearly no change replaces any
    replaced = {"replaced": len(outcome.replaced)} if outcome.replaced else {}
    return orjson.dumps(
        {
            "outcome": outcome.status.value,
            "sobject": outcome.sobject,
            "id": outcome.record_id,
            "candidates": outcome.candidates,
            "matched": outcome.matched,
            "reason": outcome.reason,
            "account_by": outcome.account_by,
            "owner_rule": outcome.owner_rule,
            "first": outcome.first,
            "version": change.version,
            "kind": change.kind.value,
            "origin": change.origin,
            "received_ms": change.received_ms,
            "at_ms": now_ms(),
        }
        | replaced
    )


def count_outcomes(metrics: SinkMetrics, plan: OutcomePlan) -> None:
    """Counts the final outcomes and the retries of a batch."""
    for reason in plan.retry_reasons:
        metrics.retried.labels(reason).inc()
    final = zip(plan.outcomes, plan.finished, strict=True)
    # The outcomes of a batch are nearly all alike: each kind of them is counted once.
    alike = Counter(_counted(outcome, row.change.origin) for outcome, row in final)
    for counted, number in alike.items():
        _count(metrics, counted, number)


def count_outcome(metrics: SinkMetrics, outcome: Outcome, origin: str) -> None:
    """Counts one final outcome of a change that came from `origin`."""
    _count(metrics, _counted(outcome, origin), 1)


class _Counted(NamedTuple):
    """What the metrics say of an outcome."""

    origin: str
    status: OutcomeStatus
    sobject: str
    reason: str
    matched: str | None
    owner_rule: str
    first: bool
    several_matched: bool
    replaced: tuple[str, ...]
    """The sObject of each replaced value."""


def _counted(outcome: Outcome, origin: str) -> _Counted:
    return _Counted(
        origin,
        outcome.status,
        outcome.sobject or "",
        outcome.reason,
        outcome.matched,
        outcome.owner_rule,
        outcome.first,
        outcome.several_matched,
        tuple(value.sobject for value in outcome.replaced) if outcome.replaced else (),
    )


def _count(metrics: SinkMetrics, one: _Counted, number: int) -> None:
    metrics.rows.labels(one.status.value, one.origin).inc(number)
    for sobject in one.replaced:
        metrics.replaced_values.labels(sobject, one.origin).inc(number)
    if one.status is OutcomeStatus.FAILED:
        metrics.dead_lettered.labels(one.reason).inc(number)
    if one.status is OutcomeStatus.SKIPPED:
        metrics.skipped.labels(one.reason).inc(number)
    if one.matched is not None:
        metrics.matched.labels(one.matched, one.origin).inc(number)
    if one.owner_rule:
        metrics.owners.labels(one.owner_rule, one.sobject).inc(number)
    if one.first:
        result, how = _first_resolution(one.matched, one.sobject)
        metrics.first_resolutions.labels(result, how, one.origin).inc(number)
    if one.several_matched:
        metrics.several_matched.inc(number)


def first_resolution(outcome: Outcome) -> tuple[str, str]:
    """Whether a contact that was looked up for the first time was found or created, and how."""
    return _first_resolution(outcome.matched, outcome.sobject or "")


def _first_resolution(matched: str | None, sobject: str) -> tuple[str, str]:
    return ("created", sobject.lower()) if matched is None else ("found", matched)


def no_exemplar(_row: PendingChange) -> dict[str, str] | None:
    """For callers without traces."""
    return None


def count_finished(
    metrics: SinkMetrics,
    rows: Iterable[PendingChange],
    exemplar: Callable[[PendingChange], dict[str, str] | None] = no_exemplar,
) -> None:
    """Observes how long these contacts took, now that their outcomes are acknowledged."""
    now = now_ms()
    of_origin: dict[str, Histogram] = {}
    for row in rows:
        if row.change.received_ms:
            origin = row.change.origin
            if origin not in of_origin:
                of_origin[origin] = metrics.latency.labels(origin)
            seconds = max(0.0, (now - row.change.received_ms) / 1000)
            of_origin[origin].observe(seconds, exemplar(row))
    metrics.last_processed.set_to_current_time()
