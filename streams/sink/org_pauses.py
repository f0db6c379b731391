"""Whether the org answers, as the batches found it: pauses the sink while it does not."""

import structlog

from streams.metrics import SinkMetrics
from streams.runtime.ops import Health
from streams.sink.circuit_breaker import CircuitBreaker, pause_reason

log = structlog.get_logger()


class OrgPauses:
    """Tells the circuit breaker, and people, that the org is away or back."""

    def __init__(self, breaker: CircuitBreaker, metrics: SinkMetrics, health: Health) -> None:
        self._breaker = breaker
        self._metrics = metrics
        self._health = health

    def failed(self, error: Exception) -> None:
        """A batch failed for a fault of the whole org."""
        pause = pause_reason(error)
        wait = self._breaker.failed(pause.retry_after)
        self._metrics.pauses.labels(pause.reason).inc()
        self._metrics.paused.set(1)
        self._health.waiting(f"salesforce: {pause.reason}")
        log.warning(
            "salesforce is away", reason=pause.reason, probe_in=round(wait, 1), detail=pause.detail
        )

    def answered(self) -> None:
        """The org took a batch."""
        failures = self._breaker.answered()
        if failures:
            log.info("salesforce is back", after=failures)
            self._metrics.paused.set(0)
            self._health.ready()
