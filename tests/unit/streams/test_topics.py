"""Topics that differ from their policy are found, and each finding names a remedy."""

from collections.abc import Mapping, Sequence

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.commands import topics as command
from streams.kafka.admin import Topic, compare, refusal
from streams.kafka.clients import BATCH_BYTES
from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings, load
from streams.topics import topics

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
