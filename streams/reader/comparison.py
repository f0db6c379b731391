"""Compares complete listings of address books with contacts.changes: plain functions."""

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streams.events import PAGE_MARGIN_SECONDS, Kind, UnreadableRecord, parse_change
from streams.kafka.records import KafkaRecord
from streams.reader.bounded_keys import MAX_KEYS_HELD, WHOLE, BoundedKeys, KeyPart
from streams.reader.outcome_records import WITHOUT_OWN_RECORD, OutcomeRecord, parse_outcome
from streams.reader.records import contact_hash

# So many deletions pass the guard whatever their share: in an address book of five contacts, one
# is already a fifth.
ALWAYS_ALLOWED_DELETIONS = 10


@dataclass(frozen=True, slots=True)
class Listing:
    """A complete listing of a grant's contacts."""

    grant: str
    start: int
    """The `Date` of its first page, in epoch seconds."""
    sources: tuple[str, ...]
    """The contact sources that were asked for."""
    seen: "array[int]"
    """The hashes of the IDs of its contacts, sorted, each once."""
    refused: frozenset[str] = frozenset()
    """Sources that Nylas refused to list. The listing says nothing about their contacts."""

    def holds(self, contact_id: str) -> bool:
        """Whether the contact was listed."""
        wanted = contact_hash(contact_id)
        at = bisect_left(self.seen, wanted)
        return at < len(self.seen) and self.seen[at] == wanted

    def covers(self, contact: Mapping[str, Any]) -> bool:
        """Whether the source of the contact was listed; a contact without one is of the first."""
        source = contact.get("source", self.sources[0])
        return source in self.sources and source not in self.refused


def listing_of(
    grant: str,
    start: int,
    sources: tuple[str, ...],
    seen: "array[int]",
    refused: Collection[str] = (),
) -> Listing:
    """A listing from the hashes of its contacts, in any order and with repetitions."""
    return Listing(grant, start, sources, array("Q", sorted(set(seen))), frozenset(refused))


@dataclass(slots=True)
class Comparison:
    """The differences between listings and contacts.changes.

    Both fields hold the offset of a contact's last change, by contact key.
    """

    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    """By grant ID: living contacts that are older than the listing and were not listed."""
    to_reoffer: dict[str, int] = field(default_factory=dict)
    """Living contacts that were listed and whose last outcome gave them no record of their own."""
    part: KeyPart = WHOLE
    """The part of the missing contacts that `missing` holds."""


def compare(
    changes: Iterable[KafkaRecord],
    listings: Mapping[str, Listing],
    without_own: Collection[str],
    part: KeyPart = WHOLE,
    most: int = MAX_KEYS_HELD,
) -> Comparison:
    """Compares contacts.changes with complete listings, by grant ID.

    `changes` are in the order of their offsets; the last record of a key decides. `without_own` are
    the keys of contacts without a record of their own. A contact is missing if the listing does not
    hold it, its source was listed, and its version is older than the start of the listing less the
    page margin: a contact that was created or changed during the listing is not missing. Unreadable
    records count as no change.

    Where more than `most` contacts are missing at some moment of the topic, only a part of them is
    found: an empty listing would otherwise hold all contacts in memory, before the guard can tell
    that they are too many. `part` finds another part.
    """
    found, missing = Comparison(), BoundedKeys[int](part, most)
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        grant, _, contact_id = key.partition("/")
        listing = listings.get(grant)
        if listing is None:
            continue
        listed = listing.holds(contact_id)
        if listed and key not in without_own:
            continue
        missing.drop(key)
        found.to_reoffer.pop(key, None)
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue
        if change is None or change.kind is Kind.DELETED:
            continue
        older = change.version < listing.start - PAGE_MARGIN_SECONDS
        if listed:
            found.to_reoffer[key] = record.offset
        elif older and listing.covers(change.contact):
            missing.put(key, record.offset)
    found.part = missing.part
    for key, offset in missing.held.items():
        found.missing.setdefault(key.partition("/")[0], {})[key] = offset
    return found


def guard_error(missing: int, listed: int, max_share: float) -> str:
    """Why so many deletions must not be published; empty if they may.

    More than the share `max_share` of the known contacts is more likely a fault than the truth.
    """
    if missing <= ALWAYS_ALLOWED_DELETIONS or missing <= max_share * (missing + listed):
        return ""
    return (
        f"stopped by the guard: {missing} contacts would be deleted, {listed} were listed, and at "
        f"most {max_share:.0%} may be deleted. If the deletions are right, run: "
        "contactstream reconcile --all --max-delete-share 1"
    )


def keys_without_own_record(outcomes: Iterable[KafkaRecord], grants: Collection[str]) -> set[str]:
    """Keys of the contacts of these grants whose last outcome gave them no record of their own.

    Such a contact filled a record of another contact, was covered, or was ambiguous. Its record may
    have been released or corrected since. One that was skipped because people deleted its record
    may have been lifted, or its record brought back.
    """
    found: set[str] = set()
    for record in outcomes:
        key = (record.key or b"").decode(errors="replace")
        if key.partition("/")[0] in grants:
            without = _is_without_own_record(parse_outcome(record))
            (found.add if without else found.discard)(key)
    return found


def _is_without_own_record(last: OutcomeRecord) -> bool:
    return last.outcome in WITHOUT_OWN_RECORD or (
        last.outcome == "skipped" and last.reason == "deleted_in_salesforce"
    )


class LivingKeys(NamedTuple):
    """Living contacts: key to version, and the part of all of them that they are."""

    versions: dict[str, int]
    part: KeyPart


def living_keys(
    changes: Iterable[KafkaRecord],
    grants: Collection[str],
    part: KeyPart = WHOLE,
    most: int = MAX_KEYS_HELD,
) -> LivingKeys:
    """The contacts of these grants whose last change is no deletion.

    Where more than `most` are living at some moment of the topic, only a part of them is found;
    `part` finds another part.
    """
    living = BoundedKeys[int](part, most)
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        if key.partition("/")[0] not in grants:
            continue
        living.drop(key)
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue
        if change is not None and change.kind is not Kind.DELETED:
            living.put(key, change.version)
    return LivingKeys(living.held, living.part)
