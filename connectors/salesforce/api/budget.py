"""The org's daily API calls: what an answer's Sforce-Limit-Info says, and the reserve that is never
used up.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# The counts of an org lag and go back by a few calls (seen), so the highest of this long counts.
RECENT_SECONDS = 300.0
# How often a call is let through when only the reserve is left. The 24 hours roll, so calls come
# back all day; one in five minutes finds that out for fewer than 300 of the reserve's calls a day.
PROBE_SECONDS = 300.0

# `api-usage` must not be found inside `per-app-api-usage`
_API = re.compile(r"(?:^|[^-\w])api-usage=(\d+)/(\d+)")
_APP = re.compile(r"per-app-api-usage=(\d+)/(\d+)")
_BURSTS = re.compile(r"api-bursts=(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Usage:
    """Calls used and allowed in the rolling 24 hours; used may exceed allowed."""

    used: int
    allowed: int


@dataclass(frozen=True, slots=True)
class LimitInfo:
    api: Usage | None = None
    app: Usage | None = None  # of this connected app alone, where the org restricts it
    bursts: Usage | None = None


def parse_limit_info(header: str | None) -> LimitInfo:
    """Every documented form of the header; whatever is absent or unreadable is None."""
    text = re.sub(r"\([^)]*\)", "", header or "")  # an app may be named like a field of the header
    return LimitInfo(_usage(_API, text), _usage(_APP, text), _usage(_BURSTS, text))


def _usage(pattern: re.Pattern[str], text: str) -> Usage | None:
    found = pattern.search(text)
    return Usage(int(found[1]), int(found[2])) if found else None


def parse_limits(body: object) -> dict[str, Usage]:
    """`GET /limits`, as used and allowed by the limit's name (DailyApiRequests, DataStorageMB ...)."""
    if not isinstance(body, Mapping):
        return {}
    return {
        str(name): Usage(entry["Max"] - entry["Remaining"], entry["Max"])
        for name, entry in body.items()
        if isinstance(entry, Mapping)
        and isinstance(entry.get("Max"), int)
        and isinstance(entry.get("Remaining"), int)
    }


class _Recent:
    """The highest use of the recent past; with nothing recent, the last one known."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Usage]] = deque()  # use falls from left to right, time rises
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
    """Knows how many calls are left, from answers that may be absent, late and not monotonic.

    `reserve`: calls to leave to others; below 1 a share of the allowed ones, otherwise a number.
    """

    def __init__(self, reserve: float = 0.1, clock: Callable[[], float] = time.monotonic) -> None:
        if reserve < 0:
            raise ValueError("the reserve is a share below 1, or a number of calls")
        self._reserve = reserve
        self._clock = clock
        self._api = _Recent()
        self._app = _Recent()
        self._asked: float | None = None

    def observe(self, headers: Mapping[str, str]) -> None:
        """Take note of an answer's Sforce-Limit-Info, if it has one. `headers` must ignore case, as
        httpx's do.
        """
        info = parse_limit_info(headers.get("Sforce-Limit-Info"))
        if info.api:
            self.observe_usage(info.api)
        if info.app:
            self._app.observe(self._clock(), info.app)

    def observe_usage(self, api: Usage) -> None:
        """Take note of usage read elsewhere (`/limits`)."""
        self._api.observe(self._clock(), api)

    @property
    def usage(self) -> Usage | None:
        """The highest recent use, with the newest allowance; None before any answer said so."""
        return self._api.usage(self._clock())

    @property
    def exhausted(self) -> bool:
        """True when only the reserve is left, of the org's calls or of our app's own. False as long
        as nothing is known.
        """
        now = self._clock()
        return any(
            self._spent(usage) for usage in (self._api.usage(now), self._app.usage(now)) if usage
        )

    def _spent(self, usage: Usage) -> bool:
        reserve = usage.allowed * self._reserve if self._reserve < 1 else self._reserve
        return usage.used >= usage.allowed - reserve

    def admit(self) -> bool:
        """May a call be made now? When exhausted: one call every PROBE_SECONDS, to learn whether
        that has changed.
        """
        now = self._clock()
        if not self.exhausted:
            self._asked = None
            return True
        if self._asked is None:
            self._asked = now
            return False
        if now - self._asked < PROBE_SECONDS:
            return False
        self._asked = now
        return True
