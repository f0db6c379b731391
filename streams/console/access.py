"""Decides which requests the console answers, and what the person behind one may do.

Pure functions over what a request says; the server asks them before anything else.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from streams.settings import ConsoleSettings, SettingsError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

# A token of 16 random characters cannot be guessed over a network.
LEAST_TOKEN_LENGTH = 16

# Makes the console choose a token at its start.
GENERATE = "generate"

# In an identity of the proxy. A mail address has at most 254; the audit keeps it.
MAX_IDENTITY_LENGTH = 254


class Role(Enum):
    """What a person may do."""

    NOBODY = "nobody"
    """Has to show who they are first."""
    READ = "read"
    ACT = "act"
    """Reads, reveals and acts."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who is behind a request, as far as it is known, and what they may do."""

    role: Role
    name: str = ""
    """For the audit. Empty if the request does not say it."""

    @property
    def may_read(self) -> bool:
        """Whether pages are shown."""
        return self.role is not Role.NOBODY

    @property
    def may_act(self) -> bool:
        """Whether buttons are shown, and what they send is done."""
        return self.role is Role.ACT


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """The rules of one console, from its settings. Made by `gatekeeper`."""

    hosts: frozenset[str]
    """In lower case, with the port where a browser shows it."""
    token: str
    """Empty where nobody has to show one."""
    identity_header: str
    trusted_proxies: tuple[Network, ...]
    actors: frozenset[str]
    operator: str
    """For the audit, where the request does not say who it is."""
    session: str = field(default="", repr=False)
    """The cookie of a browser that has shown the token."""


def gatekeeper(settings: ConsoleSettings, token: str, operator: str, port: int) -> Gatekeeper:
    """The rules for these settings; `token` is the one in use and `port` the one that is bound.

    Raises SettingsError when the page could be opened by anybody, or when an address is none.
    """
    host = settings.listen.rpartition(":")[0]
    if not is_loopback(host) and not token and not settings.identity_header:
        raise SettingsError(
            f"CONSOLE_LISTEN={settings.listen} can be reached from other machines: set "
            "CONSOLE_TOKEN_FILE (CONSOLE_TOKEN=generate makes a token), or CONSOLE_IDENTITY_HEADER "
            "and CONSOLE_TRUSTED_PROXIES, or listen on 127.0.0.1"
        )
    if token and len(token) < LEAST_TOKEN_LENGTH:
        raise SettingsError(
            f"CONSOLE_TOKEN has {len(token)} characters and needs {LEAST_TOKEN_LENGTH}: make one "
            "with `openssl rand -hex 32`"
        )
    if settings.identity_header and not settings.trusted_proxies:
        raise SettingsError(
            "CONSOLE_IDENTITY_HEADER is set and CONSOLE_TRUSTED_PROXIES is not: anybody could "
            "claim to be anybody; name the addresses of the proxy"
        )
    return Gatekeeper(
        frozenset(_host_names(host, settings.hosts, port)),
        token,
        settings.identity_header,
        tuple(_networks(settings.trusted_proxies)),
        frozenset(settings.actors),
        operator,
        session_of(token) if token else "",
    )


def require_own_port(listen: str, others: Mapping[str, str]) -> None:
    """Raises SettingsError when the console would have the port of another server.

    `others` are the addresses (host:port) of those servers by their settings. The hosts do not
    count: what leads from the internet to the bridge's port may lead to any address of this
    machine. Port 0 is any free port.
    """
    port = _port(listen)
    for setting, address in others.items():
        if port and port == _port(address):
            raise SettingsError(
                f"CONSOLE_LISTEN={listen} has the port of {setting}={address}: "
                f"{_SERVERS.get(setting, 'another server')} listens there; set CONSOLE_LISTEN to "
                "another port"
            )


# Why the console must not have their port.
_SERVERS = {
    "BRIDGE_LISTEN": "the bridge, which the internet reaches,",
    "OPS_LISTEN": "the operations port of this process",
}


def _port(address: str) -> int:
    return int(address.rpartition(":")[2] or 0)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a server that listens there."""
    name = host.removeprefix("[").removesuffix("]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _host_names(host: str, further: Iterable[str], port: int) -> Iterable[str]:
    own = LOOPBACK_NAMES if is_loopback(host) or host in ("0.0.0.0", "", "[::]", "::") else (host,)
    for name in own:
        yield f"{name}:{port}".lower()
        if port == 80:
            yield name.lower()
    yield from (name.lower() for name in further)


def _networks(texts: Iterable[str]) -> Iterable[Network]:
    for text in texts:
        try:
            yield ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise SettingsError(
                f"CONSOLE_TRUSTED_PROXIES={text} is no address and no network such as 10.1.0.0/16"
            ) from error


def session_of(token: str) -> str:
    """The value of the cookie after the token was shown. It ends when the token is replaced."""
    return hmac.new(token.encode(), b"contactstream console session", hashlib.sha256).hexdigest()


def same(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(
        hashlib.sha256(given.encode()).digest(), hashlib.sha256(expected.encode()).digest()
    )


def host_is_known(host: str, hosts: Collection[str]) -> bool:
    """Whether a request was meant for this console.

    A page of another site may let its own name point to this machine (DNS rebinding); the browser
    then sends that name as the host.
    """
    return host.lower() in hosts


def comes_from_our_page(headers: Mapping[str, str], hosts: Collection[str]) -> bool:
    """Whether a request that changes something was sent by a page of this console.

    Every browser of today says so in Sec-Fetch-Site, and older ones in Origin. A request that says
    neither is refused.
    """
    site = headers.get("Sec-Fetch-Site", "")
    if site and site != "same-origin":
        return False
    origin = headers.get("Origin", "")
    if not origin:
        return site == "same-origin"
    try:
        return urlsplit(origin).netloc.lower() in hosts
    except ValueError:
        return False


def person_of(keeper: Gatekeeper, remote: str, headers: Mapping[str, str], session: str) -> Person:
    """Who sent a request: from `remote` (an IP address), with these headers and this cookie."""
    identity = _identity(keeper, remote, headers)
    if identity:
        acts = identity in keeper.actors or "*" in keeper.actors
        return Person(Role.ACT if acts else Role.READ, identity)
    if keeper.token:
        if not session or not same(session, keeper.session):
            return Person(Role.NOBODY)
        # A token that several people share names nobody for the audit.
        return Person(Role.READ if keeper.identity_header else Role.ACT, keeper.operator)
    if keeper.identity_header:
        return Person(Role.NOBODY)
    return Person(Role.ACT, keeper.operator)


def _identity(keeper: Gatekeeper, remote: str, headers: Mapping[str, str]) -> str:
    """What a trusted proxy says; empty without one."""
    if not keeper.identity_header or not _is_trusted(remote, keeper.trusted_proxies):
        return ""
    name = headers.get(keeper.identity_header, "").strip()
    return name if name.isprintable() and len(name) <= MAX_IDENTITY_LENGTH else ""


def _is_trusted(remote: str, proxies: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in proxies)


def arrived_encrypted(keeper: Gatekeeper, remote: str, headers: Mapping[str, str]) -> bool:
    """Whether the browser speaks HTTPS to the proxy in front. The console itself speaks HTTP."""
    forwarded = headers.get("X-Forwarded-Proto", "").lower() == "https"
    return forwarded and _is_trusted(remote, keeper.trusted_proxies)
