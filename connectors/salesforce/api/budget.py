"""The org's daily API calls: how many are left, and whether another call may be made.

Salesforce reports them with each answer, in the header Sforce-Limit-Info, and at `GET /limits`.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from connectors.salesforce.api.own_calls import OwnCalls

# The counts of an org lag behind and go back by a few calls (seen), so that the highest count of
# this time is the one that holds.
RECENT_SECONDS = 300.0
# How often a call is let through when only the reserve is left. The 24 hours roll, so calls come
# back all day; one in five minutes finds that out for fewer than 300 of the reserve's calls a day.
PROBE_SECONDS = 300.0

# not the `api-usage` inside `per-app-api-usage`
_API = re.compile(r"(?:^|[^-\w])api-usage=(\d+)/(\d+)")
_APP = re.compile(r"per-app-api-usage=(\d+)/(\d+)")
_BURSTS = re.compile(r"api-bursts=(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Usage:
    """Used and allowed amounts of a limit; of calls in the rolling 24 hours, used may be more."""

    used: int
    allowed: int


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """The limits in a Sforce-Limit-Info header; None for what it does not hold."""

    api: Usage | None = None
    app: Usage | None = None  # of this connected app alone, where the org restricts it
    bursts: Usage | None = None


def parse_limit_info(header: str | None) -> LimitInfo:
    """The limits in a Sforce-Limit-Info header, in every documented form of it."""
    text = re.sub(r"\([^)]*\)", "", header or "")  # an app may be named like a field of the header
    return LimitInfo(_usage(_API, text), _usage(_APP, text), _usage(_BURSTS, text))


def _usage(pattern: re.Pattern[str], text: str) -> Usage | None:
    found = pattern.search(text)
    return Usage(int(found[1]), int(found[2])) if found else None


def parse_limits(body: object) -> dict[str, Usage]:
    """The answer of `GET /limits`, by the limit's name (DailyApiRequests, DataStorageMB, ...)."""
    if not isinstance(body, Mapping):
        return {}
    return {
        str(name): Usage(entry["Max"] - entry["Remaining"], entry["Max"])
        for name, entry in body.items()
        if isinstance(entry, Mapping)
        and isinstance(entry.get("Max"), int)
        and isinstance(entry.get("Remaining"), int)
    }


class _RecentUsage:
    """The highest use within RECENT_SECONDS; if nothing is that recent, the last one known."""

    def __init__(self) -> None:
        # from left to right the use falls and the time rises
        self._seen: deque[tuple[float, Usage]] = deque()
        self._allowed = 0

    def observe(self, now: float, usage: Usage) -> None:
        while self._seen and (
            self._seen[-1][1].used <= usage.used or self._seen[-1][0] < now - RECENT_SECONDS
        ):
            self._seen.pop()
        self._seen.append((now, usage))
        self._allowed = usage.allowed

    def usage(self, now: float) -> Usage | None:
        while len(self._seen) > 1 and self._seen[0][0] < now - RECENT_SECONDS:
            self._seen.popleft()
        return Usage(self._seen[0][1].used, self._allowed) if self._seen else None


class Budget:
    """Counts the calls that are left, from reports that may be missing, late and out of order.

    `reserve` are the calls to leave to other programs: below 1 a share of the allowed calls,
    otherwise their number.
    """

    def __init__(
        self,
        reserve: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
        own: OwnCalls | None = None,
    ) -> None:
        """`own` are our own calls, with a limit of their own; None for no limit."""
        if reserve < 0:
            raise ValueError(f"the reserve of API calls is {reserve}, below 0")
        self.own = own or OwnCalls()
        self._reserve = reserve
        self._clock = clock
        self._api = _RecentUsage()
        self._app = _RecentUsage()
        self._probed: float | None = None  # None while calls are left

    def observe(self, headers: Mapping[str, str]) -> None:
        """Takes the counts of an answer's Sforce-Limit-Info, if it has one.

        `headers` must ignore case, as httpx's do.
        """
        info = parse_limit_info(headers.get("Sforce-Limit-Info"))
        if info.api:
            self.observe_usage(info.api)
        if info.app:
            self._app.observe(self._clock(), info.app)

    def observe_usage(self, api: Usage) -> None:
        """Takes the org's count from another source (`GET /limits`)."""
        self._api.observe(self._clock(), api)

    @property
    def usage(self) -> Usage | None:
        """The org's highest recent use with the newest allowance; None before the first report."""
        return self._api.usage(self._clock())

    @property
    def exhausted(self) -> bool:
        """Whether only the reserve is left, of the org's calls or of this connected app's own.

        False until the first report.
        """
        now = self._clock()
        return any(
            self._spent(usage) for usage in (self._api.usage(now), self._app.usage(now)) if usage
        )

    def _spent(self, usage: Usage) -> bool:
        reserve = usage.allowed * self._reserve if self._reserve < 1 else self._reserve
        return usage.used >= usage.allowed - reserve

    def admit(self) -> bool:
        """Whether a call may be made now.

        When exhausted, one call every PROBE_SECONDS is admitted, to learn whether that has changed.
        """
        now = self._clock()
        if not self.exhausted:
            self._probed = None
            return True
        if self._probed is None:
            self._probed = now
            return False
        if now - self._probed < PROBE_SECONDS:
            return False
        self._probed = now
        return True
