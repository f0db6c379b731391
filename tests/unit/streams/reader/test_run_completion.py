"""The sink is told how far contacts.changes is complete, once dedupe has worked on every event."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from streams.complete_runs import parse_complete_runs
from streams.kafka.records import KafkaRecord
from streams.reader.run_completion import RunCompletion
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.waiting import until

NAMES = topics(load(KafkaSettings, {}))


class Harness:
    """A dedupe that catches up when the test says so, and the offsets that are published."""

    def __init__(self) -> None:
        self.caught_up = asyncio.Semaphore(0)
        self.waits = 0
        self.changes_end = 0
        self.published: list[int | None] = []
        self.completion = RunCompletion(NAMES, self.publish, self.dedupe, self.end)

    async def dedupe(self) -> None:
        self.waits += 1
        await self.caught_up.acquire()

    async def end(self) -> int:
        return self.changes_end

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        self.published += [parse_complete_runs(one.key or b"", one.value or b"") for one in records]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.completion.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_the_end_of_the_changes_is_told_only_after_dedupe_has_caught_up() -> None:
    one = Harness()
    async with one.running():
        one.changes_end = 100
        one.completion.runs_ended()
        await until(lambda: one.waits == 1, "it waits for dedupe", 5)
        assert one.published == []
        one.changes_end = 2000  # dedupe forwards the rest meanwhile
        one.caught_up.release()
        await until(lambda: one.published == [2000], "the sink is told", 5)


async def test_a_run_that_ends_while_dedupe_is_behind_is_told_of_too() -> None:
    one = Harness()
    async with one.running():
        one.completion.runs_ended()
        await until(lambda: one.waits == 1, "it waits for dedupe", 5)
        one.completion.runs_ended()
        one.completion.runs_ended()
        one.changes_end = 10
        one.caught_up.release()
        await until(lambda: one.waits == 2, "once for both", 5)
        one.changes_end = 30
        one.caught_up.release()
        await until(lambda: one.published == [10, 30], "both ends are told", 5)


async def test_nothing_is_told_while_no_run_has_ended() -> None:
    one = Harness()
    one.caught_up.release()
    async with one.running():
        await asyncio.sleep(0)
        assert (one.waits, one.published) == (0, [])
