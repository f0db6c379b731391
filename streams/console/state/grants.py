"""The grants: their state, their owners, and their last events, from grants.events."""

from dataclasses import dataclass

from streams.grant_addresses import GrantAddress, GrantAddresses
from streams.kafka.records import KafkaRecord
from streams.reader.grant_events import GrantTable, parse_grant_event

# Some 500 bytes each, so 25 MB.
MAX_GRANTS = 50_000


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """What the events say of a grant."""

    grant: str
    status: str
    """valid, expired or deleted; empty while no event said it."""
    since: int
    """When it became so, in epoch seconds; 0 if unknown."""
    provider: str
    address: str
    """Of its owner; empty while no listing or event named it."""
    last_event: str
    last_event_at: int
    """In epoch seconds."""


@dataclass(slots=True)
class _Described:
    last_event: str = ""
    last_event_at: int = 0


class GrantState:
    """Takes the records of grants.events in their order."""

    def __init__(self, max_grants: int = MAX_GRANTS) -> None:
        self._max_grants = max_grants
        self._table = GrantTable()
        self._addresses = GrantAddresses()
        self._described: dict[str, _Described] = {}
        self._next_offset = 0
        self.not_held = 0
        """Events of grants beyond the bound."""

    def take(self, record: KafkaRecord) -> None:
        """Takes the next record in. One that is no event of a grant is passed over."""
        if record.offset < self._next_offset:  # the log was lost, and is read again
            self._table, self._addresses = GrantTable(), GrantAddresses()
            self._described, self.not_held = {}, 0
        self._next_offset = record.offset + 1
        if len(self._addresses.by_grant) < self._max_grants:
            self._addresses.apply(record)
        event = parse_grant_event(record)
        if event is None:
            return
        if event.grant not in self._described and len(self._described) >= self._max_grants:
            self.not_held += 1
            return
        self._table.apply(event)
        described = self._described.setdefault(event.grant, _Described())
        described.last_event, described.last_event_at = event.type, event.time

    def by_status(self) -> dict[str, list[str]]:
        """The IDs of all grants in order, by their status; those that need somebody first."""
        found: dict[str, list[str]] = {"expired": [], "": [], "valid": [], "deleted": []}
        for grant in self._described:
            found[self._table.status.get(grant, "")].append(grant)
        return {status: sorted(grants) for status, grants in found.items()}

    def facts(self, grant: str) -> GrantFacts:
        """One of the grants of `by_status`. Raises KeyError for another one."""
        described = self._described[grant]
        owner = self._addresses.by_grant.get(grant, GrantAddress(grant, "", ""))
        return GrantFacts(
            grant,
            self._table.status.get(grant, ""),
            self._table.since.get(grant, 0),
            owner.provider,
            owner.address,
            described.last_event,
            described.last_event_at,
        )
