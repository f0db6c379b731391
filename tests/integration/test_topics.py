"""`contactstream topics` on a real Kafka: it creates topics, finds differences, reports faults."""

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streams import cli
from streams.commands import topics as topics_command
from streams.kafka.admin import check, create
from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


def command(kafka: Kafka, *words: str, **environ: str) -> Result:
    """`contactstream topics ...` in this process."""
    return CliRunner().invoke(cli.main, ["topics", *words], env=kafka.environ | environ)


def alter(kafka: Kafka, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, kafka.name(topic), incremental_configs=[entry])
    admin = kafka.admin()
    for future in admin.incremental_alter_configs(
        [resource], request_timeout=REQUEST_SECONDS
    ).values():
        future.result()

    def visible() -> bool:
        (found,) = admin.describe_configs(
            [ConfigResource(ResourceType.TOPIC, kafka.name(topic))]
        ).values()
        return bool(found.result(REQUEST_SECONDS)[name].value == value)

    wait_until(visible, f"the broker says that {name} is {value}")


def test_created_topics_are_as_they_have_to_be_and_created_once(kafka: Kafka) -> None:
    wanted = topics(load(KafkaSettings, kafka.environ))
    admin = kafka.admin()
    assert set(create(admin, wanted.all())) == {topic.name for topic in wanted.all()}
    assert check(admin, wanted.all()) == []
    assert create(admin, wanted.all()) == []


def test_the_commands_create_topics_and_exit_with_1_when_one_differs(kafka: Kafka) -> None:
    missing = command(kafka, "check")
    assert missing.exit_code == 1
    assert (
        f"{kafka.name('contacts.events')} does not exist\n    contactstream topics create"
        in missing.output
    )

    assert f"created {kafka.name('contacts.changes')}" in command(kafka, "create").output
    good = command(kafka, "check")
    assert (good.exit_code, good.output) == (0, "every topic matches its policy\n")

    alter(kafka, "contacts.changes", "cleanup.policy", "delete")
    # With one copy no record would ever be acknowledged.
    alter(kafka, "contacts.outcomes", "min.insync.replicas", "2")
    different = command(kafka, "check", KAFKA_EVENTS_PARTITIONS="8")
    assert different.exit_code == ExitCode.PARTITION_COUNT_MISMATCH
    for problem in (
        f"{kafka.name('contacts.events')} has 4 partitions instead of 8",
        f"{kafka.name('contacts.changes')} cleanup.policy is delete instead of compact",
        f"{kafka.name('contacts.outcomes')} min.insync.replicas is 2 instead of 1",
    ):
        assert problem in different.output


# One of each kind for every policy that a cluster's own defaults, or a hand, may undo.
ALTERATIONS = (
    ("contacts.events", "unclean.leader.election.enable", "true", "false"),
    ("contacts.events", "retention.bytes", "1000000", "-1"),
    ("contacts.events", "message.timestamp.type", "CreateTime", "LogAppendTime"),
    ("contacts.events", "segment.ms", "604800000", "at most 86400000"),
    ("contacts.events", "retention.ms", "3600000", "1209600000"),
    ("contacts.changes", "cleanup.policy", "delete", "compact"),
    ("contacts.outcomes", "min.compaction.lag.ms", "0", "at least 604800000"),
    ("sink.accounts", "delete.retention.ms", "1000", "at least 86400000"),
    ("grants.events", "max.message.bytes", "1000", "at least 1048588"),
    ("reader.runs", "max.compaction.lag.ms", "9223372036854775807", "at most 1209600000"),
    ("contactstream-dedupe-seen-changelog", "segment.ms", "86400000", "at most 3600000"),
)


def test_alter_mends_what_loses_nothing_and_a_dry_run_only_says_it(kafka: Kafka) -> None:
    command(kafka, "create")
    for topic, name, value, _ in ALTERATIONS:
        alter(kafka, topic, name, value)
    found = command(kafka, "check")
    assert found.exit_code == 1
    for topic, name, value, wanted in ALTERATIONS:
        assert (
            f"{kafka.name(topic)} {name} is {value} instead of {wanted}\n"
            "    contactstream topics alter, or " in found.output
        )

    planned = command(kafka, "alter", "--dry-run")
    assert planned.exit_code == 0, planned.output
    changes = {
        f"{kafka.name(topic)} {name}: {value} -> {wanted.split()[-1]}"
        for topic, name, value, wanted in ALTERATIONS
    }
    assert changes <= set(planned.output.splitlines())
    assert command(kafka, "check").output == found.output

    mended = command(kafka, "alter")
    assert mended.exit_code == 0, mended.output
    assert set(mended.output.splitlines()) == changes | {"every topic matches its policy"}
    assert command(kafka, "check").exit_code == 0
    assert command(kafka, "alter").output == "every topic matches its policy\n"


def test_alter_leaves_partitions_and_what_may_lose_records(kafka: Kafka) -> None:
    command(kafka, "create")
    alter(kafka, "contacts.dead-letter", "retention.ms", "-1")
    alter(kafka, "contacts.refetch", "segment.ms", "604800000")
    for words in (("alter", "--dry-run"), ("alter",)):
        left = command(kafka, *words, KAFKA_EVENTS_PARTITIONS="8")
        assert left.exit_code == ExitCode.PARTITION_COUNT_MISMATCH
        assert f"{kafka.name('contacts.events')} has 4 partitions instead of 8: not changed" in (
            left.output
        )
        assert "retention.ms is -1 instead of 2592000000: not changed" in left.output
        assert "does not shorten a retention" in left.output
        assert f"{kafka.name('contacts.refetch')} segment.ms: 604800000 -> 86400000" in left.output


def test_topics_with_too_few_copies_are_found(kafka: Kafka) -> None:
    command(kafka, "create")
    found = command(kafka, "check", KAFKA_REPLICATION_FACTOR="3")
    assert found.exit_code == 1
    names = [topic.name for topic in topics(load(KafkaSettings, kafka.environ)).all()]
    assert all(f"{name} has 1 of 3 copies" in found.output for name in names)


def test_more_replicas_than_brokers_are_refused_with_a_remedy_and_no_traceback(
    kafka: Kafka,
) -> None:
    refused = command(kafka, "create", KAFKA_REPLICATION_FACTOR="3")
    assert (refused.exit_code, type(refused.exception)) == (1, SystemExit)
    assert "set KAFKA_REPLICATION_FACTOR to no more than the brokers" in refused.output


@pytest.mark.parametrize("words", [("create",), ("create", "--dry-run"), ("check",), ("alter",)])
def test_without_a_broker_the_command_reports_it_and_what_to_do(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(topics_command, "BROKER_WAIT_SECONDS", 0.1)
    nobody = command(kafka, *words, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (nobody.exit_code, type(nobody.exception)) == (1, SystemExit)
    assert "no broker answers at 127.0.0.1:1" in nobody.output
    assert "check KAFKA_BOOTSTRAP_SERVERS" in nobody.output
