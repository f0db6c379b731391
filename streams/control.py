"""The record formats of contactstream.control: what stops a part of the flow, and until when.

The topic is compacted and has one partition. The sink writes a failure breaker that it opens, and
`contactstream breakers` its release. `contactstream pause` writes a pause, and
`contactstream resume` its tombstone. The sink, the reader and commands read the topic. The values
are JSON, and carry the version of their format as `schema`.

| key | value |
|---|---|
| `breaker/REASON` | the failure breaker of a reason, open or released |
| `held-release/RUN` | which run offers held contacts again; see streams/held.py |
| `mode` | in which mode the sink writes, and who set it; see streams/control_mode.py |
| `pause/PART` | who paused writes, creations or reading, why, and until when |
| `org` | the Salesforce org that this deployment writes to; see streams/control_org.py |
| `grants-held/...`, `grants-confirmed/...` | deleted grants; see streams/control_grants.py |
| `selection/...` | which mailboxes and groups are synced; see streams/control_selection.py |
| `own-domains` | own domains that were derived; see streams/own_domains.py |
| `runs-complete` | how far contacts.changes holds what runs read; see streams/complete_runs.py |

A failure breaker is open because too many contacts failed for one reason. The other circuit breaker
of the sink (streams/sink/circuit_breaker.py) pauses it while the org is away, and is on no topic.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

import orjson
import structlog

from streams.complete_runs import parse_complete_runs
from streams.control_grants import GrantDeletions
from streams.control_mode import MODE_KEY, ModeChange, parse_mode
from streams.control_org import ORG_KEY, OrgPin, parse_org
from streams.control_selection import SelectionRecords
from streams.events import UnreadableRecord, parse_object
from streams.held import RELEASE, HeldRelease, parse_release
from streams.kafka.records import KafkaRecord
from streams.own_domains import OWN_DOMAINS_KEY, OwnDomains, parse_own_domains
from streams.runtime.logs import place
from streams.topics import Topics

log = structlog.get_logger()

# What stands before the slash of a key.
BREAKER = "breaker"
PAUSE = "pause"

# The format of the values. A record of a later one is not read: what it stops is not known.
SCHEMA = 1

# A release, a pause and a resume are obeyed so soon, by a sink or a reader that runs. Both hear of
# it with their next poll of the topic, or with the next check of the reader's gate.
RELEASE_OBEYED_SECONDS = 5


class Stops(StrEnum):
    """What a failure breaker stops while it is open."""

    BULK = "bulk"
    """Backfills, reconciles and replays; live changes go on."""
    ALL = "all"
    """Everything: the sink writes nothing."""


class BreakerState(StrEnum):
    """Whether a failure breaker stops anything."""

    OPEN = "open"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class FailuresSeen:
    """Why a failure breaker opened. Times are epoch milliseconds."""

    failures: int
    """How many contacts failed for the reason."""
    outcomes: int
    """Of how many contacts, the latest."""
    in_a_row: bool = False
    """Whether all of these contacts failed, for this reason more than for any other."""
    first_ms: int = 0
    last_ms: int = 0
    example: str = ""
    """The key of the contact that failed last."""


@dataclass(frozen=True, slots=True)
class FailureBreaker:
    """The breaker of one reason of failures. Times are epoch milliseconds."""

    reason: str
    """The word that dead letters carry as their reason."""
    stops: Stops
    opened_ms: int
    seen: FailuresSeen
    state: BreakerState = BreakerState.OPEN
    released_by: str = ""
    released_ms: int = 0
    accepted_until_ms: int = 0
    """Bulk runs may fail for this reason until then."""

    @property
    def is_open(self) -> bool:
        """Whether it stops anything."""
        return self.state is BreakerState.OPEN

    def accepts_bulk(self, now_ms: int) -> bool:
        """Whether bulk runs may fail for the reason now, because an operator said so."""
        return not self.is_open and now_ms < self.accepted_until_ms


def released(
    breaker: FailureBreaker, by: str, now_ms: int, accepted_seconds: int
) -> FailureBreaker:
    """The breaker after its release. The contact that was the example is forgotten."""
    return replace(
        breaker,
        state=BreakerState.RELEASED,
        released_by=by,
        released_ms=now_ms,
        accepted_until_ms=now_ms + accepted_seconds * 1000,
        seen=replace(breaker.seen, example=""),
    )


class PausedPart(StrEnum):
    """What a person can pause."""

    WRITES = "writes"
    """Everything that the sink does in Salesforce."""
    CREATIONS = "creations"
    """New Contacts and Leads: they are held. Existing records follow the address books on."""
    READING = "reading"
    """Everything that the reader asks of Nylas, and replays. Webhooks are received on."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that a person asked for. Times are epoch milliseconds."""

    part: PausedPart
    by: str
    why: str
    begun_ms: int
    until_ms: int
    """Then it ends by itself."""


def pause_key(part: PausedPart) -> bytes:
    """The key of the pause of a part of the flow."""
    return f"{PAUSE}/{part.value}".encode()


def pause_record(topics: Topics, pause: Pause) -> KafkaRecord:
    """A pause as a record of contactstream.control."""
    value = {"schema": SCHEMA} | asdict(pause)
    del value["part"]  # the key says it
    return KafkaRecord(topics.control.name, pause_key(pause.part), orjson.dumps(value), [])


def resume_record(topics: Topics, part: PausedPart) -> KafkaRecord:
    """The tombstone that ends a pause."""
    return KafkaRecord(topics.control.name, pause_key(part), None, [])


def parse_pause(key: bytes, value: bytes) -> Pause | None:
    """The pause of a record; None for a record of another kind.

    Unknown fields are ignored. Raises UnreadableRecord, also for a later format and for a part of
    the flow that this version does not know.
    """
    kind, _, part = key.decode(errors="replace").partition("/")
    if kind != PAUSE:
        return None
    data = _current(value, "not_a_pause")
    try:
        return Pause(
            PausedPart(part),
            by=str(data["by"]),
            why=str(data["why"]),
            begun_ms=int(data["begun_ms"]),
            until_ms=int(data["until_ms"]),
        )
    except (TypeError, ValueError, LookupError) as error:
        raise UnreadableRecord("not_a_pause", repr(error)) from error


def breaker_key(reason: str) -> bytes:
    """The key of the breaker of a reason."""
    return f"{BREAKER}/{reason}".encode()


def breaker_record(topics: Topics, breaker: FailureBreaker) -> KafkaRecord:
    """A failure breaker as a record of contactstream.control."""
    value = {"schema": SCHEMA} | asdict(breaker)
    del value["reason"]  # the key says it
    return KafkaRecord(topics.control.name, breaker_key(breaker.reason), orjson.dumps(value), [])


def parse_breaker(key: bytes, value: bytes) -> FailureBreaker | None:
    """The failure breaker of a record; None for a record of another kind.

    Unknown fields are ignored. Raises UnreadableRecord, also for a later format.
    """
    kind, slash, reason = key.decode(errors="replace").partition("/")
    if kind != BREAKER or not slash or not reason:
        return None
    data = _current(value, "not_a_breaker")
    try:
        return FailureBreaker(
            reason=reason,
            stops=Stops(data["stops"]),
            opened_ms=int(data["opened_ms"]),
            seen=_parse_seen(data["seen"]),
            state=BreakerState(data["state"]),
            released_by=str(data.get("released_by") or ""),
            released_ms=int(data.get("released_ms") or 0),
            accepted_until_ms=int(data.get("accepted_until_ms") or 0),
        )
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise UnreadableRecord("not_a_breaker", repr(error)) from error


def _current(value: bytes, reason: str) -> dict[str, Any]:
    data = parse_object(value)
    if data.get("schema") != SCHEMA:
        raise UnreadableRecord(
            reason, f"schema {data.get('schema')!r}; this version reads {SCHEMA}"
        )
    return data


def _parse_seen(data: Mapping[str, Any]) -> FailuresSeen:
    return FailuresSeen(
        failures=int(data["failures"]),
        outcomes=int(data["outcomes"]),
        in_a_row=data.get("in_a_row") is True,
        first_ms=int(data.get("first_ms") or 0),
        last_ms=int(data.get("last_ms") or 0),
        example=str(data.get("example") or ""),
    )


@dataclass(slots=True)
class ControlTable:
    """The newest record of each key of contactstream.control that was read so far."""

    breakers: dict[str, FailureBreaker] = field(default_factory=dict)
    """By reason, the released ones among them."""
    pauses: dict[PausedPart, Pause] = field(default_factory=dict)
    """Those that nobody has ended, the expired ones among them."""
    mode: ModeChange | None = None
    """The mode that a person set; None while nobody has."""
    releases: dict[str, HeldRelease] = field(default_factory=dict)
    """The releases of held contacts, by the run that carries them out."""
    selection: SelectionRecords = field(default_factory=SelectionRecords)
    """Which mailboxes are synced."""
    grant_deletions: GrantDeletions = field(default_factory=GrantDeletions)
    """Deleted grants whose contacts wait for a person."""
    org: OrgPin | None = None
    """The org that this deployment writes to; None before the first write."""
    own_domains: OwnDomains | None = None
    """The domains that the reader derived; None while it derives none."""
    runs_complete_to: int = 0
    """Every change of the runs that have ended lies before this offset of contacts.changes."""

    def apply(self, record: KafkaRecord) -> FailureBreaker | None:
        """Takes the next record of the topic in; returns the failure breaker that it tells of.

        A record that cannot be read changes nothing and is logged.
        """
        key = record.key or b""
        if record.value is None:
            self.selection.apply(record)
            self.grant_deletions.apply(record)
            self._remove(key)
            return None
        try:
            self.selection.apply(record)
            self.grant_deletions.apply(record)
            breaker = parse_breaker(key, record.value)
            pause = parse_pause(key, record.value)
            self.mode = parse_mode(key, record.value) or self.mode
            if (release := parse_release(key, record.value)) is not None:
                self.releases[release.run_id] = release
            self.org = parse_org(key, record.value) or self.org
            if (own := parse_own_domains(key, record.value)) is not None:
                self.own_domains = own
            if (end := parse_complete_runs(key, record.value)) is not None:
                self.runs_complete_to = end
        except UnreadableRecord as error:
            log.warning(
                "record of contactstream.control skipped", **place(record), error=str(error)
            )
            return None
        if breaker is not None:
            self.breakers[breaker.reason] = breaker
        if pause is not None:
            self.pauses[pause.part] = pause
        return breaker

    def _remove(self, key: bytes) -> None:
        kind, _, name = key.decode(errors="replace").partition("/")
        if key == MODE_KEY:
            self.mode = None
        elif key == ORG_KEY:
            self.org = None
        elif key == OWN_DOMAINS_KEY:
            self.own_domains = None
        elif kind == RELEASE:
            self.releases.pop(name, None)
        elif kind == BREAKER:
            self.breakers.pop(name, None)
        elif kind == PAUSE:
            self.pauses = {part: one for part, one in self.pauses.items() if part.value != name}

    def pause_of(self, part: PausedPart, now_ms: int) -> Pause | None:
        """The pause of this part that lasts now; None if it is not paused."""
        pause = self.pauses.get(part)
        return pause if pause is not None and now_ms < pause.until_ms else None

    def pauses_now(self, now_ms: int) -> list[Pause]:
        """The pauses that last now, the oldest first."""
        found = [pause for pause in self.pauses.values() if now_ms < pause.until_ms]
        return sorted(found, key=lambda one: one.begun_ms)


def open_breakers(breakers: Iterable[FailureBreaker]) -> list[FailureBreaker]:
    """The open ones; those that stop everything first, and then the oldest first."""
    found = [breaker for breaker in breakers if breaker.is_open]
    return sorted(found, key=lambda one: (one.stops is not Stops.ALL, one.opened_ms, one.reason))
