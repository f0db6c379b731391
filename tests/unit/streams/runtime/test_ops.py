"""A process is alive while its stage makes progress and none of its work is overdue."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.runtime.ops import Health, WorkInFlight
from tests.support.death import Clock

LONGEST = 30.0


def test_work_that_does_not_end_makes_liveness_fail_although_the_stage_beats() -> None:
    clock = Clock()
    health, work = Health(60.0, clock), WorkInFlight("acknowledgements", LONGEST, clock)
    health.watch(work)
    with work:
        clock.now += LONGEST - 1
        health.beat()
        assert health.alive
        clock.now += 2
        health.beat()
        assert not health.alive
        assert health.stalled_by == "nothing of this ended for 31 s: acknowledgements"
    assert health.alive


def test_a_stage_without_a_beat_says_that_it_makes_no_progress() -> None:
    clock = Clock()
    health = Health(60.0, clock)
    clock.now += 61
    assert not health.alive
    assert health.stalled_by == "the stage makes no progress"


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "end", "wait"]), st.floats(0, 2 * LONGEST)), max_size=30
    )
)
def test_work_is_overdue_only_if_some_is_in_flight_and_none_ended_in_time(
    steps: list[tuple[str, float]],
) -> None:
    clock = Clock()
    work = WorkInFlight("work", LONGEST, clock)
    open_count, since = 0, clock.now
    for step, seconds in steps:
        if step == "begin":
            since = clock.now if open_count == 0 else since
            open_count += 1
            work.begin()
        elif step == "end" and open_count:
            open_count -= 1
            since = clock.now
            work.end()
        elif step == "wait":
            clock.now += seconds
        assert work.overdue == (open_count > 0 and clock.now - since > LONGEST)


def test_work_that_fails_has_ended_too() -> None:
    clock = Clock()
    work = WorkInFlight("work", LONGEST, clock)
    with pytest.raises(ZeroDivisionError), work:
        raise ZeroDivisionError
    clock.now += LONGEST + 1
    assert not work.overdue
