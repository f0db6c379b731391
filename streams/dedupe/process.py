"""The dedupe process: reads the settings, wires the objects, returns the exit status."""

import asyncio
import gc
import logging

import structlog
import uvloop
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from connectors.salesforce.kept_fields import exclusion_by
from connectors.salesforce.policy import Policy
from streams.dedupe.expiry import ExpiryWatch
from streams.dedupe.faust_app import make_app, run_until_stopped
from streams.dedupe.faust_batches import BatchTable
from streams.dedupe.faust_check import IncompatibleFaust, check_faust
from streams.dedupe.fence import HeartbeatFence
from streams.dedupe.following import ends_before_stop, follow
from streams.dedupe.liveness import LagWatch
from streams.dedupe.mailbox_filter import MailboxFilter, caught_up, followed_topics
from streams.dedupe.planner import DedupePlanner
from streams.dedupe.producer import AcknowledgedProducer
from streams.dedupe.stage import Dedupe
from streams.dedupe.start_checks import end_if_handed_over, wait_until_startable
from streams.kafka.admin import topic_setting
from streams.kafka.clients import client_config, producer_config
from streams.kafka.lag import LagReader
from streams.kafka.topic_watch import commit_metadata, null_terminated, topic_watch
from streams.metrics import DedupeMetrics, ProcessMetrics
from streams.runtime.exit_codes import ExitCode, die
from streams.runtime.ops import Health, OpsServer
from streams.runtime.secret_files import watch_secret_files
from streams.runtime.signals import stop_asked
from streams.runtime.watchdog import Watchdog
from streams.settings import DedupeSettings, KafkaSettings, ProcessSettings
from streams.suppression_following import followed_suppression
from streams.topics import group, topics

log = structlog.get_logger()

# The garbage collector looks for cycles once there are so many more objects. The batches in memory
# are that many, and hold no cycle: with the default of 700 a third of the time was spent on it.
GARBAGE_OBJECTS = 300_000

# Without progress. Twice what a rebalance may wait for its slowest member, and far longer than the
# slowest batch takes.
STALLED_SECONDS = 120.0

# Beyond the delivery time-out, until the producer has reported every record: librdkafka looks for
# expired records and requests every second, on cores that may be busy.
REPORT_SECONDS = 5.0

# An orderly stop. Kubernetes' default grace period is 30 s.
STOP_SECONDS = 20.0


def run(
    kafka: KafkaSettings,
    process: ProcessSettings,
    settings: DedupeSettings,
    policy: Policy,
    selected: MailboxFilter,
    *,
    releases_leavers: bool,
) -> int:
    """Runs `contactstream dedupe`. Returns its exit status, or ends the process by an ExitCode.

    `policy` says which fields are read, and who is left out; `selected` has the settings that the
    topics add to. `releases_leavers`: whether the record of a contact that leaves the synced groups
    is settled as if it were deleted. Raises SettingsError for a port that cannot be bound.
    """
    # Faust's services log by the module of their class.
    logging.getLogger("streams.dedupe.faust_batches").setLevel(logging.WARNING)
    try:
        check_faust()
    except IncompatibleFaust as error:
        log.critical("incompatible Faust", error=str(error))
        return ExitCode.INCOMPATIBLE
    gc.set_threshold(GARBAGE_OBJECTS, 20, 50)
    return uvloop.run(
        _serve(kafka, process, settings, policy, selected, releases_leavers=releases_leavers)
    )


async def _serve(
    kafka: KafkaSettings,
    process: ProcessSettings,
    settings: DedupeSettings,
    policy: Policy,
    selected: MailboxFilter,
    *,
    releases_leavers: bool,
) -> int:
    registry = CollectorRegistry()
    metrics, health = DedupeMetrics(registry), Health(STALLED_SECONDS)
    process_metrics = ProcessMetrics(registry, "dedupe", health)
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    stopping = stop_asked()
    watching = watch_secret_files(
        stopping, (KafkaSettings,), process_metrics.secret_reload_failures.inc
    )
    names = topics(kafka)
    events, changelog = names.events, names.seen_changelog.name
    watch = topic_watch(kafka, {events.name: events.partitions, changelog: events.partitions})
    if not await asyncio.to_thread(
        wait_until_startable, kafka, names, watch, stopping.is_set, health
    ):
        return stopping.code

    suppression = followed_suppression(kafka, names, group(kafka, "dedupe-suppression"), policy)
    followed = [*followed_topics(kafka, names, selected), suppression]
    following = [asyncio.create_task(follow(topic)) for topic in followed]
    if not await ends_before_stop(caught_up(followed), stopping):
        return stopping.code

    session = settings.session_timeout
    watchdog = Watchdog(session / 2)
    notes = {
        topic: null_terminated(commit_metadata(topic_id))
        for topic, topic_id in watch.topic_ids.items()
    }
    app = make_app(
        kafka,
        group(kafka, "dedupe"),
        session,
        health,
        notes,
        settings.standby_copies,
        on_commit_note=lambda note: end_if_handed_over(kafka.dedupe_generation, note),
    )
    metrics.oldest_unfinished.set_function(app.received.oldest_seconds)
    table = BatchTable(app, "seen", changelog, events.partitions)
    fence = HeartbeatFence(lambda: app.consumer.seconds_unheard(), session, watchdog)
    config = producer_config(kafka, delivery_timeout=session / 2)
    producer = AcknowledgedProducer(config, session / 2 + REPORT_SECONDS, fence.check)
    exclusion = exclusion_by(policy, selected.own_domains)
    groups = selected.group_filter(releases=releases_leavers)
    planner = DedupePlanner(
        policy.mapping, names, exclusion, selected.choose, selected.note_address, groups
    )
    dedupe = Dedupe(planner, producer, table, changelog, metrics, fence.wait)
    health.watch(dedupe.in_flight)
    app.agent(app.bytes_topic(events.name), name="dedupe", concurrency=1)(dedupe.agent)
    lag = LagReader(client_config(kafka))
    watchdog.start()
    watch.start(die)
    admin = AdminClient(client_config(kafka) | {"log_level": 0})
    expiry = ExpiryWatch(
        lambda partition, offset: lag.timestamp_ms(events.name, partition, offset),
        lambda: int(topic_setting(admin, events.name, "retention.ms")),
        metrics.oldest_unread_expires,
    )
    LagWatch(lag, events.name, events.partitions, app, metrics, health, expiry).start()
    await run_until_stopped(app, stopping, watchdog, STOP_SECONDS)
    watchdog.work_done(stopping.code)
    for task in (watching, *following):
        task.cancel()
    ops.stop()
    log.info("stopped")
    return stopping.code
