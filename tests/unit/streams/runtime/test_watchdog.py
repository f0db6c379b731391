"""The watchdog ends a process that was paused too long, or that does not stop in time."""

from typing import NoReturn

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


class Finished(BaseException):
    """The process has ended with the status of its finished work."""


def end_finished(status: int) -> NoReturn:
    raise Finished(status)


def test_a_pause_after_the_work_is_done_does_not_change_the_exit_status() -> None:
    """The end of the interpreter takes seconds where many processes share a processor."""
    clock = Clock()
    watchdog = Watchdog(5.0, die, clock, end_finished)
    watchdog.stop_within(20.0)
    watchdog.work_done(ExitCode.SECRETS_CHANGED)
    clock.now += 6.0
    watchdog.tick()
    clock.now += 20.0
    with pytest.raises(Finished) as ended:
        watchdog.tick()
    assert ended.value.args == (ExitCode.SECRETS_CHANGED,)


def test_a_pause_during_an_orderly_stop_ends_it() -> None:
    """The partitions may have a new owner, so that nothing more may be published or committed."""
    clock = Clock()
    watchdog = Watchdog(5.0, die, clock, end_finished)
    watchdog.stop_within(20.0)
    clock.now += 5.1
    with pytest.raises(Died) as died:
        watchdog.tick()
    assert died.value.args[0] is ExitCode.PAUSED_TOO_LONG
