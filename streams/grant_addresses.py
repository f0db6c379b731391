"""Which address a grant belongs to, from the records of grants.events.

The newest webhook of a grant replaces the one before it in the compacted topic, and not every
webhook names the address. So the reader keeps what it learnt in a record of its own:

| key | value |
|---|---|
| `GRANT/address` | an envelope of type `grant.address` with grant ID, provider and address |

A version that does not know the type takes it for another event of the same grant, without any
action. Plain functions and data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.grants import Grant
from connectors.nylas.model import parse_json
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

KEPT = "grant.address"
"""Type of the records that keep an address."""

_KEY_END = "/address"


@dataclass(frozen=True, slots=True)
class GrantAddress:
    """Whose grant it is."""

    grant: str
    address: str
    """As Nylas spells it; empty for a grant that has none."""
    provider: str
    """Such as `google`; empty if no event named it."""


@dataclass(slots=True)
class GrantAddresses:
    """The address of every grant, from the records of grants.events that were read so far."""

    by_grant: dict[str, GrantAddress] = field(default_factory=dict)
    """Grant ID to the address that was named last."""
    _kept: dict[str, GrantAddress] = field(default_factory=dict)
    _not_kept: set[str] = field(default_factory=set)

    def apply(self, record: KafkaRecord) -> GrantAddress | None:
        """Takes the next record of the topic in; returns what it says of an address, if anything.

        An event without an address changes nothing.
        """
        grant_of_key = _grant_of_address_key(record.key)
        if grant_of_key is not None and record.value is None:
            self.by_grant.pop(grant_of_key, None)
            self._kept.pop(grant_of_key, None)
            self._not_kept.discard(grant_of_key)
            return None
        named = named_address(record)
        if named is None:
            return None
        if is_kept_address(record):
            self._kept[named.grant] = named
        elif not named.address:
            return None
        before = self.by_grant.get(named.grant)
        if before is not None and not named.provider:
            named = GrantAddress(named.grant, named.address, before.provider)
        self.by_grant[named.grant] = named
        if self._kept.get(named.grant) == named:
            self._not_kept.discard(named.grant)
        else:
            self._not_kept.add(named.grant)
        return named

    def address(self, grant: str) -> str | None:
        """The address of a grant in lower case.

        It is empty for a grant that has none, and None while it is not known.
        """
        found = self.by_grant.get(grant)
        return None if found is None else found.address.casefold()

    def named(self, grant: str) -> str:
        """The address of a grant as Nylas spells it; empty while it is not known, and for none."""
        found = self.by_grant.get(grant)
        return "" if found is None else found.address

    def grants_of(self, address: str) -> list[str]:
        """IDs of the grants of an address, in order; without regard to case."""
        wanted = address.casefold()
        return sorted(
            one.grant for one in self.by_grant.values() if one.address.casefold() == wanted
        )

    def not_kept(self) -> list[GrantAddress]:
        """What events said and no record of type `grant.address` keeps yet."""
        return [self.by_grant[grant] for grant in sorted(self._not_kept)]

    def new_in(self, listed: Sequence[Grant]) -> list[GrantAddress]:
        """The addresses of listed grants that no record keeps yet, the missing ones as empty."""
        found = [GrantAddress(grant.id, grant.email, grant.provider) for grant in listed]
        return [one for one in found if self._kept.get(one.grant) != one]


def address_record(topics: Topics, one: GrantAddress, at: int) -> KafkaRecord:
    """The record of grants.events that keeps an address; `at` is in epoch seconds."""
    envelope = {
        "specversion": "1.0",
        "type": KEPT,
        "source": "/contactstream/listing",
        "id": f"{KEPT}/{one.grant}/{at}",
        "time": at,
        "data": {"object": {"grant_id": one.grant, "provider": one.provider, "email": one.address}},
    }
    key = f"{one.grant}{_KEY_END}".encode()
    return KafkaRecord(topics.grants.name, key, orjson.dumps(envelope), [])


def is_kept_address(record: KafkaRecord) -> bool:
    """Whether a record of grants.events keeps an address, and so is no event of a grant."""
    return _grant_of_address_key(record.key) is not None


def named_address(record: KafkaRecord) -> GrantAddress | None:
    """Whose grant a record of grants.events says it is; None if it names no grant.

    The bridge stores every body whose signature is right, so the topic may hold other values.
    """
    try:
        envelope = parse_json(record.value or b"null")
    except UnreadableBody:
        return None
    data = envelope.get("data") if isinstance(envelope, dict) else None
    inner = data.get("object") if isinstance(data, dict) else None
    fields: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    grant = fields.get("grant_id") or (record.key or b"").decode(errors="replace")
    if not isinstance(grant, str) or not grant:
        return None
    address, provider = fields.get("email"), fields.get("provider")
    return GrantAddress(
        grant,
        address if isinstance(address, str) else "",
        provider if isinstance(provider, str) else "",
    )


def _grant_of_address_key(key: bytes | None) -> str | None:
    """The grant of a key `GRANT/address`; None for another key. No grant ID holds a slash."""
    grant, slash, _ = (key or b"").decode(errors="replace").partition(_KEY_END)
    return grant if slash and (key or b"").endswith(_KEY_END.encode()) else None
