"""A log that lost its end, or records before they were read, is noticed; an election is not."""

from hypothesis import given
from hypothesis import strategies as st

from streams.dedupe.log_loss import LOSS_CONFIRM_SECONDS, Loss, LossWatch, ReadPosition, losses
from tests.support.death import Clock

offsets = st.integers(0, 20)


@given(due=offsets, idle=st.booleans(), start=offsets, length=offsets)
def test_a_position_inside_of_the_log_is_no_loss(
    due: int, idle: bool, start: int, length: int
) -> None:
    end = start + length
    found = losses({0: ReadPosition(due, idle)}, {0: start}, {0: end})
    inside = start <= due <= end
    assert bool(found) == (not inside and (idle or due > end))


def test_a_busy_worker_may_hold_expired_records_in_memory() -> None:
    assert losses({0: ReadPosition(5, idle=False)}, {0: 7}, {0: 9}) == []
    assert losses({0: ReadPosition(5, idle=True)}, {0: 7}, {0: 9}) == [Loss(0, 5, 7, 9)]


def test_a_loss_is_certain_once_it_was_reported_twice_ten_seconds_apart() -> None:
    clock = Clock()
    watch = LossWatch(clock)
    assert watch.confirmed([Loss(0, 10, 0, 7)]) is None
    clock.now += LOSS_CONFIRM_SECONDS - 1
    assert watch.confirmed([Loss(0, 10, 0, 8)]) is None
    clock.now += 1
    assert watch.confirmed([Loss(0, 10, 0, 9)]) == Loss(0, 10, 0, 9)


def test_an_end_that_lagged_behind_after_an_election_is_no_loss() -> None:
    clock = Clock()
    watch = LossWatch(clock)
    assert watch.confirmed([Loss(0, 10, 0, 7)]) is None
    clock.now += LOSS_CONFIRM_SECONDS
    assert watch.confirmed([]) is None, "the new leader has caught up"
    assert watch.confirmed([Loss(0, 10, 0, 7)]) is None
    assert watch.confirmed([Loss(0, 12, 0, 11)]) is None, "another position"
