"""Tells the sink when it holds everything that runs have read, so that it need not wait for more.

See `streams.complete_runs` for the record.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from streams.complete_runs import complete_runs_record
from streams.reader.context import Publish
from streams.topics import Topics

log = structlog.get_logger()


class RunCompletion:
    """Writes how far contacts.changes is complete, each time that the last run at work has ended.

    While runs overlap, the sink gathers the changes of all of them, as it does without a word.
    """

    def __init__(
        self,
        topics: Topics,
        publish: Publish,
        dedupe_caught_up: Callable[[], Awaitable[None]],
        changes_end: Callable[[], Awaitable[int]],
    ) -> None:
        """`dedupe_caught_up` returns when dedupe has worked on all that is in contacts.events now.

        `changes_end` returns the end of contacts.changes.
        """
        self._topics, self._publish = topics, publish
        self._dedupe_caught_up, self._changes_end = dedupe_caught_up, changes_end
        self._ended = asyncio.Event()

    def runs_ended(self) -> None:
        """No run publishes now, and the broker has acknowledged all that they published."""
        self._ended.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            await self._ended.wait()
            self._ended.clear()
            await self._dedupe_caught_up()
            end = await self._changes_end()
            await self._publish([complete_runs_record(self._topics, end)])
            log.info("runs complete", changes_end=end)
