"""What a replay costs: how long it takes, and which share of the org's calls it needs."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from connectors.salesforce.api.budget import Usage
from connectors.salesforce.api.errors import SalesforceError
from streams.commands.run_progress import format_seconds
from streams.kafka.records import KafkaRecord
from streams.org import command_client
from streams.settings import SalesforceSettings, SettingsError

# Contacts a second where nothing was measured: a cautious guess.
ASSUMED_PER_SECOND = 1_000.0

# The newest outcomes that are looked at: some seconds of a busy sink, and quickly read. Each takes
# up to two offsets, its own and that of its transaction's end.
MEASURED_OFFSETS = 40_000

# Contacts in a minute from which on it counts as busy. A quieter one shows how much there was to
# do, and not how fast the sink is.
BUSY_CONTACTS = 600

# Busy minutes, one after the other, that are measured at most.
MEASURED_MINUTES = 10

# A batch of 1,000 ends in one moment, so that a shorter time would show nothing.
LEAST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Contacts a second that the sink finishes."""

    per_second: float = ASSUMED_PER_SECOND
    seconds: float | None = None
    """How long that was measured; None for an assumed pace."""

    def __str__(self) -> str:
        shown = f"{self.per_second:,.0f} contacts a second"
        if self.seconds is None:
            return f"{shown}, which is assumed: the sink was not busy lately"
        return f"{shown}, measured over the last {format_seconds(self.seconds)} of a busy sink"


def measured_pace(outcomes: Iterable[KafkaRecord]) -> Pace:
    """The pace of the newest busy minutes in these records of contacts.outcomes.

    A record that is no outcome is left out. The assumed pace without a busy minute.
    """
    contacts: Counter[int] = Counter()
    spans: dict[int, tuple[int, int]] = {}
    for record in outcomes:
        at_ms = _finished_at(record)
        if at_ms is None:
            continue
        minute = at_ms // 60_000
        contacts[minute] += 1
        first, last = spans.get(minute, (at_ms, at_ms))
        spans[minute] = min(first, at_ms), max(last, at_ms)
    busy = sorted(minute for minute, count in contacts.items() if count >= BUSY_CONTACTS)
    measured = busy[-1:]
    while measured and measured[0] - 1 in busy and len(measured) < MEASURED_MINUTES:
        measured.insert(0, measured[0] - 1)
    if not measured:
        return Pace()
    seconds = (spans[measured[-1]][1] - spans[measured[0]][0]) / 1000
    seconds = max(LEAST_SECONDS, seconds)
    return Pace(sum(contacts[minute] for minute in measured) / seconds, seconds)


def _finished_at(record: KafkaRecord) -> int | None:
    try:
        outcome = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return None
    at_ms = outcome.get("at_ms") if isinstance(outcome, dict) else None
    return at_ms if isinstance(at_ms, int) else None


@dataclass(frozen=True, slots=True)
class CallsLeft:
    """The org's API calls of 24 hours that are left to contactstream, without the reserve."""

    left: int
    allowed: int

    def share(self, calls: int) -> str:
        """Which part of what is left so many calls are, for a person."""
        if self.left <= 0:
            return f"none of the org's {self.allowed:,} daily calls are left, without the reserve"
        return f"{calls / self.left:.1%} of the {self.left:,} daily calls that are left"


def calls_left(usage: Usage, reserve: float) -> CallsLeft:
    """What is left of the daily calls; `reserve` is SALESFORCE_CALL_RESERVE."""
    return CallsLeft(max(0, int(usage.allowed * (1 - reserve)) - usage.used), usage.allowed)


async def ask_calls_left(settings: SalesforceSettings) -> CallsLeft | None:
    """Asks the org in a call or two. None without a login in the settings, or without an answer."""
    try:
        opened = command_client(settings)
    except SettingsError:
        return None
    async with opened as client:
        try:
            usage = (await client.limits()).get("DailyApiRequests")
        except SalesforceError:
            usage = None
        # Each answer says it in a header too, also the one that refuses /limits.
        usage = usage or client.budget.usage
    return None if usage is None else calls_left(usage, settings.call_reserve)
