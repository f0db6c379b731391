"""The watchdog ends a process that was paused too long, or that does not stop in time."""

import pytest

from streams.runtime.exit_codes import ExitCode
from streams.runtime.watchdog import Watchdog
from tests.support.death import Clock, Died, die


def test_a_process_that_was_paused_too_long_ends_at_the_next_tick_and_before_the_next_record() -> (
    None
):
    clock = Clock()
    watchdog = Watchdog(5.0, die, clock)
    for _ in range(100):
        clock.now += 4.9
        watchdog.tick()
    clock.now += 5.1
    for next_step in (watchdog.check, watchdog.tick):
        with pytest.raises(Died) as died:
            next_step()
        assert died.value.args[0] is ExitCode.PAUSED_TOO_LONG


def test_a_stop_that_takes_too_long_is_ended() -> None:
    clock = Clock()
    watchdog = Watchdog(5.0, die, clock)
    watchdog.stop_within(3.0)
    clock.now += 2.0
    watchdog.stop_within(3.0)  # a second signal does not extend the time
    watchdog.tick()
    clock.now += 2.0
    with pytest.raises(Died) as died:
        watchdog.tick()
    assert died.value.args[0] is ExitCode.STOP_OVERDUE
