"""Works off one batch: writes it to the org, puts the outcomes on their topics, finishes the rows.

If the org fails the batch as a whole, `streams.sink.retry_policy` decides what follows.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import structlog

from connectors.salesforce.api.classification import possible_row_fault
from connectors.salesforce.api.client import CALL_SECONDS, Fence
from connectors.salesforce.api.errors import SalesforceError, WriterFenced
from connectors.salesforce.outcome import Outcome, OutcomeStatus
from connectors.salesforce.sync import Sync
from streams.events import UnreadableRecord
from streams.kafka.records import KafkaRecord, header
from streams.runtime.exit_codes import ExitCode
from streams.runtime.logs import log_dead_letters, place, reference
from streams.runtime.ops import WorkInFlight
from streams.runtime.traceparent import TRACEPARENT, TraceContext, parse_traceparent
from streams.runtime.traces import NO_TRACES
from streams.sink.assignment import Assignment
from streams.sink.batch import Batch
from streams.sink.batching import PendingChange
from streams.sink.circuit_breaker import (
    PROBE_FIRST_SECONDS,
    PROBE_LONGEST_SECONDS,
    CircuitBreaker,
)
from streams.sink.fence import BatchFence
from streams.sink.intended_values import IntendedValues
from streams.sink.org_guard import OtherOrg
from streams.sink.org_pauses import OrgPauses
from streams.sink.outcome_publisher import OutcomePublisher
from streams.sink.outcomes import (
    OutcomePlan,
    count_finished,
    count_outcome,
    count_outcomes,
    dead_letter_records,
    plan_outcomes,
    unreadable_record,
)
from streams.sink.parts import KafkaEnds, Telemetry, WriteGuards
from streams.sink.retry_policy import (
    DEAD_LETTER_MOST,
    DeadLetterWindow,
    Next,
    after_batch_failure,
    backoff,
)
from streams.sink.stopping import StopRequest
from streams.sink.suspect_pace import SuspectPace

log = structlog.get_logger()

# From one request of a batch to the next, or to the batch's end: a call, and a login before it.
REQUEST_STEP_SECONDS = 2 * CALL_SECONDS


@dataclass(slots=True)
class BatchHistory:
    """What batches learn from one another."""

    written: int = 0
    """Batches of which the org wrote anything."""
    dead_letters: DeadLetterWindow = field(default_factory=DeadLetterWindow)
    """When contacts were dead-lettered for calls that failed."""
    suspect_pace: SuspectPace = field(default_factory=SuspectPace)
    """When suspected contacts may be tried."""


class BatchRunner:
    """Runs batches, each in a task of its own: sends, records, and finishes its rows."""

    def __init__(
        self,
        org: Sync,
        kafka: KafkaEnds,
        telemetry: Telemetry,
        guards: WriteGuards,
        breaker: CircuitBreaker,
        stop: StopRequest,
        clock: Callable[[], float],
    ) -> None:
        self._org = org
        self._names = kafka.names
        self._telemetry = telemetry
        self._guards = guards
        self._stop = stop
        self._clock = clock
        metrics = telemetry.metrics
        self._publishing = OutcomePublisher(
            kafka.publisher, kafka.names, guards.failures, metrics, stop
        )
        self._pauses = OrgPauses(breaker, metrics, telemetry.health)
        self._syncs = WorkInFlight("batches on their way to Salesforce", REQUEST_STEP_SECONDS)
        telemetry.health.watch(self._syncs)
        self._history = BatchHistory()
        self._intended = IntendedValues(
            self._publishing,
            kafka.names.journal.name,
            lambda: org.policy.flag_field,
            self._syncs.step,
        )
        org.before_write = self._intended.note

    @property
    def suspect_pace(self) -> SuspectPace:
        """When a batch of suspected contacts may start."""
        return self._history.suspect_pace

    async def run(self, batch: Batch) -> None:
        """Works off the batch. Its rows are finished at the end, or wait again."""
        self._telemetry.metrics.batch_rows.observe(len(batch.rows))
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.destination.name": self._names.changes.name,
            "messaging.batch.message_count": len(batch.rows),
        }
        # Links and no parent: a batch has changes of many traces.
        links = [] if self._telemetry.traces is NO_TRACES else _links(batch.rows)
        with self._telemetry.traces.span(
            "process batch", "consumer", links=links, attributes=attributes
        ):
            await self._work_off(batch)

    async def _work_off(self, batch: Batch) -> None:
        try:
            outcomes = await self._sync(batch)
            plan = plan_outcomes(
                self._names,
                outcomes,
                batch.rows,
                self._clock(),
                random.random,
                self._guards.failures.holds,
            )
            self._guards.limits.count(plan.outcomes)
        except WriterFenced as error:
            log.warning("batch ended at its write fence", error=str(error))
            batch.assignment.put_back(batch.rows)
        except OtherOrg as error:
            self._stop.request(str(error), ExitCode.ORG_CHANGED)
            batch.assignment.put_back(batch.rows)
        except Exception as error:  # noqa: BLE001 a restart would meet it again
            await self._failed(batch, error)
        else:
            await self._record(batch, plan)

    async def dead_letter(
        self, assignment: Assignment, record: KafkaRecord, error: UnreadableRecord
    ) -> None:
        """Dead-letters a record that holds no change, and finishes its offset.

        While everything is stopped, the record waits in the assignment instead.
        """
        key = (record.key or b"").decode(errors="replace")
        if self._guards.failures.holds(Outcome(key, OutcomeStatus.FAILED, reason=error.reason), ""):
            assignment.held_unreadable.append((record, error))
            return
        self._telemetry.metrics.dead_lettered.labels(error.reason).inc()
        letter = unreadable_record(self._names, record, error)
        if await self._publishing.acknowledged([letter], assignment):
            log_dead_letters(log, [(record, error.reason)])
            assignment.tracker.finish(record.offset)

    async def _sync(self, batch: Batch) -> list[Outcome]:
        deletions = batch.assignment.deletions
        outdated = {row.key for row in batch.rows if deletions.is_outdated(row.change)}
        outcomes = [Outcome(key, OutcomeStatus.STALE, reason="deleted_since") for key in outdated]
        current = [row.for_sync() for row in batch.rows if row.key not in outdated]

        def fence() -> None:
            batch.fence()
            self._syncs.step()  # a request is about to be sent

        if current:
            rules = self._guards.limits.for_batch(batch.rows)
            with self._syncs, self._intended.of(batch), closing(rules):
                await self._confirm_org(fence)
                if self._guards.limits.storage_is_due():
                    self._guards.limits.take_storage(await self._org.data_storage(fence))
                outcomes += await self._org.sync(current, fence, rules)
        return outcomes

    async def _confirm_org(self, fence: Fence) -> None:
        if self._guards.guard is not None:
            await self._guards.guard.confirm(self._org.org_id, fence)

    async def read_org(self, fence: BatchFence) -> None:
        """Reads what the org looks like, as the first batch would; pauses the sink if that fails.

        Until then the Accounts are unknown, and two batches might hold people of one Account.
        """

        def step() -> None:
            fence()
            self._syncs.step()

        try:
            with self._syncs:
                await self._confirm_org(step)
                await self._org.start(step)
        except WriterFenced as error:
            log.warning("reading the org ended at its write fence", error=str(error))
        except OtherOrg as error:
            self._stop.request(str(error), ExitCode.ORG_CHANGED)
        except Exception as error:
            if not isinstance(error, SalesforceError):
                log.exception("reading the org failed unexpectedly")
            self._pauses.failed(error)
        else:
            self._pauses.answered()

    async def _record(self, batch: Batch, plan: OutcomePlan) -> None:
        """The org took the batch: counts the outcomes, puts them on their topics, finishes rows."""
        count_outcomes(self._telemetry.metrics, plan)
        self._history.written += plan.anything_written
        if plan.anything_written and batch.is_suspected:
            self._history.suspect_pace.passed()
        if batch.fence.requests_sent:  # otherwise nobody asked the org
            self._pauses.answered()
        if await self._publishing.acknowledged(plan.records, batch.assignment):
            batch.assignment.finish(plan.finished)
            log_dead_letters(log, plan.dead_letters)
            count_finished(self._telemetry.metrics, plan.finished, self._exemplar)
            batch.assignment.put_back([*plan.held, *plan.retries])

    async def _failed(self, batch: Batch, error: Exception) -> None:
        """The batch failed as a whole: the org is away, or a row breaks the calls that it is in."""
        reason = possible_row_fault(error)
        if not isinstance(error, SalesforceError):
            log.error(
                "a batch failed with an unexpected error", error=repr(type(error)), exc_info=error
            )
        now = self._clock()
        dead_lettered = self._history.dead_letters.count(now)
        decision = after_batch_failure(
            [row.batch_failures for row in batch.rows],
            reason,
            batches_written=self._history.written,
            dead_lettered=dead_lettered,
        )
        if batch.is_suspected:
            part_of_org = dead_lettered >= DEAD_LETTER_MOST
            self._history.suspect_pace.failed(now, part_of_org=part_of_org)
        if decision.org_works:
            log.warning(
                "some contacts fail while others are written",
                reason=reason,
                contacts=len(batch.rows),
            )
            self._telemetry.metrics.retried.labels(reason).inc(len(batch.rows))
        else:
            self._pauses.failed(error)
        if not batch.assignment.active:
            return
        if decision.next is Next.DEAD_LETTER:
            await self._dead_letter_row(batch, reason, error, decision.failures)
            return
        # Next.RETRY and Next.SPLIT differ in what is known of the rows from now on.
        wait = 0.0  # while all wait for the org, its probes have their own pace
        if decision.org_works:
            wait = backoff(
                decision.failures, random.random, PROBE_FIRST_SECONDS, PROBE_LONGEST_SECONDS
            )
        for row, failures in zip(batch.rows, decision.rows, strict=True):
            row.batch_failures = failures
            if failures.max_rows is not None:
                row.not_before = now + wait  # the last to fail goes last
        batch.assignment.put_back(batch.rows)

    async def _dead_letter_row(
        self, batch: Batch, reason: str, error: Exception, failures: int
    ) -> None:
        """Dead-letters the only contact of a batch: the same calls pass without it."""
        (row,) = batch.rows
        outcome = Outcome(row.key, OutcomeStatus.FAILED, reason=reason)
        if self._guards.failures.holds(outcome, row.change.origin):
            batch.assignment.put_back([row])
            return
        self._history.dead_letters.add(self._clock())
        log.warning(
            "a contact breaks every call that it is in; it is dead-lettered",
            reason=reason,
            **place(row.record),
            contact=reference(row.key),
        )
        detail = (
            "alone in its calls, which fail beside others that pass: "
            f"{type(error).__name__}: {error}"
        )
        count_outcome(self._telemetry.metrics, outcome, row.change.origin)
        records = dead_letter_records(
            self._names, outcome, row.record, row.change, failures, detail
        )
        if await self._publishing.acknowledged(records, batch.assignment):
            batch.assignment.finish([row])
            count_finished(self._telemetry.metrics, [row], self._exemplar)

    def _exemplar(self, row: PendingChange) -> dict[str, str] | None:
        """The trace of the webhook or the page that the row came from."""
        if self._telemetry.traces is NO_TRACES:
            return None
        place = _trace(row)
        return None if place is None else self._telemetry.traces.exemplar(place)


def _trace(row: PendingChange) -> TraceContext | None:
    return parse_traceparent(header(row.record.headers, TRACEPARENT))


def _links(rows: Sequence[PendingChange]) -> list[TraceContext]:
    """The traces of the changes of a batch."""
    return [place for row in rows if (place := _trace(row)) is not None]
