"""The bridge process: reads the settings, wires the objects, returns the exit status."""

import asyncio
import math
import resource
from collections.abc import Callable

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from connectors.nylas.webhook import usable_secrets
from streams.bridge.server import MAX_CONNECTIONS, STOP_SECONDS, Bridge
from streams.kafka.clients import producer_config, wait_for_broker
from streams.kafka.publisher import Publisher
from streams.metrics import BridgeMetrics
from streams.runtime.exit_codes import ExitCode
from streams.runtime.ops import Health, OpsServer
from streams.runtime.signals import stop_asked
from streams.settings import (
    BridgeSettings,
    KafkaSettings,
    NylasSettings,
    ProcessSettings,
    SettingsError,
    cannot_listen,
    load,
)
from streams.topics import topics

log = structlog.get_logger()


DELIVERY_SECONDS = (
    7.0  # the producer gives up first, so that hardly a record is stored that was answered with 503
)


STALLED_SECONDS = 30.0


LOOK_SECONDS = 1.0  # between two looks at the secrets, the connections and the broker


MAX_QUEUED_KB = (
    128 * 1024
)  # of the producer; librdkafka's default of 1 GB would outlive the container


def run(
    kafka: KafkaSettings, process: ProcessSettings, nylas: NylasSettings, settings: BridgeSettings
) -> int:
    """The process: `contactstream bridge`. Returns its exit status."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS
    resource.setrlimit(
        resource.RLIMIT_NOFILE,
        (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard),
    )
    return uvloop.run(_serve(kafka, process, nylas, settings))


def bridge_producer_config(kafka: KafkaSettings) -> dict[str, object]:
    """The producer's: it gives up before Nylas does, and holds a bounded number of bytes."""
    config = producer_config(kafka, delivery_timeout=DELIVERY_SECONDS, linger_ms=2)
    return config | {"queue.buffering.max.kbytes": MAX_QUEUED_KB}


async def _serve(
    kafka: KafkaSettings, process: ProcessSettings, nylas: NylasSettings, settings: BridgeSettings
) -> int:
    registry = CollectorRegistry()
    metrics, health = BridgeMetrics(registry), Health(STALLED_SECONDS)
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    stopping = stop_asked()
    publisher = Publisher(bridge_producer_config(kafka))
    publisher.open()
    bridge = Bridge(publisher, topics(kafka), settings, metrics)
    _use_secrets(bridge, metrics, nylas, settings)
    try:
        await bridge.listen(settings.listen)
    except (OSError, OverflowError) as error:
        raise cannot_listen("BRIDGE_LISTEN", settings.listen, error) from error
    log.info("listening", port=bridge.port)
    tasks = [
        asyncio.create_task(_watch_connections(bridge, health)),
        asyncio.create_task(_watch_secrets(bridge, metrics, settings)),
        asyncio.create_task(_watch_broker(bridge, kafka, health, stopping.is_set)),
        asyncio.create_task(stopping.wait()),
        asyncio.create_task(bridge.fatal.wait()),
    ]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stopping.set()
    health.waiting("stopping")
    await bridge.stop()
    for task in tasks:
        task.cancel()
    await publisher.close(STOP_SECONDS)
    ops.stop()
    for task in done:
        task.result()  # a watcher never ends by itself: what ended it ends the process
    if bridge.fatal.is_set():
        log.error("the producer cannot go on; a new process can")
        return ExitCode.KAFKA_REFUSED
    return 0


def _use_secrets(
    bridge: Bridge, metrics: BridgeMetrics, nylas: NylasSettings, settings: BridgeSettings
) -> None:
    given = [secret.get_secret_value() for secret in nylas.webhook_secrets]
    secrets = usable_secrets(given, accept_test_events=settings.accept_test_events)
    if secrets != bridge.secrets:
        log.info("secrets", in_use=len(secrets), refused=len(given) - len(secrets))
    bridge.secrets = secrets
    metrics.secrets.set(len(secrets))


async def _watch_secrets(bridge: Bridge, metrics: BridgeMetrics, settings: BridgeSettings) -> None:
    """Takes a new secret without a restart: a rotation at Nylas leaves no overlap."""
    failed = False
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            nylas = await asyncio.to_thread(load, NylasSettings)
        except SettingsError as error:
            metrics.secret_reload_failures.inc()
            if not failed:
                log.warning("the secrets cannot be read again; the old ones stay", error=str(error))
            failed = True
            continue
        failed = False
        _use_secrets(bridge, metrics, nylas, settings)


async def _watch_connections(bridge: Bridge, health: Health) -> None:
    while True:
        bridge.cut_slow()
        health.beat()
        await asyncio.sleep(LOOK_SECONDS)


async def _watch_broker(
    bridge: Bridge, kafka: KafkaSettings, health: Health, stopped: Callable[[], bool]
) -> None:
    """Ready means that a broker knows our topics; asked again whenever it did not acknowledge."""
    names = topics(kafka)
    wanted = [names.events.name, names.grants.name, names.dead_letter.name, names.runs.name]
    heartbeat = -math.inf
    while True:
        bridge.broker_lost.clear()
        if not await asyncio.to_thread(
            wait_for_broker, kafka, wanted, stopped=stopped, waiting=health.waiting
        ):
            await asyncio.Event().wait()  # stopping: the process cancels this
        health.ready()
        log.info("ready")
        while not bridge.broker_lost.is_set():
            heartbeat = await bridge.tell_reader(heartbeat)
            await asyncio.sleep(LOOK_SECONDS)
