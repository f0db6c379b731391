"""Decides whether a backfilled grant is listed again, because contacts may have moved meanwhile.

Nylas shows no number of contacts, and its pages do not show that a contact moved from a page that
was still to come to one that was read. Only another listing does. So a grant of several pages is
listed until a listing holds nothing new. Plain data.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.reader.records import contact_hash

# Listings of a grant in one backfill. The second finds what moved during the first and the third
# shows that nothing else did. An address book that still moves is left to a reconcile.
MAX_LISTINGS = 3


@dataclass(slots=True)
class ListingCheck:
    """What the listings of a grant have held so far."""

    several_pages: bool = False
    """Whether a cursor was followed: within one page nothing moves."""
    resumed: bool = False
    """Whether a process that has ended read the first pages. What they held is unknown: they are
    read a second time, and the listings end there.
    """
    listings: int = 0
    """Listings that have ended."""
    new: int = 0
    """Contacts of the present listing that no earlier one held."""
    empty_pages: int = 0
    """Pages of the present listing without a contact, although another page follows."""
    seen: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hashes of the IDs of the contacts of the present listing that no earlier one held."""
    earlier: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hashes of the IDs of the contacts of the earlier listings, sorted."""

    def unseen(self, contacts: Sequence[dict[str, Any]], *, last: bool) -> list[dict[str, Any]]:
        """Takes a page in; returns its contacts that no earlier listing held.

        `last` tells that no page of its source follows.
        """
        self.several_pages = self.several_pages or not last
        self.empty_pages += not contacts and not last
        hashes = [contact_hash(str(contact.get("id"))) for contact in contacts]
        fresh = [
            (contact, one)
            for contact, one in zip(contacts, hashes, strict=True)
            if not self._held(one)
        ]
        self.seen.extend(one for _, one in fresh)
        self.new += len(fresh)
        return [contact for contact, _ in fresh]

    def again(self) -> bool:
        """Whether the listing that has just ended is followed by another one."""
        settled = self.listings > 0 and (self.resumed or not self.new)
        self.listings += 1
        if (
            (settled and not self.empty_pages)
            or not (self.several_pages or self.resumed)
            or self.listings >= MAX_LISTINGS
        ):
            return False
        self.earlier = array("Q", sorted({*self.earlier, *self.seen}))
        self.seen, self.new, self.empty_pages = array("Q"), 0, 0
        return True

    def gap(self) -> str:
        """Why contacts may be missing after the last listing; empty if they are not."""
        found = []
        if self.new and self.listings > 1 and not self.resumed:
            found.append(f"{self.new} contacts were only in listing {self.listings}")
        if self.empty_pages:
            found.append(f"{self.empty_pages} pages came empty although others followed")
        return " and ".join(found)

    def forget(self) -> None:
        """Gives the memory of the contacts back."""
        self.seen, self.earlier = array("Q"), array("Q")

    def _held(self, one: int) -> bool:
        at = bisect_left(self.earlier, one)
        return at < len(self.earlier) and self.earlier[at] == one
