"""The oldest of what is not finished, in whatever order it ends."""

from hypothesis import given
from hypothesis import strategies as st

from streams.runtime.unfinished import UnfinishedTimes

NOW = 1_700_000_000.0


def times() -> UnfinishedTimes:
    return UnfinishedTimes(now=lambda: NOW)


def test_it_is_now_while_nothing_is_unfinished() -> None:
    unfinished = times()
    assert unfinished.oldest_seconds() == NOW
    unfinished.begin(5_000)
    assert unfinished.oldest_seconds() == 5
    unfinished.end(5_000)
    assert unfinished.oldest_seconds() == NOW


def test_an_unknown_time_counts_for_nothing() -> None:
    unfinished = times()
    unfinished.begin(0)
    assert unfinished.oldest_seconds() == NOW
    unfinished.end(0)
    unfinished.begin(7_000)
    assert unfinished.oldest_seconds() == 7


@given(received=st.lists(st.integers(1, 20), min_size=1), data=st.data())
def test_it_is_the_oldest_of_those_that_have_not_ended(
    received: list[int], data: st.DataObject
) -> None:
    unfinished = times()
    for each in received:
        unfinished.begin(each)
    left = list(received)
    for each in data.draw(st.permutations(received)):
        assert unfinished.oldest_seconds() == min(left) / 1000
        unfinished.end(each)
        left.remove(each)
    assert unfinished.oldest_seconds() == NOW
