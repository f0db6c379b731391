"""Follows grants.events: keeps the tables of grants and of their addresses.

Acts on each event once, and writes down each address that an event names.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from streams.grant_addresses import GrantAddresses, address_record, is_kept_address
from streams.kafka.assigned import AssignedPartition
from streams.kafka.offsets import OffsetTracker
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.records import KafkaRecord
from streams.reader.commits import OffsetCommitter
from streams.reader.context import ReaderContext
from streams.reader.grant_events import GrantAction, GrantEvent, GrantTable, parse_grant_event
from streams.reader.run_writer import RunWriter
from streams.runs import Run, RunKind, run_id_at
from streams.runtime.current_work import doing
from streams.runtime.logs import place
from streams.settings import KafkaSettings
from streams.topics import group

log = structlog.get_logger()


class GrantFollower:
    """Reads grants.events from its start, for the table, and acts on events after the commit.

    `remove` has the contacts of a deleted grant published as deleted, and calls what it is given
    once that is done. It does not block.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        context: ReaderContext,
        grants: GrantTable,
        addresses: GrantAddresses,
        runs: RunWriter,
        remove: Callable[[GrantEvent, Callable[[], None]], None],
    ) -> None:
        self._kafka, self._context, self._grants = kafka, context, grants
        self._addresses = addresses
        self._runs, self._remove = runs, remove
        self.caught_up = asyncio.Event()
        """Set once the topic was read to its end: the table then holds what the topic holds."""

    async def run(self) -> None:
        """Works until it is cancelled."""
        lost = self._context.metrics.offset_resets.labels("grants.events")
        async with AssignedPartition(
            self._kafka,
            self._context.topics.grants.name,
            group(self._kafka, "reader-work"),
            lost.inc,
        ) as source:
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
                with doing(self._context.work.grant_events):
                    await self.take(records, source.committed, unfinished)
                for status, count in self._grants.count().items():
                    self._context.metrics.grants.labels(status).set(count)
                if source.at_end:
                    await self.keep_addresses()
                    self.caught_up.set()
                offset = unfinished.committable()
                await commits.commit_if_due(commits.committed if offset is None else offset)

    async def take(
        self, records: Sequence[KafkaRecord], committed: int, unfinished: OffsetTracker
    ) -> None:
        """Takes records into the table, and acts on the events that were not acted on before.

        Returns once the runs that they ask for are acknowledged; it waits for no removal. Offsets
        are finished in `unfinished` as their events are.
        """
        requests: dict[str, Run] = {}
        requested: list[int] = []
        for record in records:
            self._addresses.apply(record)
            event = parse_grant_event(record)
            if event is not None:
                self._grants.apply(event)
            if record.offset < committed:
                continue
            unfinished.take(record.offset)
            if is_kept_address(record):
                unfinished.finish(record.offset)
                continue
            event_type = "other" if event is None else event.type
            self._context.metrics.grant_events.labels(event_type).inc()
            if event is None or event.action is GrantAction.NOTHING:
                unfinished.finish(record.offset)
                continue
            log.info(
                "grant event received",
                type=event.type,
                grant=event.grant,
                action=event.action.value,
                **place(record),
            )
            if event.action is GrantAction.REMOVE:
                self._remove(event, partial(unfinished.finish, record.offset))
                continue
            kind = RunKind(event.action.value)
            requests[run_id_for(kind, event)] = Run(kind, (event.grant,), event.time, event.type)
            requested.append(record.offset)
        if requests:
            await self._runs.request_all(requests)
        for offset in requested:
            unfinished.finish(offset)

    async def keep_addresses(self) -> None:
        """Writes down the addresses that only events name, so that the next event erases none.

        Returns once they are acknowledged.
        """
        now = int(time.time())
        topics = self._context.topics
        records = [address_record(topics, one, now) for one in self._addresses.not_kept()]
        if records:
            await self._context.publish(records)
        for record in records:
            self._addresses.apply(record)


def run_id_for(kind: RunKind, event: GrantEvent) -> str:
    """The ID of the run that an event asks for.

    It is the same when the event is handled again after a crash.
    """
    suffix = hashlib.blake2b(f"{event.grant} {event.id}".encode(), digest_size=3).hexdigest()
    return run_id_at(kind, event.time, suffix)
