"""The record formats of contactstream.control: what stops a part of the flow until a release.

The topic is compacted and has one partition. The sink writes a failure breaker that it opens, and
`contactstream breakers` its release. The sink, the reader and commands read it. The values are
JSON, and carry the version of their format as `schema`.

| key | value |
|---|---|
| `breaker/REASON` | the failure breaker of a reason, open or released |

A failure breaker is open because too many contacts failed for one reason. The other circuit breaker
of the sink (streams/sink/circuit_breaker.py) pauses it while the org is away, and is on no topic.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

import orjson
import structlog

from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.runtime.logs import place
from streams.topics import Topics

log = structlog.get_logger()

# Stands before the slash of the keys of failure breakers.
BREAKER = "breaker"

# The format of the values. A record of a later one is not read: what it stops is not known.
SCHEMA = 1

# A release is obeyed so soon, by a sink or a reader that runs. Both hear of it with their next poll
# of the topic, or with the next check of the reader's gate.
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
    data = parse_object(value)
    if data.get("schema") != SCHEMA:
        raise UnreadableRecord(
            "not_a_breaker", f"schema {data.get('schema')!r}; this version reads {SCHEMA}"
        )
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

    def apply(self, record: KafkaRecord) -> FailureBreaker | None:
        """Takes the next record of the topic in; returns the failure breaker that it tells of.

        A record that cannot be read changes nothing and is logged.
        """
        key = record.key or b""
        if record.value is None:
            kind, _, reason = key.decode(errors="replace").partition("/")
            if kind == BREAKER:
                self.breakers.pop(reason, None)
            return None
        try:
            breaker = parse_breaker(key, record.value)
        except UnreadableRecord as error:
            log.warning(
                "record of contactstream.control skipped", **place(record), error=str(error)
            )
            return None
        if breaker is not None:
            self.breakers[breaker.reason] = breaker
        return breaker


def open_breakers(breakers: Iterable[FailureBreaker]) -> list[FailureBreaker]:
    """The open ones; those that stop everything first, and then the oldest first."""
    found = [breaker for breaker in breakers if breaker.is_open]
    return sorted(found, key=lambda one: (one.stops is not Stops.ALL, one.opened_ms, one.reason))
