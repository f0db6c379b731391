"""The dedupe process: reads the settings, wires the objects, returns the exit status."""

import asyncio
import gc
import logging
import ssl
import threading
import time
from typing import Any

import faust
import structlog
import uvloop
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from connectors.salesforce.mapping_rules import FieldMapping
from streams.dedupe.faust_batches import App, BatchTable, IncompatibleFaust, check_faust
from streams.dedupe.fence import HeartbeatFence
from streams.dedupe.planner import DedupePlanner
from streams.dedupe.producer import AcknowledgedProducer
from streams.dedupe.stage import Dedupe
from streams.kafka.clients import (
    METADATA_SECONDS,
    client_config,
    producer_config,
    wait_for_broker,
)
from streams.kafka.lag import LagReader
from streams.kafka.offsets import starting_offsets
from streams.kafka.polling import OffsetOutOfRange
from streams.metrics import DedupeMetrics
from streams.org import mapping
from streams.runtime.exit_codes import ExitCode, die
from streams.runtime.ops import Health, OpsServer
from streams.runtime.signals import stop_asked
from streams.runtime.watchdog import Watchdog
from streams.settings import DedupeSettings, KafkaSettings, ProcessSettings, SalesforceSettings
from streams.topics import Topics, group, topics

log = structlog.get_logger()


# No progress: twice what a rebalance may wait for its slowest member, far beyond the slowest batch.
STALLED_SECONDS = 120.0


LAG_SECONDS = 5.0  # between two looks at the lag


STOP_SECONDS = 20.0  # an orderly stop; Kubernetes' default grace period is 30


COMMIT_SECONDS = 1.0  # between two commits: what a crash repeats at most, beside the batch at work


FETCH_BYTES = (
    4 * 1024 * 1024
)  # of one partition at a time: holds the largest event, and some thousands of common ones


AGAIN_SECONDS = 1.0


class LagWatch:
    """Measures how far the stage is behind, and says that it is alive: it makes progress, or
    rightly has none to make.
    """

    def __init__(
        self,
        lag: LagReader,
        topic: str,
        partitions: int,
        app: App,
        metrics: DedupeMetrics,
        health: Health,
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
            # a rebalance or a recovery: each step of it counts as progress, and it has to end
            return
        behind = {
            partition: max(0, ends[partition] - offset) for partition, offset in finished.items()
        }
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
            except Exception as error:  # then the probe fails, which is what it is for
                log.warning("the lag cannot be measured", error=repr(error))


def run(
    kafka: KafkaSettings,
    process: ProcessSettings,
    settings: DedupeSettings,
    salesforce: SalesforceSettings,
) -> int:
    """The process: `contactstream dedupe`. Returns its exit status, or ends the process with one of
    `fences.Exit`.

    Raises MappingError, and SettingsError for a port that cannot be had.
    """
    # Faust's services log by the module of their class.
    logging.getLogger("streams.dedupe.faust_batches").setLevel(logging.WARNING)
    try:
        check_faust()
    except IncompatibleFaust as error:
        log.critical("incompatible faust", error=str(error))
        return ExitCode.INCOMPATIBLE
    # A batch is thousands of objects without a cycle: by default a third of the time goes into
    # looking.
    gc.set_threshold(50_000, 20, 50)
    return uvloop.run(_serve(kafka, process, settings, mapping(salesforce)))


async def _serve(
    kafka: KafkaSettings, process: ProcessSettings, settings: DedupeSettings, fields: FieldMapping
) -> int:
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
    lease = HeartbeatFence(lambda: app.consumer.unheard(), session, watchdog)
    config = producer_config(kafka, delivery_timeout=session / 2)
    writer = AcknowledgedProducer(config, session / 2 + 1, lease.check)
    dedupe = Dedupe(
        DedupePlanner(fields, names), writer, table, names.seen_changelog.name, metrics, lease.wait
    )
    source = app.topic(
        names.events.name,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
    )
    app.agent(source, name="dedupe", concurrency=1)(dedupe.agent)
    watchdog.start()
    LagWatch(
        LagReader(client_config(kafka)),
        names.events.name,
        names.events.partitions,
        app,
        metrics,
        health,
    ).start()
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
    """What stands against it that an event and its contact's entry of the table share a partition;
    empty when nothing does.
    """
    found = admin.list_topics(timeout=METADATA_SECONDS).topics
    counts = {
        topic.name: len(found[topic.name].partitions)
        for topic in (names.events, names.seen_changelog)
    }
    wrong = [
        f"{name} has {count}" for name, count in counts.items() if count != names.events.partitions
    ]
    return (
        f"{' and '.join(wrong)} partitions instead of {names.events.partitions}; run: contactstream topics check"
        if wrong
        else ""
    )


def _wait(kafka: KafkaSettings, names: Topics, stopping: asyncio.Event, health: Health) -> bool:
    """Until the broker answers and every committed offset lies inside the log. False when the
    process is to stop.
    """
    wanted = [
        topic.name
        for topic in (
            names.events,
            names.changes,
            names.refetch,
            names.dead_letter,
            names.seen_changelog,
        )
    ]
    while wait_for_broker(kafka, wanted, stopped=stopping.is_set, waiting=health.waiting):
        try:
            if fault := partitions_differ(AdminClient(client_config(kafka)), names):
                die(ExitCode.PARTITION_COUNT_MISMATCH, fault)
            check_offsets(kafka, names)
        except OffsetOutOfRange as error:
            die(ExitCode.OFFSET_OUT_OF_RANGE, str(error))
        except KafkaException as error:
            health.waiting(f"the group's coordinator does not answer: {error.args[0].str()}")
            time.sleep(AGAIN_SECONDS)
        else:
            health.waiting("the group assigns partitions, then the table is restored")
            return True
    return False


def check_offsets(kafka: KafkaSettings, names: Topics) -> None:
    """Raises OffsetOutOfRange when the group's position has fallen out of the log; KafkaException
    when the broker does not answer.
    """
    consumer = Consumer(
        client_config(kafka) | {"group.id": group(kafka, "dedupe"), "enable.auto.commit": False}
    )
    try:
        starting_offsets(
            consumer,
            [
                TopicPartition(names.events.name, number)
                for number in range(names.events.partitions)
            ],
        )
    finally:
        consumer.close()


async def _until_stopped(app: App, stopping: asyncio.Event, watchdog: Watchdog) -> None:
    starting = asyncio.create_task(app.start())
    crashed = asyncio.create_task(app.wait_until_stopped())
    asked = asyncio.create_task(stopping.wait())
    starting.add_done_callback(
        lambda done: None if done.cancelled() or not done.exception() else crashed.cancel()
    )
    await asyncio.wait({crashed, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        reason = starting.exception() if starting.done() and not starting.cancelled() else None
        die(ExitCode.CRASHED, repr(reason or app.crash_reason))
    watchdog.stop_within(STOP_SECONDS)
    await app.stop()
    for task in (starting, crashed):
        task.cancel()
