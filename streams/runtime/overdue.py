"""Ends a process whose orderly stop takes too long."""

import asyncio
import threading

from streams.runtime.exit_codes import Die, ExitCode, die


async def end_when_overdue(
    stopping: asyncio.Event, seconds: float, consequence: str, end: Die = die
) -> None:
    """Waits for `stopping`; from then on, the process ends by `end` after so many seconds.

    `consequence` tells the operator what becomes of unfinished work. The timer is a daemon thread,
    so that it ends a process as well whose event loop or interpreter waits for another thread.
    """
    await stopping.wait()
    reason = f"the orderly stop took longer than {seconds:.0f} s; {consequence}"
    timer = threading.Timer(seconds, end, (ExitCode.STOP_OVERDUE, reason))
    timer.daemon = True
    timer.start()
