"""Follows grants.events: keeps the table of grants and acts on each event once."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import structlog

from streams.kafka.assigned import AssignedPartition
from streams.kafka.offsets import OffsetTracker
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.records import KafkaRecord
from streams.reader.commits import OffsetCommitter
from streams.reader.context import ReaderContext
from streams.reader.grant_events import GrantAction, GrantEvent, GrantTable, parse_grant_event
from streams.reader.run_writer import RunWriter
from streams.runs import Run, RunKind, run_id_at
from streams.settings import KafkaSettings
from streams.topics import group

log = structlog.get_logger()

# Deleted grants whose contacts wait to be removed while the events of other grants are acted on.
# One more deletion holds the other events back.
MAX_PENDING_REMOVALS = 50


class GrantFollower:
    """Reads grants.events from its start, for the table, and acts on events after the commit.

    `remove` publishes the contacts of a deleted grant as deleted, and returns once that is done.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        context: ReaderContext,
        grants: GrantTable,
        runs: RunWriter,
        remove: Callable[[GrantEvent], Awaitable[None]],
    ) -> None:
        self._kafka, self._context, self._grants = kafka, context, grants
        self._runs, self._remove = runs, remove
        self._removal_slots = asyncio.Semaphore(MAX_PENDING_REMOVALS)
        self.caught_up = asyncio.Event()
        """Set once the topic was read to its end: the table then holds what the topic holds."""

    async def run(self) -> None:
        """Works until it is cancelled."""
        lost = self._context.metrics.offset_resets.labels("grants.events")
        async with (
            AssignedPartition(
                self._kafka,
                self._context.topics.grants.name,
                group(self._kafka, "reader-work"),
                lost.inc,
            ) as source,
            asyncio.TaskGroup() as removals,
        ):
            if await source.start(from_beginning=True):
                await self._runs.reconcile_after_loss("grants.events")
                await source.commit(source.position)
            unfinished = OffsetTracker()
            commits = OffsetCommitter(source, source.committed)
            while True:
                try:
                    records = await source.consume()
                except OffsetOutOfRange:
                    await self._runs.reconcile_after_loss("grants.events")
                    await source.start_over()
                    await source.commit(source.position)
                    unfinished, commits.committed = OffsetTracker(), source.committed
                    continue
                for record in records:
                    event = parse_grant_event(record)
                    if event is not None:
                        self._grants.apply(event)
                    if record.offset >= source.committed:
                        await self._act(event, record, unfinished, removals)
                for status, count in self._grants.count().items():
                    self._context.metrics.grants.labels(status).set(count)
                if source.at_end:
                    self.caught_up.set()
                offset = unfinished.committable()
                await commits.commit_if_due(commits.committed if offset is None else offset)

    async def _act(
        self,
        event: GrantEvent | None,
        record: KafkaRecord,
        unfinished: OffsetTracker,
        removals: asyncio.TaskGroup,
    ) -> None:
        unfinished.take(record.offset)
        event_type = "other" if event is None else event.type
        self._context.metrics.grant_events.labels(event_type).inc()
        if event is None or event.action is GrantAction.NOTHING:
            unfinished.finish(record.offset)
            return
        log.info(
            "grant event received", type=event.type, grant=event.grant, action=event.action.value
        )
        if event.action is GrantAction.REMOVE:
            await self._removal_slots.acquire()
            removals.create_task(self._remove_contacts(event, record.offset, unfinished))
            return
        kind = RunKind(event.action.value)
        run = Run(kind, (event.grant,), event.time, event.type)
        await self._runs.request(run, run_id_for(kind, event))
        unfinished.finish(record.offset)

    async def _remove_contacts(
        self, event: GrantEvent, offset: int, unfinished: OffsetTracker
    ) -> None:
        try:
            await self._remove(event)
        finally:
            self._removal_slots.release()
        unfinished.finish(offset)


def run_id_for(kind: RunKind, event: GrantEvent) -> str:
    """The ID of the run that an event asks for.

    It is the same when the event is handled again after a crash.
    """
    suffix = hashlib.blake2b(f"{event.grant} {event.id}".encode(), digest_size=3).hexdigest()
    return run_id_at(kind, event.time, suffix)
