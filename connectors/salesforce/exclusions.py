"""Which addresses may stand for a person: colleagues, role addresses, configured exclusions, and
erased people.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate

from connectors.salesforce.emails import domain, local_part
from connectors.salesforce.skip_reasons import SkipReason

# Mailboxes of a function, after RFC 2142 and what address books really hold. Separators do not
# count: no-reply is noreply.
_ROLES = """
abuse accounting accounts admin administrator alert alerts billing bookings careers confirmation contact customercare
customerservice daemon digest enquiries events feedback hello help helpdesk hostmaster hr info inquiries invoice invoices jobs
legal mail mailerdaemon marketing media news newsletter notification notifications notify office orders postmaster press privacy
receipts reception recruiting reply root sales security service shipping spam subscriptions support team unsubscribe updates
webmaster
"""
ROLES = frozenset(_ROLES.split())
_AUTOMATIC = re.compile(r"(?:no|donot|dont)reply|bounces?(?:$|\d)|unsubscribe")
_SEPARATORS = str.maketrans("", "", "-_.")
# Rooms, groups and reply tokens have an address and are nobody.
MACHINES = frozenset(
    {
        "group.calendar.google.com",
        "resource.calendar.google.com",
        "reply.github.com",
        "users.noreply.github.com",
    }
)


def role_names(changes: Iterable[str]) -> frozenset[str]:
    """The known names of functions with others added, or without those that begin with `!`."""
    added: set[str] = set()
    taken: set[str] = set()
    for change in changes:
        name = change.strip().removeprefix("!").lower().translate(_SEPARATORS)
        (taken if change.strip().startswith("!") else added).add(name)
    return (ROLES | added) - taken


def is_role(address: str, roles: frozenset[str] = ROLES) -> bool:
    """Whether a mailbox is one of a function, of a machine, and no person's."""
    local = local_part(address).partition("+")[0].translate(_SEPARATORS)
    return local in roles or _AUTOMATIC.match(local) is not None


def in_domains(name: str, domains: frozenset[str]) -> bool:
    """Whether a domain is one of these, or below one."""
    while name:
        if name in domains:
            return True
        name = name.partition(".")[2]
    return False


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Whom to leave out. Everything in lower case; `patterns` are globs over whole addresses
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
            object.__setattr__(
                self, name, frozenset(value.strip().lower() for value in getattr(self, name))
            )
        if self.patterns:
            joined = "|".join(translate(pattern.strip().lower()) for pattern in self.patterns)
            object.__setattr__(self, "_compiled", re.compile(joined))

    def reason(self, address: str) -> SkipReason | None:
        """Why an address is passed over, or None."""
        if address in self.addresses or in_domains(domain(address), self.domains):
            return SkipReason.EXCLUDED
        if self._compiled is not None and self._compiled.match(address):
            return SkipReason.EXCLUDED
        return SkipReason.ROLE_ADDRESS if is_role(address, self.roles) else None

    def usable(self, addresses: Sequence[str]) -> tuple[tuple[str, ...], SkipReason | None]:
        """The addresses that may be used, in order; or why the whole contact is skipped.

        Any own address makes a colleague. Where every address is passed over, the first one's
        reason counts.
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
