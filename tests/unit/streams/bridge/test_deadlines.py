"""Waits for many futures with the same time limit are ended in time, and no sooner."""

import asyncio

import pytest

from streams.bridge.deadlines import Deadlines

# Far more than anything here takes.
LATER = 60.0


def future() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


def from_now(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_future_that_is_not_done_in_time_is_cancelled_and_its_wait_times_out() -> None:
    deadlines, late = Deadlines(), future()
    with pytest.raises(TimeoutError):
        await deadlines.wait(late, from_now(0.01))
    assert late.cancelled()


async def test_waits_end_each_at_its_own_time() -> None:
    deadlines, done = Deadlines(), future()
    early = asyncio.create_task(deadlines.wait(future(), from_now(0.01)))
    late = asyncio.create_task(deadlines.wait(future(), from_now(0.1)))
    answered = asyncio.create_task(deadlines.wait(done, from_now(0.1)))
    with pytest.raises(TimeoutError):
        await early
    assert not late.done()
    done.set_result(None)
    await answered
    with pytest.raises(TimeoutError):
        await late


async def test_a_failure_of_the_future_is_raised_as_it_is() -> None:
    deadlines, failed = Deadlines(), future()
    failed.set_exception(ValueError("refused"))
    with pytest.raises(ValueError, match="refused"):
        await deadlines.wait(failed, from_now(LATER))


async def test_a_cancelled_wait_is_no_time_out() -> None:
    deadlines = Deadlines()
    wait = asyncio.create_task(deadlines.wait(future(), from_now(LATER)))
    await asyncio.sleep(0)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
