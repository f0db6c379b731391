"""Publishes the contacts of deleted grants as deleted."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import NamedTuple

import structlog

from connectors.nylas.client import NylasClient
from connectors.nylas.contacts import PAGE_SIZE
from streams.events import Origin
from streams.kafka.lag import LagReader
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.reader.comparison import living_keys
from streams.reader.context import ReaderContext
from streams.reader.grant_events import GrantEvent
from streams.reader.grant_verification import deletion_time
from streams.reader.records import deletion_record
from streams.reader.retries import until_broker_answers, until_snapshot_read
from streams.runtime.ops import Health
from streams.topics import Topics

log = structlog.get_logger()

# Between two checks whether dedupe has caught up. A removal is no hurry, and a check is a request
# to the broker.
CATCH_UP_CHECK_SECONDS = 1.0


class GrantDeletion(NamedTuple):
    """The deletion of a grant, for the events of its contacts."""

    event_id: str
    version: int
    """Epoch seconds; the version of the deletion of each contact."""


class GrantRemover:
    """Publishes the living contacts of deleted grants as deleted."""

    def __init__(self, context: ReaderContext, client: NylasClient, snapshots: Snapshots) -> None:
        self._context, self._client, self._snapshots = context, client, snapshots

    async def remove_contacts(self, deletions: Mapping[str, GrantDeletion]) -> int:
        """Publishes each living contact of these grants, by ID, as deleted; returns their number.

        Raises SnapshotStalled and KafkaException.
        """
        keys = await self._living_contacts(deletions)
        for start in range(0, len(keys), PAGE_SIZE):
            records = [self._record(key, deletions) for key in keys[start : start + PAGE_SIZE]]
            await self._context.gate.wait(len(records))
            await self._context.publish(records)
            self._context.metrics.deleted.labels("grant_deleted").inc(len(records))
        return len(keys)

    async def remove_leftovers(self, run_id: str, deleted_grants: Collection[str]) -> None:
        """Removes contacts that arrived after the contacts of their deleted grant were removed.

        A notification that Nylas delivered again can bring them. Asks Nylas for each such grant
        first. Raises SnapshotStalled and KafkaException.
        """
        deletions: dict[str, GrantDeletion] = {}
        living = await self._living_contacts(deleted_grants)
        for grant in sorted({key.partition("/")[0] for key in living}):
            version = await deletion_time(self._client, self._context.metrics, grant)
            if version is not None:
                deletions[grant] = GrantDeletion(f"{run_id}/{grant}", version)
        if deletions:
            contacts = await self.remove_contacts(deletions)
            log.info(
                "leftover contacts of deleted grants published as deleted",
                grants=len(deletions),
                contacts=contacts,
            )

    def _record(self, key: str, deletions: Mapping[str, GrantDeletion]) -> KafkaRecord:
        grant, _, contact_id = key.partition("/")
        deletion = deletions[grant]
        return deletion_record(
            self._context.topics,
            grant,
            contact_id,
            Origin.RECONCILE,
            f"{deletion.event_id}/{contact_id}",
            deletion.version,
        )

    async def _living_contacts(self, grants: Collection[str]) -> list[str]:
        if not grants:
            return []
        return list(
            await self._snapshots.read(
                self._context.topics.changes.name, lambda records: living_keys(records, grants)
            )
        )


class DedupeBarrier:
    """Waits until dedupe has processed everything that is in contacts.events now."""

    def __init__(self, topics: Topics, group_id: str, lags: LagReader, health: Health) -> None:
        self._topic, self._group_id = topics.events, group_id
        self._lags, self._health = lags, health

    async def wait(self) -> None:
        """Returns when dedupe has committed the present ends; waits while the broker is away.

        The wait has no deadline: dedupe may be down for long, and the removal must come after it.
        """
        name, partitions = self._topic.name, self._topic.partitions
        ends = await until_broker_answers(lambda: self._lags.ends(name, partitions), self._health)
        while True:
            if await until_broker_answers(
                lambda: self._lags.reached(self._group_id, name, ends), self._health
            ):
                return
            await asyncio.sleep(CATCH_UP_CHECK_SECONDS)


class DeletedGrants:
    """Acts on the event that a grant was deleted; the grants are removed one after the other."""

    def __init__(
        self,
        until_idle: Callable[[str], Awaitable[None]],
        dedupe: DedupeBarrier,
        remover: GrantRemover,
    ) -> None:
        self._until_idle, self._dedupe, self._remover = until_idle, dedupe, remover
        self._one_at_a_time = asyncio.Lock()

    async def remove(self, event: GrantEvent) -> None:
        """Publishes the contacts of the grant as deleted, as of the grant's deletion.

        Waits until no run reads the grant (the next page is a 404), and until dedupe has processed
        what was read of it: contacts.changes would not hold all its contacts before.
        """
        await self._until_idle(event.grant)
        deletion = GrantDeletion(event.id, event.time)
        async with self._one_at_a_time:
            await self._dedupe.wait()
            contacts = await until_snapshot_read(
                lambda: self._remover.remove_contacts({event.grant: deletion})
            )
        log.info(
            "contacts of a deleted grant published as deleted", grant=event.grant, contacts=contacts
        )
