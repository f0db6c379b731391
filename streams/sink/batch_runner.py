"""Works off one batch: writes it to the org, puts the outcomes on their topics, finishes the rows.

If the org fails the batch as a whole, `streams.sink.retry_policy` decides what follows.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import structlog

from connectors.salesforce.api.classification import possible_row_fault
from connectors.salesforce.api.client import CALL_SECONDS
from connectors.salesforce.api.errors import SalesforceError, WriterFenced
from connectors.salesforce.outcome import Outcome, OutcomeStatus
from connectors.salesforce.replaced_values import owner_of, values_replaced_by
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.sync import Sync
from streams.control import breaker_record
from streams.events import UnreadableRecord
from streams.journal import EntryKind, journal_records, value_entries
from streams.kafka.publisher import PublishFailed, RecordPublisher
from streams.kafka.records import KafkaRecord, header
from streams.metrics import SinkMetrics
from streams.runtime.exit_codes import ExitCode
from streams.runtime.logs import log_dead_letters, place, reference
from streams.runtime.ops import Health, WorkInFlight
from streams.runtime.traceparent import TRACEPARENT, TraceContext, parse_traceparent
from streams.runtime.traces import NO_TRACES, Traces
from streams.sink.assignment import Assignment
from streams.sink.batching import PendingChange
from streams.sink.circuit_breaker import (
    PROBE_FIRST_SECONDS,
    PROBE_LONGEST_SECONDS,
    CircuitBreaker,
    pause_reason,
)
from streams.sink.failure_breakers import FailureBreakers
from streams.sink.fence import BatchFence
from streams.sink.org_guard import OrgGuard, OtherOrg
from streams.sink.outcomes import (
    OutcomePlan,
    count_finished,
    count_outcome,
    count_outcomes,
    dead_letter_records,
    plan_outcomes,
    unreadable_record,
)
from streams.sink.retry_policy import DeadLetterWindow, Next, after_batch_failure, backoff
from streams.sink.stopping import StopRequest
from streams.sink.write_limits import WriteLimits
from streams.topics import Topics

log = structlog.get_logger()

# Between attempts to publish outcomes that the broker did not acknowledge.
PUBLISH_FIRST_SECONDS, PUBLISH_LONGEST_SECONDS = 0.1, 5.0
# From one request of a batch to the next, or to the batch's end: a call, and a login before it.
REQUEST_STEP_SECONDS = 2 * CALL_SECONDS


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are written together, and the assignment that they belong to."""

    assignment: Assignment
    rows: list[PendingChange]
    fence: BatchFence


class BatchRunner:
    """Runs batches, each in a task of its own. Keeps only what batches learn from one another."""

    def __init__(
        self,
        org: Sync,
        publisher: RecordPublisher,
        names: Topics,
        metrics: SinkMetrics,
        health: Health,
        breaker: CircuitBreaker,
        failures: FailureBreakers,
        stop: StopRequest,
        clock: Callable[[], float],
        traces: Traces,
        limits: WriteLimits,
        guard: OrgGuard | None = None,
    ) -> None:
        self._org = org
        self._publisher = publisher
        self._names = names
        self._metrics = metrics
        self._health = health
        self._breaker = breaker
        self._failures = failures
        self._stop = stop
        self._clock = clock
        self._traces = traces
        self._limits = limits
        self._guard = guard
        self._syncs = WorkInFlight("batches on their way to Salesforce", REQUEST_STEP_SECONDS)
        health.watch(self._syncs)
        self._batches_written = 0  # batches of which the org wrote anything
        self._dead_letters = DeadLetterWindow()
        # by contact key: no two batches in flight hold the same contact
        self._in_flight: dict[str, tuple[Batch, PendingChange]] = {}
        org.before_write = self._note_intended

    async def run(self, batch: Batch) -> None:
        """Works off the batch. Its rows are finished at the end, or wait again."""
        self._metrics.batch_rows.observe(len(batch.rows))
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.destination.name": self._names.changes.name,
            "messaging.batch.message_count": len(batch.rows),
        }
        # Links and no parent: a batch has changes of many traces.
        links = [] if self._traces is NO_TRACES else _links(batch.rows)
        with self._traces.span("process batch", "consumer", links=links, attributes=attributes):
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
                self._failures.holds,
            )
            self._limits.count(plan.outcomes)
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
        if self._failures.holds(Outcome(key, OutcomeStatus.FAILED, reason=error.reason), ""):
            assignment.held_unreadable.append((record, error))
            return
        self._metrics.dead_lettered.labels(error.reason).inc()
        letter = unreadable_record(self._names, record, error)
        if await self._acknowledged([letter], assignment):
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
            rules = self._limits.for_batch(batch.rows)
            with self._syncs, self._tracked(batch), closing(rules):
                if self._guard is not None:
                    await self._guard.confirm(self._org.org_id, fence)
                if self._limits.storage_is_due():
                    self._limits.take_storage(await self._org.data_storage(fence))
                outcomes += await self._org.sync(current, fence, rules)
        return outcomes

    @contextmanager
    def _tracked(self, batch: Batch) -> Iterator[None]:
        """Lets the journal find the change of each contact while the batch is written."""
        for row in batch.rows:
            self._in_flight[row.key] = batch, row
        try:
            yield
        finally:
            for row in batch.rows:
                self._in_flight.pop(row.key, None)

    async def _note_intended(self, rows: Sequence[WriteRow]) -> None:
        """Writes to the journal what rows are about to replace; returns once the broker has it.

        Raises WriterFenced where the broker cannot take it: then the rows must not be sent.
        """
        records: list[KafkaRecord] = []
        of_batch: Batch | None = None
        for row in rows:
            values = values_replaced_by(row, self._org.policy.flag_field)
            if not values:
                continue
            of_batch, pending = self._in_flight[owner_of(row).change.key]
            entries = value_entries(EntryKind.INTENDED, values, pending.record, pending.change)
            records += journal_records(self._names.journal.name, entries)
        if of_batch is not None and not await self._acknowledged(
            records, of_batch.assignment, self._syncs.step
        ):
            raise WriterFenced("the journal of replaced values was not acknowledged")

    async def _record(self, batch: Batch, plan: OutcomePlan) -> None:
        """The org took the batch: counts the outcomes, puts them on their topics, finishes rows."""
        count_outcomes(self._metrics, plan)
        self._batches_written += plan.anything_written
        if batch.fence.requests_sent:  # otherwise nobody asked the org
            self._org_answered()
        if await self._acknowledged(plan.records, batch.assignment):
            batch.assignment.finish(plan.finished)
            log_dead_letters(log, plan.dead_letters)
            count_finished(self._metrics, plan.finished, self._exemplar)
            batch.assignment.put_back([*plan.held, *plan.retries])

    async def _failed(self, batch: Batch, error: Exception) -> None:
        """The batch failed as a whole: the org is away, or a row breaks the calls that it is in."""
        reason = possible_row_fault(error)
        if not isinstance(error, SalesforceError):
            log.error(
                "a batch failed with an unexpected error", error=repr(type(error)), exc_info=error
            )
        now = self._clock()
        decision = after_batch_failure(
            [row.batch_failures for row in batch.rows],
            reason,
            batches_written=self._batches_written,
            dead_lettered=self._dead_letters.count(now),
        )
        if decision.org_works:
            log.warning(
                "some contacts fail while others are written",
                reason=reason,
                contacts=len(batch.rows),
            )
            self._metrics.retried.labels(reason).inc(len(batch.rows))
        else:
            self._org_failed(error)
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
        if self._failures.holds(outcome, row.change.origin):
            batch.assignment.put_back([row])
            return
        self._dead_letters.add(self._clock())
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
        count_outcome(self._metrics, outcome, row.change.origin)
        records = dead_letter_records(
            self._names, outcome, row.record, row.change, failures, detail
        )
        if await self._acknowledged(records, batch.assignment):
            batch.assignment.finish([row])
            count_finished(self._metrics, [row], self._exemplar)

    def _exemplar(self, row: PendingChange) -> dict[str, str] | None:
        """The trace of the webhook or the page that the row came from."""
        if self._traces is NO_TRACES:
            return None
        place = _trace(row)
        return None if place is None else self._traces.exemplar(place)

    async def _acknowledged(
        self,
        records: Sequence[KafkaRecord],
        assignment: Assignment,
        attempting: Callable[[], None] = lambda: None,
    ) -> bool:
        """True once the broker has all records, and those of breakers that opened, in one piece.

        False when the partition is gone, whose offsets are the new owner's then. False also when
        the broker refuses a record or our user, or the producer cannot publish any more; these stop
        the sink.
        """
        attempt = 0
        opened = self._failures.take_unpublished()
        records = [*records, *(breaker_record(self._names, one) for one in opened)]
        for one in opened:
            self._metrics.breaker_openings.labels(one.reason, one.stops.value).inc()
        while assignment.active:
            attempting()
            try:
                await self._publisher.publish(records)
            except PublishFailed as error:
                log.warning("outcomes not acknowledged", error=str(error))
                if error.permanent or error.fatal or error.denied:
                    self._stop.request(f"Kafka refuses an outcome: {error}", ExitCode.KAFKA_REFUSED)
                    return False
                attempt += 1
                await asyncio.sleep(
                    backoff(attempt, random.random, PUBLISH_FIRST_SECONDS, PUBLISH_LONGEST_SECONDS)
                )
            else:
                return assignment.active
        return False

    def _org_failed(self, error: Exception) -> None:
        pause = pause_reason(error)
        wait = self._breaker.failed(pause.retry_after)
        self._metrics.pauses.labels(pause.reason).inc()
        self._metrics.paused.set(1)
        self._health.waiting(f"salesforce: {pause.reason}")
        log.warning(
            "salesforce is away", reason=pause.reason, probe_in=round(wait, 1), detail=pause.detail
        )

    def _org_answered(self) -> None:
        failures = self._breaker.answered()
        if failures:
            log.info("salesforce is back", after=failures)
            self._metrics.paused.set(0)
            self._health.ready()


def _trace(row: PendingChange) -> TraceContext | None:
    return parse_traceparent(header(row.record.headers, TRACEPARENT))


def _links(rows: Sequence[PendingChange]) -> list[TraceContext]:
    """The traces of the changes of a batch."""
    return [place for row in rows if (place := _trace(row)) is not None]
