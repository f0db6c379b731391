"""Carries out a replay: publishes records of a topic to contacts.events again, page by page."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import orjson

from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.reader.context import ReaderContext
from streams.reader.records import contact_hash
from streams.reader.replay_page import ReplayPage, SelectedContacts, next_page
from streams.reader.retries import until_snapshot_read
from streams.reader.run_writer import RunWriter
from streams.runs import (
    FINAL,
    Progress,
    Replay,
    ReplaySource,
    Run,
    RunLog,
    RunState,
    finished,
    partition_name,
)
from streams.selection import Selection


class Replayer:
    """Publishes what a replay selects, one partition after the other.

    Dedupe decides about each event as about any other, so that older data never passes. Live
    changes go first: every page waits until dedupe and the sink have caught up.
    """

    def __init__(
        self, context: ReaderContext, snapshots: Snapshots, runs: RunWriter, run_log: RunLog
    ) -> None:
        self._context, self._snapshots = context, snapshots
        self._runs, self._log = runs, run_log

    async def execute(self, run_id: str, run: Run) -> Run:
        """Carries out a replay to its end; returns the run in its final state.

        It goes on where its progress in reader.runs ends, and so repeats at most one page.
        """
        if run.replay is None:
            now = int(time.time())
            return replace(run, state=RunState.FAILED, error="names no topic", finished_at=now)
        await self._runs.write(run_id, replace(run, state=RunState.RUNNING))
        known = self._log.progress(run_id)
        selected = await until_snapshot_read(partial(self._selected_contacts, run.replay.selection))
        progress: dict[str, Progress] = {}
        for partition in range(len(run.replay.ends)):
            name = partition_name(partition)
            progress[name] = known.get(name) or _begin()
            if progress[name].state not in FINAL:
                progress[name] = await self._replay_partition(
                    run_id, run.replay, partition, selected, progress[name]
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
    ) -> Progress:
        topics, name = self._context.topics, partition_name(partition)
        source = topics.events if run.source is ReplaySource.EVENTS else topics.changes
        progress = replace(progress, state=RunState.RUNNING)
        end = run.ends[partition]
        began, published = time.monotonic(), 0
        while progress.state is RunState.RUNNING:
            start = int(progress.cursor or 0)

            def read(records: Iterator[KafkaRecord], start: int = start) -> ReplayPage:
                return next_page(topics, run_id, run, selected, records, start, end)

            page = ReplayPage(next_offset=end, done=True)
            if start < end:
                page = await until_snapshot_read(
                    partial(self._snapshots.read, source.name, read, start, partition)
                )
            if page.records:
                await self._context.gate.wait(len(page.records))
                await self._context.publish(page.records)
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


def _begin() -> Progress:
    now = int(time.time())
    return Progress(RunState.WAITING, started_at=now, updated_at=now)


def contacts_of_outcomes(selection: Selection, records: Iterator[KafkaRecord]) -> SelectedContacts:
    """The contacts whose last outcome is selected. `records` is contacts.outcomes from its start.

    An unreadable outcome counts as none.
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
        else:
            hashes.discard(contact_hash(key))
    return SelectedContacts(frozenset(hashes))
