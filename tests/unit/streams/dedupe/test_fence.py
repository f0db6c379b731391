"""A dedupe worker publishes nothing once its partitions may belong to another worker."""

import math
from dataclasses import dataclass

import pytest

from streams.dedupe.fence import ELECTION_SECONDS, LOST, HeartbeatFence
from streams.runtime.exit_codes import ExitCode
from streams.runtime.watchdog import Watchdog
from tests.support.death import Clock, Died, die

HALF = 5.0  # of a session


@dataclass
class Coordinator:
    """Receives a heartbeat every second, but for `silent_for` seconds from the first wait on."""

    clock: Clock
    silent_for: float
    knows_member: bool = True
    waited: float = 0.0

    def __post_init__(self) -> None:
        self.heard = self.clock.now
        self.watchdog = Watchdog(HALF, die, self.clock)

    def unheard(self) -> float:
        return self.clock.now - self.heard if self.knows_member else LOST

    def sleep(self, seconds: float) -> None:
        self.clock.now += seconds
        self.waited += seconds
        self.watchdog.tick()
        if self.waited >= self.silent_for:
            self.heard = self.clock.now

    def fence(self) -> HeartbeatFence:
        return HeartbeatFence(self.unheard, 2 * HALF, self.watchdog, die, self.clock, self.sleep)


def unheard_for_half_a_session(silent_for: float, *, knows_member: bool = True) -> Coordinator:
    one = Coordinator(Clock(), silent_for, knows_member)
    one.clock.now += HALF + 0.1
    one.watchdog = Watchdog(HALF, die, one.clock)
    return one


@pytest.mark.parametrize("step", ["check", "wait"])
def test_a_worker_publishes_nothing_until_a_coordinator_that_was_elected_answers(
    step: str,
) -> None:
    coordinator = unheard_for_half_a_session(silent_for=15.0)
    getattr(coordinator.fence(), step)()
    assert coordinator.waited == pytest.approx(15.0, abs=0.1)


@pytest.mark.parametrize("step", ["check", "wait"])
def test_a_worker_whose_coordinator_stays_away_ends_itself(step: str) -> None:
    coordinator = unheard_for_half_a_session(silent_for=math.inf)
    with pytest.raises(Died, match="has not answered for 35") as died:
        getattr(coordinator.fence(), step)()
    assert died.value.args[0] is ExitCode.NO_HEARTBEAT
    assert coordinator.waited == pytest.approx(ELECTION_SECONDS, abs=0.1)


@pytest.mark.parametrize("step", ["check", "wait"])
def test_a_worker_that_the_group_gave_up_ends_itself_at_once(step: str) -> None:
    coordinator = unheard_for_half_a_session(silent_for=math.inf, knows_member=False)
    with pytest.raises(Died, match="does not count this worker as a member") as died:
        getattr(coordinator.fence(), step)()
    assert died.value.args[0] is ExitCode.NO_HEARTBEAT
    assert coordinator.waited == 0.0


def test_a_check_costs_no_wait_while_heartbeats_are_answered() -> None:
    coordinator = Coordinator(Clock(), silent_for=0.0)
    fence = coordinator.fence()
    for _ in range(20):
        fence.check()
        coordinator.clock.now += 1.0
        coordinator.watchdog.tick()
        coordinator.heard = max(coordinator.heard, coordinator.clock.now - HALF + 1.0)
    assert coordinator.waited == 0.0


def test_a_worker_that_was_paused_too_long_publishes_nothing_more_whatever_its_last_heartbeat() -> (
    None
):
    clock = Clock()
    fence = HeartbeatFence(lambda: 0.0, 10.0, Watchdog(5.0, die, clock), die, clock)
    fence.check()
    clock.now += 5.1
    with pytest.raises(Died) as died:
        fence.check()
    assert died.value.args[0] is ExitCode.PAUSED_TOO_LONG
