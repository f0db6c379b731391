"""The sink's fence: when it may still believe that it has the partition."""

import asyncio

import pytest

from connectors.salesforce.api.errors import WriterFenced
from streams.sink.fence import WriteFence


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_polls_has_the_partition() -> None:
    clock = Clock()
    membership = WriteFence(10.0, clock)
    for _ in range(100):
        clock.now += 4.9
        membership.check()
        membership.polled()
        membership.check()


def test_who_has_not_polled_for_half_a_session_may_have_lost_it() -> None:
    clock = Clock()
    membership = WriteFence(10.0, clock)
    clock.now = 5.1
    with pytest.raises(WriterFenced):
        membership.check()


def test_the_first_poll_after_a_standstill_proves_nothing() -> None:
    clock = Clock()
    membership = WriteFence(10.0, clock)
    clock.now = 20.0
    membership.polled()
    with pytest.raises(WriterFenced):
        membership.check()
    clock.now = 24.0
    membership.polled()
    assert membership.in_doubt
    clock.now = 25.0
    membership.polled()
    membership.check()


async def test_a_batch_ends_with_the_term_in_which_it_was_taken_and_so_does_every_task_of_it() -> (
    None
):
    membership = WriteFence(10.0, Clock())
    batch = membership.begin(membership.term)

    async def sends() -> None:
        membership.check()

    await asyncio.gather(sends(), sends())
    assert batch.sent == 2
    membership.end_term()
    with pytest.raises(WriterFenced):
        await asyncio.gather(sends())
    assert batch.sent == 2
    membership.begin(membership.term)
    membership.check()


async def test_a_standstill_ends_the_term_even_if_nobody_takes_the_partition() -> None:
    clock = Clock()
    membership = WriteFence(10.0, clock)
    membership.begin(membership.term)
    clock.now = 20.0
    for _ in range(3):
        membership.polled()
        clock.now += 4.0
    assert not membership.in_doubt
    with pytest.raises(WriterFenced, match="since the batch was taken"):
        membership.check()
