"""The reader: the one process that asks Nylas, so that Nylas' limits are kept in one place. A
second one stands by.

It is active while it holds the partition of reader.runs in its consumer group. What it reads
besides, contacts.refetch and grants.events, it reads by assignment: with all three in the group,
two members would share them.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from connectors.nylas.client import NylasClient
from streams.events import UnreadableRecord
from streams.kafka.assigned import AssignedPartition
from streams.kafka.clients import client_config, consumer_config, producer_config, wait_for_broker
from streams.kafka.lag import LagReader
from streams.kafka.offsets import OffsetTracker
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.publisher import Publisher, PublishFailed
from streams.kafka.records import KafkaRecord, to_record
from streams.kafka.snapshot import Snapshots
from streams.metrics import ReaderMetrics
from streams.reader.gate import Gate
from streams.reader.grant_events import GrantAction, GrantEvent, GrantTable, parse_grant_event
from streams.reader.reconcile import Reconciler
from streams.reader.refetch import MAX_PENDING, Pending, Refetcher
from streams.reader.run_executor import RunExecutor, snapshot_again
from streams.reader.scan import Scanner
from streams.reader.takeover import Reoffer, Takeover
from streams.runs import Run, RunKind, RunLog
from streams.runtime.ops import Health
from streams.runtime.signals import stop_asked
from streams.settings import KafkaSettings, NylasSettings, ReaderSettings
from streams.topics import Topics, group, topics

log = structlog.get_logger()

AnswerT = TypeVar("AnswerT")

POLL_SECONDS = 0.3  # of a consumer; also how soon a signal is noticed
DELIVERY_SECONDS = 20.0  # a broker that restarts is back by then; later the page is published again
COMMIT_EVERY = 1.0  # seconds; what a crash repeats at the most, beside what is under way
# Kafka forgets the offsets of a group without members after a week (offsets.retention.minutes)
RECOMMIT_EVERY = 3600.0
REMOVALS_AT_ONCE = (
    50  # deleted grants whose contacts wait to be removed while the events of other grants go on
)
CATCH_UP_LOOK = 1.0  # seconds between two looks whether the dedupe stage has caught up
CLOSE_SECONDS = (
    5.0  # for what is under way when the process stops; what is not acknowledged then is read again
)


class Reader:
    """One reader process: a standby until the group gives it the partition of reader.runs, active
    until it is taken away.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        nylas: NylasSettings,
        settings: ReaderSettings,
        metrics: ReaderMetrics,
        health: Health,
    ) -> None:
        self._kafka, self._nylas, self._settings = kafka, nylas, settings
        self._metrics, self._health = metrics, health
        self._topics: Topics = topics(kafka)
        self._stop = asyncio.Event()
        self._log = RunLog()
        self._holds = False
        self._loaded = False
        self._work: asyncio.Task[None] | None = None
        self._publisher = Publisher(producer_config(kafka, delivery_timeout=DELIVERY_SECONDS))

    async def main(self) -> int:
        """Waits for the broker, then stands by and works; returns the exit code."""
        self._stop = stop_asked()
        wanted = [
            topic.name for topic in self._topics.all() if topic is not self._topics.seen_changelog
        ]
        ready = await asyncio.to_thread(
            wait_for_broker,
            self._kafka,
            wanted,
            stopped=self._stop.is_set,
            waiting=self._health.waiting,
        )
        if not ready:
            return 0
        self._publisher.open()
        with ThreadPoolExecutor(1, "election") as thread:
            try:
                await self._stand(thread)
            finally:
                await self._stop_work()
                left = await self._publisher.close(CLOSE_SECONDS)
                if left:
                    log.warning(
                        "stopped with records unacknowledged; they are read again", records=left
                    )
        return 0

    async def _stand(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        config = consumer_config(
            self._kafka,
            group(self._kafka, "reader"),
            session_timeout=self._settings.session_timeout,
        )
        consumer = Consumer(config | {"enable.partition.eof": True})
        consumer.subscribe(
            [self._topics.runs.name],
            on_assign=self._assigned,
            on_revoke=lambda consumer, partitions: self._taken_away(loop, consumer, partitions),
            on_lost=lambda consumer, partitions: self._taken_away(loop, consumer, partitions),
        )
        self._health.ready()
        try:
            while not self._stop.is_set():
                messages = await loop.run_in_executor(thread, consumer.consume, 500, POLL_SECONDS)
                self._health.beat()
                for message in messages:
                    error = message.error()
                    if error is None:
                        self._apply(to_record(message))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        self._loaded = self._holds
                    elif error.fatal():
                        raise KafkaException(error)
                if self._holds and self._loaded and self._work is None:
                    self._work = asyncio.create_task(self._do_work(), name="reader")
                if self._work is not None and self._work.done() and not self._work.cancelled():
                    # raises what ended it; a standby or a restart goes on from the topics
                    self._work.result()
        finally:
            await self._stop_work()
            await loop.run_in_executor(thread, consumer.close)

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        if not partitions:
            return
        self._log, self._loaded, self._holds = RunLog(), False, True
        consumer.incremental_assign(
            [TopicPartition(one.topic, one.partition, OFFSET_BEGINNING) for one in partitions]
        )

    def _taken_away(
        self,
        loop: asyncio.AbstractEventLoop,
        consumer: Consumer,
        partitions: Sequence[TopicPartition],
    ) -> None:
        """In the consumer's thread: the work has stopped before another reader may begin (when the
        group still waits for us).
        """
        if not partitions:
            return
        self._holds = False
        asyncio.run_coroutine_threadsafe(self._stop_work(), loop).result(
            self._settings.session_timeout
        )
        consumer.incremental_unassign(list(partitions))

    def _apply(self, record: KafkaRecord) -> None:
        try:
            self._log.apply(record.key or b"", record.value)
        except UnreadableRecord as error:
            log.warning(
                "a record of reader.runs is passed over", offset=record.offset, reason=str(error)
            )

    async def _stop_work(self) -> None:
        work, self._work = self._work, None
        self._metrics.active.set(0)
        if work is not None and not work.done():
            work.cancel()
            await asyncio.wait([work])

    async def _publish(self, records: Sequence[KafkaRecord]) -> None:
        """Returns once all are acknowledged, for which it waits as long as the broker is away.
        Raises PublishFailed when the broker refuses a record itself, which ends the process: a
        topic is not as `contactstream topics check` wants it.
        """
        while True:
            try:
                await self._publisher.publish(records)
            except PublishFailed as error:
                if error.permanent:
                    raise
                self._health.waiting(f"the broker does not acknowledge: {error}")
                await asyncio.sleep(1.0)
            else:
                self._health.ready()
                return

    async def _do_work(self) -> None:
        log.info("active")
        self._metrics.active.set(1)
        many = self._kafka.events_partitions
        lags = LagReader(client_config(self._kafka))
        dedupe, sink = group(self._kafka, "dedupe"), group(self._kafka, "sink")

        def behind() -> int:
            events, changes = self._topics.events.name, self._topics.changes.name
            return lags.lag(dedupe, events, many) + lags.lag(sink, changes, 1)

        metrics, settings = self._metrics, self._settings
        gate = Gate(behind, settings.max_lag, lambda: metrics.waits.labels("sink_lag").inc())
        client = NylasClient(
            self._nylas.api_url,
            self._nylas.api_key.get_secret_value(),
            on_call=lambda kind, status, _seconds: metrics.calls.labels(kind, _class(status)).inc(),
            on_wait=lambda reason: metrics.waits.labels(reason).inc(),
        )
        async with Snapshots(self._kafka) as snapshots, client, asyncio.TaskGroup() as tasks:
            book = GrantTable()
            scanner = Scanner(
                client, self._publish, gate, self._topics, metrics, settings.concurrent_grants
            )
            offerer = Reoffer(snapshots, self._publish, gate, self._topics, metrics)
            concluder = Reconciler(
                snapshots, client, self._publish, gate, self._topics, metrics, offerer
            )
            executor = RunExecutor(
                self._log,
                client,
                scanner,
                concluder,
                self._publish,
                book,
                self._topics,
                self._nylas,
                settings,
                metrics,
            )
            refetcher = Refetcher(client, self._publish, self._topics, metrics, book)
            tasks.create_task(scanner.run())
            tasks.create_task(refetcher.run())
            tasks.create_task(self._serve_refetch(refetcher, executor))
            tasks.create_task(
                Takeover(self._kafka, self._topics, snapshots, offerer, metrics).run()
            )
            known = asyncio.Event()
            tasks.create_task(self._serve_grants(executor, book, known, concluder, lags))
            await known.wait()  # what is known of the grants, before a listing is compared with it
            tasks.create_task(executor.run())

    async def _serve_refetch(self, refetcher: Refetcher, executor: RunExecutor) -> None:
        """Fills the refetcher from the topic, and commits what it has finished."""
        topic = self._topics.refetch.name
        lost = self._metrics.offset_resets.labels("contacts.refetch")
        async with AssignedPartition(
            self._kafka, topic, group(self._kafka, "reader-work"), lost.inc
        ) as source:
            if await source.start():
                await self._compare_all(executor, "contacts.refetch")
                await source.commit(source.position)
            committed, committed_at = -1, 0.0
            while True:
                pending = refetcher.pending
                try:
                    records = (
                        await source.consume() if len(pending) < MAX_PENDING else await nothing()
                    )
                except OffsetOutOfRange:
                    await self._compare_all(executor, "contacts.refetch")
                    await source.start_over()
                    await source.commit(source.position)
                    refetcher.pending, committed = (
                        Pending(),
                        -1,
                    )  # the old ones' offsets are those of another log
                    continue
                for record in records:
                    if not pending.take(record, int(time.time())):
                        self._metrics.refetched.labels("unreadable").inc()
                        log.error(
                            "a record of contacts.refetch names no contact", offset=record.offset
                        )
                self._metrics.pending.set(len(pending))
                now, offset = time.monotonic(), pending.offsets.committable()
                moved = (
                    offset is not None and offset != committed and now - committed_at > COMMIT_EVERY
                )
                if (
                    offset is not None
                    and (moved or now - committed_at > RECOMMIT_EVERY)
                    and await source.commit(offset)
                ):
                    committed, committed_at = offset, now

    async def _compare_all(self, executor: RunExecutor, topic: str) -> None:
        """What a topic of requests lost, a reading of every address book makes good."""
        log.error(
            "records were lost before they were read; everything is compared instead", topic=topic
        )
        await executor.request(Run(RunKind.RECONCILE, None, int(time.time()), topic))

    async def _serve_grants(
        self,
        executor: RunExecutor,
        book: GrantTable,
        known: asyncio.Event,
        concluder: Reconciler,
        lags: LagReader,
    ) -> None:
        """Reads grants.events from its start, for what each grant is, and acts on what is behind
        the committed offset.
        """
        topic = self._topics.grants.name
        lost = self._metrics.offset_resets.labels("grants.events")
        async with (
            AssignedPartition(
                self._kafka, topic, group(self._kafka, "reader-work"), lost.inc
            ) as source,
            asyncio.TaskGroup() as removals,
        ):
            if await source.start(from_beginning=True):
                await self._compare_all(executor, "grants.events")
                await source.commit(source.position)
            taken, committed, committed_at = OffsetTracker(), source.committed, time.monotonic()
            room, turn = asyncio.Semaphore(REMOVALS_AT_ONCE), asyncio.Lock()

            async def remove(event: GrantEvent, offset: int, taken: OffsetTracker) -> None:
                try:
                    await self._remove(event, executor, concluder, lags, turn)
                finally:
                    room.release()
                taken.finish(offset)

            while True:
                try:
                    records = await source.consume()
                except OffsetOutOfRange:
                    await self._compare_all(executor, "grants.events")
                    await source.start_over()
                    await source.commit(source.position)
                    taken, committed = OffsetTracker(), source.committed
                    continue
                for record in records:
                    event = parse_grant_event(record)
                    if event is not None:
                        book.apply(event)
                    if record.offset < source.committed:
                        continue
                    taken.take(record.offset)
                    self._metrics.grant_events.labels(
                        "other" if event is None else event.type
                    ).inc()
                    if event is not None and event.ask is not GrantAction.NOTHING:
                        log.info(
                            "grant event", type=event.type, grant=event.grant, asks=event.ask.value
                        )
                    if event is not None and event.ask is GrantAction.REMOVE:
                        await room.acquire()
                        removals.create_task(remove(event, record.offset, taken))
                        continue
                    if event is not None and event.ask is not GrantAction.NOTHING:
                        kind = RunKind(event.ask.value)
                        run = Run(kind, (event.grant,), event.time, event.type)
                        await executor.request(run, run_id_of(kind, event))
                    taken.finish(record.offset)
                for status, count in book.count().items():
                    self._metrics.grants.labels(status).set(count)
                if source.at_end:
                    known.set()
                offset = taken.committable()
                offset = committed if offset is None else offset
                if (
                    offset != committed or time.monotonic() - committed_at > RECOMMIT_EVERY
                ) and await source.commit(offset):
                    committed, committed_at = offset, time.monotonic()

    async def _remove(
        self,
        event: GrantEvent,
        executor: RunExecutor,
        concluder: Reconciler,
        lags: LagReader,
        turn: asyncio.Lock,
    ) -> None:
        """Publishes each living contact of a deleted grant as deleted, as of the grant's deletion;
        one grant at a time has its `turn`.

        Waits until what was read of the grant before has passed the dedupe stage, or
        contacts.changes would not know it yet.
        """
        await executor.idle(event.grant)  # its next page is a 404
        async with turn:
            ends = await self._asked(
                lambda: lags.ends(self._topics.events.name, self._kafka.events_partitions)
            )
            dedupe = group(self._kafka, "dedupe")
            while True:
                if await self._asked(lambda: lags.reached(dedupe, self._topics.events.name, ends)):
                    break
                await asyncio.sleep(CATCH_UP_LOOK)
            contacts = await snapshot_again(
                lambda: concluder.remove({event.grant: (event.id, event.time)})
            )
        log.info(
            "contacts of a deleted grant published as deleted", grant=event.grant, contacts=contacts
        )

    async def _asked(self, question: Callable[[], AnswerT]) -> AnswerT:
        """The answer of the broker, asked again until it comes."""
        while True:
            try:
                return await asyncio.to_thread(question)
            except KafkaException as error:
                self._health.waiting(f"the broker does not answer: {error}")
                await asyncio.sleep(CATCH_UP_LOOK)


def run_id_of(kind: RunKind, event: GrantEvent) -> str:
    """The run that an event asks for: the same when the event is handled again after a crash."""
    mark = hashlib.blake2b(f"{event.grant} {event.id}".encode(), digest_size=3).hexdigest()
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(event.time))}-{kind.value}-{mark}"


async def nothing() -> list[KafkaRecord]:
    """Waits as long as a poll that finds nothing."""
    await asyncio.sleep(POLL_SECONDS)
    return []


def _class(status: int | None) -> str:
    return (
        "none"
        if status is None
        else "200"
        if status == 200
        else "429"
        if status == 429
        else f"{status // 100}xx"
    )
