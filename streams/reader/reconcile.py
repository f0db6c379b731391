"""Publishes what follows from complete listings: deletions, and contacts to offer again."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from connectors.nylas.client import LONGEST_RETRY_AFTER, TRIES, NylasClient
from connectors.nylas.contacts import Reading, get_contact
from connectors.nylas.errors import NotFound, NylasError, RateLimited
from streams.events import PAGE_MARGIN_SECONDS, Origin, now_ms
from streams.kafka.snapshot import Snapshots
from streams.reader.bounded_keys import WHOLE, KeyPart
from streams.reader.comparison import (
    Comparison,
    Listing,
    compare,
    guard_error,
    keys_without_own_record,
)
from streams.reader.context import ReaderContext
from streams.reader.records import deletion_record, page_records
from streams.reader.reoffer import Reoffer


@dataclass(slots=True)
class ReconcileResult:
    """What followed from the listing of a grant: numbers of contacts, or why it was stopped."""

    deleted: int = 0
    reoffered: int = 0
    error: str = ""


def _guard_error(found: Comparison, listings: Iterable[Listing], max_share: float) -> str:
    """Why the missing contacts of all grants together must not be deleted; empty if they may."""
    missing = sum(map(len, found.missing.values())) * found.part.parts
    return guard_error(missing, sum(len(listing.seen) for listing in listings), max_share)


class Reconciler:
    """Publishes what follows from complete listings."""

    def __init__(
        self, context: ReaderContext, client: NylasClient, snapshots: Snapshots, reoffer: Reoffer
    ) -> None:
        self._context, self._client = context, client
        self._snapshots, self._reoffer = snapshots, reoffer

    async def apply(
        self,
        run_id: str,
        listings: Mapping[str, Listing],
        max_share: float,
        *,
        dry_run: bool = False,
    ) -> dict[str, ReconcileResult]:
        """Publishes deletions and offers contacts again; returns a result for each grant listed.

        `max_share` is the largest share of the known contacts that may be deleted, of each grant
        and of all together. With `dry_run` nothing is published; Nylas is asked all the same.

        Reads contacts.outcomes once and contacts.changes once or twice, however many grants there
        are, and once more for each further part of more than MAX_KEYS_HELD missing contacts. Their
        number is estimated from the first part then. Raises SnapshotStalled and KafkaException.
        """
        found = await self._compare(listings)
        if error := _guard_error(found, listings.values(), max_share):
            return {grant: ReconcileResult(error=error) for grant in listings}
        results = {grant: ReconcileResult() for grant in listings}
        for grant, keys in found.missing.items():
            results[grant].error = guard_error(
                len(keys) * found.part.parts, len(listings[grant].seen), max_share
            )
        await self._delete_part(run_id, found, listings, results, dry_run=dry_run)
        for part in found.part.others():
            more = await self._compare(listings, part)
            await self._delete_part(run_id, more, listings, results, dry_run=dry_run)
        if found.to_reoffer and not dry_run:
            await self._reoffer.publish(found.to_reoffer)
        for key in found.to_reoffer:
            results[key.partition("/")[0]].reoffered += 1
        return results

    async def _compare(self, listings: Mapping[str, Listing], part: KeyPart = WHOLE) -> Comparison:
        """Compares; a further part comes without contacts to offer again."""
        topics = self._context.topics
        without_own: Collection[str] = ()
        if part == WHOLE:
            without_own = await self._snapshots.read(
                topics.outcomes.name,
                lambda records: keys_without_own_record(records, listings.keys()),
            )
        return await self._snapshots.read(
            topics.changes.name, lambda records: compare(records, listings, without_own, part)
        )

    async def _delete_part(
        self,
        run_id: str,
        found: Comparison,
        listings: Mapping[str, Listing],
        results: Mapping[str, ReconcileResult],
        *,
        dry_run: bool,
    ) -> None:
        """Publishes the missing contacts of the grants without an error as deleted."""
        for grant, keys in found.missing.items():
            result = results[grant]
            if result.error:
                continue
            try:
                result.deleted += await self._delete(run_id, listings[grant], keys, dry_run=dry_run)
            except NylasError as error:
                result.error = f"could not verify which contacts are missing: {error}"

    async def _delete(
        self, run_id: str, listing: Listing, keys: Collection[str], *, dry_run: bool
    ) -> int:
        """Publishes the missing contacts as deleted; returns how many there were.

        Asks Nylas for each contact by its ID first: a contact that moves between pages while they
        are read is in none of them. Such a contact is published as it was read.
        """
        deleted = 0
        for key in keys:
            contact_id = key.partition("/")[2]
            if not dry_run:
                await self._context.gate.wait(1)
            try:
                reading = await self._read(listing.grant, contact_id)
            except NotFound as error:
                if error.of_grant:
                    raise
                deleted += 1
                if not dry_run:
                    await self._publish_deletion(run_id, listing, contact_id)
            else:
                if not dry_run:
                    await self._publish_contact(run_id, listing.grant, contact_id, reading)
        return deleted

    async def _publish_deletion(self, run_id: str, listing: Listing, contact_id: str) -> None:
        record = deletion_record(
            self._context.topics,
            listing.grant,
            contact_id,
            Origin.RECONCILE,
            f"{run_id}/{contact_id}",
            listing.start - PAGE_MARGIN_SECONDS,
            run_id,
        )
        await self._context.publish([record])
        self._context.metrics.deleted.labels("reconcile").inc()

    async def _publish_contact(
        self, run_id: str, grant: str, contact_id: str, reading: Reading
    ) -> None:
        with self._context.page_span() as trace:
            records = page_records(
                self._context.topics,
                grant,
                Origin.RECONCILE,
                reading.request_id or f"{run_id}/{now_ms()}",
                reading.served_at,
                [{**reading.contact, "id": contact_id}],
                trace,
                run_id,
            )
            await self._context.publish(records)
        self._context.metrics.contacts.labels("reconcile").inc()

    async def _read(self, grant: str, contact_id: str) -> Reading:
        """Reads one contact; waits for a throttle as often as the client waits for other faults.

        The client does not wait for a long throttle itself. Failing here would fail a grant that
        was listed to its end.
        """
        for _ in range(TRIES):
            try:
                return await get_contact(self._client, grant, contact_id)
            except RateLimited as fault:
                if fault.retry_after is None:
                    raise
                await asyncio.sleep(min(fault.retry_after, LONGEST_RETRY_AFTER))
        return await get_contact(self._client, grant, contact_id)
