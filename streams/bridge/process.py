"""The bridge process: reads the settings, wires the objects, returns the exit status."""

import asyncio
import resource

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from streams.bridge.broker_status import BrokerStatus
from streams.bridge.intake import NotificationIntake
from streams.bridge.owed_reconcile import OwedReconcile, owed_file
from streams.bridge.reader_notice import ReaderNotice
from streams.bridge.server import DRAIN_SECONDS, MAX_CONNECTIONS, WebhookServer
from streams.bridge.watches import use_secrets, watch_broker, watch_connections, watch_secrets
from streams.kafka.clients import producer_config
from streams.kafka.publisher import Publisher
from streams.metrics import BridgeMetrics, ProcessMetrics
from streams.runtime.exit_codes import ExitCode
from streams.runtime.memory import collect_garbage_rarely, freeze_startup_objects
from streams.runtime.ops import Health, OpsServer
from streams.runtime.secret_files import watch_secret_files
from streams.runtime.signals import stop_asked
from streams.runtime.traces import open_traces
from streams.settings import (
    BridgeSettings,
    KafkaSettings,
    NylasSettings,
    ProcessSettings,
    TracesSettings,
    cannot_listen,
    load,
)
from streams.topics import topics

log = structlog.get_logger()

# The producer gives up before a notification is answered with 503, so that hardly a record is
# stored whose notification Nylas sends again.
DELIVERY_SECONDS = 7.0

# Without a round of `watch_connections`: the event loop hangs.
STALLED_SECONDS = 30.0

# For requesting a reconcile that is owed when the process stops. Longer than one delivery.
SETTLE_SECONDS = DELIVERY_SECONDS + 1

# The producer's queue. librdkafka's default of 1 GB would be more than the container's memory.
MAX_QUEUED_KB = 128 * 1024

# Between two runs of the garbage collector: a few hundred requests. A request leaves no cycles, but
# one that was cut off may, with its body, so they must not become many.
GARBAGE_ALLOCATIONS = 5_000

# Before the producer sends a batch.
PRODUCER_LINGER_MS = 2


def run(
    kafka: KafkaSettings, process: ProcessSettings, nylas: NylasSettings, settings: BridgeSettings
) -> int:
    """Runs `contactstream bridge`. Returns its exit status.

    Raises SettingsError for a port that cannot be bound, and for traces without their packages.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    freeze_startup_objects()
    collect_garbage_rarely(GARBAGE_ALLOCATIONS)
    return uvloop.run(_serve(kafka, process, nylas, settings))


def bridge_producer_config(kafka: KafkaSettings) -> dict[str, object]:
    """The producer's settings: it gives up before Nylas does, and its queue is bounded in bytes."""
    config = producer_config(kafka, delivery_timeout=DELIVERY_SECONDS, linger_ms=PRODUCER_LINGER_MS)
    return config | {"queue.buffering.max.kbytes": MAX_QUEUED_KB}


async def _serve(
    kafka: KafkaSettings, process: ProcessSettings, nylas: NylasSettings, settings: BridgeSettings
) -> int:
    registry = CollectorRegistry()
    metrics, health = BridgeMetrics(registry), Health(STALLED_SECONDS)
    process_metrics = ProcessMetrics(registry, "bridge", health)
    traces = open_traces(load(TracesSettings), "bridge", process_metrics.trace_spans)
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    stopping = stop_asked()
    # The secrets of the webhook are read again while it runs: see `watch_secrets`.
    watching = watch_secret_files(
        stopping, (KafkaSettings,), process_metrics.secret_reload_failures.inc
    )
    publisher = Publisher(bridge_producer_config(kafka))
    publisher.open()
    health.watch(publisher.in_flight)
    names, limit, broker = topics(kafka), settings.body_limit, BrokerStatus()
    owed = OwedReconcile(owed_file(kafka.topic_prefix))
    owed.load()
    notice = ReaderNotice(publisher, names, broker, owed)
    intake = NotificationIntake(publisher, names, limit, metrics, broker, notice, traces)
    use_secrets(intake, metrics, nylas, settings, first=True)
    server = WebhookServer(intake, limit, metrics)
    try:
        await server.listen(settings.listen)
    except (OSError, OverflowError) as error:
        raise cannot_listen("BRIDGE_LISTEN", settings.listen, error) from error
    log.info("listening", port=server.port)
    tasks = [
        asyncio.create_task(watch_connections(server, health)),
        asyncio.create_task(watch_secrets(intake, metrics, settings)),
        asyncio.create_task(watch_broker(kafka, broker, notice, intake, health, stopping.is_set)),
        asyncio.create_task(stopping.wait()),
        asyncio.create_task(publisher.failed.wait()),
    ]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stopping.set()
    watching.cancel()
    health.waiting("stopping")
    await server.stop()
    for task in tasks:
        task.cancel()
    await notice.settle(SETTLE_SECONDS)
    await publisher.close(DRAIN_SECONDS)
    await asyncio.to_thread(traces.close)
    ops.stop()
    for task in done:
        task.result()  # a watch ends only by an error, which ends the process
    if publisher.failure is not None:
        log.critical(
            "the Kafka producer failed for good; a new process starts with a new one",
            error=publisher.failure,
        )
        return ExitCode.KAFKA_REFUSED
    return stopping.code
