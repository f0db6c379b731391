"""Faust that hands its agent one fetched batch of one partition at a time, and loses none.

Stock Faust 0.15.3 pays two asyncio tasks, a message, an event and a queue entry for each record.
Here it pays them once a batch: the value of what it calls an event is a list of aiokafka records of
one partition, in the order of their offsets. What it overrides:

* `BatchConsumer`: batches; the offset committed is the end of the unbroken run of batches that the
  agent has finished (Faust's own arithmetic steps over a single unfinished record,
  faust-streaming#606); a partition is read only in the rebalance whose recovery has completed; what
  reaches the agent is checked to be what is due, and where it starts to lie inside the log.
* `PausedRecovery`: source partitions stay paused until the queues have been cleared
  (faust-streaming#596), and stay so when another rebalance has begun meanwhile.
* `BatchTable`: recovers from batches, keeps each partition's entries apart, and leaves its
  changelog to be written by the agent.
* `ConsumerThread`: bounds a fetch by its records and by their uncompressed size; notes when the
  group's coordinator last heard of this process.

The promise ends where the agent raises: Faust acknowledges in a `finally`. An agent must end the
process instead (`fences.die`). Parts of Faust and aiokafka that this rests on are checked at
start-up by the hash of their source, because the pin alone cannot tell a patched installation.
"""

import hashlib
import inspect
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types.tuples import TP, ConsumerMessage

from streams.runtime.exit_codes import Die, ExitCode, die
from streams.runtime.watchdog import elapsed

BATCH = 4000  # records: bounds one step of the agent, and so how long a rebalance waits for it
# Uncompressed: holds BATCH common events, and bounds memory where notes compress 250 to 1.
BATCH_BYTES = 8 * 1024 * 1024
QUEUE = 4  # batches that wait in memory for the agent
# Milliseconds that the broker holds a fetch that finds nothing. A connection's requests are
# answered in turn, and those for offsets at the end of a recovery share the fetches': with Faust's
# 1500 they waited for that long, and the takeover with them.
FETCH_WAIT_MS = 250
STEP = 16  # records taken between two looks at their size: as many of the largest are 40 MB

NOWHERE = TP("", -1)

PINNED = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}


class IncompatibleFaust(RuntimeError):
    """The installed Faust is not the one that this module overrides."""


def check_faust(
    pinned: Mapping[str, str] = PINNED, sources: Mapping[str, str] | None = None
) -> None:
    """Raises IncompatibleFaust unless every part that is overridden or relied on is the one that
    the tests were run with.
    """
    for package, wanted in pinned.items():
        if version(package) != wanted:
            raise IncompatibleFaust(
                f"{package} {version(package)} is installed, {wanted} is required: install deploy/requirements.lock"
            )
    for target, wanted in (SOURCES if sources is None else sources).items():
        found = source_hash(target)
        if found != wanted:
            raise IncompatibleFaust(
                f"{target} is not the one that streams/dedupe/faust_batches.py was written for (source {found} instead of {wanted}). "
                "Install deploy/requirements.lock; after an upgrade on purpose read the difference, "
                "run tests/faults, then note the new hash"
            )


def source_hash(target: str) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the source of `module:qualified.name`."""
    module, _, path = target.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    found = getattr(found, "fun", found)  # a mode task
    found = found.fget if isinstance(found, property) else found
    return hashlib.sha256(inspect.getsource(found).encode()).hexdigest()[:12]


class ConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Takes a batch at a time, and notes when the coordinator last answered a heartbeat, by the
    moment at which that was sent.
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
            return answered

        coordinator._do_heartbeat = noted

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.last_heard = elapsed()  # the coordinator has just answered SyncGroup
        await super().on_partitions_assigned(assigned, generation_id)

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> dict[TP, list[Any]]:
        """Up to `BATCH` records or `BATCH_BYTES`, of all partitions. What was fetched beyond that
        stays compressed where it is.

        aiokafka bounds by records alone, and a record may have a few bytes or megabytes.
        """
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        fetched: dict[TP, list[Any]] = {}
        room, size = BATCH, 0
        wait = timeout
        while room > 0 and size < BATCH_BYTES:
            try:
                more = await super()._fetch_records(
                    consumer, active_partitions, wait, min(room, STEP)
                )
            except Exception as error:
                if not fetched:
                    raise
                self._failed = (
                    error  # after the records that came before it, whose offsets count as read
                )
                break
            if not more:
                break
            for tp, records in more.items():
                fetched.setdefault(tp, []).extend(records)
                room -= len(records)
                size += sum(
                    record.serialized_key_size + record.serialized_value_size for record in records
                )
            # only what is here already: nothing else of this thread runs meanwhile, no rebalance
            # either
            wait = 0
        return fetched


class BatchConsumer(Consumer):  # type: ignore[misc]
    """A Faust consumer whose messages are batches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._die: Die = self.app.die
        self._due: dict[TP, int] = {}  # the offset that must come next
        self._handed_out: defaultdict[TP, deque[int]] = defaultdict(
            deque
        )  # last offsets of batches, not yet finished
        self._finished: dict[TP, int] = {}  # the offset that may be committed
        self._asked: set[TP] = set()  # what the fetch that is under way may take
        self._open_in = -1  # the rebalance in which source partitions may be read
        self._resume_later: list[Iterable[TP]] | None = None

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def unheard(self) -> float:
        """Seconds since the coordinator last heard of this process."""
        return elapsed() - float(self._thread.last_heard)

    def positions(self) -> dict[TP, int]:
        """Of each source partition that is being read: the offset up to which the agent has
        finished, at the last commit.
        """
        return dict(self._finished)

    async def _getmany(self, active_partitions: set[TP], timeout: float) -> Any:
        # A copy. The live set is empty for a moment at the end of recovery, aiokafka takes "no
        # partitions" for "all of them", and Faust drops what it then returns of a paused one, while
        # the position has moved on and the commit passes it.
        self._asked = set(active_partitions)
        return await super()._getmany(self._asked, timeout)

    def stop_flow(self) -> None:
        super().stop_flow()
        # A fetch that waits since before a rebalance must not take, and drop, the first records of
        # the next assignment: a changelog's would be missing from the table. The set is never empty
        # on the way: that would ask for all.
        self._asked.add(NOWHERE)
        self._asked.intersection_update({NOWHERE})

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        fetched, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            return  # a rebalance has begun; its recovery seeks back to what is committed
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
        """The part of a batch that is handed to the agent; empty when it is none of its business
        now.
        """
        if self._open_in != self.app.rebalancing_count:
            return []
        due = self._due[tp]
        if batch[0].offset < due:  # fetched once before a seek back and once after
            batch = [record for record in batch if record.offset >= due]
            if not batch:
                return []
        if batch[0].offset > due:
            start = (await self.earliest_offsets(tp))[tp]
            if start > due:
                self._die(ExitCode.OFFSET_OUT_OF_RANGE, outside(tp, due, start))
            self._die(
                ExitCode.RECORDS_MISSING,
                f"{tp.topic}[{tp.partition}]: {batch[0].offset} follows {due - 1}",
            )
        last = batch[-1].offset
        self._due[tp] = last + 1
        self._handed_out[tp].append(last)
        self._read_offset[tp] = (
            last - 1
        )  # so that Faust sees no gap, which it would count as acknowledged
        return batch

    def _message(self, tp: TP, batch: list[Any]) -> ConsumerMessage:
        last = batch[-1]
        return ConsumerMessage(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type, None, None, batch, None,
            tp=tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (
            tp
            for tp in list(self._finished)
            if topics is None or tp in topics or tp.topic in topics
        )

    def _new_offset(self, tp: TP) -> int | None:
        """The offset after the unbroken run of batches that the agent has finished.

        Where nothing was committed yet that is the start of the log: a partition that stays quiet
        is committed too, so that what expires unread there is noticed.
        """
        waiting, acked = self._handed_out[tp], self._acked_index[tp]
        while waiting and waiting[0] in acked:
            acked.discard(waiting[0])
            self._finished[tp] = waiting.popleft() + 1
        self._acked[tp][:] = acked
        return self._finished.get(tp)

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        before = {tp: self._committed_offset[tp] for tp in offsets}
        done: bool = await super()._commit_offsets(offsets, start_new_transaction)
        # Faust counts it as committed all the same, and would never try again (faust-streaming#611)
        if not done:
            self._committed_offset.update(before)
        return done

    async def perform_seek(self) -> None:
        """Goes back to what is committed: whatever was fetched since then is fetched again.

        Faust leaves the position alone where nothing is committed, and follows a silent reset where
        the offset lies outside the log.
        """
        self._forget(self._due)
        source = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        committed = await self.seek_to_committed()
        starts, ends = await self.earliest_offsets(*source), await self.highwaters(*source)
        for tp in source:
            offset = committed.get(tp)
            if offset is not None and not starts[tp] <= offset <= ends[tp]:
                self._die(ExitCode.OFFSET_OUT_OF_RANGE, outside(tp, offset, starts[tp], ends[tp]))
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
            for known in (
                self._handed_out,
                self._finished,
                self._due,
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
        """Inside, partitions that are to be resumed are only noted."""
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


def outside(tp: TP, offset: int, start: int, end: int | None = None) -> str:
    """What an operator has to know of an offset outside of the log."""
    if end is not None and offset > end:
        return (
            f"{tp.topic}[{tp.partition}]: the committed offset {offset} lies behind the end of the log, {end}: the topic was made anew. "
            f"Reset the group's offsets to the start"
        )
    return (
        f"{tp.topic}[{tp.partition}]: the committed offset {offset} lies below the start of the log, {start}: {start - offset} records "
        f"expired unread. Reconcile all grants, then reset the group's offset to {start}"
    )


class BatchTransport(Transport):  # type: ignore[misc]
    """Faust's transport with our consumer."""

    Consumer = BatchConsumer


class BatchTable(faust.Table):  # type: ignore[misc]
    """A table of bytes in memory, whose entries its agent writes with `remember` once their
    changelog is acknowledged.

    Holds the entries by partition, so that a lost partition's are forgotten at once. A million
    restore in seconds, so no disk is used.
    """

    def __init__(self, app: faust.App, name: str, changelog: str, partitions: int) -> None:
        topic = app.topic(
            changelog, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw",
            acks=False, internal=False, allow_empty=True,
        )  # fmt: skip
        super().__init__(
            app, name=name, partitions=partitions, changelog_topic=topic, key_type=bytes, value_type=bytes, recovery_buffer_size=QUEUE,
        )  # fmt: skip
        self._die: Die = app.die
        self._entries: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        app.tables.add(self)

    def entries(self, partition: int) -> Mapping[bytes, bytes]:
        """What the table holds of a partition."""
        return self._entries[partition]

    def remember(self, partition: int, entries: Mapping[bytes, bytes]) -> None:
        """Entries whose changelog is acknowledged."""
        self._entries[partition].update(entries)

    def size(self) -> int:
        """Entries of all partitions of this worker."""
        return sum(map(len, list(self._entries.values())))

    def apply_changelog_batch(self, events: Iterable[Any]) -> None:
        try:
            for event in events:
                entries = self._entries[event.message.partition]
                for record in event.value:
                    if record.value is None:
                        entries.pop(record.key, None)
                    else:
                        entries[record.key] = record.value
            self.app.on_progress()
        except Exception as error:  # Faust would log it, and go on with a table that lacks entries
            self._die(ExitCode.UNREADABLE_STATE, f"the changelog cannot be read: {error!r}")

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        ours = {tp.partition for tp in active_tps}
        for partition in self._entries.keys() - ours:
            del self._entries[partition]

    async def on_start(self) -> None:
        """Nothing: there is no store to open, and the topic is made by `contactstream topics
        create`.
        """


class PausedRecovery(Recovery):  # type: ignore[misc]
    """Source partitions stay paused until Faust has sought back and cleared the queues, and are
    resumed only in their own rebalance.
    """

    _rebalance = -1

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        self._rebalance = self.app.rebalancing_count
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
    """Faust's tables with our recovery."""

    _recovery: PausedRecovery | None = None

    @property
    def recovery(self) -> PausedRecovery:
        if self._recovery is None:
            self._recovery = PausedRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class App(faust.App):  # type: ignore[misc]
    """A Faust application of batches: one agent, one table, nothing on disk, no web server, no
    leader.
    """

    def __init__(
        self,
        name: str,
        *,
        die: Die = die,
        on_working: Callable[[], None] = lambda: None,
        on_waiting: Callable[[str], None] = lambda reason: None,
        on_progress: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        self.die = die
        self.on_working, self.on_waiting, self.on_progress = on_working, on_waiting, on_progress
        super().__init__(
            name,
            TableManager=BatchTables,
            stream_buffer_maxsize=QUEUE,
            stream_wait_empty=True,
            table_standby_replicas=0,
            topic_disable_leader=True,
            topic_allow_declare=False,
            web_enabled=False,
            worker_redirect_stdouts=False,
            store="memory://",
            **options,
        )

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Nothing: Faust would make directories, and nothing is kept on disk."""

    def on_rebalance_start(self) -> None:
        super().on_rebalance_start()
        self.on_waiting("the group rebalances, then the table is restored")

    def on_rebalance_end(self) -> None:
        super().on_rebalance_end()
        self.on_working()


SOURCES: dict[str, str] = {
    "faust.transport.consumer:Consumer.getmany": "4b168d84882a",
    "faust.transport.consumer:Consumer._wait_next_records": "6218e1969a63",
    "faust.transport.consumer:Consumer._new_offset": "1d2c7ea89a7a",
    "faust.transport.consumer:Consumer._filter_tps_with_pending_acks": "f6f923977423",
    "faust.transport.consumer:Consumer._should_commit": "5ce941793947",
    "faust.transport.consumer:Consumer._commit_offsets": "1a6979904118",
    "faust.transport.consumer:Consumer.perform_seek": "0e8c130ff4b0",
    "faust.transport.consumer:Consumer.stop_flow": "cf7e875a2b0d",
    "faust.transport.consumer:Consumer.resume_partitions": "afe6b7c02a41",
    "faust.transport.consumer:Consumer.pause_partitions": "27a1c94bdacd",
    "faust.transport.consumer:Consumer.on_partitions_revoked": "d04b7ae72c6f",
    "faust.transport.consumer:Consumer.on_partitions_assigned": "29ce96596f05",
    "faust.transport.consumer:Consumer.wait_empty": "e4662fe24f09",
    "faust.transport.consumer:Consumer.ack": "5fcf41cf4515",
    "faust.transport.consumer:Consumer._drain_messages": "44a2500309e8",
    "faust.transport.consumer:ThreadDelegateConsumer._getmany": "f9d47aa9010b",
    "faust.transport.drivers.aiokafka:ConsumerRebalanceListener": "f3d04f29dfb3",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.on_start": "38b4e8bd1e10",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._fetch_records": "39a2c6c79fc1",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._seek_wait": "9d221e816d94",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._commit": "932852ce7a23",
    "faust.transport.drivers.aiokafka:Consumer._new_consumer_thread": "0870ec53dea7",
    "faust.tables.recovery:Recovery.on_rebalance": "aa4d997a1795",
    "faust.tables.recovery:Recovery._restart_recovery": "6bd8a8558a2d",
    "faust.tables.recovery:Recovery._slurp_changelogs": "7825c7e50f76",
    "faust.tables.recovery:Recovery.on_recovery_completed": "6ef567acf072",
    "faust.tables.manager:TableManager.recovery": "f0bf5de78b4c",
    "faust.tables.manager:TableManager._update_channels": "88e3941facc9",
    "faust.tables.base:Collection.apply_changelog_batch": "b980a78d3ae9",
    "faust.tables.base:Collection.on_start": "daddcc354ad0",
    "faust.app.base:App._new_transport": "42db531312dd",
    "faust.app.base:App._stop_consumer": "55854a5de12c",
    "faust.app.base:App._on_partitions_revoked": "d5c895bbe57d",
    "faust.app.base:App._on_partitions_assigned": "de932b7927db",
    "faust.app.base:App.on_rebalance_start": "5c1e23de3067",
    "faust.app.base:App.on_rebalance_end": "b7ff69e1e377",
    "faust.app.base:App.on_first_start": "ec655d9c2234",
    "faust.streams:Stream._c_aiter": "fa44582a5882",
    "mode.utils.queues:FlowControlEvent.resume": "4dcdc1253fd0",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.seek_to_committed": "f6cd85c8b70a",
    "aiokafka.consumer.fetcher:Fetcher._get_actions_per_node": "1dab2cf937d1",
    "aiokafka.consumer.fetcher:Fetcher.fetched_records": "be4348896b9b",
    "aiokafka.consumer.fetcher:FetchResult.getall": "3e717e30de50",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._do_heartbeat": "dc1d6632aaa6",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._heartbeat_routine": "61d010289522",
}
"""What is overridden or relied on, and the hash of its source: see `check_faust`."""
