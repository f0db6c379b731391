"""The sink process: reads the settings, wires the objects, returns the exit status."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog
import uvloop
from confluent_kafka import Consumer
from prometheus_client import CollectorRegistry

from connectors.salesforce.api.client import Fence
from connectors.salesforce.api.own_calls import OwnCalls
from connectors.salesforce.policy import Policy
from connectors.salesforce.write_mode import WriteMode
from streams.acls import role_acls
from streams.grant_addresses import GrantAddresses
from streams.kafka.clients import consumer_config, producer_config, wait_for_broker
from streams.kafka.followed import FollowedTopic, FollowedTopics
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.topic_watch import look_until_answered, topic_watch
from streams.kafka.transactions import (
    DELIVERY_SECONDS,
    TransactionalPublisher,
    transactional,
)
from streams.mailboxes import MailboxRule
from streams.metrics import ProcessMetrics, SinkMetrics
from streams.org import open_org
from streams.runtime.exit_codes import ExitCode
from streams.runtime.memory import (
    collect_garbage_rarely,
    freeze_startup_objects,
    limit_malloc_arenas,
)
from streams.runtime.ops import Health, OpsServer
from streams.runtime.overdue import StopDeadline
from streams.runtime.secret_files import watch_secret_files
from streams.runtime.signals import Stop, stop_asked
from streams.runtime.traces import open_traces
from streams.settings import (
    KafkaSettings,
    ProcessSettings,
    SalesforceSettings,
    SinkSettings,
    TracesSettings,
    load,
)
from streams.sink.account_topic import AccountTopic, follow
from streams.sink.bulk_load import end_bulk_loads
from streams.sink.consumer import CONSUMER_CONFIG
from streams.sink.contact_domain_keeper import ContactDomainKeeper
from streams.sink.deletion_keeper import DeletedRecordsLog, DeletionKeeper
from streams.sink.deletions import recent_deletions
from streams.sink.failure_breakers import FailureBreakers
from streams.sink.failure_rates import FailureLimits
from streams.sink.fence import WriteFence
from streams.sink.former_org import clear_former_org
from streams.sink.live_pace import LivePace
from streams.sink.member_keeper import MemberKeeper
from streams.sink.org_guard import OrgGuard
from streams.sink.parts import KafkaEnds, Predecessor, Telemetry, WriteGuards
from streams.sink.spent import read_spent
from streams.sink.stage import Keeper, Sink
from streams.sink.start_mode import MODE_REQUIRED, mode_at_start
from streams.sink.write_limits import Limits, WriteLimits
from streams.suppression_following import followed_suppression
from streams.topics import group, topics, transactional_id

log = structlog.get_logger()

# What this process reads of secrets, and reads only when it starts.
SECRET_GROUPS = (KafkaSettings, SalesforceSettings)

# For the producer to close. All outcomes were awaited: something is left only if the broker is
# away.
CLOSE_SECONDS = 5.0
# The loop goes round every POLL_SECONDS. A minute in which it does not, or in which it takes
# nothing of what waits, means that it hangs.
STALLED_SECONDS = 60.0
# Between two readings of the Accounts by a standby: far less than Kafka keeps tombstones for.
ACCOUNTS_SECONDS = 900.0
# For all of an orderly stop: the batches in flight, the last commit, leaving the group. Where no
# broker answers, a commit takes minutes.
OVERDUE_SECONDS = 28.0


def run(
    kafka: KafkaSettings,
    process: ProcessSettings,
    org: SalesforceSettings,
    allowed: Policy,
    settings: SinkSettings,
    mailboxes: MailboxRule,
) -> int:
    """Runs `contactstream sink` until a signal or a fault. Blocks.

    Returns the exit status: 0, or a value of ExitCode. Raises SettingsError.
    """
    limit_malloc_arenas()
    freeze_startup_objects()
    collect_garbage_rarely()
    return uvloop.run(_serve(kafka, process, org, allowed, settings, mailboxes))


async def _serve(
    kafka: KafkaSettings,
    process: ProcessSettings,
    org_settings: SalesforceSettings,
    allowed: Policy,
    settings: SinkSettings,
    mailboxes: MailboxRule,
) -> int:
    registry = CollectorRegistry()
    metrics = SinkMetrics(registry)
    health = Health(STALLED_SECONDS)
    process_metrics = ProcessMetrics(registry, "sink", health)
    traces = open_traces(load(TracesSettings), "sink", process_metrics.trace_spans)
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    stopping = stop_asked()
    watching = watch_secret_files(
        stopping, SECRET_GROUPS, process_metrics.secret_reload_failures.inc
    )
    names = topics(kafka)
    wanted = [
        names.changes.name,
        names.outcomes.name,
        names.accounts.name,
        names.dead_letter.name,
        names.journal.name,
        names.deleted_records.name,
        names.control.name,
        names.suppression.name,
        *([names.grants.name] if allowed.reads_grant_addresses else []),
    ]
    found = await asyncio.to_thread(
        wait_for_broker,
        kafka,
        wanted,
        stopped=stopping.is_set,
        waiting=health.waiting,
        needs=role_acls(kafka, "sink"),
    )
    if not found:
        return stopping.code
    read = (names.changes, names.control, names.suppression)
    watch = topic_watch(kafka, {topic.name: topic.partitions for topic in read})
    problem = await asyncio.to_thread(look_until_answered, watch, stopping.is_set, health.waiting)
    if problem is not None:
        log.critical("topic cannot be used", exit=problem.code.name.lower(), reason=problem.reason)
        return problem.code
    mode = await asyncio.to_thread(mode_at_start, kafka, names, org_settings.mode)
    if mode is None:
        log.critical(
            "the process ends itself",
            exit=ExitCode.MODE_REQUIRED.name.lower(),
            reason=MODE_REQUIRED,
        )
        return ExitCode.MODE_REQUIRED
    log.info("mode", mode=mode.mode.value, origin=mode.origin)
    async with AsyncExitStack() as stack:
        config = producer_config(kafka, delivery_timeout=DELIVERY_SECONDS)
        publisher = TransactionalPublisher(transactional(config, transactional_id(kafka, "sink")))
        accounts = AccountTopic(kafka, names.accounts.name, publisher)
        failures = FailureBreakers(
            FailureLimits(settings.breaker_bulk_share, settings.breaker_all_share)
        )
        control = FollowedTopic(kafka, names.control.name, group(kafka, "sink"), failures.apply)

        async def clear_former(fence: Fence) -> None:
            await clear_former_org(kafka, names, publisher, fence)
            await org.restore()
            await keeper.load()

        guard = OrgGuard(failures.table, control.caught_up.is_set, publisher, names, clear_former)
        pace = LivePace(settings.live_call_share)
        own_calls = OwnCalls(org_settings.max_calls_per_day)
        addresses = GrantAddresses()
        opened = open_org(
            org_settings,
            allowed,
            metrics,
            accounts,
            traces,
            pace.daily_calls,
            guard.accept,
            own_calls,
            addresses.address,
        )
        org = await stack.enter_async_context(opened)
        stack.callback(ops.stop)
        stack.push_async_callback(asyncio.to_thread, traces.close)
        publisher.open()
        health.watch(publisher.in_flight)
        stack.push_async_callback(publisher.close, CLOSE_SECONDS)
        config = consumer_config(
            kafka, group(kafka, "sink"), session_timeout=settings.session_timeout
        )
        consumer = Consumer(config | CONSUMER_CONFIG)
        deleted_log = DeletedRecordsLog(kafka, names)
        keeper = DeletionKeeper(org, publisher, names, metrics, deleted_log, guard=guard)
        followed = [control, followed_suppression(kafka, names, group(kafka, "sink"), allowed)]
        if allowed.reads_grant_addresses:
            followed.append(
                FollowedTopic(kafka, names.grants.name, group(kafka, "sink"), addresses.apply)
            )
        limits = WriteLimits(
            failures.table,
            WriteMode(org_settings.mode or WriteMode.MIRROR),
            Limits(
                settings.creations_per_day,
                settings.creations_per_grant,
                settings.replaced_values_per_hour,
                settings.storage_share,
            ),
            own_calls=own_calls,
        )
        keepers: list[Keeper] = [
            MemberKeeper(org, publisher, names, mailboxes.permission_sets, metrics)
        ]
        if allowed.contact_share:
            keepers.append(ContactDomainKeeper(org, metrics))
        sink = Sink(
            org,
            KafkaEnds(
                consumer,
                publisher,
                names,
                watch.topic_ids.get(names.changes.name, ""),
                FollowedTopics(*followed),
            ),
            settings,
            Telemetry(metrics, health, traces),
            WriteGuards(WriteFence(settings.session_timeout), failures, limits, pace, guard),
            Predecessor(
                lambda: recent_deletions(kafka, names),
                lambda: read_spent(kafka, names, time.time()),
                keeper,
            ),
            keepers,
        )

        deadline = StopDeadline(OVERDUE_SECONDS, "the next sink repeats the unfinished batches")

        def end(reason: str, status: int) -> None:
            sink.stop(reason, status)
            deadline.begin()

        watch.start(lambda code, reason: end(reason, code))
        endings = [
            asyncio.create_task(_stop_on(stopping, end)),
            asyncio.create_task(_stop_on_failure(publisher, end)),
        ]
        following = asyncio.create_task(
            follow(org.restore, lambda: sink.is_writer, ACCOUNTS_SECONDS)
        )
        stack.callback(following.cancel)
        bulk_loads = asyncio.create_task(end_bulk_loads(org, lambda: sink.is_writer))
        stack.callback(bulk_loads.cancel)
        stack.callback(watching.cancel)
        try:
            stop = await sink.run()
        except OffsetOutOfRange as error:
            log.critical("offset out of range", error=str(error))
            return ExitCode.OFFSET_OUT_OF_RANGE
        for ending in endings:
            ending.cancel()
        status = stop.status or stopping.code
        deadline.work_done(status)
        if stop.status:
            log.critical(
                "the process ends itself",
                exit=ExitCode(stop.status).name.lower(),
                reason=stop.reason,
            )
        else:
            log.info("stopped", reason=stop.reason)
        return status


async def _stop_on(stopping: Stop, end: Callable[[str, int], None]) -> None:
    await stopping.wait()
    end("files of secrets changed" if stopping.code else "signal", 0)


async def _stop_on_failure(
    publisher: TransactionalPublisher, end: Callable[[str, int], None]
) -> None:
    """Ends the sink when its producer failed for good, also while it has nothing to publish."""
    await publisher.failed.wait()
    end(f"the Kafka producer failed for good: {publisher.failure}", ExitCode.KAFKA_REFUSED)
