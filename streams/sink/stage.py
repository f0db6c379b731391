"""The sink: takes changes, hands batches of them to Salesforce, puts every contact's fate on a
topic, commits.

The order, which the promise hangs on:

1. A batch is taken out of the waiting changes: each contact once, at its highest version.
2. `Sync` looks up who is there and writes what differs. Every row comes back with its own outcome.
3. The outcomes, or the dead letters, are acknowledged by the broker.
4. Only then are the batch's offsets finished, and the end of the unbroken run of finished offsets
   is committed.

A crash between any two repeats work, which the org answers with `unchanged`. A fault of the whole
org finishes nothing: the batch waits again and the consumer is paused, a member of its group all
the while. A contact that breaks every call that it is in looks the same at first: after some equal
failures others go first, and if those are written the batch is taken apart
(`streams.sink.retry_policy`). One replica works, a second is a hot standby.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.salesforce import sync as salesforce
from connectors.salesforce.api.classification import possible_row_fault
from connectors.salesforce.api.errors import OrgUnavailable, SalesforceError, WriterFenced
from connectors.salesforce.emails import addresses
from connectors.salesforce.person import record_key
from streams.events import ContactChange, Kind, Origin, UnreadableRecord, now_ms, parse_change
from streams.kafka.clients import (
    METADATA_SECONDS,
)
from streams.kafka.offsets import OffsetTracker, starting_offsets
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.publisher import Publisher, PublishFailed
from streams.kafka.records import KafkaRecord, to_record
from streams.kafka.snapshot import SnapshotStalled
from streams.metrics import SinkMetrics
from streams.runtime.exit_codes import ExitCode
from streams.runtime.ops import Health
from streams.settings import SinkSettings
from streams.sink.batching import PendingChange, PendingChanges, backoff, claims_of
from streams.sink.deletions import Deletions
from streams.sink.fence import WriteFence
from streams.sink.outcomes import dead_letter_records, final, outcome_records, unreadable_record
from streams.sink.retry_policy import BURIED_SECONDS, Next, after_failure, after_split, may_retry
from streams.topics import Topics

log = structlog.get_logger()
T = TypeVar("T")

POLL_SECONDS = 0.05  # one consume: how late a finished batch can be noticed while nothing arrives
CONSUME_RECORDS = 2000  # one consume: two batches, so that the next is ready when one goes
# batches under way at SIGTERM: two calls of the org; under Kubernetes' usual 30 s of grace
STOP_SECONDS = 20.0
REVOKE_SECONDS = (
    5.0  # batches under way when the partition goes: half a session, since a takeover waits for us
)
# for the coordinator to say where to start: a broker's restart, and less than a poll may take
ASSIGN_SECONDS = 45.0
LAG_SECONDS = 5.0  # between two looks at the lag
LAG_ANSWER_SECONDS = (
    1.0  # for the broker to tell the end of a paused partition: the poll waits for it
)
HELD_SECONDS = 0.25  # another batch holds the person: about what a call takes
AGAIN_SECONDS = 0.5  # between two questions to a coordinator that does not answer
PROBE_FIRST, PROBE_LONGEST = 1.0, 60.0  # seconds between probes of an org that is away
ASKED_LONGEST = 600.0  # an org that asks for more is probed all the same: a probe costs one call

WRITTEN = frozenset(
    {
        salesforce.OutcomeStatus.CREATED,
        salesforce.OutcomeStatus.UPDATED,
        salesforce.OutcomeStatus.RELEASED,
    }
)
BULK = frozenset({Origin.BACKFILL, Origin.RECONCILE, Origin.REPLAY})


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the sink ended, and its exit status."""

    reason: str
    status: int
    """0, or one of `fences.Exit`."""


class Sink:
    """One consumer, some batches at work, and what waits."""

    def __init__(
        self,
        consumer: Consumer,
        publisher: Publisher,
        org: salesforce.Sync,
        names: Topics,
        settings: SinkSettings,
        metrics: SinkMetrics,
        health: Health,
        membership: WriteFence,
        deleted_before: Callable[[], Iterable[tuple[str, int]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer = consumer
        self._publisher = publisher
        self._org = org
        self._names = names
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._membership = membership
        self._deleted_before = (
            deleted_before  # blocks: key and version of what a predecessor deleted lately
        )
        self._clock = clock
        # librdkafka's calls block; one thread, so that rebalances are seen between two polls and
        # never beside one.
        self._kafka_thread = ThreadPoolExecutor(1, "kafka")
        self._waiting = PendingChanges()
        self._tracker = OffsetTracker()
        self._assigned: TopicPartition | None = None
        self._epoch = (
            0  # goes up when the partition comes or goes: work of an earlier one must not count
        )
        self._committed: int | None = None
        self._tasks: dict[asyncio.Task[None], set[str]] = {}  # and what each claims
        self._claimed: set[str] = set()
        self._paused = False
        self._org_failures = 0
        self._org_retry_at = 0.0
        self._written = 0  # batches that the org wrote something of
        self._buried: deque[float] = (
            deque()
        )  # when a contact was blamed for the failure of its calls
        self._catch_up_to = 0
        self._deletions = Deletions()
        self._recalling: asyncio.Task[None] | None = None
        self._started_at = 0
        self._lag_due = 0.0
        self._read_up_to = 0  # the log holds nothing for us before this offset
        self._seen_up_to = -1  # the same at the last look at the lag
        self._takes_nothing = False
        self._stop: Stop | None = None
        self._loop: asyncio.AbstractEventLoop

    def stop(self, reason: str, status: int = 0) -> None:
        """Ends `run` after what is under way, within STOP_SECONDS."""
        if self._stop is None:
            self._stop = Stop(reason, status)

    @property
    def at_work(self) -> int:
        """Batches, and records on their way to the dead letters, that have not ended."""
        return len(self._tasks)

    async def run(self) -> Stop:
        """Works until `stop`, or a fault that only a restart or an operator can mend. Closes the
        consumer.

        Raises OffsetOutOfRange.
        """
        self._loop = asyncio.get_running_loop()
        self._consumer.subscribe(
            [self._names.changes.name],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        self._health.ready()
        while self._stop is None:
            self._take(await self._in_kafka_thread(self._poll))
            self._start_batches()
            await self._commit()
            self._report()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
        await self._commit()
        await self._in_kafka_thread(self._consumer.close)
        self._kafka_thread.shutdown()
        for task in self._tasks:
            task.cancel()
        return self._stop

    async def _in_kafka_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._kafka_thread, call)

    # In the Kafka thread: the poll, and the rebalances that librdkafka calls from it. The state
    # belongs to the event loop, which is free meanwhile and is asked to change it.

    def _poll(self) -> list[Message]:
        room = self._settings.max_uncommitted - len(self._tracker)
        # An org that is away is probed with a batch, so one has to be there.
        full = room <= 0 or (
            self._org_is_away() and len(self._waiting) >= self._settings.batch_size
        )
        if self._assigned is not None and full != self._paused:
            (self._consumer.pause if full else self._consumer.resume)([self._assigned])
            self._paused = full
        messages: list[Message] = self._consumer.consume(
            max(1, min(CONSUME_RECORDS, room)), POLL_SECONDS
        )
        self._membership.polled()
        self._look_at_lag()
        return messages

    def _look_at_lag(self) -> None:
        now = self._clock()
        if self._assigned is None or now < self._lag_due:
            return
        self._lag_due = now + LAG_SECONDS
        idle = self._read_up_to == self._seen_up_to and len(self._tracker) == 0
        self._seen_up_to, self._takes_nothing = self._read_up_to, False
        # a partition that is read tells its end with each fetch; one that is paused, or hangs, is
        # not fetched
        try:
            _, end = self._consumer.get_watermark_offsets(
                self._assigned, timeout=LAG_ANSWER_SECONDS, cached=not self._paused and not idle
            )
        except KafkaException:
            return  # the broker is away, which others tell, and which no restart heals
        if end >= 0:
            self._takes_nothing = idle and end > self._read_up_to
            done = self._committed if self._committed is not None else self._started_at
            self._metrics.lag.set(max(0, end - done))

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions and (found := self._where_to_start(consumer, partitions)):
            starting, end = found
            consumer.incremental_assign(starting)
            consumer.resume(starting)  # librdkafka remembers the pause of a partition that was lost
            self._in_loop(self._begin(starting[0], end))

    def _where_to_start(
        self, consumer: Consumer, partitions: list[TopicPartition]
    ) -> tuple[list[TopicPartition], int] | None:
        """Each partition at its offset, and the end of the log. None when Kafka did not say in
        time, and the sink stops.

        Raises OffsetOutOfRange.
        """
        deadline = time.monotonic() + ASSIGN_SECONDS
        while True:
            try:
                starting = starting_offsets(consumer, partitions)
                _, end = consumer.get_watermark_offsets(partitions[0], timeout=METADATA_SECONDS)
            except KafkaException as error:
                reason = f"kafka does not say where to start: {error.args[0].str()}"
                log.warning(reason)
                self._health.waiting(reason)
                if time.monotonic() > deadline:
                    self.stop(reason, ExitCode.NO_COORDINATOR)
                if self._stop is not None:
                    return None
                time.sleep(AGAIN_SECONDS)
            else:
                if not self._org_is_away():
                    self._health.ready()
                return starting, end

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions:
            self._commit_now(self._in_loop(self._finish_what_is_under_way()))
            self._in_loop(self._forget("revoked"))

    def _on_lost(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._in_loop(self._forget("lost"))

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(REVOKE_SECONDS * 2)

    def _commit_now(self, offset: int | None) -> None:
        if self._assigned is None or offset is None or offset == self._committed:
            return
        where = TopicPartition(self._assigned.topic, self._assigned.partition, offset)
        try:
            self._consumer.commit(offsets=[where], asynchronous=False)
        except KafkaException as error:
            # The next round commits at least as far. If the partition is gone, its new owner
            # repeats what we did.
            log.warning("commit failed", error=error.args[0].name())
            return
        self._committed = offset

    # In the event loop.

    async def _begin(self, partition: TopicPartition, end: int) -> None:
        await self._forget("assigned")
        self._assigned, self._paused = TopicPartition(partition.topic, partition.partition), False
        self._started_at, self._lag_due = partition.offset, 0.0
        self._read_up_to, self._seen_up_to, self._takes_nothing = partition.offset, -1, False
        self._catch_up_to = end if partition.offset < end else 0
        self._recalling = asyncio.create_task(self._recall(self._epoch))

    async def _recall(self, epoch: int) -> None:
        """Takes over what a predecessor knew of deletions. Where Kafka does not tell it in time the
        sink stops.
        """
        deadline = self._clock() + ASSIGN_SECONDS
        while epoch == self._epoch and self._stop is None:
            try:
                for key, version in await asyncio.to_thread(self._deleted_before):
                    self._deletions.note(key, version)
            except (SnapshotStalled, KafkaException) as error:
                log.warning("what was deleted lately is not told", error=str(error))
                if self._clock() > deadline:
                    self.stop("kafka does not say what was deleted lately", ExitCode.NO_COORDINATOR)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return

    def _catching_up(self) -> bool:
        """Whether what a predecessor may have done already is still being read.

        It may have written everything that lies up to `max_uncommitted` records behind the commit.
        Written again from the start, an older change would meet a record that a newer one has
        released, with no version left to refuse it; read whole first, only the newest change of
        each contact is written.
        """
        if (
            self._tracker.position >= self._catch_up_to
            or len(self._tracker) >= self._settings.max_uncommitted
        ):
            self._catch_up_to = 0
        return self._catch_up_to > 0 or self._recalling is None or not self._recalling.done()

    async def _finish_what_is_under_way(self) -> int | None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=REVOKE_SECONDS)
        return self._tracker.committable()

    async def _forget(self, why: str) -> None:
        """The work of this epoch counts no more.

        Its batches end at their fence. They are not cancelled: what they have sent takes effect or
        does not, and until that is known their people stay claimed, in case the partition comes
        back to us.
        """
        log.info(why)
        self._epoch += 1
        self._membership.end_term()
        self._assigned, self._committed, self._takes_nothing = None, None, False
        self._metrics.lag.set(0)  # whoever has the partition tells it
        self._waiting.clear()
        self._tracker = OffsetTracker()

    async def _commit(self) -> None:
        offset = self._tracker.committable()
        if offset is not None and offset != self._committed:
            committing = asyncio.ensure_future(
                self._in_kafka_thread(lambda: self._commit_now(offset))
            )
            while not (await asyncio.wait({committing}, timeout=AGAIN_SECONDS))[0]:
                # a broker that does not answer holds it for minutes, which no restart heals
                self._health.beat()
            if offset == self._committed:
                self._tracker.committed(offset)

    def _take(self, messages: Sequence[Message]) -> None:
        now = self._clock()
        for message in messages:
            fault = message.error()
            if fault is not None:
                if fault.code() == KafkaError._PARTITION_EOF:
                    self._read_up_to = message.offset() or 0
                self._on_fault(fault)
                continue
            if self._assigned is None:  # revoked while this poll returned: the new owner reads it
                return
            record = to_record(message)
            self._tracker.take(record.offset)
            self._read_up_to = record.offset + 1
            self._metrics.taken.inc()
            try:
                change = parse_change(record.key, record.value, record.headers)
            except UnreadableRecord as error:
                self._start(self._bury(record, error), set())
                continue
            if change is None:  # an erasure: there is nothing to make true
                self._tracker.finish(record.offset)
                continue
            if self._waiting.add(
                PendingChange(
                    change, record, self._claims(change), self._due(change, now), [record.offset]
                )
            ):
                self._metrics.coalesced.inc()

    def _claims(self, change: ContactChange) -> frozenset[str]:
        made = _for_salesforce(change)
        try:
            return self._org.claims(made)
        except Exception as error:
            log.warning("claims cannot be told", error=type(error).__name__)
        # The fault may have passed by then: the person is claimed all the same.
        with contextlib.suppress(Exception):
            return frozenset((record_key(change.key), *addresses(made.contact or {})))
        return frozenset((record_key(change.key),))

    def _due(self, change: ContactChange, now: float) -> float:
        """Somebody waits for a live change; what was read in bulk waits longer for a full batch,
        which costs no more calls.
        """
        return now + (
            self._settings.bulk_linger if change.origin in BULK else self._settings.linger
        )

    def _on_fault(self, fault: KafkaError) -> None:
        if fault.code() == KafkaError._AUTO_OFFSET_RESET:
            raise OffsetOutOfRange(
                "the position is not in the log any more: changes expired unread, or the topic was made anew. "
                "Run `contactstream reconcile --all`; the next start says where to reset the group to"
            )
        if fault.code() == KafkaError._PARTITION_EOF:
            self._catch_up_to = 0  # compaction may have left a hole before the end
        elif fault.fatal() or fault.code() == KafkaError._AUTHENTICATION:
            self.stop(f"kafka: {fault.name()}", ExitCode.KAFKA_REFUSED)
        else:
            log.warning("kafka", error=fault.name())

    def _org_is_away(self) -> bool:
        return self._org_failures > 0

    def _start_batches(self) -> None:
        if self._assigned is None or self._membership.in_doubt or self._catching_up():
            return
        now = self._clock()
        if self._org_is_away() and (now < self._org_retry_at or self._tasks):
            return  # one batch at a time probes an org that was away
        most = 1 if self._org_is_away() else self._settings.in_flight
        while len(self._tasks) < most:
            rows = self._waiting.next_batch(self._claimed, now, self._settings.batch_size)
            if not rows:
                return
            claims = claims_of(rows)
            self._claimed |= claims
            self._start(self._work(rows, self._epoch, self._membership.term), claims)

    def _start(self, work: Coroutine[Any, Any, None], claims: set[str]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = claims
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._claimed -= self._tasks.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "a batch failed in a way that nobody foresaw",
                error=repr(type(error)),
                exc_info=error,
            )
            self.stop("unexpected error", ExitCode.UNEXPECTED_ERROR)

    async def _bury(self, record: KafkaRecord, error: UnreadableRecord) -> None:
        epoch = self._epoch
        self._metrics.dead_lettered.labels(error.reason).inc()
        if await self._acknowledged([unreadable_record(self._names, record, error)], epoch):
            self._tracker.finish(record.offset)

    async def _work(self, rows: list[PendingChange], epoch: int, term: int) -> None:
        self._metrics.batch_rows.observe(len(rows))
        batch = self._membership.begin(term)
        outdated = {row.key for row in rows if self._deletions.outdate(row.change)}
        outcomes = [
            salesforce.Outcome(key, salesforce.OutcomeStatus.STALE, reason="deleted_since")
            for key in outdated
        ]
        current = [_for_salesforce(row.change) for row in rows if row.key not in outdated]
        try:
            if current:
                outcomes += await self._org.sync(current)
            again, records, done = self._sort(outcomes, {row.key: row for row in rows})
        except WriterFenced as error:
            log.warning("nothing more is sent", error=str(error))
            self._put_back(rows, epoch)
            return
        except Exception as error:
            await self._failed(rows, epoch, error)
            return
        self._written += any(outcome.status in WRITTEN for outcome in outcomes)
        if batch.sent:  # otherwise nobody asked the org
            self._org_is_back()
        if epoch != self._epoch:
            return
        if await self._acknowledged(records, epoch):
            self._finish(done)
            for row in again:  # the org takes calls with them
                row.failures, row.failed_as, row.together = 0, "", None
            self._put_back(again, epoch)

    def _finish(self, done: Sequence[PendingChange]) -> None:
        for row in done:
            for offset in row.offsets:
                self._tracker.finish(offset)
            if row.change.kind is Kind.DELETED:
                self._deletions.note(row.key, row.change.version)
            self._observe_latency(row)
        self._metrics.last_processed.set_to_current_time()

    async def _failed(self, rows: list[PendingChange], epoch: int, error: Exception) -> None:
        """A batch came to nothing: the org is away, unless it is seen to work for others all the
        while.
        """
        word = possible_row_fault(error)
        if not isinstance(error, SalesforceError):
            log.error(
                "a batch failed in a way that nobody foresaw",
                error=repr(type(error)),
                exc_info=error,
            )
        for row in rows if word else ():
            row.failures = row.failures + 1 if word == row.failed_as else 1
            if row.failures == 1:
                row.failed_as, row.written_before = word, self._written
        beside_others = word != "" and all(
            row.together and self._written > row.written_before for row in rows
        )
        if beside_others:
            log.warning(
                "some contacts fail beside others that are written", reason=word, contacts=len(rows)
            )
            self._metrics.retried.labels(word).inc(len(rows))
        else:
            self._org_went_away(*_pause_of(error))
        if epoch != self._epoch:
            return
        now = self._clock()
        while self._buried and now - self._buried[0] >= BURIED_SECONDS:
            self._buried.popleft()
        failures = max(row.failures for row in rows)
        match after_failure(
            len(rows), failures, others_written=beside_others, buried=len(self._buried)
        ):
            case Next.BURY if word:
                self._buried.append(now)
                await self._blame(rows[0], word, error, epoch)
                return
            case Next.APART if word and len(rows) == 1:
                rows[0].together = 1
            case Next.APART if word:
                half = -(-len(rows) // 2)
                for row in rows:
                    row.together, row.failures, row.written_before = (
                        half,
                        after_split(half),
                        self._written,
                    )
        # While everybody waits for the org, its probes have their own pace; the last to fail goes
        # last.
        wait = (
            backoff(failures, random.random, PROBE_FIRST, PROBE_LONGEST) if beside_others else 0.0
        )
        for row in rows:
            if row.together:
                row.not_before = now + wait
        self._put_back(rows, epoch)

    async def _blame(self, row: PendingChange, word: str, error: Exception, epoch: int) -> None:
        """Dead-letters the contact without which the same calls pass."""
        log.warning("a contact breaks every call that it is in", reason=word)
        detail = f"alone in its calls, which fail beside others that pass: {type(error).__name__}: {error}"
        outcome = salesforce.Outcome(row.key, salesforce.OutcomeStatus.FAILED, reason=word)
        self._count(outcome)
        records = dead_letter_records(
            self._names, outcome, row.record, row.change, row.failures, detail
        )
        if await self._acknowledged(records, epoch):
            self._finish([row])

    def _sort(
        self, outcomes: Sequence[salesforce.Outcome], by_key: dict[str, PendingChange]
    ) -> tuple[list[PendingChange], list[KafkaRecord], list[PendingChange]]:
        """What waits again, what goes on a topic, and which rows are finished once that is
        acknowledged.
        """
        again: list[PendingChange] = []
        records: list[KafkaRecord] = []
        done: list[PendingChange] = []
        now = self._clock()
        for outcome in outcomes:
            row = by_key.pop(outcome.key)
            if outcome.status is salesforce.OutcomeStatus.RETRY:
                if outcome.reason == salesforce.NEXT_BATCH:
                    row.not_before = now + HELD_SECONDS
                    again.append(row)
                    continue
                if self._may_retry(row, outcome.reason, now):
                    row.not_before = now + backoff(row.attempts, random.random)
                    self._metrics.retried.labels(outcome.reason).inc()
                    again.append(row)
                    continue
            fate = final(outcome)
            self._count(fate)
            records += outcome_records(self._names, fate, row.record, row.change, row.attempts)
            done.append(row)
        if by_key:
            raise RuntimeError(f"{len(by_key)} contacts of a batch have no outcome")
        return again, records, done

    def _may_retry(self, row: PendingChange, reason: str, now: float) -> bool:
        row.first_failed = row.first_failed or now
        row.refused_equally = row.refused_equally + 1 if reason == row.refused_for else 1
        row.refused_for = reason
        row.attempts += 1
        return may_retry(
            reason, attempts=row.attempts, equal=row.refused_equally, seconds=now - row.first_failed
        )

    def _count(self, outcome: salesforce.Outcome) -> None:
        self._metrics.rows.labels(outcome.status.value).inc()
        if outcome.status is salesforce.OutcomeStatus.FAILED:
            self._metrics.dead_lettered.labels(outcome.reason).inc()
        if outcome.status is salesforce.OutcomeStatus.SKIPPED:
            self._metrics.skipped.labels(outcome.reason).inc()
        if outcome.matched is not None:
            self._metrics.matched.labels(outcome.matched).inc()
        if outcome.first:
            self._metrics.first_resolutions.labels(
                "found" if outcome.matched is not None else "created"
            ).inc()
        if outcome.ambiguous:
            self._metrics.ambiguous.inc()

    def _observe_latency(self, row: PendingChange) -> None:
        if row.change.received_ms:
            seconds = max(0.0, (now_ms() - row.change.received_ms) / 1000)
            self._metrics.latency.labels(row.change.origin).observe(seconds)

    async def _acknowledged(self, records: Sequence[KafkaRecord], epoch: int) -> bool:
        """True once the broker has all of them; False when the partition went away, and with it our
        say in its offsets.
        """
        attempt = 0
        while epoch == self._epoch:
            try:
                await self._publisher.publish(records)
            except PublishFailed as error:
                log.warning("outcomes not acknowledged", error=str(error))
                if error.permanent:
                    self.stop("the broker refuses an outcome", ExitCode.KAFKA_REFUSED)
                    return False
                attempt += 1
                await asyncio.sleep(backoff(attempt, random.random, 0.1, 5.0))
            else:
                return epoch == self._epoch
        return False

    def _put_back(self, rows: Sequence[PendingChange], epoch: int) -> None:
        if epoch == self._epoch:
            self._waiting.put_back(rows)

    def _org_went_away(self, reason: str, retry_after: float | None, detail: str = "") -> None:
        self._org_failures += 1
        wait = retry_after or backoff(
            self._org_failures - 1, random.random, PROBE_FIRST, PROBE_LONGEST
        )
        self._org_retry_at = self._clock() + min(wait, ASKED_LONGEST)
        self._metrics.pauses.labels(reason).inc()
        self._metrics.paused.set(1)
        self._health.waiting(f"salesforce: {reason}")
        log.warning("salesforce is away", reason=reason, probe_in=round(wait, 1), detail=detail)

    def _org_is_back(self) -> None:
        if self._org_failures:
            log.info("salesforce is back", after=self._org_failures)
            self._org_failures = 0
            self._metrics.paused.set(0)
            self._health.ready()

    def _report(self) -> None:
        if not self._takes_nothing or self._org_is_away():
            self._health.beat()
        self._metrics.ahead.set(len(self._tracker))


def _pause_of(error: Exception) -> tuple[str, float | None, str]:
    """Why the sink pauses, how long at first, and what a person should know."""
    if isinstance(error, OrgUnavailable):
        return error.reason, error.retry_after, error.detail
    if isinstance(error, SalesforceError):
        return type(error).__name__, None, str(error)
    return "unforeseen", None, repr(type(error))


def _for_salesforce(change: ContactChange) -> salesforce.ContactVersion:
    contact = None if change.kind is Kind.DELETED else change.contact
    return salesforce.ContactVersion(change.key, change.version, contact)
