"""The sink process: reads the settings, wires the objects, returns the exit status."""

import asyncio
import threading
from collections.abc import Iterable
from contextlib import AsyncExitStack

import structlog
import uvloop
from confluent_kafka import Consumer
from prometheus_client import CollectorRegistry

from connectors.salesforce.policy import Policy
from streams.kafka.clients import (
    consumer_config,
    producer_config,
    wait_for_broker,
)
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.publisher import Publisher
from streams.metrics import SinkMetrics
from streams.org import open_org
from streams.runtime.exit_codes import ExitCode, die
from streams.runtime.ops import Health, OpsServer
from streams.runtime.signals import stop_asked
from streams.settings import KafkaSettings, ProcessSettings, SalesforceSettings, SinkSettings
from streams.sink.deletions import recent_deletions
from streams.sink.fence import WriteFence
from streams.sink.stage import Sink
from streams.topics import group, topics

log = structlog.get_logger()


DELIVERY_SECONDS = (
    30.0  # outcomes are repeated by us, so the producer need not try for the default five minutes
)


# The loop goes round every POLL_SECONDS; a minute without, or with nothing taken, means that it
# hangs.
STALLED_SECONDS = 60.0


# For all of an orderly stop: batches, the last commit, the farewell to the group. Where no broker
# answers, a commit takes minutes.
OVERDUE_SECONDS = 28.0


def run(
    kafka: KafkaSettings,
    process: ProcessSettings,
    org: SalesforceSettings,
    allowed: Policy,
    settings: SinkSettings,
) -> int:
    """The process: `contactstream sink`. Returns its exit status: 0, or one of `fences.Exit`.
    Raises SettingsError.
    """
    return uvloop.run(_serve(kafka, process, org, allowed, settings))


async def _serve(
    kafka: KafkaSettings,
    process: ProcessSettings,
    org_settings: SalesforceSettings,
    allowed: Policy,
    settings: SinkSettings,
) -> int:
    registry = CollectorRegistry()
    metrics = SinkMetrics(registry)
    health = Health(STALLED_SECONDS)
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    stopping = stop_asked()
    names = topics(kafka)
    wanted = [names.changes.name, names.outcomes.name, names.dead_letter.name]
    found = await asyncio.to_thread(
        wait_for_broker, kafka, wanted, stopped=stopping.is_set, waiting=health.waiting
    )
    if not found:
        return 0
    async with AsyncExitStack() as stack:
        membership = WriteFence(settings.session_timeout)
        org = await stack.enter_async_context(open_org(org_settings, allowed, metrics))
        stack.callback(ops.stop)
        publisher = Publisher(producer_config(kafka, delivery_timeout=DELIVERY_SECONDS))
        publisher.open()
        stack.push_async_callback(
            publisher.close, 5.0
        )  # all outcomes were awaited: nothing is left but on a cut line
        config = consumer_config(
            kafka, group(kafka, "sink"), session_timeout=settings.session_timeout
        )
        consumer = Consumer(config | {"enable.partition.eof": True})

        def deleted_before() -> Iterable[tuple[str, int]]:
            return recent_deletions(kafka, names)

        sink = Sink(
            consumer, publisher, org, names, settings, metrics, health, membership, deleted_before
        )
        ending = asyncio.create_task(_stop_on(stopping, sink))
        try:
            stop = await sink.run()
        except OffsetOutOfRange as error:
            log.critical("offsets expired", error=str(error))
            return ExitCode.OFFSET_OUT_OF_RANGE
        ending.cancel()
        log.info("stopped", reason=stop.reason)
        return stop.status


async def _stop_on(stopping: asyncio.Event, sink: Sink) -> None:
    await stopping.wait()
    sink.stop("signal")
    overdue = threading.Timer(
        OVERDUE_SECONDS,
        die,
        (
            ExitCode.STOP_OVERDUE,
            "the orderly stop did not end in time; what was under way is repeated",
        ),
    )
    overdue.daemon = True
    overdue.start()
