"""Holds back the calls to Nylas, and replays, while a person has paused reading."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from streams.control import ControlTable, PausedPart, open_breakers
from streams.runtime.current_work import waiting_on_purpose

log = structlog.get_logger()

# Between two looks at the control topic's table: well within RELEASE_OBEYED_SECONDS.
LOOK_SECONDS = 1.0


class ReadingPause:
    """What contactstream.control stops in the reader. `clock` in epoch seconds."""

    def __init__(
        self,
        control: ControlTable,
        on_wait: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`on_wait` is called with the reason for each caller that has to wait."""
        self._control, self._on_wait = control, on_wait
        self._clock, self._sleep = clock, sleep

    def ends_seconds(self) -> float:
        """When the pause ends, in epoch seconds; 0 without a pause."""
        pause = self._control.pause_of(PausedPart.READING, int(self._clock() * 1000))
        return 0.0 if pause is None else pause.until_ms / 1000

    def stops_bulk(self) -> str:
        """Why nothing may be published in bulk, `paused` or `breaker`; empty if it may."""
        if self.ends_seconds():
            return "paused"
        return "breaker" if open_breakers(self._control.breakers.values()) else ""

    async def wait(self) -> None:
        """Returns when Nylas may be called. The wait lasts as long as the pause."""
        if not self.ends_seconds():
            return
        self._on_wait("paused")
        with waiting_on_purpose():
            while self.ends_seconds():
                await self._sleep(LOOK_SECONDS)
