"""The state of the sink for its partition while the partition is assigned to it.

An assignment is created when the partition is assigned, and dropped when it is revoked or lost.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaException, TopicPartition

from streams.events import NO_FIELDS, Kind, UnreadableRecord
from streams.kafka.offsets import OffsetTracker
from streams.kafka.polling import EndOfPartition
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled
from streams.metrics import SinkMetrics
from streams.runtime.exit_codes import ExitCode
from streams.runtime.logs import place
from streams.sink.batching import PendingChange, PendingChanges
from streams.sink.catch_up import CatchUp
from streams.sink.deletions import Deletions
from streams.sink.stopping import StopRequest

log = structlog.get_logger()

# For Kafka to say what a predecessor knew: a broker's restart. Longer means an outage, and a sink
# that ends is restarted, perhaps where the broker can be reached.
RECALL_SECONDS = 45.0
# Between two attempts to read what a predecessor knew.
RECALL_RETRY_SECONDS = 0.5


@dataclass(slots=True)
class ReadProgress:
    """How far the log was read, and whether reading goes on while there is something to read."""

    read_up_to: int
    """The log holds nothing for the sink before this offset."""
    checked_up_to: int = -1
    """`read_up_to` at the last check of the lag."""
    check_due: float = 0.0
    """When the lag is checked next."""
    takes_nothing: bool = False
    """Records waited from one check of the lag to the next, and none was taken."""


@dataclass(slots=True, eq=False)
class Assignment:
    """One partition, from its assignment until it is revoked or lost.

    A partition that comes back is a new assignment. Results of a batch count only while the
    assignment that the batch was taken from is active.
    """

    partition: TopicPartition
    """Topic and number, without an offset."""
    start_offset: int
    """Where reading started."""
    catch_up: CatchUp | None
    """What a predecessor may have written; None if nothing, or once all of it was read twice."""
    deletions: Deletions
    progress: ReadProgress
    tracker: OffsetTracker = field(default_factory=OffsetTracker)
    pending: PendingChanges = field(default_factory=PendingChanges)
    committed: int | None = None
    """The last offset committed since the assignment."""
    paused: bool = False
    """Whether the consumer was told not to fetch."""
    active: bool = True
    """False once the partition was revoked or lost."""
    claims_complete: bool = False
    """Whether every pending row claims its Account: rows that came before the org was read do not.
    """
    predecessor_may_have_calls: bool = False
    """Whether the writer before this assignment may have calls of the org without an answer."""
    calls_announced: bool = False
    """Whether the group's commit says that calls of this assignment may be open."""
    announced_to: int = 0
    """The group's commit says that changes up to this offset may be written."""
    rewind: bool = False
    """Whether the consumer has to go back to the start: the first reading is over."""
    held_unreadable: list[tuple[KafkaRecord, UnreadableRecord]] = field(default_factory=list)
    """Records that hold no change and are no dead letters yet: all writing is stopped, or it is not
    known yet whether it is. They are of one poll, since nothing is read while there are any.
    """
    recall: asyncio.Task[None] | None = None
    """Reads from Kafka what a predecessor knew: what was deleted, and the Accounts."""

    @property
    def committed_offset(self) -> int:
        """The offset at which a successor would start now."""
        return self.start_offset if self.committed is None else self.committed

    def took(self, offset: int, received_ms: int = 0) -> None:
        """A record was taken from the log, which was received then; 0 if that is unknown."""
        self.tracker.take(offset, received_ms)
        self.progress.read_up_to = offset + 1

    def reached_end(self, offset: int) -> None:
        """The log was read to its end, which was this offset."""
        self.progress.read_up_to = max(self.progress.read_up_to, offset)
        if not self.surveying and self.tracker.position >= 0:
            self._end_catch_up()

    @property
    def surveying(self) -> bool:
        """Whether records are read for the first time of two (see `streams.sink.catch_up`)."""
        return self.catch_up is not None and not self.catch_up.surveyed

    def survey(self, events: Sequence[KafkaRecord | EndOfPartition]) -> None:
        """Records of the first reading: nothing of them is kept but what the second one needs."""
        catch_up = self.catch_up
        if catch_up is None:
            return
        for event in events:
            if isinstance(event, EndOfPartition):
                catch_up.reached_end()
            else:
                self.progress.read_up_to = event.offset + 1
                catch_up.survey(event)
        if catch_up.surveyed:
            self.rewind = True
            self.progress.read_up_to = self.start_offset
            self.announced_to = catch_up.end

    def is_superseded(self, key: str, offset: int) -> bool:
        """Whether a change is not written because the first reading saw a newer one."""
        return self.catch_up is not None and self.catch_up.is_superseded(key, offset)

    def restored(self, key: str) -> frozenset[str]:
        """The fields that changes of the contact restore which the first reading saw."""
        if self.catch_up is None:
            return NO_FIELDS
        return self.catch_up.restored.get(key, NO_FIELDS)

    def took_all(self) -> None:
        """All records that were read are taken."""
        if self.catch_up is not None and self.tracker.position >= self.catch_up.end:
            self._end_catch_up()

    def _end_catch_up(self) -> None:
        """All that a predecessor may have written was read twice."""
        catch_up, self.catch_up = self.catch_up, None
        for offset in () if catch_up is None else catch_up.finished:
            self.tracker.finish(offset)

    @property
    def may_write(self) -> bool:
        """Whether it is known what a predecessor may have written, and what it knew."""
        return not self.surveying and self.recalled

    @property
    def recalled(self) -> bool:
        """Whether Kafka has said what a predecessor knew."""
        recall = self.recall
        return recall is not None and recall.done() and recall.exception() is None

    def put_back(self, rows: Iterable[PendingChange]) -> None:
        """Rows of a batch that were not finished wait again, unless the partition is gone."""
        if self.active:
            self.pending.put_back(rows)

    def finish(self, rows: Iterable[PendingChange]) -> None:
        """The outcomes of these rows are acknowledged: their offsets may be committed."""
        for row in rows:
            for offset in row.offsets:
                if self.catch_up is None or not self.catch_up.holds_back(offset):
                    self.tracker.finish(offset)
            if row.change.kind is Kind.DELETED:
                self.deletions.note(row.key, row.change.version)


class CurrentAssignment:
    """The assignment that the sink has now, if any. Changed in the event loop only."""

    def __init__(
        self,
        deleted_before: Callable[[], Iterable[tuple[str, int]]],
        recall: Callable[[], Awaitable[None]],
        stop: StopRequest,
        metrics: SinkMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.assignment: Assignment | None = None
        self._deletions = Deletions()  # what is known stays known when the partition comes back
        self._deleted_before = deleted_before  # blocks; contact keys and versions
        self._recall_more = recall  # what is kept on topics of the sink
        self._stop = stop
        self._metrics = metrics
        self._clock = clock

    async def begin(
        self, start: TopicPartition, written_to: int, *, predecessor_may_have_calls: bool = False
    ) -> None:
        """The partition was assigned: reading starts at `start`.

        A predecessor may have written changes up to `written_to`.
        """
        self._drop()
        log.info("assigned", **place(start))
        assignment = Assignment(
            TopicPartition(start.topic, start.partition),
            start.offset,
            CatchUp(written_to) if start.offset < written_to else None,
            self._deletions,
            ReadProgress(start.offset),
            predecessor_may_have_calls=predecessor_may_have_calls,
            announced_to=written_to,
        )
        assignment.recall = asyncio.create_task(self._recall(assignment))
        assignment.recall.add_done_callback(self._stop.request_if_failed)
        self.assignment = assignment

    async def end(self, why: str) -> None:
        """The partition was revoked or lost.

        Its batches end at their fence. They are not cancelled: what they have sent takes effect or
        does not, and until that is known nobody else may write the same people. Therefore their
        claims are held until they end (see RunningTasks), in case the partition comes back.
        """
        self._drop()
        log.info(why)
        self._metrics.lag.set(0)  # the new owner reports it

    def _drop(self) -> None:
        if self.assignment is not None:
            self.assignment.active = False
            self.assignment.pending.clear()  # batches may keep the object for minutes
            self.assignment = None

    async def _recall(self, assignment: Assignment) -> None:
        """Takes over what a predecessor knew: deletions at Nylas and in Salesforce, the Accounts.

        Where Kafka does not say it within RECALL_SECONDS, the sink stops.
        """
        deadline = self._clock() + RECALL_SECONDS
        while assignment.active and not self._stop.requested:
            try:
                for key, version in await asyncio.to_thread(self._deleted_before):
                    assignment.deletions.note(key, version)
                await self._recall_more()
            except (SnapshotStalled, KafkaException) as error:
                log.warning("could not read a predecessor's records in Kafka", error=str(error))
                if self._clock() > deadline:
                    self._stop.request(
                        "Kafka did not say what a predecessor knew: which contacts and records "
                        "were deleted, and the Accounts",
                        ExitCode.NO_COORDINATOR,
                    )
                await asyncio.sleep(RECALL_RETRY_SECONDS)
            else:
                return
