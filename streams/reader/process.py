"""The reader process: reads the settings, wires the objects, returns the exit status."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer
from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from streams.acls import role_acls
from streams.contact_groups import NO_GROUPS, GroupRule
from streams.control import ControlTable, PausedPart
from streams.grant_addresses import GrantAddresses
from streams.kafka.clients import client_config, consumer_config, producer_config, wait_for_broker
from streams.kafka.endings import ending
from streams.kafka.followed import FollowedTopic
from streams.kafka.lag import LagReader
from streams.kafka.publisher import Publisher
from streams.kafka.snapshot import Snapshots
from streams.kafka.topic_watch import look_until_answered, topic_watch
from streams.mailboxes import EVERY_MAILBOX, MailboxRule
from streams.metrics import ProcessMetrics, ReaderMetrics
from streams.reader.context import Publish, ReaderContext
from streams.reader.deletion_guard import DeletionGuard
from streams.reader.gate import flow_gate
from streams.reader.grant_events import GrantTable
from streams.reader.grant_follower import GrantFollower
from streams.reader.grant_listing import GrantListing
from streams.reader.grant_removal import DedupeBarrier, DeletedGrants, GrantRemover
from streams.reader.group_names import GroupNameKeeper
from streams.reader.mailbox_keeper import MailboxKeeper
from streams.reader.other_deployment import OtherDeployments
from streams.reader.own_domain_keeper import OwnDomainKeeper
from streams.reader.reading_pause import ReadingPause
from streams.reader.reconcile import Reconciler
from streams.reader.refetch import RefetchConsumer, Refetcher
from streams.reader.reoffer import Reoffer
from streams.reader.replay import Replayer
from streams.reader.retries import retrying_publish, until_broker_answers
from streams.reader.run_completion import RunCompletion
from streams.reader.run_executor import RunDefaults, RunExecutor
from streams.reader.run_scheduler import RunScheduler
from streams.reader.run_writer import RunWriter
from streams.reader.scan import Scanner
from streams.reader.stage import Reader
from streams.reader.takeover import Takeover
from streams.reader.webhook_states import watch_webhooks
from streams.reader.work import ReaderWork
from streams.runs import RunLog
from streams.runtime.current_work import step_current_work, waiting_on_purpose
from streams.runtime.exit_codes import ExitCode, die
from streams.runtime.memory import limit_malloc_arenas
from streams.runtime.ops import Health, OpsServer
from streams.runtime.overdue import StopDeadline
from streams.runtime.secret_files import watch_secret_files
from streams.runtime.signals import stop_asked
from streams.runtime.traces import NO_TRACES, Traces, open_traces
from streams.runtime.wall_clock import ClockWatch
from streams.settings import (
    KafkaSettings,
    NylasSettings,
    ProcessSettings,
    ReaderSettings,
    TracesSettings,
    load,
)
from streams.topics import Topics, group, topics

log = structlog.get_logger()

# The main loop goes round every POLL_SECONDS (streams/reader/stage.py). After a minute without it
# hangs.
STALLED_SECONDS = 60.0

# A broker that restarts is back by then. After that the records are published again.
DELIVERY_SECONDS = 20.0

# For records in flight when the process stops. What is not acknowledged by then is read again.
CLOSE_SECONDS = 5.0

# For all of an orderly stop: the work in progress, the records in flight, leaving the group. Where
# no broker answers, each of them takes minutes. Kubernetes ends the process after 30 seconds.
OVERDUE_SECONDS = 28.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that the active reader needs."""

    kafka: KafkaSettings
    nylas: NylasSettings
    reader: ReaderSettings
    traces: Traces = NO_TRACES
    mailboxes: MailboxRule = EVERY_MAILBOX
    derives_own_domains: bool = False
    groups: GroupRule = NO_GROUPS
    exclusions: str = ""
    """`Exclusions.digest` of the settings."""


def run(
    kafka: KafkaSettings,
    process: ProcessSettings,
    nylas: NylasSettings,
    settings: ReaderSettings,
    mailboxes: MailboxRule,
    derives_own_domains: bool,
    groups: GroupRule,
    exclusions: str,
) -> int:
    """Runs the reader until SIGTERM or SIGINT; returns the exit status.

    `derives_own_domains`: whether they are those of the grants' addresses. `groups` says which
    contact groups are synced. `exclusions` is the
    digest of those of the settings. The status is 0, or the value of ExitCode for an error of
    Kafka. Any other error that the reader cannot continue after is raised, so that the process ends
    with 1.
    """
    limit_malloc_arenas()
    registry = CollectorRegistry()
    metrics, health = ReaderMetrics(registry), Health(STALLED_SECONDS)
    process_metrics = ProcessMetrics(registry, "reader", health)
    traces = open_traces(load(TracesSettings), "reader", process_metrics.trace_spans)
    reload_failed = process_metrics.secret_reload_failures.inc
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    try:
        opened = Settings(
            kafka, nylas, settings, traces, mailboxes, derives_own_domains, groups, exclusions
        )
        return asyncio.run(_serve(opened, metrics, health, reload_failed))
    finally:
        traces.close()
        ops.stop()


async def _serve(
    settings: Settings,
    metrics: ReaderMetrics,
    health: Health,
    reload_failed: Callable[[], None],
) -> int:
    stopping = stop_asked()
    watching = watch_secret_files(stopping, (KafkaSettings, NylasSettings), reload_failed)
    deadline = StopDeadline(OVERDUE_SECONDS, "the next reader repeats what was not finished")
    stop_begins = asyncio.create_task(deadline.begin_at(stopping))
    try:
        status = await _serve_until(stopping, settings, metrics, health) or stopping.code
        deadline.work_done(status)
        return status
    finally:
        watching.cancel()
        stop_begins.cancel()


async def _serve_until(
    stopping: asyncio.Event, settings: Settings, metrics: ReaderMetrics, health: Health
) -> int:
    kafka, names = settings.kafka, topics(settings.kafka)
    wanted = [
        topic.name
        for topic in (
            names.events,
            names.changes,
            names.refetch,
            names.outcomes,
            names.dead_letter,
            names.grants,
            names.runs,
            names.control,
        )
    ]
    ready = await asyncio.to_thread(
        wait_for_broker,
        kafka,
        wanted,
        stopped=stopping.is_set,
        waiting=health.waiting,
        needs=role_acls(kafka, "reader"),
    )
    if not ready:
        return 0
    # The active reader asks for exactly one partition of each.
    read = (
        names.runs,
        names.refetch,
        names.grants,
        names.outcomes,
        names.changes,
        names.control,
    )
    watch = topic_watch(kafka, {topic.name: topic.partitions for topic in read})
    problem = await asyncio.to_thread(look_until_answered, watch, stopping.is_set, health.waiting)
    if problem is not None:
        log.critical("topic cannot be used", exit=problem.code.name.lower(), reason=problem.reason)
        return problem.code
    watch.start(die)
    publisher = Publisher(producer_config(kafka, delivery_timeout=DELIVERY_SECONDS))
    publisher.open()
    health.watch(publisher.in_flight)
    in_flight = ReaderWork()
    in_flight.watch(health)
    publish = retrying_publish(publisher, health)

    async def work(run_log: RunLog) -> None:
        await _read_address_books(settings, names, publish, metrics, health, in_flight, run_log)

    session_timeout = settings.reader.session_timeout
    config = consumer_config(kafka, group(kafka, "reader"), session_timeout=session_timeout)
    consumer = Consumer(config | {"enable.partition.eof": True})
    reader = Reader(consumer, names.runs.name, work, session_timeout, metrics, health)
    failing = asyncio.create_task(_stop_on_failure(publisher, stopping))
    try:
        await reader.run(stopping)
    except Exception as error:
        found = ending(error)
        if found is None:
            raise
        code, reason = found
        log.critical("the process ends itself", exit=code.name.lower(), reason=reason)
        return code
    finally:
        failing.cancel()
        unacknowledged = await publisher.close(CLOSE_SECONDS)
        if unacknowledged:
            log.warning(
                "stopped with records not acknowledged; they are read again", records=unacknowledged
            )
    if publisher.failure is not None:
        log.critical("the Kafka producer failed for good", error=publisher.failure)
        return ExitCode.KAFKA_REFUSED
    return 0


async def _stop_on_failure(publisher: Publisher, stopping: asyncio.Event) -> None:
    """Stops the reader when its producer failed for good, also while nothing is published."""
    await publisher.failed.wait()
    stopping.set()


async def _read_address_books(
    settings: Settings,
    names: Topics,
    publish: Publish,
    metrics: ReaderMetrics,
    health: Health,
    in_flight: ReaderWork,
    run_log: RunLog,
) -> None:
    """The work of the active reader, until it is cancelled."""
    kafka = settings.kafka
    lags = LagReader(client_config(kafka))
    control = ControlTable()
    pause = ReadingPause(control, lambda reason: metrics.waits.labels(reason).inc())
    metrics.pause_ends.labels(PausedPart.READING.value).set_function(pause.ends_seconds)
    gate = flow_gate(kafka, lags, settings.reader.max_lag, metrics, pause.stops_bulk)
    following = FollowedTopic(kafka, names.control.name, group(kafka, "reader-work"), control.apply)
    context = ReaderContext(names, publish, gate, metrics, in_flight, settings.traces)
    grants, runs = GrantTable(), RunWriter(run_log, publish, names)
    addresses = GrantAddresses()

    others = OtherDeployments(kafka, context, lags, settings.reader.max_lag, pause)
    client = _client(settings.nylas, metrics, pause)
    derives = settings.derives_own_domains
    mailboxes = MailboxKeeper(
        context,
        control,
        addresses,
        grants,
        runs,
        settings.mailboxes,
        needs_addresses=derives,
        exclusions=settings.exclusions,
    )
    own_domains = OwnDomainKeeper(context, control, addresses, derives)
    async with (
        Snapshots(kafka, in_flight.readings) as snapshots,
        client,
        asyncio.TaskGroup() as tasks,
    ):
        groups = GroupNameKeeper(context, client, control, addresses, settings.groups)
        scanner = Scanner(context, client, groups, settings.reader.concurrent_grants)
        reoffer = Reoffer(context, snapshots)
        remover = GrantRemover(context, client, snapshots)
        max_delete_share = settings.reader.max_delete_share
        guard = DeletionGuard(context, control, grants, max_delete_share)
        executor = RunExecutor(
            run_log,
            runs,
            GrantListing(context, client, grants, addresses, max_delete_share),
            scanner,
            Reconciler(context, client, snapshots, reoffer),
            remover,
            Replayer(context, snapshots, runs, run_log, others.open),
            RunDefaults(settings.nylas.sources, max_delete_share),
            mailboxes,
            guard,
        )
        dedupe = DedupeBarrier(names, group(kafka, "dedupe"), lags, health)
        deleted_grants = DeletedGrants(
            executor.is_idle, dedupe, remover, guard, in_flight.deletions
        )
        follower = GrantFollower(kafka, context, grants, addresses, runs, deleted_grants.add)
        refetcher = Refetcher(context, client, grants, addresses, mailboxes.choose, groups)
        tasks.create_task(following.run())
        # Before Nylas is called: reading may be paused, or a failure breaker open.
        await following.caught_up.wait()
        await mailboxes.put_in_force()
        await own_domains.put_in_force()
        await groups.put_in_force()
        tasks.create_task(scanner.run())
        tasks.create_task(refetcher.run())
        tasks.create_task(RefetchConsumer(kafka, context, refetcher, runs).run())
        tasks.create_task(Takeover(kafka, context, snapshots, reoffer).run())
        tasks.create_task(follower.run())
        tasks.create_task(deleted_grants.run())
        tasks.create_task(watch_webhooks(client, metrics.webhooks))
        # A run compares the listing of grants with the table, so the table must be complete.
        await follower.caught_up.wait()
        completion = RunCompletion(
            names,
            publish,
            dedupe.wait,
            lambda: until_broker_answers(
                lambda: lags.ends(names.changes.name, names.changes.partitions)[0], health
            ),
        )
        tasks.create_task(completion.run())
        tasks.create_task(mailboxes.run())
        tasks.create_task(own_domains.run())
        tasks.create_task(groups.run(grants))
        scheduler = RunScheduler(
            run_log,
            runs,
            executor,
            settings.reader.reconcile_every,
            in_flight.runs,
            metrics.runs_in_progress,
            completion.runs_ended,
        )
        tasks.create_task(scheduler.run())


def _client(nylas: NylasSettings, metrics: ReaderMetrics, pause: ReadingPause) -> NylasClient:
    def on_call(kind: str, status: int | None, _seconds: float) -> None:
        metrics.calls.labels(kind, _status_class(status)).inc()
        step_current_work()

    return NylasClient(
        nylas.api_url,
        nylas.api_key.get_secret_value(),
        on_call=on_call,
        on_wait=lambda reason: metrics.waits.labels(reason).inc(),
        on_date=ClockWatch("Nylas", metrics.clock_ahead).on_date,
        waiting=waiting_on_purpose,
        before_call=pause.wait,
    )


def _status_class(status: int | None) -> str:
    """The label of an HTTP status: `200` and `429` themselves, else its class such as `5xx`."""
    if status is None:
        return "none"
    return str(status) if status in (200, 429) else f"{status // 100}xx"
