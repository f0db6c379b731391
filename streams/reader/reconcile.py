"""What a complete listing says beside its contacts: which ones are gone, and which are to be offered to Salesforce again."""

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
import structlog

from connectors.nylas.client import LONGEST_RETRY_AFTER, TRIES, NylasClient
from connectors.nylas.contacts import PAGE_SIZE, Reading, get_contact
from connectors.nylas.errors import NotFound, NylasError, RateLimited
from connectors.nylas.grants import get_grant
from streams.events import (
    PAGE_MARGIN,
    Kind,
    Origin,
    Record,
    UnreadableRecord,
    header,
    now_ms,
    parse_change,
)
from streams.lag import Gate
from streams.metrics import ReaderMetrics
from streams.reader.scan import Publish, absence_record, contact_hash, contact_record, page_records
from streams.snapshot import Snapshots
from streams.topics import Topics

log = structlog.get_logger()

GUARD_FROM = 10
"""Deletions that the guard lets pass whatever their share: in an address book of five, one is a fifth."""

CHUNK = 500  # records published together


@dataclass(frozen=True, slots=True)
class Listing:
    """A complete listing of a grant: `seen` are the hashes of its contacts' IDs, sorted; `start` is the `Date` of its first page.

    Of the `sources` those that Nylas `refused` were not listed, which says nothing of their contacts.
    """

    grant: str
    start: int
    sources: tuple[str, ...]
    seen: "array[int]"
    refused: frozenset[str] = frozenset()

    def holds(self, contact_id: str) -> bool:
        """Whether the listing held the contact."""
        wanted = contact_hash(contact_id)
        at = bisect_left(self.seen, wanted)
        return at < len(self.seen) and self.seen[at] == wanted

    def covers(self, contact: Mapping[str, Any]) -> bool:
        """Whether the contact's source was listed; one without is of the first."""
        source = contact.get("source", self.sources[0])
        return source in self.sources and source not in self.refused


@dataclass(slots=True)
class Comparison:
    """What contacts.changes knows of the listed grants beyond their listings, by contact key; the offset is that of its last change."""

    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    """Grant ID to contact key to offset: contacts that live there, are older than the scan, and were not listed."""
    offered: dict[str, int] = field(default_factory=dict)
    """Contacts that live, were listed, and whose last outcome was only `filled`."""


def compare(changes: Iterable[Record], listings: Mapping[str, Listing], filled: Collection[str]) -> Comparison:
    """Compares contacts.changes, oldest first, with complete listings. The last record of a key decides.

    A contact is missing when the listing does not hold it, its version is older than the scan's start less the margin (one created
    or changed meanwhile lives), and its source is one that was listed. A record that is no change is passed over.
    """
    found = Comparison()
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        grant, _, contact_id = key.partition("/")
        listing = listings.get(grant)
        if listing is None:
            continue
        listed = listing.holds(contact_id)
        if listed and key not in filled:
            continue
        missing = found.missing.setdefault(grant, {})
        missing.pop(key, None)
        found.offered.pop(key, None)
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue
        if change is None or change.kind is Kind.DELETED:
            continue
        if listed:
            found.offered[key] = record.offset
        elif change.version < listing.start - PAGE_MARGIN and listing.covers(change.contact):
            missing[key] = record.offset
    return found


def guarded(missing: int, listed: int, share: float) -> bool:
    """Whether so many deletions are more than the configured share of what is known, and so more likely a fault than the truth."""
    return missing > GUARD_FROM and missing > share * (missing + listed)


def filled_keys(outcomes: Iterable[Record], grants: Collection[str]) -> set[str]:
    """Contacts of the grants whose last outcome was `filled`: another contact owned the record, which it may have given up since."""
    filled: set[str] = set()
    for record in outcomes:
        key = (record.key or b"").decode(errors="replace")
        if key.partition("/")[0] in grants:
            (filled.add if read_outcome(record)[0] == "filled" else filled.discard)(key)
    return filled


def given_up(outcomes: Iterable[Record]) -> tuple[set[str], set[str]]:
    """The Salesforce records that these outcomes released, and the contacts whose deletion found no record any more.

    Of the latter a sink that ended before it could say so may have released the record.
    """
    released, gone = set(), set()
    for record in outcomes:
        outcome = _outcome(record)
        if outcome.get("outcome") == "released" and outcome.get("id"):
            released.add(str(outcome["id"]))
        elif outcome.get("reason") == "no_record":
            gone.add((record.key or b"").decode(errors="replace"))
    return released, gone


def heirs(outcomes: Iterable[Record], released: Collection[str], gone: Collection[str] = ()) -> set[str]:
    """Contacts whose last outcome was to fill a record that has been released, or that a contact of `gone` ever owned."""
    records = set(released)
    filled: dict[str, str] = {}
    for record in outcomes:
        fate, record_id = read_outcome(record)
        key = (record.key or b"").decode(errors="replace")
        if fate == "filled":
            filled[key] = record_id
        else:
            filled.pop(key, None)
            if record_id and key in gone:
                records.add(record_id)
    return {key for key, record_id in filled.items() if record_id in records}


def read_outcome(record: Record) -> tuple[str, str]:
    """What a record of contacts.outcomes says: the outcome, and the ID of the Salesforce record. Empty where it says nothing."""
    outcome = _outcome(record)
    return str(outcome.get("outcome") or ""), str(outcome.get("id") or "")


def _outcome(record: Record) -> Mapping[str, Any]:
    try:
        outcome = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return {}
    return outcome if isinstance(outcome, dict) else {}


def living_offsets(changes: Iterable[Record], keys: Collection[str]) -> dict[str, int]:
    """Of these contacts those whose last change is no deletion, with its offset."""
    living: dict[str, int] = {}
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        if key in keys:
            living.pop(key, None)
            if header(record.headers, "kind") == b"updated":
                living[key] = record.offset
    return living


def offer_records(changes: Iterable[Record], topics: Topics, offered: Mapping[str, int]) -> Iterable[Record]:
    """The changes at the offsets of `offered` as replayed events: of the version that was forwarded, which the dedupe stage lets pass."""
    last = max(offered.values(), default=-1)
    for record in changes:
        if record.offset > last:
            return
        key = (record.key or b"").decode(errors="replace")
        if offered.get(key) != record.offset:
            continue
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue
        if change is not None:
            event_id = f"offer/{now_ms()}/{key}"
            yield contact_record(
                topics, key.encode(), Origin.REPLAY, event_id, change.version, change.contact, now_ms()
            )


class Offerer:
    """Offers contacts again: publishes their last change as a replay."""

    def __init__(
        self, snapshots: Snapshots, publish: Publish, gate: Gate, topics: Topics, metrics: ReaderMetrics
    ) -> None:
        self._snapshots, self._publish, self._gate = snapshots, publish, gate
        self._topics, self._metrics = topics, metrics

    async def offer(self, offered: Mapping[str, int]) -> None:
        """`offered` is the offset of each contact's last change in contacts.changes. Raises SnapshotStalled and KafkaException."""
        ordered = sorted(offered, key=offered.__getitem__)
        for start in range(0, len(ordered), CHUNK):
            chunk = {key: offered[key] for key in ordered[start : start + CHUNK]}
            await self._gate.wait(len(chunk))  # it may be long: nothing is held open or in memory meanwhile
            records = await self._snapshots.read(
                self._topics.changes.name, partial(_offer_list, self._topics, chunk), offered[ordered[start]]
            )
            await self._publish(records)
            self._metrics.offered.inc(len(records))


@dataclass(slots=True)
class Concluded:
    """What was done with a grant after its listing; `error` where it was stopped."""

    deleted: int = 0
    offered: int = 0
    error: str = ""


class Concluder:
    """Publishes what follows from complete listings."""

    def __init__(
        self,
        snapshots: Snapshots,
        client: NylasClient,
        publish: Publish,
        gate: Gate,
        topics: Topics,
        metrics: ReaderMetrics,
        offerer: Offerer,
    ) -> None:
        self._snapshots, self._client, self._publish, self._gate = snapshots, client, publish, gate
        self._topics, self._metrics, self._offerer = topics, metrics, offerer

    async def conclude(
        self, run_id: str, listings: Mapping[str, Listing], max_share: float, *, dry_run: bool = False
    ) -> dict[str, Concluded]:
        """Deletes what is gone and offers again what was only filled, for each grant listed; a `dry_run` asks and counts alone.

        Reads contacts.outcomes once and contacts.changes once or twice, whatever the number of grants.
        Raises SnapshotStalled and KafkaException.
        """
        outcomes, changes = self._topics.outcomes.name, self._topics.changes.name
        filled = await self._snapshots.read(outcomes, lambda records: filled_keys(records, listings.keys()))
        found = await self._snapshots.read(changes, lambda records: compare(records, listings, filled))
        concluded = {grant: Concluded() for grant in listings}
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
        """Publishes each living contact of grants that are gone as deleted; returns how many there were.

        `grants` is, by ID, the ID of the event that says so and the version of the deletions. Raises SnapshotStalled and KafkaException.
        """
        living = await self._living(grants)
        for start in range(0, len(living), PAGE_SIZE):
            records = []
            for grant, _, contact_id in (key.partition("/") for key in living[start : start + PAGE_SIZE]):
                event_id, version = grants[grant]
                event_id = f"{event_id}/{contact_id}"
                records.append(absence_record(self._topics, grant, contact_id, Origin.RECONCILE, event_id, version))
            await self._gate.wait(len(records))
            await self._publish(records)
            self._metrics.deleted.labels("grant_deleted").inc(len(records))
        return len(living)

    async def sweep(self, run_id: str, dead: Collection[str]) -> None:
        """Removes what came of deleted grants after their contacts were removed: a notification that Nylas delivered again.

        Asks Nylas for each such grant first. Raises SnapshotStalled and KafkaException.
        """
        gone: dict[str, tuple[str, int]] = {}
        for grant in sorted({key.partition("/")[0] for key in await self._living(dead)}):
            try:
                await get_grant(self._client, grant)
            except NotFound as answer:
                gone[grant] = (f"{run_id}/{grant}", answer.served_at)
            except NylasError as fault:
                self._metrics.passed_over.labels("grant_unverified").inc()
                log.warning(
                    "a grant could not be verified, the next reconcile asks again", grant=grant, fault=str(fault)
                )
        if gone:
            log.info("contacts of deleted grants removed", grants=len(gone), contacts=await self.remove(gone))

    async def _living(self, grants: Collection[str]) -> list[str]:
        if not grants:
            return []
        return list(await self._snapshots.read(self._topics.changes.name, lambda records: living_keys(records, grants)))

    async def _delete(self, run_id: str, listing: Listing, keys: Collection[str], *, dry_run: bool) -> int:
        """Asks for each missing contact by its ID first: an item that moves between pages while they are read is in none of them."""
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
                record = absence_record(self._topics, listing.grant, contact_id, Origin.RECONCILE, event_id, version)
                await self._publish([record])
                self._metrics.deleted.labels("reconcile").inc()
            else:
                if dry_run:
                    continue
                request = reading.request_id or f"{run_id}/{now_ms()}"
                contact = {**reading.contact, "id": contact_id}
                await self._publish(
                    page_records(self._topics, listing.grant, Origin.RECONCILE, request, reading.served_at, [contact])
                )
                self._metrics.contacts.labels("reconcile").inc()
        return deleted

    async def _contact(self, grant: str, contact_id: str) -> Reading:
        """One contact, waited for as often as a call's other waits: a throttle must not fail a grant that was read to its end."""
        for _ in range(TRIES):
            try:
                return await get_contact(self._client, grant, contact_id)
            except RateLimited as fault:
                if fault.retry_after is None:
                    raise
                await asyncio.sleep(min(fault.retry_after, LONGEST_RETRY_AFTER))
        return await get_contact(self._client, grant, contact_id)


def _offer_list(topics: Topics, offered: Mapping[str, int], changes: Iterable[Record]) -> list[Record]:
    return list(offer_records(changes, topics, offered))


def _guard_text(missing: int, listed: int, share: float) -> str:
    return (
        f"stopped by the guard: {missing} contacts would be deleted, {listed} were listed, and at most {share:.0%} may be. "
        "If it is right: contactstream reconcile --all --max-delete-share 1"
    )


def listing_of(
    grant: str, start: int, sources: tuple[str, ...], seen: "array[int]", refused: Collection[str] = ()
) -> Listing:
    """A listing of what was seen, in whatever order and however often."""
    return Listing(grant, start, sources, array("Q", sorted(set(seen))), frozenset(refused))


def living_keys(changes: Iterable[Record], grants: Collection[str]) -> dict[str, int]:
    """The keys of these grants' contacts that contacts.changes holds as living, each with its version."""
    living: dict[str, int] = {}
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        if key.partition("/")[0] not in grants:
            continue
        living.pop(key, None)
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue
        if change is not None and change.kind is not Kind.DELETED:
            living[key] = change.version
    return living
