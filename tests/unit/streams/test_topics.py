"""Topics that differ from their policy are found, and each finding names a remedy."""

from collections.abc import Mapping, Sequence

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import assume, given
from hypothesis import strategies as st

from streams.commands import topics as command
from streams.kafka.admin import refusal
from streams.kafka.clients import BATCH_BYTES
from streams.kafka.topic_policy import SettingChange, Topic, TopicFinding, compare
from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings, ReaderSettings, load
from streams.sink.account_topic import REREAD_SECONDS
from streams.topics import topics

DAY_MS = 86_400_000

WANTED = Topic(
    "contacts.changes",
    1,
    {"cleanup.policy": "compact", "min.insync.replicas": "2", "max.message.bytes": "1048588"},
    3,
)
GOOD = {"cleanup.policy": "compact", "min.insync.replicas": "2", "segment.bytes": "1073741824"}


@pytest.mark.parametrize(("factor", "acknowledged_by"), [(1, "1"), (2, "2"), (3, "2"), (5, "2")])
def test_a_record_is_acknowledged_by_two_brokers_where_there_are_two(
    factor: int, acknowledged_by: str
) -> None:
    every = topics(load(KafkaSettings, {"KAFKA_REPLICATION_FACTOR": str(factor)})).all()
    assert {topic.replicas for topic in every} == {factor}
    assert {topic.config["min.insync.replicas"] for topic in every} == {acknowledged_by}


def test_every_topic_takes_the_batches_that_the_producers_make() -> None:
    for topic in topics(load(KafkaSettings, {})).all():
        assert int(topic.config["max.message.bytes"]) >= BATCH_BYTES


def test_no_topic_depends_on_the_durability_of_the_clusters_defaults() -> None:
    for topic in topics(load(KafkaSettings, {})).all():
        durable = {
            "unclean.leader.election.enable": "false",
            "retention.bytes": "-1",
            "message.timestamp.type": "LogAppendTime",
        }
        assert durable.items() <= topic.config.items(), topic.name
        assert int(topic.config["segment.ms"]) <= DAY_MS, topic.name


def test_a_replaced_record_stays_for_its_slowest_reader_and_no_longer_than_for_erasure() -> None:
    every = topics(load(KafkaSettings, {}))
    erased_ms = int(every.events.config["retention.ms"])
    compacted = [each for each in every.all() if each.config["cleanup.policy"] == "compact"]
    for topic in compacted:
        shortest, longest = (
            int(topic.config[name]) for name in ("min.compaction.lag.ms", "max.compaction.lag.ms")
        )
        assert 0 <= shortest < longest <= erased_ms, topic.name
    # The reader acts on each of their records, and keeps its place there for a week.
    for topic in (every.outcomes, every.grants):
        assert int(topic.config["min.compaction.lag.ms"]) >= 7 * DAY_MS
    # A reader that missed a gap between heartbeats reconciles by its schedule.
    reconcile_ms = load(ReaderSettings, {}).reconcile_every * 1000
    assert int(every.runs.config["min.compaction.lag.ms"]) > reconcile_ms
    # A sink that read the topic before reads it again while the tombstones are still there.
    assert int(every.accounts.config["delete.retention.ms"]) > REREAD_SECONDS * 1000
    assert every.seen_changelog in compacted


@pytest.mark.parametrize(
    ("copies", "config"),
    [
        ([3], GOOD),
        ([4], GOOD),
        ([3], GOOD | {"min.insync.replicas": "3"}),
        ([3], GOOD | {"max.message.bytes": "3145728"}),
        ([3], {}),
    ],
)
def test_a_topic_that_meets_its_policy_is_no_finding(
    copies: Sequence[int], config: Mapping[str, str]
) -> None:
    assert compare(WANTED, copies, config) == []


@pytest.mark.parametrize(
    ("copies", "config", "problem", "remedy"),
    [
        ([3, 3], GOOD, "has 2 partitions instead of 1", "a new KAFKA_TOPIC_PREFIX"),
        ([1], GOOD, "has 1 of 3 copies", "kafka-reassign-partitions with 3 replicas"),
        (
            [3],
            GOOD | {"min.insync.replicas": "1"},
            "min.insync.replicas is 1 instead of 2",
            "kafka-configs --alter --topic contacts.changes --add-config min.insync.replicas=2",
        ),
        (
            [3],
            GOOD | {"min.insync.replicas": "4"},
            "min.insync.replicas is 4 instead of 2",
            "min.insync.replicas=2",
        ),
        (
            [3],
            GOOD | {"max.message.bytes": "999999"},
            "max.message.bytes is 999999 instead of at least 1048588",
            "--add-config max.message.bytes=1048588",
        ),
        (
            [3],
            GOOD | {"cleanup.policy": "delete"},
            "cleanup.policy is delete instead of compact",
            "--add-config cleanup.policy=compact",
        ),
    ],
)
def test_each_difference_comes_with_a_remedy(
    copies: Sequence[int], config: Mapping[str, str], problem: str, remedy: str
) -> None:
    (finding,) = compare(WANTED, copies, config)
    assert (finding.topic, finding.problem) == ("contacts.changes", problem)
    assert finding.stops_stages == ("partitions" in problem)
    assert remedy in finding.remedy


def test_the_partition_with_the_fewest_copies_counts() -> None:
    wanted = Topic("contacts.events", 3, {}, 2)
    (finding,) = compare(wanted, [2, 1, 2], {})
    assert finding.problem == "has 1 of 2 copies"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (KafkaError.INVALID_REPLICATION_FACTOR, "set KAFKA_REPLICATION_FACTOR"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "grant our user Create"),
        (KafkaError._TIMED_OUT, "contactstream doctor"),
    ],
)
def test_a_refusal_of_the_broker_comes_with_a_remedy(code: int, remedy: str) -> None:
    message = refusal(KafkaException(KafkaError(code, "the broker's text")))
    assert "the broker's text" in message
    assert remedy in message


def alterable(name: str, found: str, wanted: str, **policy: str) -> TopicFinding | None:
    """The finding about one setting, of a topic with two copies; None if it is as wanted."""
    others = {key.replace("_", "."): value for key, value in policy.items()}
    topic = Topic("t", 1, {name: wanted, **others}, 2)
    findings = compare(topic, [2], {name: found} | others)
    return findings[0] if findings else None


@pytest.mark.parametrize(
    ("name", "found", "wanted", "problem"),
    [
        ("unclean.leader.election.enable", "true", "false", "true instead of false"),
        ("retention.bytes", "1000", "-1", "1000 instead of -1"),
        ("retention.ms", "1000", "2000", "1000 instead of 2000"),
        ("segment.ms", "2000", "1000", "2000 instead of at most 1000"),
        ("min.compaction.lag.ms", "0", "1000", "0 instead of at least 1000"),
        ("max.compaction.lag.ms", "2000", "1000", "2000 instead of at most 1000"),
        ("delete.retention.ms", "1", "1000", "1 instead of at least 1000"),
        ("max.message.bytes", "1", "1000", "1 instead of at least 1000"),
        ("message.timestamp.type", "CreateTime", "LogAppendTime", "CreateTime instead of"),
        ("cleanup.policy", "delete", "compact", "delete instead of compact"),
        ("cleanup.policy", "compact,delete", "compact", "compact,delete instead of compact"),
        ("cleanup.policy", "compact,delete", "delete", "compact,delete instead of delete"),
        ("min.insync.replicas", "1", "2", "1 instead of 2"),
        ("min.insync.replicas", "3", "2", "3 instead of 2"),
    ],
)
def test_what_a_topic_in_use_may_have_changed_is_changed_by_alter(
    name: str, found: str, wanted: str, problem: str
) -> None:
    finding = alterable(name, found, wanted)
    assert finding is not None
    assert finding.problem.startswith(f"{name} is {problem}")
    assert finding.change == SettingChange(name, found, wanted)
    assert finding.remedy == (
        f"contactstream topics alter, or kafka-configs --alter --topic t --add-config "
        f"{name}={wanted}"
    )


@pytest.mark.parametrize(
    ("name", "found", "wanted", "reason"),
    [
        ("retention.ms", "2000", "1000", "does not shorten a retention"),
        ("retention.ms", "-1", "1000", "does not shorten a retention"),
        ("cleanup.policy", "compact", "delete", "does not begin to delete by age"),
        ("min.insync.replicas", "1", "3", "more in-sync replicas than the 2"),
    ],
)
def test_what_may_lose_records_or_stop_the_topic_is_not_changed_and_the_reason_is_said(
    name: str, found: str, wanted: str, reason: str
) -> None:
    finding = alterable(name, found, wanted)
    assert finding is not None
    assert finding.change is None
    assert reason in finding.remedy
    assert finding.remedy.endswith(f"kafka-configs --alter --topic t --add-config {name}={wanted}")


@pytest.mark.parametrize(
    ("name", "found", "wanted"),
    [
        ("segment.ms", "500", "1000"),
        ("max.compaction.lag.ms", "500", "1000"),
        ("min.compaction.lag.ms", "2000", "1000"),
        ("delete.retention.ms", "2000", "1000"),
    ],
)
def test_a_setting_that_is_stricter_than_its_policy_is_no_finding(
    name: str, found: str, wanted: str
) -> None:
    assert alterable(name, found, wanted) is None


def test_the_bounds_of_compaction_never_contradict_each_other() -> None:
    """Kafka refuses a topic whose shortest time is above its longest, and changes nothing of it."""
    policy = {"min.compaction.lag.ms": "100", "max.compaction.lag.ms": "200"}
    for found in (
        {"min.compaction.lag.ms": "0", "max.compaction.lag.ms": "50"},
        {"min.compaction.lag.ms": "300", "max.compaction.lag.ms": "400"},
    ):
        changes = [each.change for each in compare(Topic("t", 1, policy, 1), [1], found)]
        after = found | {each.name: each.wanted for each in changes if each is not None}
        assert after == policy


@pytest.mark.parametrize(
    ("found", "code"), [([1], 0), ([1, 1], ExitCode.PARTITION_COUNT_MISMATCH), ([0], 1)]
)
def test_topics_check_exits_as_a_stage_that_cannot_start_with_the_partitions(
    monkeypatch: pytest.MonkeyPatch, found: Sequence[int], code: int
) -> None:
    wanted = Topic("contacts.changes", 1, {}, 1)
    monkeypatch.setattr(command, "wait_for_broker", lambda *_, **__: True)
    monkeypatch.setattr(command, "AdminClient", lambda _config: None)
    monkeypatch.setattr(command, "check", lambda *_: compare(wanted, found, {}))
    assert command.check_topics(load(KafkaSettings, {})) == code


MILLISECONDS = st.integers(0, 40 * DAY_MS).map(str)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "cleanup.policy": st.sampled_from(["compact", "delete", "compact,delete"]),
        "min.insync.replicas": st.integers(1, 4).map(str),
        "unclean.leader.election.enable": st.sampled_from(["true", "false"]),
        "message.timestamp.type": st.sampled_from(["CreateTime", "LogAppendTime"]),
        "retention.bytes": st.sampled_from(["-1", "0", "1000"]),
        "retention.ms": MILLISECONDS | st.just("-1"),
        **dict.fromkeys(
            (
                "segment.ms",
                "min.compaction.lag.ms",
                "max.compaction.lag.ms",
                "delete.retention.ms",
                "max.message.bytes",
            ),
            MILLISECONDS,
        ),
    },
)


@given(st.sampled_from(topics(load(KafkaSettings, {})).all()), st.integers(1, 4), CONFIGS)
def test_alter_ends_what_it_may_end_in_one_go_and_never_deletes(
    topic: Topic, copies: int, found: dict[str, str]
) -> None:
    if "min.compaction.lag.ms" in found and "max.compaction.lag.ms" in found:
        shortest, longest = found["min.compaction.lag.ms"], found["max.compaction.lag.ms"]
        assume(int(shortest) <= int(longest))  # Kafka has no other topic
    before = compare(topic, [copies] * topic.partitions, found)
    after = found | {each.change.name: each.change.wanted for each in before if each.change}
    left = compare(topic, [copies] * topic.partitions, after)
    assert left == [each for each in before if each.change is None]
    if "delete" in after.get("cleanup.policy", ""):
        assert "delete" in found["cleanup.policy"]
    if "retention.ms" in found:
        assert int(after["retention.ms"]) >= int(found["retention.ms"])
    if "min.insync.replicas" in found and after != found:
        unchanged = after["min.insync.replicas"] == found["min.insync.replicas"]
        assert unchanged or int(after["min.insync.replicas"]) <= copies
    if "min.compaction.lag.ms" in found and "max.compaction.lag.ms" in found:
        shortest, longest = after["min.compaction.lag.ms"], after["max.compaction.lag.ms"]
        assert int(shortest) <= int(longest), "Kafka would refuse it"


class FakeAdmin:
    """What the command asks of the broker, for topics whose settings are plain data."""

    def __init__(self, wanted: Topic, copies: Sequence[int], config: dict[str, str]) -> None:
        self.wanted, self.copies, self.config = wanted, copies, config
        self.refusal: KafkaException | None = None

    def check(self, *_: object) -> list[TopicFinding]:
        return compare(self.wanted, self.copies, self.config)

    def alter(self, _: object, findings: Sequence[TopicFinding]) -> dict[str, KafkaException]:
        if self.refusal is not None:
            return {self.wanted.name: self.refusal}
        self.config |= {each.change.name: each.change.wanted for each in findings if each.change}
        return {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "wait_for_broker", lambda *_, **__: True)
        monkeypatch.setattr(command, "AdminClient", lambda _config: None)
        for name in ("check", "alter"):
            monkeypatch.setattr(command, name, getattr(self, name))
        monkeypatch.setattr(command, "check_until_altered", self.check)


SETTINGS = {"segment.ms": "1000", "retention.ms": "1000"}


def test_alter_says_old_and_new_and_a_dry_run_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = FakeAdmin(Topic("t", 1, SETTINGS, 1), [1], SETTINGS | {"segment.ms": "9000"})
    admin.install(monkeypatch)
    kafka = load(KafkaSettings, {})
    assert command.alter_topics(kafka, dry_run=True) == 0
    said = capsys.readouterr().out
    assert "t segment.ms: 9000 -> 1000\n" in said
    assert "nothing was changed" in said
    assert admin.config["segment.ms"] == "9000"

    assert command.alter_topics(kafka, dry_run=False) == 0
    assert capsys.readouterr().out == (
        "t segment.ms: 9000 -> 1000\nevery topic matches its policy\n"
    )
    assert admin.config == SETTINGS
    for dry_run in (True, False):
        assert command.alter_topics(kafka, dry_run=dry_run) == 0
        assert capsys.readouterr().out == "every topic matches its policy\n"


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("copies", "code"), [([1], 1), ([1, 1], ExitCode.PARTITION_COUNT_MISMATCH)]
)
def test_alter_exits_by_what_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    copies: Sequence[int],
    code: int,
    *,
    dry_run: bool,
) -> None:
    admin = FakeAdmin(Topic("t", 1, SETTINGS, 1), copies, {"retention.ms": "9000"})
    admin.install(monkeypatch)
    assert command.alter_topics(load(KafkaSettings, {}), dry_run=dry_run) == code
    said = capsys.readouterr().out
    assert "t retention.ms is 9000 instead of 1000: not changed\n    topics alter does not" in said
    assert ("t has 2 partitions instead of 1: not changed" in said) == (len(copies) == 2)
    assert admin.config == {"retention.ms": "9000"}


def test_a_refused_alteration_is_left_and_its_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = FakeAdmin(Topic("t", 1, SETTINGS, 1), [1], SETTINGS | {"segment.ms": "9000"})
    admin.refusal = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "denied"))
    admin.install(monkeypatch)
    assert command.alter_topics(load(KafkaSettings, {}), dry_run=False) == 1
    said = capsys.readouterr().out
    assert "->" not in said
    assert "t stays as it is: the broker refuses: denied\n" in said
    assert "AlterConfigs" in said
