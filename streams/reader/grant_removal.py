"""Publishes the contacts of deleted grants as deleted."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from connectors.nylas.client import NylasClient
from connectors.nylas.contacts import PAGE_SIZE
from streams.events import Origin
from streams.kafka.lag import LagReader
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.reader.bounded_keys import WHOLE, KeyPart
from streams.reader.comparison import LivingKeys, living_keys
from streams.reader.context import ReaderContext
from streams.reader.deletion_guard import DeletionGuard
from streams.reader.grant_events import GrantEvent
from streams.reader.grant_verification import deletion_time
from streams.reader.records import deletion_record
from streams.reader.retries import until_broker_answers, until_snapshot_read
from streams.runtime.current_work import doing, waiting_on_purpose
from streams.runtime.ops import Health, WorkInFlight
from streams.topics import Topics

log = structlog.get_logger()

# Between two checks whether dedupe has caught up: first, and at most. At the end of a run it has
# done so within moments, which the sink waits for; else a check is a request to the broker.
FIRST_CATCH_UP_CHECK_SECONDS = 0.05
CATCH_UP_CHECK_SECONDS = 1.0

# Between two checks whether the runs that read a deleted grant have ended.
IDLE_CHECK_SECONDS = 0.3

# IDs in one line of the log.
GRANTS_LOGGED = 20


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

        Reads contacts.changes once for all of them, and once more for each further part of more
        than MAX_KEYS_HELD contacts. Raises SnapshotStalled and KafkaException.
        """
        if not deletions:
            return 0
        living = await self._living_contacts(deletions)
        contacts = await self._remove(living.versions, deletions)
        for part in living.part.others():
            more = await self._living_contacts(deletions, part)
            contacts += await self._remove(more.versions, deletions)
        return contacts

    async def _remove(self, living: Collection[str], deletions: Mapping[str, GrantDeletion]) -> int:
        keys = list(living)
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
        if not deleted_grants:
            return
        deletions: dict[str, GrantDeletion] = {}
        living = await self._living_grants(deleted_grants)
        for grant in sorted(living):
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

    async def _living_contacts(self, grants: Collection[str], part: KeyPart = WHOLE) -> LivingKeys:
        return await self._snapshots.read(
            self._context.topics.changes.name, lambda records: living_keys(records, grants, part)
        )

    async def _living_grants(self, grants: Collection[str]) -> set[str]:
        """Those of the grants that have a living contact in the part that is held at once.

        The next reconcile finds one whose few contacts are all in other parts.
        """
        living = await self._living_contacts(grants)
        return {key.partition("/")[0] for key in living.versions}


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
        pause = FIRST_CATCH_UP_CHECK_SECONDS
        while not await until_broker_answers(
            lambda: self._lags.reached(self._group_id, name, ends), self._health
        ):
            await asyncio.sleep(pause)
            pause = min(1.25 * pause, CATCH_UP_CHECK_SECONDS)


@dataclass(slots=True)
class PendingDeletion:
    """A deleted grant whose contacts have yet to be removed."""

    deletion: GrantDeletion
    on_removed: list[Callable[[], None]] = field(default_factory=list)
    """Called once the contacts are removed, for each event of the deletion."""


class DeletedGrants:
    """Acts on the events that grants were deleted; all that wait share a reading of the topic."""

    def __init__(
        self,
        is_idle: Callable[[str], bool],
        dedupe: DedupeBarrier,
        remover: GrantRemover,
        guard: DeletionGuard,
        work: WorkInFlight,
    ) -> None:
        self._guard = guard
        self._is_idle, self._dedupe, self._remover = is_idle, dedupe, remover
        self._work = work
        # One entry for each grant, so that it holds no more than the table of grants does.
        self._pending: dict[str, PendingDeletion] = {}
        self._added = asyncio.Event()

    def add(self, event: GrantEvent, on_removed: Callable[[], None]) -> None:
        """Takes the deletion of a grant in, to be removed by `run`. Does not block.

        `on_removed` is called once the deletions of its contacts are acknowledged.
        """
        deletion = GrantDeletion(event.id, event.time)
        pending = self._pending.setdefault(event.grant, PendingDeletion(deletion))
        if event.time > pending.deletion.version:
            pending.deletion = deletion
        pending.on_removed.append(on_removed)
        self._guard.pending.add(event.grant)
        self._added.set()

    async def run(self) -> None:
        """Publishes the contacts of deleted grants as deleted, until it is cancelled.

        A grant waits until no run reads it (the next page is a 404), and until dedupe has processed
        what was read of it: contacts.changes would not hold all its contacts before. Deletions that
        come meanwhile share the next reading.
        """
        while True:
            await self._added.wait()
            await self._guard.report()
            self._drop_revived()
            held = self._guard.held()
            idle = [g for g in self._pending if g not in held and self._is_idle(g)]
            if idle:
                with doing(self._work):
                    await self._remove({grant: self._pending.pop(grant) for grant in idle})
                self._guard.pending.difference_update(idle)
            if not self._pending:
                await self._guard.report()
                self._added.clear()
            elif not idle:
                await asyncio.sleep(IDLE_CHECK_SECONDS)

    def _drop_revived(self) -> None:
        """Forgets grants that waited for a person and are there again."""
        for grant in self._guard.revived(self._pending) & self._guard.pending:
            for on_removed in self._pending.pop(grant).on_removed:
                on_removed()
            self._guard.pending.discard(grant)
            log.info("a deleted grant is there again; its contacts stay", grant=grant)

    async def _remove(self, pending: Mapping[str, PendingDeletion]) -> None:
        deletions = {grant: each.deletion for grant, each in pending.items()}
        with waiting_on_purpose():
            await self._dedupe.wait()
        contacts = await until_snapshot_read(lambda: self._remover.remove_contacts(deletions))
        for each in pending.values():
            for on_removed in each.on_removed:
                on_removed()
        log.info(
            "contacts of deleted grants published as deleted",
            grants=sorted(deletions)[:GRANTS_LOGGED],
            number=len(deletions),
            contacts=contacts,
        )
