"""The org's daily API calls: what an answer's Sforce-Limit-Info says, and the reserve that is never used up."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


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
    raise NotImplementedError


def parse_limits(body: object) -> dict[str, Usage]:
    """`GET /limits`, as used and allowed by the limit's name (DailyApiRequests, DataStorageMB ...)."""
    raise NotImplementedError


class Budget:
    """Knows how many calls are left, from answers that may be absent, late and not monotonic.

    `reserve`: calls to leave to others; below 1 a share of the allowed ones, otherwise a number.
    """

    def __init__(self, reserve: float = 0.1, clock: Callable[[], float] = time.monotonic) -> None:
        self._reserve = reserve
        self._clock = clock

    def observe(self, headers: Mapping[str, str]) -> None:
        """Take note of an answer's Sforce-Limit-Info, if it has one."""
        raise NotImplementedError

    def observe_usage(self, api: Usage, app: Usage | None = None) -> None:
        """Take note of usage read elsewhere (`/limits`)."""
        raise NotImplementedError

    @property
    def usage(self) -> Usage | None:
        """The highest recent use, with the newest allowance; None before any answer said so."""
        raise NotImplementedError

    @property
    def exhausted(self) -> bool:
        """True when only the reserve is left. False as long as nothing is known."""
        raise NotImplementedError

    def admit(self) -> bool:
        """May a call be made now? When exhausted: one call every PROBE_SECONDS, to learn whether that has changed."""
        raise NotImplementedError
