"""Compares complete listings with contacts.changes. Plain functions."""

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from streams.events import PAGE_MARGIN, Kind, UnreadableRecord, parse_change
from streams.kafka.records import KafkaRecord
from streams.reader.records import contact_hash

GUARD_FROM = 10
"""Deletions that the guard lets pass whatever their share: in an address book of five, one is a
fifth.
"""


@dataclass(frozen=True, slots=True)
class Listing:
    """A complete listing of a grant: `seen` are the hashes of its contacts' IDs, sorted; `start` is
    the `Date` of its first page.

    Of the `sources` those that Nylas `refused` were not listed, which says nothing of their
    contacts.
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
    """What contacts.changes knows of the listed grants beyond their listings, by contact key; the
    offset is that of its last change.
    """

    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    """Grant ID to contact key to offset: contacts that live there, are older than the scan, and
    were not listed.
    """
    offered: dict[str, int] = field(default_factory=dict)
    """Contacts that live, were listed, and whose last outcome was only `filled`."""


def compare(
    changes: Iterable[KafkaRecord], listings: Mapping[str, Listing], filled: Collection[str]
) -> Comparison:
    """Compares contacts.changes, oldest first, with complete listings. The last record of a key
    decides.

    A contact is missing when the listing does not hold it, its version is older than the scan's
    start less the margin (one created or changed meanwhile lives), and its source is one that was
    listed. A record that is no change is passed over.
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
    """Whether so many deletions are more than the configured share of what is known, and so more
    likely a fault than the truth.
    """
    return missing > GUARD_FROM and missing > share * (missing + listed)


def filled_keys(outcomes: Iterable[KafkaRecord], grants: Collection[str]) -> set[str]:
    """Contacts of the grants whose last outcome was `filled`: another contact owned the record,
    which it may have given up since.
    """
    filled: set[str] = set()
    for record in outcomes:
        key = (record.key or b"").decode(errors="replace")
        if key.partition("/")[0] in grants:
            (filled.add if read_outcome(record)[0] == "filled" else filled.discard)(key)
    return filled


def read_outcome(record: KafkaRecord) -> tuple[str, str]:
    """What a record of contacts.outcomes says: the outcome, and the ID of the Salesforce record.
    Empty where it says nothing.
    """
    outcome = _outcome(record)
    return str(outcome.get("outcome") or ""), str(outcome.get("id") or "")


def _outcome(record: KafkaRecord) -> Mapping[str, Any]:
    try:
        outcome = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return {}
    return outcome if isinstance(outcome, dict) else {}


def _guard_text(missing: int, listed: int, share: float) -> str:
    return (
        f"stopped by the guard: {missing} contacts would be deleted, {listed} were listed, and at most {share:.0%} may be. "
        "If it is right: contactstream reconcile --all --max-delete-share 1"
    )


def listing_of(
    grant: str,
    start: int,
    sources: tuple[str, ...],
    seen: "array[int]",
    refused: Collection[str] = (),
) -> Listing:
    """A listing of what was seen, in whatever order and however often."""
    return Listing(grant, start, sources, array("Q", sorted(set(seen))), frozenset(refused))


def living_keys(changes: Iterable[KafkaRecord], grants: Collection[str]) -> dict[str, int]:
    """The keys of these grants' contacts that contacts.changes holds as living, each with its
    version.
    """
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
