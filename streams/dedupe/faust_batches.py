"""Faust that gives its agent one fetched batch of one partition at a time, and loses none.

Stock Faust 0.15.3 pays two asyncio tasks, a message, an event and a queue entry for each record.
Here it pays them once a batch: the value of what Faust calls an event is a list of aiokafka's
records of one partition, in the order of their offsets. Overridden:

* `BatchConsumer`: batches. The offset committed is the end of the unbroken run of batches that the
  agent has finished; Faust's own arithmetic steps over a single unfinished record
  (faust-streaming#606). A partition is read only in the rebalance whose recovery has completed. The
  records that reach the agent are checked to be the next ones, and their start to be in the log.
* `PausedRecovery`: source partitions stay paused until the queues have been cleared
  (faust-streaming#596), and remain so when another rebalance has begun meanwhile.
* `BatchTable`: recovers from batches, keeps the entries of each partition apart, and leaves its
  changelog to be written by the agent.
* `ConsumerThread`: bounds a fetch by the number of its records and by their uncompressed size;
  notes when the group's coordinator last answered this process, shows the metadata of the commits
  from which the group goes on, and ends the process when the group is refused.

The agent acknowledges its batches itself, so that it may take the next one before. It never raises:
Faust would start it again, and the next batch is planned as if this one were published. It ends the
process instead (`die`). The parts of Faust and aiokafka that this relies on are checked when the
process starts: see `faust_check`.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import faust
import structlog
from aiokafka.structs import OffsetAndMetadata
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types.tuples import TP, ConsumerMessage

from streams.dedupe.fence import LOST
from streams.dedupe.log_loss import (
    LOSS_CONFIRM_SECONDS,
    ReadPosition,
    RecordIdentity,
    identity,
)
from streams.dedupe.refusals import refusal
from streams.events import received_at
from streams.runtime.exit_codes import Die, ExitCode, die
from streams.runtime.logs import where
from streams.runtime.unfinished import UnfinishedTimes
from streams.runtime.watchdog import elapsed

# Not by the name of this module, whose logger Faust's services use too.
log = structlog.get_logger("contactstream.dedupe")

# Bounds one step of the agent, and so how long a rebalance waits for it.
BATCH_RECORDS = 4000

# Uncompressed. Holds BATCH_RECORDS common events, and bounds memory where notes compress 250 to 1.
BATCH_BYTES = 8 * 1024 * 1024

# Batches that wait in memory for the agent.
QUEUED_BATCHES = 4

# How long the broker holds a fetch that finds nothing. The requests of a connection are answered
# one after the other, and the requests for offsets at the end of a recovery use the same connection
# as the fetches: with Faust's 1500 they waited that long, and so did the takeover.
FETCH_WAIT_MS = 250

# Records taken between two checks of their size: so many of the largest are 40 MB.
RECORDS_PER_SIZE_CHECK = 16

# Digits of epoch milliseconds, until the year 2286.
RECEIVED_DIGITS = 13
ZERO = ord("0")

# No partition: see `BatchConsumer.stop_flow`.
NO_PARTITION = TP("", -1)


class ConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Fetches a batch at a time, and notes when the coordinator last answered a heartbeat.

    `last_heard` is the moment at which that heartbeat was sent; -LOST once the coordinator has
    answered that this worker is no member, until it is one again.
    """

    last_heard: float = 0.0
    _failed: Exception | None = None

    async def on_start(self) -> None:
        await super().on_start()
        self._consumer._fetcher._fetch_max_wait_ms = FETCH_WAIT_MS
        coordinator = self._consumer._coordinator
        heartbeat = coordinator._do_heartbeat

        async def noted() -> bool:
            sent = elapsed()
            answered: bool = await heartbeat()
            if answered:
                self.last_heard = sent
            elif not coordinator.member_id:  # aiokafka forgets it when the group does not know it
                self.last_heard = -LOST
            return answered

        coordinator._do_heartbeat = noted
        notes, commit = self.app.commit_notes, self._consumer.commit

        async def commit_noted(offsets: Mapping[Any, OffsetAndMetadata]) -> None:
            await commit(
                {
                    tp: OffsetAndMetadata(each.offset, notes.get(tp.topic, each.metadata))
                    for tp, each in offsets.items()
                }
            )

        # Faust commits without metadata, which says here what topic an offset belongs to.
        self._consumer.commit = commit_noted
        fetch, on_note = coordinator.fetch_committed_offsets, self.app.on_commit_note

        async def fetch_noted(partitions: Iterable[Any]) -> dict[Any, OffsetAndMetadata]:
            found: dict[Any, OffsetAndMetadata] = await fetch(partitions)
            for each in found.values():
                on_note(each.metadata)
            return found

        # After a join: from then on Kafka refuses a commit of somebody who is no member.
        coordinator.fetch_committed_offsets = fetch_noted
        push_error = coordinator._push_error_to_user

        def push_or_end(error: Exception) -> Any:
            if refused := refusal(error):
                self.app.die(*refused)
            return push_error(error)

        # aiokafka waits until the next fetch takes the error, and Faust fetches only once it has
        # partitions: a worker whose group is refused would wait for ever.
        coordinator._push_error_to_user = push_or_end

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.last_heard = elapsed()  # the coordinator has just answered SyncGroup
        await super().on_partitions_assigned(assigned, generation_id)

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  Faust's signature
        max_records: int | None = None,
    ) -> dict[TP, list[Any]]:
        """Up to BATCH_RECORDS records or BATCH_BYTES, of all partitions.

        Records beyond that stay compressed in aiokafka's buffer. aiokafka bounds by records alone,
        and a record may have a few bytes or megabytes.
        """
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        fetched: dict[TP, list[Any]] = {}
        room, size = BATCH_RECORDS, 0
        wait = timeout
        while room > 0 and size < BATCH_BYTES:
            try:
                more = await super()._fetch_records(
                    consumer, active_partitions, wait, min(room, RECORDS_PER_SIZE_CHECK)
                )
            except Exception as error:
                if not fetched:
                    raise
                # Raised by the next call: the offsets of the records before it count as read.
                self._failed = error
                break
            if not more:
                break
            for tp, records in more.items():
                fetched.setdefault(tp, []).extend(records)
                room -= len(records)
                size += sum(
                    record.serialized_key_size + record.serialized_value_size for record in records
                )
            # Only records that are here already: nothing else in this thread runs meanwhile, and
            # no rebalance either.
            wait = 0
        return fetched


class BatchConsumer(Consumer):  # type: ignore[misc]
    """A Faust consumer whose messages are batches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._die: Die = self.app.die
        # The offset that must come next.
        self._due: dict[TP, int] = {}
        # The record before that one, once one was taken.
        self._last: dict[TP, RecordIdentity] = {}
        # The due offset for which the client was sent back to the record before it.
        self._sent_back: dict[TP, int] = {}
        # The last offsets of the batches that the agent has not finished.
        self._handed_out: defaultdict[TP, deque[int]] = defaultdict(deque)
        # The offset that may be committed.
        self._finished: dict[TP, int] = {}
        # The partitions of which the fetch in flight may return records.
        self._asked: set[TP] = set()
        # The rebalance in which source partitions may be read.
        self._open_in = -1
        self._resume_later: list[Iterable[TP]] | None = None

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def seconds_unheard(self) -> float:
        """Seconds since the coordinator last received a heartbeat of this process, or LOST."""
        return elapsed() - float(self._thread.last_heard)

    def reading(self) -> dict[TP, ReadPosition]:
        """Where each source partition that is being read is read."""
        return {
            tp: ReadPosition(due, idle=self._finished.get(tp) == due)
            for tp, due in list(self._due.items())
        }

    def positions(self) -> dict[TP, int]:
        """The offset up to which the agent had finished at the last commit.

        For each source partition that is being read.
        """
        return dict(self._finished)

    async def _getmany(
        self,
        active_partitions: set[TP],
        timeout: float,  # noqa: ASYNC109  Faust's signature
    ) -> Any:
        # A copy. The live set is empty for a moment at the end of recovery. aiokafka takes "no
        # partitions" for "all of them"; Faust drops records of a paused partition that it then
        # gets, while the position has moved on and the commit passes them.
        self._asked = set(active_partitions)
        return await super()._getmany(self._asked, timeout)

    def stop_flow(self) -> None:
        super().stop_flow()
        # A fetch that waits since before a rebalance must not take, and drop, the first records of
        # the next assignment: those of a changelog would be missing from the table. The set is not
        # empty at any moment: that would ask for all partitions.
        self._asked.add(NO_PARTITION)
        self._asked.intersection_update({NO_PARTITION})

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109  Faust's signature
    ) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        fetched, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            return  # a rebalance has begun; its recovery seeks back to the committed offsets
        changelogs = self.app.tables.changelog_topics
        for tp, records in fetched.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if tp not in active and tp not in self._buffered_partitions:
                continue
            batch = records if tp.topic in changelogs else await self._take(tp, records)
            if batch:
                yield tp, self._message(tp, batch)

    async def _take(self, tp: TP, batch: list[Any]) -> list[Any]:
        """The part of a batch that the agent gets; empty if it may get none now."""
        if self._open_in != self.app.rebalancing_count:
            return []
        due = self._due[tp]
        if batch[0].offset < due:
            batch = await self._not_taken_yet(tp, due, batch)
            if not batch:
                return []
        if batch[0].offset > due:
            start = (await self.earliest_offsets(tp))[tp]
            if start > due:
                self._die(ExitCode.OFFSET_OUT_OF_RANGE, out_of_range(tp, due, start))
            self._die(
                ExitCode.RECORDS_MISSING,
                f"{tp.topic}[{tp.partition}]: {batch[0].offset} follows {due - 1}",
            )
        last = batch[-1].offset
        self._due[tp] = last + 1
        self._last[tp] = identity(batch[-1])
        self._handed_out[tp].append(last)
        self.app.received.begin((tp, last), oldest_receipt(batch))
        # So that Faust sees no gap, which it would count as acknowledged.
        self._read_offset[tp] = last - 1
        return batch

    async def _not_taken_yet(self, tp: TP, due: int, batch: list[Any]) -> list[Any]:
        """The records of a batch from `due` on, if the ones before it were taken from this log.

        A batch may be fetched once before a seek back, and once after it. But aiokafka also starts
        over at the start of the log, without a word, when the broker says that the position is
        beyond its end: then the log may have lost records that were taken, and have new ones in
        their place. The last record taken tells the two apart. If the batch does not reach it, the
        client is sent back to it, so that the whole log need not be read first.
        """
        before = next((record for record in batch if record.offset == due - 1), None)
        last = self._last.get(tp)
        if last is not None and before is not None and identity(before) != last:
            self._die(
                ExitCode.OFFSET_OUT_OF_RANGE,
                f"{tp.topic}[{tp.partition}]: the record at {due - 1} is not the one that was "
                "read: the log lost its end, and events since then were given offsets that were "
                f"used before. {AFTER_LOST_END}",
            )
        if last is not None and before is None and self._sent_back.get(tp) != due:
            self._sent_back[tp] = due
            await self.seek_wait({tp: due - 1})
        return [record for record in batch if record.offset >= due]

    def _message(self, tp: TP, batch: list[Any]) -> ConsumerMessage:
        last = batch[-1]
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000.0,
            timestamp_type=last.timestamp_type,
            headers=None,
            key=None,
            value=batch,
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (
            tp
            for tp in list(self._finished)
            if topics is None or tp in topics or tp.topic in topics
        )

    def _new_offset(self, tp: TP) -> int | None:
        """The offset after the unbroken run of batches that the agent has finished.

        Without a commit so far it is the start of the log: a partition without records is committed
        too, so that records that expire there unread are noticed.
        """
        waiting, acked = self._handed_out[tp], self._acked_index[tp]
        while waiting and waiting[0] in acked:
            acked.discard(waiting[0])
            last = waiting.popleft()
            self._finished[tp] = last + 1
            self.app.received.end((tp, last))
        self._acked[tp][:] = acked
        return self._finished.get(tp)

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        before = {tp: self._committed_offset[tp] for tp in offsets}
        done: bool = await super()._commit_offsets(offsets, start_new_transaction)
        # Faust counts it as committed also when it failed, and would never try again
        # (faust-streaming#611).
        if not done:
            self._committed_offset.update(before)
        return done

    async def perform_seek(self) -> None:
        """Seeks to the committed offsets: records fetched since then are fetched again.

        Faust keeps the position where nothing is committed, and follows a silent reset where the
        offset is outside of the log.
        """
        self._forget(self._due)
        source = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        committed = await self.seek_to_committed()
        starts, ends = await self.earliest_offsets(*source), await self.highwaters(*source)
        if any((committed.get(tp) or 0) > ends[tp] for tp in source):
            # After a clean election the end may lag behind for a moment.
            await asyncio.sleep(LOSS_CONFIRM_SECONDS)
            assigned = self.assignment()
            source = [tp for tp in source if tp in assigned]
            starts, ends = await self.earliest_offsets(*source), await self.highwaters(*source)
        for tp in source:
            offset = committed.get(tp)
            if offset is not None and not starts[tp] <= offset <= ends[tp]:
                problem = out_of_range(tp, offset, starts[tp], ends[tp])
                self._die(ExitCode.OFFSET_OUT_OF_RANGE, problem)
            self._due[tp] = self._finished[tp] = starts[tp] if offset is None else offset
            self._committed_offset[tp] = offset
        await self.seek_wait({tp: self._due[tp] for tp in source})

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        for tp in revoked:
            self._new_offset(tp)  # Faust forgets its acknowledgements before its last commit
        await super().on_partitions_revoked(revoked)
        self._forget(revoked)

    def _forget(self, tps: Iterable[TP]) -> None:
        for tp in list(tps):
            for last in self._handed_out.get(tp, ()):
                self.app.received.end((tp, last))
            for known in (
                self._handed_out,
                self._finished,
                self._due,
                self._last,
                self._sent_back,
                self._acked,
                self._acked_index,
            ):
                known.pop(tp, None)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        if self._resume_later is not None:
            self._resume_later.append(tps)
        else:
            super().resume_partitions(tps)

    @contextmanager
    def resuming_later(self) -> Iterator[list[Iterable[TP]]]:
        """Inside the block, partitions to be resumed are only noted in the list it yields."""
        later: list[Iterable[TP]] = []
        self._resume_later = later
        try:
            yield later
        finally:
            self._resume_later = None

    def open(self, tps: Iterable[TP], rebalance: int) -> None:
        """Source partitions may be read, until the next rebalance begins."""
        self._open_in = rebalance
        super().resume_partitions(tps)


AFTER_LOST_END = (
    "Run `contactstream reconcile --all`, then reset the group's offsets to the start of the "
    "topic: events that were taken before are recognised"
)


def out_of_range(tp: TP, offset: int, start: int, end: int | None = None) -> str:
    """What happened to a position outside of the log, and what to do; for an operator."""
    where = f"{tp.topic}[{tp.partition}]: the offset {offset}"
    if end is not None and offset > end:
        return (
            f"{where} lies beyond the end of the log, {end}: the log lost its end, or the topic "
            f"was deleted and created again. {AFTER_LOST_END}"
        )
    return (
        f"{where} lies below the start of the log, {start}: {start - offset} records expired "
        f"unread. Reconcile all grants, then reset the group's offset to {start}"
    )


def oldest_receipt(batch: Iterable[Any]) -> int:
    """The earliest receipt of records of aiokafka's, in epoch milliseconds.

    As `received_at` says it of each. Of headers with the usual number of digits the smallest text
    is the smallest number: this is done for every record in the thread that sends the heartbeats.
    """
    usual: list[bytes] = []
    others: list[int] = []
    for record in batch:
        value = dict(record.headers).get("received_ms")
        if value and len(value) == RECEIVED_DIGITS and value.isdigit() and value[0] != ZERO:
            usual.append(value)
        else:
            others.append(received_at(value, record.timestamp))
    if usual:
        others.append(int(min(usual)))
    return min(others, default=0)


class BatchTransport(Transport):  # type: ignore[misc]
    """Faust's transport with `BatchConsumer`."""

    Consumer = BatchConsumer


class BatchTable(faust.Table):  # type: ignore[misc]
    """A table of bytes in memory, by partition.

    The agent adds entries with `remember` once their changelog is acknowledged. The entries of a
    lost partition are dropped at once, unless this worker keeps a standby copy of it. A million
    entries are restored in seconds, so no disk is used.
    """

    def __init__(self, app: "App", name: str, changelog: str, partitions: int) -> None:
        topic = app.bytes_topic(changelog, acks=False, internal=False, allow_empty=True)
        super().__init__(
            app,
            name=name,
            partitions=partitions,
            changelog_topic=topic,
            key_type=bytes,
            value_type=bytes,
            recovery_buffer_size=QUEUED_BATCHES,
            standby_buffer_size=1,
        )
        self._die: Die = app.die
        self._entries: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        # By partition, the last offset of the changelog that was read into the entries.
        self._read: dict[int, int] = {}
        app.tables.add(self)

    def entries(self, partition: int) -> Mapping[bytes, bytes]:
        """The entries of a partition: keys and encoded states."""
        return self._entries[partition]

    def remember(self, partition: int, entries: Mapping[bytes, bytes | None]) -> None:
        """Adds entries whose changelog is acknowledged, and removes those that are None."""
        known = self._entries[partition]
        for key, entry in entries.items():
            if entry is None:
                known.pop(key, None)
            else:
                known[key] = entry

    def size(self) -> int:
        """The number of entries of all partitions of this worker."""
        return sum(map(len, list(self._entries.values())))

    def persisted_offset(self, tp: TP) -> int | None:
        """From where Faust reads a changelog that becomes active or standby; None for its start.

        Stock Faust reads a table in memory from the start of its changelog, also when the worker
        has a standby copy of it.
        """
        return self._read.get(tp.partition)

    def apply_changelog_batch(self, events: Iterable[Any]) -> None:
        try:
            for event in events:
                entries = self._entries[event.message.partition]
                for record in event.value:
                    if record.value is None:
                        entries.pop(record.key, None)
                    else:
                        entries[record.key] = record.value
                self._read[event.message.partition] = event.message.offset
            if self.app.in_recovery:  # a standby copy that follows is no progress of the agent
                self.app.on_progress()
        except Exception as error:  # noqa: BLE001
            # Faust would log it, and go on with a table that lacks entries.
            self._die(ExitCode.UNREADABLE_STATE, f"the changelog cannot be read: {where(error)}")

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        ours = {tp.partition for tp in active_tps}
        kept = ours | {tp.partition for tp in standby_tps}
        for partition in self._entries.keys() - kept:
            del self._entries[partition]
        for partition in self._read.keys() - kept:
            del self._read[partition]
        log.info("table restored", partitions=sorted(ours), entries=self.size())

    async def on_start(self) -> None:
        """Does nothing: there is no store to open.

        `contactstream topics create` creates the changelog.
        """


class PausedRecovery(Recovery):  # type: ignore[misc]
    """Keeps source partitions paused until Faust has sought back and cleared the queues.

    They are resumed only in the rebalance that assigned them.
    """

    _rebalance = -1

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        self._rebalance = self.app.rebalancing_count
        log.info(
            "partitions assigned",
            partitions=sorted(tp.partition for tp in assigned),
            new=sorted(tp.partition for tp in newly_assigned),
        )
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        rebalance, consumer = self._rebalance, self.app.consumer
        with consumer.resuming_later() as later:
            await super().on_recovery_completed(generation_id)
        if (
            rebalance == self.app.rebalancing_count
            and generation_id == self.app.consumer_generation_id
        ):
            for tps in later:
                consumer.open(tps, rebalance)


class BatchTables(TableManager):  # type: ignore[misc]
    """Faust's tables with `PausedRecovery`."""

    _recovery: PausedRecovery | None = None

    @property
    def recovery(self) -> PausedRecovery:
        if self._recovery is None:
            self._recovery = PausedRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class App(faust.App):  # type: ignore[misc]
    """A Faust application whose agent gets batches.

    One agent, one table, nothing on disk, no web server, no leader. `on_working` is called after a
    rebalance and its recovery, `on_waiting` with the reason when a rebalance begins, `on_progress`
    for each batch of a recovery. `commit_notes` is the metadata of each commit, by topic.
    `on_commit_note` gets the metadata of each commit that is read after a rebalance. `standbys` are
    the other workers that keep a copy of each partition of the table.
    """

    def __init__(
        self,
        name: str,
        *,
        die: Die = die,
        on_working: Callable[[], None] = lambda: None,
        on_waiting: Callable[[str], None] = lambda reason: None,
        on_progress: Callable[[], None] = lambda: None,
        commit_notes: Mapping[str, str] | None = None,
        on_commit_note: Callable[[str], None] = lambda note: None,
        standbys: int = 0,
        **options: Any,
    ) -> None:
        self.die = die
        self.commit_notes, self.on_commit_note = commit_notes or {}, on_commit_note
        self.received = UnfinishedTimes()
        """When the oldest record of each batch that is not finished was received."""
        self.on_working, self.on_waiting, self.on_progress = on_working, on_waiting, on_progress
        super().__init__(
            name,
            TableManager=BatchTables,
            stream_buffer_maxsize=QUEUED_BATCHES,
            stream_wait_empty=True,
            table_standby_replicas=standbys,
            topic_disable_leader=True,
            topic_allow_declare=False,
            web_enabled=False,
            worker_redirect_stdouts=False,
            store="memory://",
            **options,
        )

    def bytes_topic(self, name: str, **options: Any) -> Any:
        """A topic whose keys and values are bytes, which Faust leaves as they are."""
        return self.topic(
            name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            **options,
        )

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Does nothing: Faust would create directories, and nothing is kept on disk."""

    def on_rebalance_start(self) -> None:
        super().on_rebalance_start()
        self.on_waiting("the group rebalances, then the table is restored")

    def on_rebalance_end(self) -> None:
        super().on_rebalance_end()
        log.info("ready")
        self.on_working()
