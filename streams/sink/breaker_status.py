"""Tells people that a failure breaker is open: readiness and a metric."""

from collections import Counter

from streams.control import Stops
from streams.metrics import SinkMetrics
from streams.runtime.ops import Health
from streams.sink.circuit_breaker import CircuitBreaker
from streams.sink.failure_breakers import FailureBreakers


class BreakerStatus:
    """The readiness of a sink that waits for a release. It stays alive: no restart would help."""

    def __init__(
        self,
        failures: FailureBreakers,
        org_breaker: CircuitBreaker,
        metrics: SinkMetrics,
        health: Health,
    ) -> None:
        self._failures = failures
        self._org_breaker = org_breaker
        self._metrics = metrics
        self._health = health
        self._waits = False

    def report(self, *, is_writer: bool) -> None:
        """To be called in each round of the loop. A standby is ready whatever is open."""
        counts = Counter(each.stops for each in self._failures.open)
        for stops in Stops:
            self._metrics.breakers_open.labels(stops.value).set(counts[stops])
        breaker = self._failures.stops_all
        if breaker is not None and is_writer:
            self._waits = True
            self._health.waiting(
                f"too many contacts fail with {breaker.reason}, so nothing is written until an "
                "operator releases it; see: contactstream breakers"
            )
        elif self._waits:
            self._waits = False
            if not self._org_breaker.is_open:
                self._health.ready()
