"""The offset to commit never passes an unfinished record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.offsets import OffsetTracker


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
