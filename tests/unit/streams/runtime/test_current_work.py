"""A piece of work that waits on purpose is not in flight."""

import asyncio

import pytest

from streams.runtime.current_work import doing, step_current_work, waiting_on_purpose
from streams.runtime.ops import WorkInFlight
from tests.support.death import Clock

LONGEST = 10.0


def test_a_wait_on_purpose_does_not_count_and_what_follows_it_does() -> None:
    clock = Clock()
    work = WorkInFlight("pieces", LONGEST, clock)
    with doing(work):
        clock.now += LONGEST
        with waiting_on_purpose(), waiting_on_purpose():
            clock.now += 2 * LONGEST
            step_current_work()
            assert not work.overdue
        clock.now += LONGEST
        assert not work.overdue
        clock.now += 1.0
        assert work.overdue
        step_current_work()
        assert not work.overdue
    clock.now += 2 * LONGEST
    assert not work.overdue, "nothing is in flight"


def test_a_piece_that_fails_while_it_waits_is_not_in_flight_any_more() -> None:
    clock = Clock()
    work = WorkInFlight("pieces", LONGEST, clock)
    with pytest.raises(OSError, match="gone"), doing(work), waiting_on_purpose():
        raise OSError("gone")
    clock.now += 2 * LONGEST
    assert not work.overdue


async def test_pieces_of_several_tasks_wait_apart() -> None:
    clock = Clock()
    hanging, waiting = WorkInFlight("a", LONGEST, clock), WorkInFlight("b", LONGEST, clock)
    never = asyncio.Event()

    async def hang() -> None:
        with doing(hanging):
            await never.wait()

    async def wait() -> None:
        with doing(waiting), waiting_on_purpose():
            await never.wait()

    tasks = [asyncio.create_task(hang()), asyncio.create_task(wait())]
    await asyncio.sleep(0)
    clock.now += LONGEST + 1
    assert hanging.overdue
    assert not waiting.overdue
    never.set()
    await asyncio.gather(*tasks)


def test_without_a_piece_of_work_a_wait_is_only_a_wait() -> None:
    with waiting_on_purpose():
        step_current_work()
