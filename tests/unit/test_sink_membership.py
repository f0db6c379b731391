"""The sink's fence: when it may still believe that it has the partition."""

import pytest

from connectors.salesforce.errors import NoLongerOurs
from streams.sink import Membership


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_polls_has_the_partition() -> None:
    clock = Clock()
    membership = Membership(10.0, clock)
    for _ in range(100):
        clock.now += 4.9
        membership.check()
        membership.polled()
        membership.check()


def test_who_has_not_polled_for_half_a_session_may_have_lost_it() -> None:
    clock = Clock()
    membership = Membership(10.0, clock)
    clock.now = 5.1
    with pytest.raises(NoLongerOurs):
        membership.check()


def test_the_first_poll_after_a_standstill_proves_nothing() -> None:
    clock = Clock()
    membership = Membership(10.0, clock)
    clock.now = 20.0
    membership.polled()
    with pytest.raises(NoLongerOurs):
        membership.check()
    clock.now = 24.0
    membership.polled()
    assert membership.in_doubt
    clock.now = 25.0
    membership.polled()
    membership.check()
