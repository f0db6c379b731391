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
    unfinished.begin("a", 5_000)
    assert unfinished.oldest_seconds() == 5
    unfinished.end("a")
    assert unfinished.oldest_seconds() == NOW


def test_an_unknown_time_counts_for_nothing() -> None:
    unfinished = times()
    unfinished.begin("a", 0)
    assert unfinished.oldest_seconds() == NOW
    unfinished.end("a")
    unfinished.begin("b", 7_000)
    assert unfinished.oldest_seconds() == 7


@given(received=st.lists(st.integers(1, 20), min_size=1), data=st.data())
def test_it_is_the_oldest_of_those_that_have_not_ended(
    received: list[int], data: st.DataObject
) -> None:
    unfinished = times()
    for piece, received_ms in enumerate(received):
        unfinished.begin(piece, received_ms)
    left = dict(enumerate(received))
    for piece in data.draw(st.permutations(range(len(received)))):
        assert unfinished.oldest_seconds() == min(left.values()) / 1000
        unfinished.end(piece)
        del left[piece]
    assert unfinished.oldest_seconds() == NOW
