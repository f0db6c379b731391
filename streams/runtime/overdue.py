"""Ends a process whose orderly stop takes too long."""

import asyncio
import threading

from streams.runtime.exit_codes import Die, EndFinished, ExitCode, die, end_finished


class StopDeadline:
    """Ends the process when its orderly stop takes longer than so many seconds.

    `consequence` tells the operator what becomes of unfinished work. Once the work is done, the
    process keeps its exit status, also when the interpreter does not end in time: it may wait for
    a thread, or for a processor.
    """

    def __init__(
        self,
        seconds: float,
        consequence: str,
        die: Die = die,
        end_finished: EndFinished = end_finished,
    ) -> None:
        self._seconds = seconds
        self._consequence = consequence
        self._die, self._end_finished = die, end_finished
        self._timer: threading.Timer | None = None
        self._status: int | None = None

    def begin(self) -> None:
        """The stop begins. A second call does not extend the time.

        The timer is a daemon thread, so that it ends a process as well whose event loop or
        interpreter waits for another thread.
        """
        if self._timer is None:
            self._timer = threading.Timer(self._seconds, self._end)
            self._timer.daemon = True
            self._timer.start()

    async def begin_at(self, stopping: asyncio.Event) -> None:
        """Waits for `stopping`; the stop begins then."""
        await stopping.wait()
        self.begin()

    def work_done(self, status: int) -> None:
        """Nothing is unfinished: the process ends with this exit status, however long it takes."""
        self._status = status

    def _end(self) -> None:
        if self._status is not None:
            self._end_finished(self._status)
        self._die(
            ExitCode.STOP_OVERDUE,
            f"the orderly stop took longer than {self._seconds:.0f} s; {self._consequence}",
        )
