"""A topic that is deleted, made anew or given partitions under a running stage ends the stage."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka.offsets import starting_offsets
from streams.kafka.polling import TopicReplaced
from streams.kafka.topic_watch import (
    TopicState,
    TopicWatch,
    commit_metadata,
    look_until_answered,
    raise_if_replaced,
)
from streams.runtime.exit_codes import ExitCode

CHANGES = "contacts.changes"
FIRST = TopicState("id-1", 1)


class Cluster:
    """What a broker describes; None stands for no answer."""

    def __init__(self, topics: dict[str, TopicState]) -> None:
        self.topics: dict[str, TopicState] | None = topics

    def describe(self, names: Iterable[str]) -> Mapping[str, TopicState]:
        if self.topics is None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return {name: self.topics[name] for name in names if name in self.topics}


def watching(cluster: Cluster) -> TopicWatch:
    watch = TopicWatch(cluster.describe, {CHANGES: 1})
    assert watch.look() is None
    assert watch.topic_ids == {CHANGES: "id-1"}
    return watch


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({CHANGES: TopicState("id-2", 1)}, "was deleted and created again"),
        ({}, "was deleted. Create it with `contactstream topics create`"),
    ],
    ids=["made anew", "deleted"],
)
def test_a_topic_that_is_another_one_in_two_checks_ends_the_stage(
    now: dict[str, TopicState], reason: str
) -> None:
    cluster = Cluster({CHANGES: FIRST})
    watch = watching(cluster)
    assert watch.check() is None
    cluster.topics = now
    assert watch.check() is None, "a broker whose metadata is behind may say so once"
    problem = watch.check()
    assert problem is not None
    assert problem.code is ExitCode.TOPIC_REPLACED
    assert CHANGES in problem.reason
    assert reason in problem.reason
    assert "reconcile --all" in problem.reason


def test_a_broker_that_is_behind_or_away_ends_nothing() -> None:
    cluster = Cluster({CHANGES: FIRST})
    watch = watching(cluster)
    answers: list[dict[str, TopicState] | None] = [
        {},
        {CHANGES: FIRST},
        None,
        {CHANGES: TopicState("id-0", 1)},
        {CHANGES: FIRST},
    ]
    for now in answers:
        cluster.topics = now
        assert watch.check() is None


def test_a_topic_without_ids_is_compared_by_its_partitions_alone() -> None:
    cluster = Cluster({CHANGES: FIRST})
    watch = watching(cluster)
    cluster.topics = {CHANGES: TopicState("", 1)}
    assert [watch.check() for _ in range(3)] == [None] * 3


def test_new_partitions_end_the_stage_at_once() -> None:
    cluster = Cluster({CHANGES: FIRST})
    watch = watching(cluster)
    cluster.topics = {CHANGES: TopicState("id-1", 2)}
    problem = watch.check()
    assert problem is not None
    assert problem.code is ExitCode.PARTITION_COUNT_MISMATCH
    assert "contacts.changes has 2 partitions instead of 1" in problem.reason
    assert "contactstream topics check" in problem.reason


def test_a_wrong_number_of_partitions_is_found_at_the_start() -> None:
    watch = TopicWatch(Cluster({CHANGES: TopicState("id-1", 3)}).describe, {CHANGES: 1})
    problem = watch.look()
    assert problem is not None
    assert problem.code is ExitCode.PARTITION_COUNT_MISMATCH


def test_the_start_waits_until_the_broker_describes_every_topic() -> None:
    cluster = Cluster({})
    watch = TopicWatch(cluster.describe, {CHANGES: 1})
    reasons: list[str] = []

    def waiting(reason: str) -> None:
        reasons.append(reason)
        cluster.topics = None if len(reasons) == 1 else {CHANGES: FIRST}

    assert look_until_answered(watch, lambda: False, waiting) is None
    assert len(reasons) == 2
    assert watch.topic_ids == {CHANGES: "id-1"}


@pytest.mark.parametrize(
    ("metadata", "topic_id", "replaced"),
    [
        (commit_metadata("id-1"), "id-1", False),
        (commit_metadata("id-1"), "id-2", True),
        (commit_metadata("id-1"), "", False),
        ("", "id-2", False),
        (None, "id-2", False),
        ("another program's note", "id-2", False),
    ],
)
def test_a_commit_belongs_to_the_topic_that_it_names(
    metadata: str | None, topic_id: str, replaced: bool
) -> None:
    if not replaced:
        raise_if_replaced(CHANGES, metadata, topic_id)
        return
    with pytest.raises(TopicReplaced, match="Reset the offset of the group"):
        raise_if_replaced(CHANGES, metadata, topic_id)


class Committed:
    """A consumer whose group committed offset 5 of the topic "id-1"; the log now ends at 9."""

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [
            TopicPartition(each.topic, each.partition, 5, commit_metadata("id-1"))
            for each in partitions
        ]

    def get_watermark_offsets(self, _partition: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, 9


def test_a_group_does_not_continue_in_a_topic_that_was_made_anew() -> None:
    consumer: Any = Committed()
    wanted = [TopicPartition(CHANGES, 0)]
    assert starting_offsets(consumer, wanted, {CHANGES: "id-1"})[0].offset == 5
    with pytest.raises(TopicReplaced):
        starting_offsets(consumer, wanted, {CHANGES: "id-2"})
