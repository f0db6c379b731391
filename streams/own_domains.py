"""Own domains by the addresses of the grants: those of PEOPLE_OWN_DOMAINS while it names none.

Whoever has a mailbox that is connected works here, and so do the others at its domain. Free-mail
providers name no company. A domain stays once it was derived: a colleague stays a colleague when
the only mailbox at a domain is disconnected. Plain functions and data.

The reader writes the record `own-domains` of contactstream.control, and dedupe obeys it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import orjson

from connectors.salesforce.domains import is_free_mail
from connectors.salesforce.emails import domain
from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

OWN_DOMAINS_KEY = b"own-domains"

# Addresses whose domain is remembered, because dedupe asks for each contact. Most deployments have
# fewer grants.
REMEMBERED_ADDRESSES = 4096

_SCHEMA = 1


@dataclass(frozen=True)
class OwnDomains:
    """The domains that were derived."""

    since_ms: Mapping[str, int] = field(default_factory=dict)
    """Domain to when it was derived, in epoch milliseconds."""

    @cached_property
    def names(self) -> frozenset[str]:
        """The domains alone."""
        return frozenset(self.since_ms)

    def with_grant(self, address: str) -> frozenset[str]:
        """These, and that of a grant's address, which may be newer than the record."""
        own = own_domain(address)
        return self.names | {own} if own and own not in self.names else self.names


@lru_cache(maxsize=REMEMBERED_ADDRESSES)
def own_domain(address: str) -> str:
    """The domain of a grant's address in lower case; empty if it names no company."""
    if "@" not in address:
        return ""
    found = domain(address.strip().lower())
    return "" if is_free_mail(found) else found


def derived(known: OwnDomains, addresses: Iterable[str], now_ms: int) -> OwnDomains:
    """The known domains and those of these addresses."""
    found = {own for address in addresses if (own := own_domain(address))}
    return OwnDomains(
        {name: known.since_ms.get(name, now_ms) for name in found | {*known.since_ms}}
    )


def own_domains_record(topics: Topics, own: OwnDomains | None) -> KafkaRecord:
    """What comes into force; None ends the derivation."""
    value = None if own is None else orjson.dumps({"schema": _SCHEMA, "since_ms": own.since_ms})
    return KafkaRecord(topics.control.name, OWN_DOMAINS_KEY, value, [])


def parse_own_domains(key: bytes, value: bytes) -> OwnDomains | None:
    """The domains of a record; None for a record of another kind.

    Raises UnreadableRecord, also for a later format.
    """
    if key != OWN_DOMAINS_KEY:
        return None
    data = parse_object(value)
    if data.get("schema") != _SCHEMA:
        raise UnreadableRecord(
            "not_own_domains", f"schema {data.get('schema')!r}; this version reads {_SCHEMA}"
        )
    try:
        return OwnDomains({str(name): int(since) for name, since in data["since_ms"].items()})
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        raise UnreadableRecord("not_own_domains", repr(error)) from error
