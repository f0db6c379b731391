"""When the sink asks an org that is away again: one batch at a time, at growing intervals."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from connectors.salesforce.api.errors import OrgUnavailable, SalesforceError
from streams.sink.retry_policy import backoff

# Seconds between probes of an org that is away, unless it says itself how long to wait.
PROBE_FIRST_SECONDS, PROBE_LONGEST_SECONDS = 1.0, 60.0
# An org that asks for a longer wait is probed all the same: a probe costs one call.
RETRY_AFTER_LONGEST_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class PauseReason:
    """Why the sink pauses."""

    reason: str
    """A word of a closed set, for the metric and for readiness."""
    retry_after: float | None
    """Seconds that the org asked for."""
    detail: str
    """Free text for a person."""


def pause_reason(error: Exception) -> PauseReason:
    """What a batch that failed with this error says of the org."""
    if isinstance(error, OrgUnavailable):
        return PauseReason(error.reason, error.retry_after, error.detail)
    if isinstance(error, SalesforceError):
        return PauseReason(type(error).__name__, None, str(error))
    return PauseReason("unforeseen", None, repr(type(error)))


class CircuitBreaker:
    """Open while the org is away. Then one batch at a time probes it, and no other is started.

    Only decides: the caller reports a pause to people and metrics.
    """

    def __init__(
        self, clock: Callable[[], float], jitter: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._probe_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the org is away."""
        return self._failures > 0

    def most_in_flight(self, in_flight: int, limit: int) -> int:
        """How many batches may be in flight now. `in_flight` are, `limit` may be when all is well.

        While the org is away: one if its probe is due and no batch is in flight, otherwise none.
        """
        if not self.is_open:
            return limit
        return 0 if in_flight or self._clock() < self._probe_at else 1

    def failed(self, retry_after: float | None) -> float:
        """The org failed a batch. Returns the seconds until the next probe.

        `retry_after`: the seconds that the org asked for.
        """
        self._failures += 1
        wait = retry_after or backoff(
            self._failures - 1, self._jitter, PROBE_FIRST_SECONDS, PROBE_LONGEST_SECONDS
        )
        wait = min(wait, RETRY_AFTER_LONGEST_SECONDS)
        self._probe_at = self._clock() + wait
        return wait

    def answered(self) -> int:
        """The org answered. Returns how many failures that ends; 0 if the org was not away."""
        failures, self._failures = self._failures, 0
        return failures
