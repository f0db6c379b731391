"""Which addresses may stand for a person: colleagues, role addresses, configured exclusions, and erased people."""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path

from connectors.salesforce.emails import domain, local_part
from connectors.salesforce.errors import SalesforceError
from connectors.salesforce.skips import SkipReason

# Mailboxes of a function, after RFC 2142 and what address books really hold. Separators do not count: no-reply is noreply.
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
    {"group.calendar.google.com", "resource.calendar.google.com", "reply.github.com", "users.noreply.github.com"}
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
    """Whom to leave out. Everything in lower case; `patterns` are globs over whole addresses (`*@*.example`)."""

    own_domains: frozenset[str] = frozenset()
    roles: frozenset[str] = ROLES
    addresses: frozenset[str] = frozenset()
    domains: frozenset[str] = MACHINES
    patterns: tuple[str, ...] = ()
    _compiled: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        for name in ("own_domains", "roles", "addresses", "domains"):
            object.__setattr__(self, name, frozenset(value.strip().lower() for value in getattr(self, name)))
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

        Any own address makes a colleague. Where every address is passed over, the first one's reason counts.
        """
        if self.own_domains and any(in_domains(domain(address), self.own_domains) for address in addresses):
            return (), SkipReason.OWN_DOMAIN
        first: SkipReason | None = None
        kept = []
        for address in addresses:
            if reason := self.reason(address):
                first = first or reason
            else:
                kept.append(address)
        return tuple(kept), None if kept else first


class SuppressionError(SalesforceError):
    """The list of erased people cannot be read; nothing may be written without it."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """People who asked to be erased, by salted hashes of their addresses and contact keys: the list itself names nobody."""

    salt: bytes = field(repr=False, default=b"")
    hashes: frozenset[str] = frozenset()

    def entry(self, value: str) -> str:
        """The hash under which an address (as `normalise` gives it) or a contact key is listed."""
        return hmac.digest(self.salt, value.encode(errors="surrogatepass"), "sha256").hex()

    def holds(self, values: Iterable[str]) -> bool:
        """Whether any of these addresses or keys is listed."""
        return bool(self.hashes) and any(self.entry(value) in self.hashes for value in values)

    def adding(self, values: Iterable[str]) -> "Suppression":
        """A list with these as well; a first entry draws the salt."""
        grown = Suppression(self.salt or secrets.token_bytes(hashlib.sha256().digest_size), self.hashes)
        return Suppression(grown.salt, grown.hashes | {grown.entry(value) for value in values})

    def dump(self) -> str:
        return json.dumps({"salt": self.salt.hex(), "hashes": sorted(self.hashes)}, indent=0)


def load_suppression(path: Path) -> Suppression:
    """The list as `dump` wrote it. Raises SuppressionError, also where the file is missing."""
    try:
        data = json.loads(path.read_text())
        return Suppression(bytes.fromhex(data["salt"]), frozenset(map(str, data["hashes"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SuppressionError(f"{path}: {type(error).__name__}") from error


LOOK_SECONDS = 1.0  # a look at the file's status costs microseconds, but every contact asks


class SuppressionFile:
    """The list in a file that may grow at any time; stands where a Suppression does. Read at first use, and when the file has changed.

    Every use may raise SuppressionError: what cannot be read now may name anybody.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked: float | None = None
        self._mark: tuple[int, int, int] | None = None
        self._list = Suppression()

    @property
    def hashes(self) -> frozenset[str]:
        return self.current().hashes

    def holds(self, values: Iterable[str]) -> bool:
        """Whether any of these addresses or keys is listed."""
        return self.current().holds(values)

    def current(self) -> Suppression:
        """The list as the file holds it now, or held it within LOOK_SECONDS."""
        now = self._clock()
        if self._looked is None or now - self._looked >= LOOK_SECONDS:
            try:
                found = self._path.stat()
            except OSError as error:
                raise SuppressionError(f"{self._path}: {type(error).__name__}") from error
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            if mark != self._mark:
                self._list = load_suppression(self._path)
            self._mark, self._looked = mark, now  # only now: what failed is tried again at the next use
        return self._list
