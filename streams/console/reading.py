"""Answers of Kafka and Salesforce for pages: read in a thread, one at a time, kept for a while."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import click

ResultT = TypeVar("ResultT")

# A page that takes longer says so instead; what was begun goes on and is there for the next one.
PAGE_SECONDS = 20.0


class NotReadable(RuntimeError):
    """What a page shows cannot be read now. The text says why, and what to do."""


class Reading(Generic[ResultT]):
    """What a function that blocks returns, at most `keep_seconds` old.

    Several requests at once wait for one call. `read` may raise click.ClickException, as the
    functions of the commands do.
    """

    def __init__(
        self,
        read: Callable[[], ResultT],
        keep_seconds: float,
        within: float = PAGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._keep, self._within, self._clock = read, keep_seconds, within, clock
        self._task: asyncio.Task[ResultT] | None = None
        self._read_at = float("-inf")

    async def get(self) -> ResultT:
        """The newest answer. Raises NotReadable, also when there is none within PAGE_SECONDS."""
        task = self._task
        if task is None or (task.done() and self._is_old(task)):
            task = self._task = asyncio.create_task(self._call())
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._within)
        except TimeoutError as error:
            raise NotReadable(
                f"no answer within {self._within:.0f} s; it is still being read: look again"
            ) from error
        except click.ClickException as error:
            raise NotReadable(error.format_message()) from error

    def forget(self) -> None:
        """What is known is out of date, because something was changed."""
        self._read_at = float("-inf")

    def _is_old(self, task: asyncio.Task[ResultT]) -> bool:
        failed = task.cancelled() or task.exception() is not None
        return failed or self._clock() - self._read_at > self._keep

    async def _call(self) -> ResultT:
        answer = await asyncio.to_thread(self._read)
        self._read_at = self._clock()
        return answer
