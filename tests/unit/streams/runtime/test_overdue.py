"""A stop that takes too long ends the process, and only such a stop."""

import asyncio
import threading
from typing import Any, cast

import pytest

from streams.runtime.exit_codes import Die, ExitCode
from streams.runtime.overdue import end_when_overdue


async def test_the_timer_starts_with_the_stop_and_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timers: list[Any] = []

    class Timer(threading.Timer):
        def start(self) -> None:
            timers.append(self)

    monkeypatch.setattr(threading, "Timer", Timer)
    ended: list[tuple[ExitCode, str]] = []
    end = cast(Die, lambda code, reason: ended.append((code, reason)))
    stopping = asyncio.Event()
    waiting = asyncio.create_task(end_when_overdue(stopping, 28.0, "work is repeated", end))
    await asyncio.sleep(0)
    assert timers == [], "nobody asked for a stop"
    stopping.set()
    await waiting
    (timer,) = timers
    assert (timer.interval, timer.daemon) == (28.0, True)
    timer.function(*timer.args)
    assert ended == [
        (ExitCode.STOP_OVERDUE, "the orderly stop took longer than 28 s; work is repeated")
    ]
