"""A dedupe worker publishes nothing once its partitions may belong to another worker."""

import pytest

from streams.dedupe.fence import HeartbeatFence
from streams.runtime.exit_codes import ExitCode
from streams.runtime.watchdog import Watchdog
from tests.support.death import Clock, Died, die


def test_a_worker_without_a_heartbeat_for_half_its_session_publishes_nothing_more() -> None:
    clock = Clock()
    heard = clock.now
    watchdog = Watchdog(5.0, die, clock)
    fence = HeartbeatFence(lambda: clock.now - heard, 10.0, watchdog, die, clock)
    for _ in range(9):
        fence.check()
        clock.now += 1.0
        watchdog.tick()
        heard = max(heard, clock.now - 4.0)
    clock.now = heard + 4.9
    fence.check()
    clock.now = heard + 5.1
    watchdog.tick()
    with pytest.raises(Died) as died:
        fence.check()
    assert died.value.args[0] is ExitCode.NO_HEARTBEAT


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
