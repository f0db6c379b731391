"""Batches in flight, and the people that no other batch may hold meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from streams.sink.stopping import StopRequest


class RunningTasks:
    """The tasks that work on batches or on single dead letters.

    Claims are held until their task has ended, also when the partition is gone by then: requests
    of its batch may still take effect in the org, and the partition may come back to this process.
    A task that fails with an exception stops the sink.
    """

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._claims: dict[asyncio.Task[None], set[str]] = {}
        self.claimed: set[str] = set()
        """What the batches in flight claim. No further batch may claim any of it."""

    def __len__(self) -> int:
        return len(self._claims)

    def start(self, work: Coroutine[Any, Any, None], claims: set[str]) -> None:
        """Starts a task that holds `claims` until it ends."""
        self.claimed |= claims
        task = asyncio.get_running_loop().create_task(work)
        self._claims[task] = claims
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.claimed -= self._claims.pop(task)
        self._stop.request_if_failed(task)

    async def wait(self, seconds: float) -> None:
        """Returns once all tasks have ended, or after so many seconds."""
        if self._claims:
            await asyncio.wait(self._claims, timeout=seconds)

    def cancel(self) -> None:
        """Cancels the tasks that have not ended."""
        for task in self._claims:
            task.cancel()
