"""A stop that takes too long ends the process, and only such a stop."""

import asyncio
import threading
from typing import Any, cast

import pytest

from streams.runtime.exit_codes import Die, EndFinished, ExitCode
from streams.runtime.overdue import StopDeadline


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The timers that were started; a test lets them end."""
    started: list[Any] = []

    class Timer(threading.Timer):
        def start(self) -> None:
            started.append(self)

    monkeypatch.setattr(threading, "Timer", Timer)
    return started


async def test_the_timer_starts_with_the_stop_and_ends_the_process(timers: list[Any]) -> None:
    ended: list[tuple[ExitCode, str]] = []
    die = cast(Die, lambda code, reason: ended.append((code, reason)))
    deadline = StopDeadline(28.0, "work is repeated", die)
    stopping = asyncio.Event()
    waiting = asyncio.create_task(deadline.begin_at(stopping))
    await asyncio.sleep(0)
    assert timers == [], "nobody asked for a stop"
    stopping.set()
    await waiting
    deadline.begin()  # a second reason to stop does not extend the time
    (timer,) = timers
    assert (timer.interval, timer.daemon) == (28.0, True)
    timer.function()
    assert ended == [
        (ExitCode.STOP_OVERDUE, "the orderly stop took longer than 28 s; work is repeated")
    ]


@pytest.mark.parametrize("status", [0, ExitCode.SECRETS_CHANGED])
def test_an_interpreter_that_does_not_end_does_not_change_the_status_of_finished_work(
    timers: list[Any], status: int
) -> None:
    class Ended(BaseException):
        """What `os._exit` is to a process."""

    def end_finished(status: int) -> None:
        raise Ended(status)

    died: list[ExitCode] = []
    die = cast(Die, lambda code, reason: died.append(code))
    deadline = StopDeadline(28.0, "work is repeated", die, cast(EndFinished, end_finished))
    deadline.begin()
    deadline.work_done(status)
    (timer,) = timers
    with pytest.raises(Ended) as ended:
        timer.function()
    assert ended.value.args == (status,)
    assert died == []
