"""Batches in flight, and the people that no other batch may hold meanwhile."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from streams.sink.stopping import StopRequest


@dataclass(frozen=True, slots=True)
class TaskLoad:
    """What a task holds until it ends."""

    claims: frozenset[str] = frozenset()
    """What no other batch may claim meanwhile."""
    rows: int = 0
    bytes: int = 0
    """What its rows take in memory."""


class RunningTasks:
    """The tasks that work on batches or on single dead letters.

    Claims are held until their task has ended, also when the partition is gone by then: requests
    of its batch may still take effect in the org, and the partition may come back to this process.
    A task that fails with an exception stops the sink.
    """

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._loads: dict[asyncio.Task[None], TaskLoad] = {}
        self.claimed: set[str] = set()
        """What the batches in flight claim. No further batch may claim any of it."""
        self.rows = 0
        """The rows of all tasks, also those of a partition that is gone."""
        self.bytes = 0
        """What these rows take in memory."""

    def __len__(self) -> int:
        return len(self._loads)

    def start(self, work: Coroutine[Any, Any, None], load: TaskLoad) -> None:
        """Starts a task that holds `load` until it ends."""
        self.claimed |= load.claims
        self.rows += load.rows
        self.bytes += load.bytes
        task = asyncio.get_running_loop().create_task(work)
        self._loads[task] = load
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        load = self._loads.pop(task)
        self.claimed -= load.claims
        self.rows -= load.rows
        self.bytes -= load.bytes
        self._stop.request_if_failed(task)

    async def wait(self, seconds: float) -> None:
        """Returns once all tasks have ended, or after so many seconds."""
        if self._loads:
            await asyncio.wait(self._loads, timeout=seconds)

    def cancel(self) -> None:
        """Cancels the tasks that have not ended."""
        for task in self._loads:
            task.cancel()
