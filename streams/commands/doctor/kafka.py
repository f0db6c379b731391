"""The Kafka checks of `contactstream doctor`: broker, topics, groups, and failure breakers."""

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.salesforce.checkup.findings import CheckupFinding, fail, ok, warn
from connectors.salesforce.write_mode import MEANING
from streams.commands.doctor.deployment import not_examined
from streams.commands.doctor.mailboxes import examine_mailboxes
from streams.commands.pauses import RESUME, pause_line
from streams.contact_groups import GroupRule
from streams.control import ControlTable, FailureBreaker, Stops, open_breakers
from streams.control_mode import mode_in_force
from streams.dedupe.generation_groups import why_not_live
from streams.events import now_ms
from streams.kafka.admin import check
from streams.kafka.clients import LastError, client_config
from streams.kafka.committed import committed_of_group
from streams.kafka.lag import lag
from streams.kafka.log_range import offset_range
from streams.kafka.snapshot import SnapshotStalled, log_ranges, read_to_end
from streams.mailboxes import EVERY_MAILBOX, MailboxRule
from streams.settings import KafkaSettings
from streams.topics import group, topics

# One request to a broker, for which a person waits.
BROKER_SECONDS = 10.0
# The committed offsets of a group: a few requests, because its coordinator may have to be found.
COMMITTED_SECONDS = 30.0
# Records. Bulk reading waits at this lag by default (READER_MAX_LAG), so more than this means that
# a stage does not keep up.
HIGH_LAG = 20_000


def examine_kafka(
    kafka: KafkaSettings,
    mailboxes: MailboxRule = EVERY_MAILBOX,
    mode: str = "",
    groups: GroupRule | None = None,
    exclusions: str = "",
) -> list[CheckupFinding]:
    """Findings about the broker, the topics, the groups, and which mailboxes are selected.

    Blocks for up to half a minute for each group.
    """
    # Errors of the connection become findings, so the client itself prints none.
    last_error = LastError()
    config = client_config(kafka) | {"log_level": 0, "error_cb": last_error}
    # The settings were checked when they were loaded, so that the client takes them.
    admin = AdminClient(config)
    try:
        cluster = admin.list_topics(timeout=BROKER_SECONDS)
    except KafkaException as error:
        admin.poll(0)  # serves `error_cb`
        reason = last_error.text or error.args[0].str()
        return [
            fail(
                "broker",
                f"none answers at {kafka.bootstrap_servers}: {reason}",
                "check KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the credentials, "
                "and that the broker runs",
            ),
            not_examined("topics and groups", "connect to the broker first"),
        ]
    findings = [
        ok("broker", f"{len(cluster.brokers)} at {kafka.bootstrap_servers}"),
        *_examine_topics(admin, kafka),
    ]
    wanted = topics(kafka)
    if wanted.events.name in cluster.topics:
        findings.append(_examine_generation(kafka))
    for stage, topic in (("dedupe", wanted.events), ("sink", wanted.changes)):
        if topic.name in cluster.topics:
            partitions = sorted(cluster.topics[topic.name].partitions)
            findings += _examine_group(config, stage, group(kafka, stage), topic.name, partitions)
        else:
            findings.append(not_examined(f"group of {stage}", "contactstream topics create"))
    if wanted.control.name in cluster.topics:
        findings += _examine_control(kafka, wanted.control.name, mode)
        if wanted.grants.name in cluster.topics:
            findings += examine_mailboxes(kafka, mailboxes, groups, exclusions)
    return findings


def _examine_control(kafka: KafkaSettings, topic: str, mode: str) -> list[CheckupFinding]:
    table = ControlTable()
    try:
        for record in read_to_end(kafka, topic, within=COMMITTED_SECONDS):
            table.apply(record)
    except (KafkaException, SnapshotStalled) as error:
        return [
            fail(
                "breakers", f"cannot be read: {error}", f"grant our user Read on the topic {topic}"
            )
        ]
    pauses = [
        warn("pauses", pause_line(one), RESUME[one.part]) for one in table.pauses_now(now_ms())
    ]
    return [
        *breaker_findings(open_breakers(table.breakers.values())),
        *pauses,
        _mode_finding(kafka, table, mode),
    ]


def _mode_finding(kafka: KafkaSettings, table: ControlTable, setting: str) -> CheckupFinding:
    """What may be written, and who said so."""
    try:
        outcomes = log_ranges(kafka, topics(kafka).outcomes.name)
    except KafkaException as error:
        return fail("mode", f"cannot be told: {error}", "contactstream topics create")
    written = any(log.end > 0 for log in outcomes.values())
    found = mode_in_force(table.mode, setting, has_outcomes=written)
    if found is None:
        return warn(
            "mode",
            "nobody has chosen one: the sink does not start",
            "look at first, and write nothing: contactstream mode set report-only --why TEXT",
        )
    return ok("mode", f"{found.mode.value}: {MEANING[found.mode]} ({found.origin})")


def breaker_findings(opened: Sequence[FailureBreaker]) -> list[CheckupFinding]:
    """A finding for each open failure breaker; a failure where nothing is written."""
    return [
        (fail if one.stops is Stops.ALL else warn)(
            "breakers",
            f"too many contacts fail with {one.reason}: "
            + ("nothing is written" if one.stops is Stops.ALL else "bulk runs are paused"),
            "contactstream breakers",
        )
        for one in opened
    ] or [ok("breakers", "none is open")]


def _examine_topics(admin: AdminClient, kafka: KafkaSettings) -> list[CheckupFinding]:
    wanted = topics(kafka).all()
    try:
        differences = check(admin, wanted)
    except KafkaException as error:
        return [
            fail(
                "topics",
                f"the broker does not describe them: {error.args[0].str()}",
                "grant our user DescribeConfigs on the topics of KAFKA_TOPIC_PREFIX",
            )
        ]
    if not differences:
        return [ok("topics", f"all {len(wanted)} exist, with their policies and partitions")]
    return [fail(f"topic {one.topic}", one.problem, one.remedy) for one in differences]


def _examine_generation(kafka: KafkaSettings) -> CheckupFinding:
    check_name = "generation of dedupe"
    try:
        reason = why_not_live(kafka)
    except KafkaException:
        return not_examined(check_name, "see what is found about the group of dedupe")
    if reason is None:
        return ok(check_name, f"no other one has the work of {kafka.dedupe_generation}")
    return fail(check_name, reason, "contactstream dedupe-state shows which one is live")


def _examine_group(
    config: Mapping[str, Any], stage: str, group_id: str, topic: str, partitions: Sequence[int]
) -> list[CheckupFinding]:
    # Never subscribes, so it does not join the group.
    consumer = Consumer({**config, "group.id": group_id, "enable.auto.commit": False})
    try:
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        found = committed_of_group(consumer, group_id, wanted, COMMITTED_SECONDS)
        committed = {one.partition: one.offset for one in found}
        ranges = {one.partition: offset_range(consumer, one, BROKER_SECONDS) for one in wanted}
    except KafkaException as error:
        return [
            fail(
                f"group of {stage}",
                f"its offsets cannot be read: {error.args[0].str()}",
                f"grant our user Read on the topic {topic} and on the group {group_id}",
            )
        ]
    finally:
        consumer.close()
    return [
        *offset_findings(stage, group_id, topic, committed, ranges),
        lag_finding(stage, committed, ranges),
    ]


def offset_findings(
    stage: str,
    group_id: str,
    topic: str,
    committed: Mapping[int, int],
    ranges: Mapping[int, tuple[int, int]],
) -> list[CheckupFinding]:
    """Whether the committed offsets of a group are inside the log.

    `committed` is negative for a partition without a commit. `ranges` holds the first and the next
    offset of each partition.
    """
    check_name = f"offsets of {stage}"
    findings = []
    for partition, (start, end) in sorted(ranges.items()):
        offset = committed.get(partition, -1)
        where = f"{topic}[{partition}]: the committed offset {offset}"
        if 0 <= offset < start:
            findings.append(
                fail(
                    check_name,
                    f"{where} is below the start of the log, {start}: records expired unread",
                    f"contactstream reconcile --all, then reset the group {group_id} to {start}",
                )
            )
        elif offset > end:
            findings.append(
                fail(
                    check_name,
                    f"{where} is beyond the end of the log, {end}",
                    "the topic was deleted and created again: "
                    f"reset the group {group_id} to its start, then contactstream reconcile --all",
                )
            )
    return findings or [ok(check_name, "inside the log")]


def lag_finding(
    stage: str, committed: Mapping[int, int], ranges: Mapping[int, tuple[int, int]]
) -> CheckupFinding:
    """How many records a group has still to read; arguments as in `offset_findings`."""
    check_name = f"lag of {stage}"
    records = lag(
        committed,
        {partition: start for partition, (start, _) in ranges.items()},
        {partition: end for partition, (_, end) in ranges.items()},
    )
    if records > HIGH_LAG:
        remedy = f"check that contactstream {stage} runs and keeps up"
        return warn(check_name, f"{records:,} records", remedy)
    if records and all(offset < 0 for offset in committed.values()):
        remedy = f"start contactstream {stage}"
        return warn(check_name, f"{records:,} records, and the group never committed", remedy)
    return ok(check_name, f"{records:,} records")
