"""Answers of Kafka and Salesforce for pages: read in a thread, one at a time, kept for a while."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar, cast

import click

KeyT = TypeVar("KeyT", bound=Hashable)
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

    @property
    def is_done(self) -> bool:
        """Whether nothing is being read."""
        return self._task is None or self._task.done()

    def forget(self) -> None:
        """What is known is out of date, because something was changed."""
        self._read_at = float("-inf")

    def _is_old(self, task: asyncio.Task[ResultT]) -> bool:
        failed = task.cancelled() or task.exception() is not None
        return failed or self._clock() - self._read_at > self._keep

    def known(self) -> ResultT | None:
        """The newest answer without waiting; it is asked for where it is old. None before one."""
        task = self._task
        if task is None or (task.done() and self._is_old(task)):
            self._task = asyncio.create_task(self._call())
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
        return None

    async def _call(self) -> ResultT:
        answer = await in_daemon_thread(self._read)
        self._read_at = self._clock()
        return answer


async def in_daemon_thread(work: Callable[[], ResultT]) -> ResultT:
    """The result of work that blocks and only reads.

    The thread is a daemon, so that the process can end while a broker or an org does not answer. A
    thread of an executor would be joined first, which may take minutes.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[ResultT] = loop.create_future()

    def settle(answer: ResultT | None, error: BaseException | None) -> None:
        if result.done():  # nobody waits any more
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(cast(ResultT, answer))

    def target() -> None:
        answer, failure = None, None
        try:
            answer = work()
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            failure = error
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(settle, answer, failure)

    threading.Thread(target=target, name="console reading", daemon=True).start()
    return await result


class ReadingByKey(Generic[KeyT, ResultT]):
    """The same for a function of a key: what was asked for lately is kept, and one call at a time.

    `most` bounds how many answers are kept.
    """

    def __init__(
        self,
        read: Callable[[KeyT], ResultT],
        keep_seconds: float,
        most: int,
        within: float = PAGE_SECONDS,
    ) -> None:
        self._read, self._keep, self._most, self._within = read, keep_seconds, most, within
        self._kept: OrderedDict[KeyT, Reading[ResultT]] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    async def get(self, key: KeyT) -> ResultT:
        """The answer for a key. Raises NotReadable, also while so many others are being read."""
        if key not in self._kept:
            while len(self._kept) >= self._most:
                done = next((each for each, kept in self._kept.items() if kept.is_done), None)
                if done is None:
                    raise NotReadable("too much is being read already; look again in a minute")
                del self._kept[done]
            self._kept[key] = Reading(lambda: self._alone(key), self._keep, self._within)
        self._kept.move_to_end(key)
        return await self._kept[key].get()

    def forget(self, key: KeyT) -> None:
        """What is known for a key was used, or is out of date."""
        self._kept.pop(key, None)

    def _alone(self, key: KeyT) -> ResultT:
        with self._one_at_a_time:
            return self._read(key)


async def in_thread(function: Callable[[], ResultT]) -> ResultT:
    """What a function of a command returns. Raises NotReadable instead of click.ClickException."""
    try:
        return await asyncio.to_thread(function)
    except click.ClickException as error:
        raise NotReadable(error.format_message()) from error
