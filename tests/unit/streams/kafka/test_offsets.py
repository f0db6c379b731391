"""Where a group continues; and the offset to commit never passes an unfinished record."""

import time
from dataclasses import dataclass, field
from typing import cast

import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.clients import METADATA_SECONDS
from streams.kafka.offsets import (
    LOG_END_CHECK_SECONDS,
    LOG_END_CHECKS,
    OffsetTracker,
    starting_offsets,
)
from streams.kafka.polling import OffsetOutOfRange, TopicReplaced
from streams.kafka.topic_watch import commit_metadata


@given(
    offsets=st.lists(st.integers(0, 10_000), unique=True, min_size=1).map(sorted),
    data=st.data(),
)
def test_the_commit_is_the_oldest_unfinished_record_in_whatever_order_they_finish(
    offsets: list[int], data: st.DataObject
) -> None:
    tracker = OffsetTracker()
    for offset in offsets:
        tracker.take(offset)
    unfinished = set(offsets)
    committed = -1
    for offset in data.draw(st.permutations(offsets)):
        tracker.finish(offset)
        unfinished.discard(offset)
        now = tracker.committable()
        assert now == (min(unfinished) if unfinished else offsets[-1] + 1)
        assert now is not None
        assert now >= committed
        committed = now


def test_nothing_is_committed_before_the_first_record() -> None:
    assert OffsetTracker().committable() is None


def test_a_record_before_the_last_one_taken_is_refused() -> None:
    tracker = OffsetTracker()
    tracker.take(7)
    with pytest.raises(ValueError, match="offset 5 was taken after 7"):
        tracker.take(5)


def test_holes_of_a_compacted_topic_do_not_delay_the_commit() -> None:
    tracker = OffsetTracker()
    for offset in (3, 9, 40):
        tracker.take(offset)
        tracker.finish(offset)
    assert tracker.committable() == 41
    assert len(tracker) == 3, "the next process would have to repeat them"
    tracker.committed(41)
    assert len(tracker) == 0


def test_what_was_committed_needs_no_repetition_and_the_rest_does() -> None:
    tracker = OffsetTracker()
    for offset in (3, 4, 7, 9):
        tracker.take(offset)
    assert (len(tracker), tracker.position) == (4, 10)
    for offset in (3, 4, 9):
        tracker.finish(offset)
    assert tracker.committable() == 7
    assert len(tracker) == 4
    tracker.committed(4)
    assert len(tracker) == 3, "4 itself is not committed yet"
    tracker.committed(7)
    assert len(tracker) == 2
    tracker.finish(7)
    assert tracker.committable() == 10
    tracker.committed(10)
    assert len(tracker) == 0


def test_nothing_was_taken_at_first_and_offset_0_is_the_lowest() -> None:
    tracker = OffsetTracker()
    assert (len(tracker), tracker.position) == (0, -1)
    tracker.take(0)
    assert (tracker.committable(), tracker.position) == (0, 1)
    with pytest.raises(ValueError, match="offset 0 was taken after 0"):
        tracker.take(0)
    tracker.finish(0)
    assert tracker.committable() == 1


@dataclass
class Log:
    """The commits of a group, and the first and last offset of each partition.

    `ends` has one entry for each request, and its last one is returned from then on.
    """

    commits: list[TopicPartition]
    start: int = 0
    ends: list[int] = field(default_factory=lambda: [100])

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert [each.partition for each in asked] == [each.partition for each in self.commits]
        assert timeout == METADATA_SECONDS
        return self.commits

    def get_watermark_offsets(self, asked: TopicPartition, timeout: float) -> tuple[int, int]:
        assert asked in self.commits
        assert timeout == METADATA_SECONDS
        return self.start, self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def continues(
    *commits: int, start: int = 0, ends: list[int] | None = None, metadata: str | None = None
) -> list[int]:
    made = [
        TopicPartition("t", number, offset, metadata)
        if metadata
        else TopicPartition("t", number, offset)
        for number, offset in enumerate(commits)
    ]
    asked = [TopicPartition("t", number) for number in range(len(commits))]
    log = cast(Consumer, Log(made, start, ends or [100]))
    found = starting_offsets(log, asked, {"t": "ID-now"})
    assert [(each.topic, each.partition) for each in found] == [
        (each.topic, each.partition) for each in asked
    ]
    return [each.offset for each in found]


def test_a_group_continues_at_its_commits_or_at_the_start_of_the_log(slept: list[float]) -> None:
    never = -1001  # what Kafka's client answers without a commit
    assert continues(7, never, 0, 100) == [7, 0, 0, 100]
    assert continues(40, never, 41, start=40) == [40, 40, 41]
    assert continues(7, metadata=commit_metadata("ID-now")) == [7]
    assert slept == []


def test_a_commit_beyond_the_end_is_believed_when_the_end_comes_up_to_it(
    slept: list[float],
) -> None:
    assert continues(110, ends=[100] * (LOG_END_CHECKS - 1) + [110]) == [110]
    assert slept == [LOG_END_CHECK_SECONDS] * (LOG_END_CHECKS - 1)


def test_a_commit_beyond_the_end_of_the_log_is_refused_with_what_to_do(slept: list[float]) -> None:
    with pytest.raises(OffsetOutOfRange) as refused:
        continues(5, 101, start=3)
    assert str(refused.value) == (
        "t[1]: the committed offset 101 is beyond the end of the log, 100: the log lost its end, "
        "or the topic was deleted and created again. Run `contactstream reconcile --all`, then "
        "reset the offset of the group to 3"
    )
    assert slept == [LOG_END_CHECK_SECONDS] * LOG_END_CHECKS


@pytest.mark.parametrize("commit", [0, 2])
def test_a_commit_below_the_start_of_the_log_is_refused_with_what_to_do(
    commit: int, slept: list[float]
) -> None:
    with pytest.raises(OffsetOutOfRange) as refused:
        continues(commit, start=3)
    assert str(refused.value) == (
        f"t[0]: the committed offset {commit} is below the start of the log, 3: records expired "
        "unread. Run `contactstream reconcile --all`, then reset the offset of the group to 3"
    )
    assert slept == []


def test_a_commit_to_an_older_topic_of_the_same_name_is_refused() -> None:
    with pytest.raises(TopicReplaced, match="the topic t was deleted and created again"):
        continues(7, metadata=commit_metadata("ID-before"))


def test_nothing_is_unfinished_when_everything_is_committed() -> None:
    tracker = OffsetTracker()
    for offset in range(3):
        tracker.take(offset)
        tracker.finish(offset)
        assert tracker.committable() == offset + 1
        assert tracker.unfinished == 0
