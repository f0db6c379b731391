"""The dedupe stage: drops the events that are no news and forwards the rest, each contact's in the order of their versions.

One batch of one partition at a time, in this order: what follows from it is acknowledged by the broker, then the table's changelog is,
then the batch (when the agent asks for the next one). A crash between any two repeats work and loses none. Whatever goes wrong in
between ends the process at once (`fences.Exit` says why), because Faust acknowledges what an agent gives up in good order.

Three fences keep a process from writing to a partition that may have a new owner: it must not have stood still, and the group's
coordinator must have heard of it, within half of the session time-out; and nothing that it hands to its producer is sent after
another half.
"""

import asyncio
import gc
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faust
import structlog
import uvloop
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from connectors.salesforce.mapping import Mapping
from streams.dedupe.faust_batches import App, BatchTable, IncompatibleFaust, check_faust
from streams.dedupe.news import Consumed, Output, Plan, Planner
from streams.dedupe.versions import UnreadableState
from streams.fences import Die, Exit, Watchdog, die, elapsed
from streams.kafka import (
    METADATA_SECONDS,
    OffsetsExpired,
    client_config,
    producer_config,
    starting_offsets,
    wait_for_broker,
)
from streams.lag import LagReader
from streams.metrics import DedupeMetrics
from streams.ops import Health, OpsServer
from streams.org import mapping
from streams.settings import DedupeSettings, KafkaSettings, ProcessSettings, SalesforceSettings
from streams.signals import stop_asked
from streams.topics import Topics, group, topics

log = structlog.get_logger()

# No progress: twice what a rebalance may wait for its slowest member, far beyond the slowest batch.
STALLED_SECONDS = 120.0
LAG_SECONDS = 5.0  # between two looks at the lag
STOP_SECONDS = 20.0  # an orderly stop; Kubernetes' default grace period is 30
COMMIT_SECONDS = 1.0  # between two commits: what a crash repeats at most, beside the batch at work
FETCH_BYTES = 4 * 1024 * 1024  # of one partition at a time: holds the largest event, and some thousands of common ones
QUEUED_KB = (
    32 * 1024
)  # of the producer: a batch of common events many times; librdkafka's default of 1 GB would be memory
AGAIN_SECONDS = 1.0


class Writer:
    """Publishes records and returns once they are acknowledged, or ends the process."""

    def __init__(self, config: dict[str, Any], seconds: float, check: Callable[[], None], die: Die = die) -> None:
        # Only failures are reported: a callback for each record would cost as much as publishing it.
        reporting = {"delivery.report.only.error": True, "on_delivery": self._failed}
        self._producer = Producer({"queue.buffering.max.kbytes": QUEUED_KB} | config | reporting)
        self._seconds = seconds
        self._check = check
        self._die = die
        self._error: KafkaError | None = None

    def publish(self, outputs: Sequence[Output]) -> None:
        """Each is (topic, value, key, headers)."""
        for topic, value, key, headers in outputs:
            self._hand_over(topic, value, key, headers=headers)
        self._flush(len(outputs))

    def publish_to(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> None:
        """Keys and values, to one partition."""
        for key, value in entries.items():
            self._hand_over(topic, value, key, partition)
        self._flush(len(entries))

    def _hand_over(self, *record: Any, **more: Any) -> None:
        self._check()
        try:
            self._producer.produce(*record, **more)
        except BufferError:  # the queue is full: the rest follows once this part is acknowledged
            self._flush(1)
            self._check()
            self._producer.produce(*record, **more)

    def _flush(self, handed_over: int) -> None:
        if handed_over and (self._producer.flush(self._seconds) or self._error):
            self._die(
                Exit.NOT_ACKNOWLEDGED, self._error.str() if self._error else f"nothing heard for {self._seconds} s"
            )

    def _failed(self, error: KafkaError | None, _: object) -> None:
        self._error = self._error or error


class Dedupe:
    """The work on one batch, in a thread of its own, so that the event loop goes on answering the group's coordinator."""

    def __init__(
        self,
        planner: Planner,
        writer: Writer,
        table: BatchTable,
        changelog: str,
        metrics: DedupeMetrics,
        wait_until_heard: Callable[[], None],
        die: Die = die,
    ) -> None:
        self._planner, self._writer, self._table, self._changelog = planner, writer, table, changelog
        self._metrics, self._wait_until_heard, self._die = metrics, wait_until_heard, die
        self._thread = ThreadPoolExecutor(1, "dedupe")

    async def agent(self, batches: AsyncIterable[list[Consumed]]) -> None:
        """The Faust agent. Never raises: Faust would count the batch as done."""
        loop = asyncio.get_running_loop()
        async for records in batches:
            try:
                await loop.run_in_executor(self._thread, self.work, records)
            except UnreadableState as error:
                self._die(Exit.UNREADABLE_STATE, f"an entry of the table: {error}")
            except BaseException as error:  # noqa: BLE001  # a cancelled agent must not acknowledge either
                self._die(Exit.UNEXPECTED, repr(error))

    def work(self, records: list[Consumed]) -> None:
        """One batch of one partition, to the end."""
        partition = records[0].partition
        self._wait_until_heard()
        plan = self._planner.plan(records, self._table.entries(partition), int(time.time()))
        self._writer.publish(plan.outputs)
        self._writer.publish_to(self._changelog, partition, plan.entries)
        self._table.remember(partition, plan.entries)
        self._count(len(records), plan)

    def _count(self, records: int, plan: Plan) -> None:
        metrics = self._metrics
        metrics.taken.inc(records)
        metrics.batch_records.observe(records)
        for kind, number in plan.forwarded.items():
            metrics.forwarded.labels(kind).inc(number)
        for reason, number in plan.dropped.items():
            metrics.dropped.labels(reason).inc(number)
        for reason, number in plan.refetch.items():
            metrics.refetch.labels(reason).inc(number)
        for reason, number in plan.dead_lettered.items():
            metrics.dead_lettered.labels(reason).inc(number)
        metrics.table_entries.set(self._table.size())
        metrics.last_processed.set_to_current_time()


class Lease:
    """Whether the group's coordinator still counts on this process, as far as one can know."""

    def __init__(
        self,
        unheard: Callable[[], float],
        session: float,
        watchdog: Watchdog,
        die: Die = die,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._unheard, self._half, self._watchdog, self._die, self._clock = unheard, session / 2, watchdog, die, clock
        self._holds_until = 0.0

    def check(self) -> None:
        """Right before a record is handed to the producer: ends the process when the partition may have a new owner."""
        if self._clock() > self._holds_until:  # asked for every record: what held once holds until then
            self._renew()

    def _renew(self) -> None:
        self._watchdog.check()
        now, unheard = self._clock(), self._unheard()
        if unheard > self._half:
            self._die(Exit.NO_HEARTBEAT, f"the coordinator has not answered for {unheard:.1f} s")
        self._holds_until = min(now - unheard + self._half, self._watchdog.holds_until)

    def wait(self) -> None:
        """Before a batch: gives a coordinator that has just come back the time to answer, so that the batch does not end in `check`."""
        until = time.monotonic() + self._half
        while self._unheard() > self._half / 2 and time.monotonic() < until:
            time.sleep(0.05)


class LagWatch:
    """Measures how far the stage is behind, and says that it is alive: it makes progress, or rightly has none to make."""

    def __init__(
        self, lag: LagReader, topic: str, partitions: int, app: App, metrics: DedupeMetrics, health: Health
    ) -> None:
        self._lag, self._topic, self._partitions, self._app = lag, topic, partitions, app
        self._metrics, self._health = metrics, health
        self._before: dict[int, int] = {}

    def start(self) -> None:
        """Looks every few seconds from now on, in a thread of its own."""
        threading.Thread(target=self._watch, name="lag", daemon=True).start()

    def look(self) -> None:
        """Once. Blocks for one request."""
        finished = {tp.partition: offset for tp, offset in self._app.consumer.positions().items()}
        try:
            ends = self._lag.ends(self._topic, self._partitions)
        except KafkaException:
            self._health.beat()  # the broker is away, which no restart heals
            return
        if self._health.waiting_for:
            return  # a rebalance or a recovery: each step of it counts as progress, and it has to end
        behind = {partition: max(0, ends[partition] - offset) for partition, offset in finished.items()}
        if finished != self._before or not any(behind.values()):
            self._health.beat()
        for partition in self._before.keys() - behind.keys():
            self._metrics.lag.remove(str(partition))
        for partition, records in behind.items():
            self._metrics.lag.labels(str(partition)).set(records)
        self._before = finished

    def _watch(self) -> None:
        while True:
            time.sleep(LAG_SECONDS)
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  # then the probe fails, which is what it is for
                log.warning("the lag cannot be measured", error=repr(error))


def run(
    kafka: KafkaSettings, process: ProcessSettings, settings: DedupeSettings, salesforce: SalesforceSettings
) -> int:
    """The process: `contactstream dedupe`. Returns its exit status, or ends the process with one of `fences.Exit`.

    Raises MappingError, and SettingsError for a port that cannot be had.
    """
    # Faust's services log by the module of their class.
    logging.getLogger("streams.dedupe.faust_batches").setLevel(logging.WARNING)
    try:
        check_faust()
    except IncompatibleFaust as error:
        log.critical("incompatible faust", error=str(error))
        return Exit.INCOMPATIBLE
    # A batch is thousands of objects without a cycle: by default a third of the time goes into looking.
    gc.set_threshold(50_000, 20, 50)
    return uvloop.run(_serve(kafka, process, settings, mapping(salesforce)))


async def _serve(kafka: KafkaSettings, process: ProcessSettings, settings: DedupeSettings, fields: Mapping) -> int:
    registry = CollectorRegistry()
    metrics, health = DedupeMetrics(registry), Health(STALLED_SECONDS)
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    stopping = stop_asked()
    names = topics(kafka)
    if not await asyncio.to_thread(_wait, kafka, names, stopping, health):
        return 0

    session = settings.session_timeout
    watchdog = Watchdog(session / 2)
    app = make_app(kafka, session, health)
    table = BatchTable(app, "seen", names.seen_changelog.name, names.events.partitions)
    lease = Lease(lambda: app.consumer.unheard(), session, watchdog)
    config = producer_config(kafka, delivery_timeout=session / 2)
    writer = Writer(config, session / 2 + 1, lease.check)
    dedupe = Dedupe(Planner(fields, names), writer, table, names.seen_changelog.name, metrics, lease.wait)
    source = app.topic(
        names.events.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )
    app.agent(source, name="dedupe", concurrency=1)(dedupe.agent)
    watchdog.start()
    LagWatch(LagReader(client_config(kafka)), names.events.name, names.events.partitions, app, metrics, health).start()
    await _until_stopped(app, stopping, watchdog)
    ops.stop()
    log.info("stopped")
    return 0


def make_app(kafka: KafkaSettings, session: float, health: Health) -> App:
    """The Faust application: its group, its cluster, and what it tells the probes."""
    return App(
        group(kafka, "dedupe"),
        on_working=health.ready,
        on_waiting=health.waiting,
        on_progress=health.beat,
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=credentials(kafka),
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 10,
        broker_commit_interval=COMMIT_SECONDS,
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_auto_offset_reset="earliest",
    )


def credentials(kafka: KafkaSettings) -> Any:
    """What Faust's clients log in with; None in the clear."""
    secure = kafka.security_protocol.endswith("SSL")
    context = ssl.create_default_context(cafile=kafka.ssl_ca_location or None) if secure else None
    if kafka.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if secure else None


def partitions_differ(admin: AdminClient, names: Topics) -> str:
    """What stands against it that an event and its contact's entry of the table share a partition; empty when nothing does."""
    found = admin.list_topics(timeout=METADATA_SECONDS).topics
    counts = {topic.name: len(found[topic.name].partitions) for topic in (names.events, names.seen_changelog)}
    wrong = [f"{name} has {count}" for name, count in counts.items() if count != names.events.partitions]
    return (
        f"{' and '.join(wrong)} partitions instead of {names.events.partitions}; run: contactstream topics check"
        if wrong
        else ""
    )


def _wait(kafka: KafkaSettings, names: Topics, stopping: asyncio.Event, health: Health) -> bool:
    """Until the broker answers and every committed offset lies inside the log. False when the process is to stop."""
    wanted = [
        topic.name for topic in (names.events, names.changes, names.refetch, names.dead_letter, names.seen_changelog)
    ]
    while wait_for_broker(kafka, wanted, stopped=stopping.is_set, waiting=health.waiting):
        try:
            if fault := partitions_differ(AdminClient(client_config(kafka)), names):
                die(Exit.PARTITIONS_DIFFER, fault)
            check_offsets(kafka, names)
        except OffsetsExpired as error:
            die(Exit.OFFSETS_EXPIRED, str(error))
        except KafkaException as error:
            health.waiting(f"the group's coordinator does not answer: {error.args[0].str()}")
            time.sleep(AGAIN_SECONDS)
        else:
            health.waiting("the group assigns partitions, then the table is restored")
            return True
    return False


def check_offsets(kafka: KafkaSettings, names: Topics) -> None:
    """Raises OffsetsExpired when the group's position has fallen out of the log; KafkaException when the broker does not answer."""
    consumer = Consumer(client_config(kafka) | {"group.id": group(kafka, "dedupe"), "enable.auto.commit": False})
    try:
        starting_offsets(
            consumer, [TopicPartition(names.events.name, number) for number in range(names.events.partitions)]
        )
    finally:
        consumer.close()


async def _until_stopped(app: App, stopping: asyncio.Event, watchdog: Watchdog) -> None:
    starting = asyncio.create_task(app.start())
    crashed = asyncio.create_task(app.wait_until_stopped())
    asked = asyncio.create_task(stopping.wait())
    starting.add_done_callback(lambda done: None if done.cancelled() or not done.exception() else crashed.cancel())
    await asyncio.wait({crashed, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        reason = starting.exception() if starting.done() and not starting.cancelled() else None
        die(Exit.CRASHED, repr(reason or app.crash_reason))
    watchdog.stop_within(STOP_SECONDS)
    await app.stop()
    for task in (starting, crashed):
        task.cancel()
