"""What a complete listing says beside its contacts: which ones are gone, and which are to be
offered to Salesforce again.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from connectors.nylas.client import LONGEST_RETRY_AFTER, TRIES, NylasClient
from connectors.nylas.contacts import PAGE_SIZE, Reading, get_contact
from connectors.nylas.errors import NotFound, NylasError, RateLimited
from connectors.nylas.grants import get_grant
from streams.events import PAGE_MARGIN, Origin, now_ms
from streams.kafka.snapshot import Snapshots
from streams.metrics import ReaderMetrics
from streams.reader.comparison import (
    Listing,
    _guard_text,
    compare,
    filled_keys,
    guarded,
    living_keys,
)
from streams.reader.gate import Gate
from streams.reader.records import Publish, absence_record, page_records
from streams.reader.takeover import Reoffer
from streams.topics import Topics

log = structlog.get_logger()


@dataclass(slots=True)
class ReconcileResult:
    """What was done with a grant after its listing; `error` where it was stopped."""

    deleted: int = 0
    offered: int = 0
    error: str = ""


class Reconciler:
    """Publishes what follows from complete listings."""

    def __init__(
        self,
        snapshots: Snapshots,
        client: NylasClient,
        publish: Publish,
        gate: Gate,
        topics: Topics,
        metrics: ReaderMetrics,
        offerer: Reoffer,
    ) -> None:
        self._snapshots, self._client, self._publish, self._gate = snapshots, client, publish, gate
        self._topics, self._metrics, self._offerer = topics, metrics, offerer

    async def conclude(
        self,
        run_id: str,
        listings: Mapping[str, Listing],
        max_share: float,
        *,
        dry_run: bool = False,
    ) -> dict[str, ReconcileResult]:
        """Deletes what is gone and offers again what was only filled, for each grant listed; a
        `dry_run` asks and counts alone.

        Reads contacts.outcomes once and contacts.changes once or twice, whatever the number of
        grants. Raises SnapshotStalled and KafkaException.
        """
        outcomes, changes = self._topics.outcomes.name, self._topics.changes.name
        filled = await self._snapshots.read(
            outcomes, lambda records: filled_keys(records, listings.keys())
        )
        found = await self._snapshots.read(
            changes, lambda records: compare(records, listings, filled)
        )
        concluded = {grant: ReconcileResult() for grant in listings}
        missing = sum(map(len, found.missing.values()))
        listed = sum(len(listing.seen) for listing in listings.values())
        if guarded(missing, listed, max_share):
            for result in concluded.values():
                result.error = _guard_text(missing, listed, max_share)
            return concluded
        for grant, keys in found.missing.items():
            listing, result = listings[grant], concluded[grant]
            if guarded(len(keys), len(listing.seen), max_share):
                result.error = _guard_text(len(keys), len(listing.seen), max_share)
                continue
            try:
                result.deleted = await self._delete(run_id, listing, keys, dry_run=dry_run)
            except NylasError as error:
                result.error = f"what is missing could not be verified: {error}"
        if found.offered and not dry_run:
            await self._offerer.offer(found.offered)
        for key in found.offered:
            concluded[key.partition("/")[0]].offered += 1
        return concluded

    async def remove(self, grants: Mapping[str, tuple[str, int]]) -> int:
        """Publishes each living contact of grants that are gone as deleted; returns how many there
        were.

        `grants` is, by ID, the ID of the event that says so and the version of the deletions.
        Raises SnapshotStalled and KafkaException.
        """
        living = await self._living(grants)
        for start in range(0, len(living), PAGE_SIZE):
            records = []
            for grant, _, contact_id in (
                key.partition("/") for key in living[start : start + PAGE_SIZE]
            ):
                event_id, version = grants[grant]
                event_id = f"{event_id}/{contact_id}"
                records.append(
                    absence_record(
                        self._topics, grant, contact_id, Origin.RECONCILE, event_id, version
                    )
                )
            await self._gate.wait(len(records))
            await self._publish(records)
            self._metrics.deleted.labels("grant_deleted").inc(len(records))
        return len(living)

    async def sweep(self, run_id: str, dead: Collection[str]) -> None:
        """Removes what came of deleted grants after their contacts were removed: a notification
        that Nylas delivered again.

        Asks Nylas for each such grant first. Raises SnapshotStalled and KafkaException.
        """
        gone: dict[str, tuple[str, int]] = {}
        for grant in sorted({key.partition("/")[0] for key in await self._living(dead)}):
            try:
                await get_grant(self._client, grant)
            except NotFound as answer:
                gone[grant] = (f"{run_id}/{grant}", answer.served_at)
            except NylasError as fault:
                self._metrics.grants_skipped.labels("grant_unverified").inc()
                log.warning(
                    "a grant could not be verified, the next reconcile asks again",
                    grant=grant,
                    fault=str(fault),
                )
        if gone:
            log.info(
                "contacts of deleted grants removed",
                grants=len(gone),
                contacts=await self.remove(gone),
            )

    async def _living(self, grants: Collection[str]) -> list[str]:
        if not grants:
            return []
        return list(
            await self._snapshots.read(
                self._topics.changes.name, lambda records: living_keys(records, grants)
            )
        )

    async def _delete(
        self, run_id: str, listing: Listing, keys: Collection[str], *, dry_run: bool
    ) -> int:
        """Asks for each missing contact by its ID first: an item that moves between pages while
        they are read is in none of them.
        """
        deleted = 0
        for key in keys:
            contact_id = key.partition("/")[2]
            if not dry_run:
                await self._gate.wait(1)
            try:
                reading = await self._contact(listing.grant, contact_id)
            except NotFound as gone:
                if gone.of_grant:
                    raise
                deleted += 1
                if dry_run:
                    continue
                version = listing.start - PAGE_MARGIN
                event_id = f"{run_id}/{contact_id}"
                record = absence_record(
                    self._topics, listing.grant, contact_id, Origin.RECONCILE, event_id, version
                )
                await self._publish([record])
                self._metrics.deleted.labels("reconcile").inc()
            else:
                if dry_run:
                    continue
                request = reading.request_id or f"{run_id}/{now_ms()}"
                contact = {**reading.contact, "id": contact_id}
                await self._publish(
                    page_records(
                        self._topics,
                        listing.grant,
                        Origin.RECONCILE,
                        request,
                        reading.served_at,
                        [contact],
                    )
                )
                self._metrics.contacts.labels("reconcile").inc()
        return deleted

    async def _contact(self, grant: str, contact_id: str) -> Reading:
        """One contact, waited for as often as a call's other waits: a throttle must not fail a
        grant that was read to its end.
        """
        for _ in range(TRIES):
            try:
                return await get_contact(self._client, grant, contact_id)
            except RateLimited as fault:
                if fault.retry_after is None:
                    raise
                await asyncio.sleep(min(fault.retry_after, LONGEST_RETRY_AFTER))
        return await get_contact(self._client, grant, contact_id)
