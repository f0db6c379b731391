"""Carries out a replay: publishes records of a topic to contacts.events again, page by page."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import partial

import orjson

from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.reader.context import ReaderContext
from streams.reader.records import contact_hash
from streams.reader.replay_page import (
    ReplayPage,
    SelectedContacts,
    TooManyContacts,
    next_page,
)
from streams.reader.retries import until_snapshot_read
from streams.reader.run_writer import RunWriter
from streams.runs import (
    FINAL,
    Progress,
    Replay,
    ReplaySource,
    ReplayTarget,
    Run,
    RunLog,
    RunState,
    finished,
    partition_name,
)
from streams.selection import Selection

# A hash of each: 140 MB, of a container of 1 GB.
MAX_SELECTED_CONTACTS = 2_000_000


class Replayer:
    """Publishes what a replay selects, one partition after the other.

    Dedupe decides about each event as about any other, so that older data never passes. Live
    changes go first: every page waits until dedupe and the sink have caught up.
    """

    def __init__(
        self,
        context: ReaderContext,
        snapshots: Snapshots,
        runs: RunWriter,
        run_log: RunLog,
        deployment: Callable[[ReplayTarget], AbstractAsyncContextManager[ReaderContext]],
    ) -> None:
        """`deployment` opens another deployment: its topics, and a gate for what it can take."""
        self._context, self._snapshots = context, snapshots
        self._runs, self._log = runs, run_log
        self._deployment = deployment

    async def execute(self, run_id: str, run: Run) -> Run:
        """Carries out a replay to its end; returns the run in its final state.

        It goes on where its progress in reader.runs ends, and so repeats at most one page.
        """
        if run.replay is None:
            return _failed(run, "names no topic")
        await self._runs.write(run_id, replace(run, state=RunState.RUNNING))
        known = self._log.progress(run_id)
        try:
            selected = await until_snapshot_read(
                partial(self._selected_contacts, run.replay.selection)
            )
        except TooManyContacts as error:
            return _failed(run, str(error))
        target = run.replay.target
        here = nullcontext(self._context)
        progress: dict[str, Progress] = {}
        async with here if target is None else self._deployment(target) as context:
            for partition in range(len(run.replay.ends)):
                name = partition_name(partition)
                progress[name] = known.get(name) or _begin(run.replay, partition)
                if progress[name].state not in FINAL:
                    progress[name] = await self._replay_partition(
                        run_id, run.replay, partition, selected, progress[name], context
                    )
        return finished(run, progress, time.time())

    async def _selected_contacts(self, selection: Selection) -> SelectedContacts:
        if not selection.needs_outcomes:
            return SelectedContacts()
        topic = self._context.topics.outcomes.name
        return await self._snapshots.read(topic, partial(contacts_of_outcomes, selection))

    async def _replay_partition(
        self,
        run_id: str,
        run: Replay,
        partition: int,
        selected: SelectedContacts,
        progress: Progress,
        context: ReaderContext,
    ) -> Progress:
        """Publishes a partition page by page; `context` is of the deployment to publish to."""
        own, name = self._context.topics, partition_name(partition)
        source = own.events if run.source is ReplaySource.EVENTS else own.changes
        progress = replace(progress, state=RunState.RUNNING)
        end = run.ends[partition]
        began, published = time.monotonic(), 0
        while progress.state is RunState.RUNNING:
            start = int(progress.cursor or 0)

            def read(records: Iterator[KafkaRecord], start: int = start) -> ReplayPage:
                return next_page(context.topics, run_id, run, selected, records, start, end)

            page = ReplayPage(next_offset=end, done=True)
            if start < end:
                page = await until_snapshot_read(
                    partial(self._snapshots.read, source.name, read, start, partition)
                )
            if page.records:
                await context.gate.wait(len(page.records))
                await context.publish(page.records)
            published += len(page.records)
            progress = replace(
                progress,
                state=RunState.DONE if page.done else RunState.RUNNING,
                cursor=str(page.next_offset),
                pages=progress.pages + 1,
                contacts=progress.contacts + len(page.records),
                updated_at=int(time.time()),
            )
            await self._runs.write_progress(run_id, {name: progress})
            if run.rate is not None:
                await asyncio.sleep(max(0.0, began + published / run.rate - time.monotonic()))
        return progress


def _failed(run: Run, error: str) -> Run:
    return replace(run, state=RunState.FAILED, error=error, finished_at=int(time.time()))


def _begin(run: Replay, partition: int) -> Progress:
    """The progress of a partition before its first page."""
    now = int(time.time())
    start = run.starts[partition] if run.starts else 0
    expected = run.expected[partition] if run.expected else None
    return Progress(
        RunState.WAITING, cursor=str(start), expected=expected, started_at=now, updated_at=now
    )


def contacts_of_outcomes(selection: Selection, records: Iterator[KafkaRecord]) -> SelectedContacts:
    """The contacts whose last outcome is selected. `records` is contacts.outcomes from its start.

    An unreadable outcome counts as none. Raises TooManyContacts.
    """
    hashes: set[int] = set()
    for record in records:
        key = (record.key or b"").decode(errors="replace")
        try:
            value = orjson.loads(record.value or b"null")
        except orjson.JSONDecodeError:
            value = None
        outcome = value if isinstance(value, dict) else {}
        status, reason = str(outcome.get("outcome")), str(outcome.get("reason"))
        if selection.takes_outcome(status, reason):
            hashes.add(contact_hash(key))
            if len(hashes) > MAX_SELECTED_CONTACTS:
                raise TooManyContacts(
                    f"more than {MAX_SELECTED_CONTACTS:,} contacts have this outcome, which is "
                    "more than fits into memory: replay without --outcome, grant by grant"
                )
        else:
            hashes.discard(contact_hash(key))
    return SelectedContacts(frozenset(hashes))
