"""Which contacts are synced by their contact groups: PEOPLE_GROUPS and PEOPLE_EXCLUDED_GROUPS.

Each entry is the name of a group, or a glob; case is ignored. A contact names its groups by ID. The
reader adds the names to the contacts that it reads, and publishes those of each grant for webhooks.
Plain functions and data.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from connectors.nylas.model import groups_of
from connectors.salesforce.skip_reasons import SkipReason

FIELD = "groups"
"""The field of a contact that names its groups."""

NO_NAMES: Mapping[str, str] = {}


@dataclass(frozen=True)
class GroupRule:
    """Which contacts are synced; without any entry all of them."""

    included: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def reads_groups(self) -> bool:
        """Whether groups decide anything. If not, nobody asks Nylas for them."""
        return bool(self.included or self.excluded)

    @cached_property
    def hash(self) -> bytes:
        """16 bytes that change exactly when the rule does."""
        entries = [sorted(map(str.casefold, each)) for each in (self.included, self.excluded)]
        return hashlib.blake2b(orjson.dumps(entries), digest_size=16).digest()

    def reads(self, name: str) -> bool:
        """Whether an entry names a group."""
        return _matches(name, self.included) or _matches(name, self.excluded)

    def without_group(self, names: Iterable[str]) -> list[str]:
        """The entries that name none of these groups."""
        known = list(names)
        entries = dict.fromkeys((*self.included, *self.excluded))
        return [entry for entry in entries if not any(_matches(name, (entry,)) for name in known)]


NO_GROUPS = GroupRule()


class GroupVerdict(NamedTuple):
    """What the groups of a contact decide."""

    reason: SkipReason | None = None
    """Why the contact is left out; None if it is not, or if nothing is decided."""
    undecided: bool = False
    """Whether a group has no name yet, so that nothing is decided."""
    read: tuple[str, ...] = ()
    """The IDs of its groups that entries of the rule name, sorted."""
    ids: tuple[str, ...] = ()
    """The IDs of all its groups, sorted."""


EVERYBODY = GroupVerdict()


def judge(
    rule: GroupRule, contact: Mapping[str, Any], names: Mapping[str, str], *, certain: bool
) -> GroupVerdict:
    """What the rule says of a contact. An excluded group comes before an included one.

    `names` are those of the groups of its grant, by ID; a name that the contact itself carries
    comes first, because it is as new as the contact. With `certain`, a group without a known name
    counts as one that no entry names; otherwise nothing is decided.
    """
    if not rule.reads_groups:
        return EVERYBODY
    named = {group["id"]: _name(group, names) for group in groups_of(contact)}
    ids = tuple(sorted(named))
    known = [name for name in named.values() if name]
    if any(_matches(name, rule.excluded) for name in known):
        return GroupVerdict(SkipReason.EXCLUDED_GROUP, ids=ids)
    if not certain and None in named.values():
        return GroupVerdict(undecided=True, ids=ids)
    read = tuple(each for each in ids if rule.reads(named[each] or ""))
    out = bool(rule.included) and not any(_matches(name, rule.included) for name in known)
    return GroupVerdict(SkipReason.NOT_IN_GROUP if out else None, read=read, ids=ids)


def with_group_names(contact: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The contact, whose groups carry their names; one that is not listed has an empty name."""
    groups = list(groups_of(contact))
    if not groups:
        return contact
    return {**contact, FIELD: [{**group, "name": names.get(group["id"], "")} for group in groups]}


def unknown_ids(contact: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """The IDs of the contact's groups whose names are not among these."""
    return [group["id"] for group in groups_of(contact) if group["id"] not in names]


def _name(group: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    own = group.get("name")
    return own if isinstance(own, str) else names.get(group["id"])


def _matches(name: str, entries: Iterable[str]) -> bool:
    """Whether an entry is the name, which may hold the marks of a glob itself, or a glob of it."""
    folded = name.casefold()
    wanted = [entry.casefold() for entry in entries]
    return bool(folded) and any(each == folded or fnmatchcase(folded, each) for each in wanted)
