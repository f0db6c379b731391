"""Which mailboxes are synced: the setting PEOPLE_MAILBOXES as a rule, and what it decides.

Each entry is an address (`ada@acme.com`), a glob (`*@sales.acme.com`), or
`permission-set:API_NAME`: the addresses of the users who have this permission set of Salesforce.
The sink publishes those, because it alone asks Salesforce. Plain functions and data.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property

PERMISSION_SET = "permission-set:"
"""What stands before the API name of a permission set."""

# Salesforce's rule for API names; a managed package adds its namespace and two underscores.
_API_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:_{1,2}[A-Za-z0-9]+)*")


class Why(StrEnum):
    """Why a mailbox is selected or not."""

    EVERYTHING = "everything"
    """No mailboxes are named, so each one is selected."""
    ADDRESS = "address"
    """An address or a glob names it."""
    PERMISSION_SET = "permission_set"
    """Its owner has one of the permission sets."""
    NO_ENTRY = "no_entry"
    """Nothing names it."""
    ADDRESS_UNKNOWN = "address_unknown"
    """Nothing has named the address of the grant yet."""
    MEMBERS_UNKNOWN = "members_unknown"
    """The users of a permission set were never published, and nothing else names it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a mailbox is synced."""

    selected: bool
    why: Why
    entry: str = ""
    """The entry that decides: the one that names it, or the one whose users are not known."""

    def __str__(self) -> str:
        """In words, for a person."""
        return {
            Why.EVERYTHING: "selected: PEOPLE_MAILBOXES is empty",
            Why.ADDRESS: f"selected by {self.entry}",
            Why.PERMISSION_SET: f"selected by {self.entry}",
            Why.NO_ENTRY: "not selected",
            Why.ADDRESS_UNKNOWN: "not decided: its address is not known yet",
            Why.MEMBERS_UNKNOWN: f"not selected: the users of {self.entry} are not known yet",
        }[self.why]


@dataclass(frozen=True)
class MailboxRule:
    """Which mailboxes are synced; without any entry all of them."""

    entries: tuple[str, ...] = ()

    @cached_property
    def addresses(self) -> Mapping[str, str]:
        """The entries that are addresses, by the address in lower case."""
        return {
            entry.casefold(): entry
            for entry in self.entries
            if not entry.startswith(PERMISSION_SET) and not _is_glob(entry)
        }

    @cached_property
    def globs(self) -> tuple[str, ...]:
        """The entries that are globs."""
        return tuple(
            entry
            for entry in self.entries
            if not entry.startswith(PERMISSION_SET) and _is_glob(entry)
        )

    @cached_property
    def permission_sets(self) -> tuple[str, ...]:
        """The API names of the permission sets, as the setting spells them."""
        return tuple(
            entry.removeprefix(PERMISSION_SET)
            for entry in self.entries
            if entry.startswith(PERMISSION_SET)
        )

    def choose(self, address: str | None, members: Mapping[str, frozenset[str]]) -> Choice:
        """Whether the mailbox of an address is synced; None while the address is not known.

        `members`: the addresses of the users of each permission set that is known, in lower case.
        """
        if not self.entries:
            return Choice(True, Why.EVERYTHING)
        if address is None:
            return Choice(False, Why.ADDRESS_UNKNOWN)
        folded, unknown = address.casefold(), ""
        if folded in self.addresses:
            return Choice(True, Why.ADDRESS, self.addresses[folded])
        for glob in self.globs:
            if folded and fnmatchcase(folded, glob.casefold()):
                return Choice(True, Why.ADDRESS, glob)
        for name in self.permission_sets:
            found = members.get(name)
            if found is None:
                unknown = unknown or PERMISSION_SET + name
            elif folded and folded in found:
                return Choice(True, Why.PERMISSION_SET, PERMISSION_SET + name)
        return Choice(False, Why.MEMBERS_UNKNOWN if unknown else Why.NO_ENTRY, unknown)

    def without_grant(self, addresses: Iterable[str]) -> list[str]:
        """The addresses of the rule that none of these addresses of grants is."""
        known = {address.casefold() for address in addresses}
        return [address for address in self.addresses if address not in known]


EVERY_MAILBOX = MailboxRule()


def problem_of(entry: str) -> str:
    """Why an entry of PEOPLE_MAILBOXES cannot be used, and what to write; empty if it can."""
    kind, colon, name = entry.partition(":")
    if entry.startswith(PERMISSION_SET):
        if _API_NAME.fullmatch(name):
            return ""
        return f"{entry!r} names no permission set: write {PERMISSION_SET}API_NAME"
    if colon and difflib.get_close_matches(kind.casefold(), [PERMISSION_SET[:-1]], 1, 0.7):
        return f"{entry!r}: did you mean {PERMISSION_SET}{name.strip()}?"
    if "@" in entry or "*" in entry:
        return ""
    return (
        f"{entry!r} is neither an address, nor a glob like *@acme.com, nor {PERMISSION_SET}API_NAME"
    )


def _is_glob(entry: str) -> bool:
    return any(mark in entry for mark in "*?[")
