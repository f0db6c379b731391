"""Leaves out contacts by their addresses: colleagues, role addresses and configured exclusions."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate

import orjson

from connectors.salesforce.emails import domain, local_part
from connectors.salesforce.skip_reasons import SkipReason

# Local parts of mailboxes that serve a function and no person, from RFC 2142 and from real address
# books. A hyphen stands between words that may be written together or apart.
_ROLES = """
abuse accounting accounts admin administrator alert alerts billing bookings careers confirmation
contact customer-care customer-service daemon digest enquiries events feedback hello help help-desk
host-master hr info inquiries invoice invoices jobs legal mail mailer-daemon marketing media news
news-letter notification notifications notify office orders post-master press privacy receipts
reception recruiting reply root sales security service shipping spam subscriptions support team
unsubscribe updates web-master
"""
# Words that a machine's mailbox has anywhere in its local part: drive-shares-noreply.
_AUTOMATIC = "no-reply do-not-reply dont-reply unsubscribe"
# Digits end a word: noreply2, bounce123.
_WORDS = re.compile(r"[^\W\d_]+|\d+")


def _spellings(name: str) -> frozenset[str]:
    """A name of several words with any of its hyphens left out.

    >>> sorted(_spellings("do-not-reply"))
    ['do-not-reply', 'do-notreply', 'donot-reply', 'donotreply']
    """
    first, hyphen, rest = name.partition("-")
    if not hyphen:
        return frozenset({name})
    return frozenset(
        first + joint + spelling for joint in ("", "-") for spelling in _spellings(rest)
    )


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())


ROLES = frozenset(spelling for name in _ROLES.split() for spelling in _spellings(name))
"""The words of role addresses, joined by hyphens, in each spelling."""
_AUTOMATIC_WORDS = re.compile(
    rf"(?:^|-)(?:{'|'.join(s for name in _AUTOMATIC.split() for s in _spellings(name))})(?:-|$)"
)
# The return paths of mass mail carry a number: bounce-123, bounce-md_30.5f. Bounce is a surname.
_BOUNCE = re.compile(r"bounces?(?:$|-.*\d)")
# domains of rooms, groups and reply tokens, which have addresses and are no people
MACHINES = frozenset(
    {
        "group.calendar.google.com",
        "resource.calendar.google.com",
        "reply.github.com",
        "users.noreply.github.com",
    }
)


def role_names(changes: Iterable[str]) -> frozenset[str]:
    """ROLES with the given names added; a name that begins with `!` is removed instead.

    `front-desk` adds frontdesk too. A removal covers every spelling: `!helpdesk` removes help-desk.
    """
    added: set[str] = set()
    removed: set[str] = set()
    for change in changes:
        words = _words(change)
        if not words:
            continue
        if change.strip().startswith("!"):
            removed.add("".join(words))
        else:
            added |= _spellings("-".join(words))
    return frozenset(name for name in ROLES | added if name.replace("-", "") not in removed)


def is_role(address: str, roles: frozenset[str] = ROLES) -> bool:
    """Whether a mailbox belongs to a function or a machine, and not to a person.

    Whole words decide, as they are written in front of a `+tag`: `billing@` and `no.reply@` are
    role addresses, `b.illing@`, `press.ley@` and `noreplyson@` may be people.
    """
    return _is_role_name(local_part(address), roles)


def _is_role_name(local: str, roles: frozenset[str]) -> bool:
    name = local.partition("+")[0].lower()
    words = name if name.isalpha() else "-".join(_WORDS.findall(name))
    if words in roles:
        return True
    # the searches are only for who has what every automatic word has
    if ("reply" in words or "unsubscribe" in words) and _AUTOMATIC_WORDS.search(words):
        return True
    return words.startswith("bounce") and _BOUNCE.match(words) is not None


def in_domains(name: str, domains: frozenset[str]) -> bool:
    """Whether a domain is one of `domains`, or a subdomain of one."""
    while name:
        if name in domains:
            return True
        name = name.partition(".")[2]
    return False


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Addresses and domains to leave out; case is ignored.

    `own_domains` are those of colleagues. `patterns` are globs over whole addresses
    (`*@*.example`).
    """

    own_domains: frozenset[str] = frozenset()
    roles: frozenset[str] = ROLES
    addresses: frozenset[str] = frozenset()
    domains: frozenset[str] = MACHINES
    patterns: tuple[str, ...] = ()
    _compiled: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        for name in ("own_domains", "roles", "addresses", "domains"):
            lowered = frozenset(value.strip().lower() for value in getattr(self, name))
            object.__setattr__(self, name, lowered)
        if self.patterns:
            joined = "|".join(translate(pattern.strip().lower()) for pattern in self.patterns)
            object.__setattr__(self, "_compiled", re.compile(joined))

    def digest(self, sources: Iterable[str]) -> str:
        """16 hexadecimal digits that change exactly when these exclusions or the sources do."""
        lists = [self.own_domains, self.roles, self.addresses, self.domains, self.patterns, sources]
        text = orjson.dumps([sorted(each) for each in lists])
        return hashlib.blake2b(text, digest_size=8).hexdigest()

    def reason(self, address: str) -> SkipReason | None:
        """Why an address is skipped, or None if it may be used."""
        local, _, host = address.rpartition("@")
        if address in self.addresses or in_domains(host, self.domains):
            return SkipReason.EXCLUDED
        if self._compiled is not None and self._compiled.match(address):
            return SkipReason.EXCLUDED
        return SkipReason.ROLE_ADDRESS if _is_role_name(local, self.roles) else None

    def skipped(self, addresses: Iterable[str]) -> SkipReason | None:
        """Why a contact with these addresses is skipped, as `usable` says it; None if it is not.

        It asks for no more addresses than decide that.
        """
        if self.own_domains:
            return self.usable(tuple(addresses))[1]
        first: SkipReason | None = None
        for address in addresses:
            reason = self.reason(address)
            if reason is None:
                return None
            first = first or reason
        return first

    def usable(self, addresses: Sequence[str]) -> tuple[tuple[str, ...], SkipReason | None]:
        """The addresses that may be used, in order, and why the contact is skipped if none may.

        A contact with any address of an own domain is a colleague, and skipped. If every address is
        skipped, the reason is that of the first one.
        """
        if self.own_domains and any(
            in_domains(domain(address), self.own_domains) for address in addresses
        ):
            return (), SkipReason.OWN_DOMAIN
        first: SkipReason | None = None
        kept = []
        for address in addresses:
            if reason := self.reason(address):
                first = first or reason
            else:
                kept.append(address)
        return tuple(kept), None if kept else first
