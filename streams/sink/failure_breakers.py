"""The failure breakers of the sink: which are open, and what the next outcome does to them.

Plain data: the state on contactstream.control, and the rates of failures since this process
started. A restart forgets the rates, and so does a release; what is open stays open.

1. A breaker that an outcome opens counts at once. Its record goes into the transaction of that
   outcome (`streams.sink.batch_runner`), so that no dead letter that opened a breaker is on its
   topic without the breaker.
2. While everything is stopped, no failure becomes a dead letter: the change waits for the release,
   its offset unfinished. Batches that were in flight when the breaker opened would otherwise fill
   the topic with a thousand dead letters each.
"""

import time
from collections.abc import Callable

import structlog

from connectors.salesforce.outcome import Outcome, OutcomeStatus
from streams.control import ControlTable, FailureBreaker, Stops, open_breakers
from streams.events import Origin
from streams.kafka.records import KafkaRecord
from streams.sink.batching import BULK
from streams.sink.failure_rates import Failure, FailureLimits, FailureRates

log = structlog.get_logger()


class FailureBreakers:
    """Which failure breakers are open. Used in the event loop only; `clock` in epoch seconds."""

    def __init__(
        self, limits: FailureLimits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._rates = FailureRates(limits or FailureLimits())
        self._clock = clock
        self.table = ControlTable()
        """contactstream.control as far as it was read."""
        self._opened_here: dict[str, FailureBreaker] = {}  # and not read from the topic yet
        self._unpublished: list[FailureBreaker] = []
        self.open: list[FailureBreaker] = []
        """The open ones; those that stop everything first, and then the oldest first."""

    @property
    def stops_all(self) -> FailureBreaker | None:
        """The breaker because of which nothing is written; None while the sink may write."""
        first = self.open[0] if self.open else None
        return first if first is not None and first.stops is Stops.ALL else None

    def apply(self, record: KafkaRecord) -> None:
        """Takes the next record of contactstream.control in."""
        breaker = self.table.apply(record)
        if breaker is not None:
            here = self._opened_here.get(breaker.reason)
            if here is not None and breaker.opened_ms >= here.opened_ms:
                del self._opened_here[breaker.reason]
            if not breaker.is_open:
                self._rates.clear()
        self._refresh()

    def forget_unpublished(self) -> None:
        """The topic was read to its end: what only an earlier assignment had opened is not open."""
        self._opened_here.clear()
        self._unpublished.clear()
        self._refresh()

    def take_unpublished(self) -> list[FailureBreaker]:
        """The breakers that opened since the last call; their records have to be published."""
        taken, self._unpublished = self._unpublished, []
        return taken

    def holds(self, outcome: Outcome, origin: str) -> bool:
        """Counts a final outcome. True for a failure that has to wait instead of being final.

        `origin` is that of its change. What an operator has redriven counts for no limit: it was a
        dead letter before, and whoever tries one again must not stop the live changes.
        """
        failed = outcome.status is OutcomeStatus.FAILED
        if failed and self.stops_all is not None:
            return True
        if origin != Origin.REDRIVE:
            now_ms = int(self._clock() * 1000)
            failure = Failure(outcome.reason, outcome.key, now_ms) if failed else None
            self._rates.add(failure, bulk=origin in BULK)
            for reason, stops in self._rates.reached().items():
                self._open_if_due(reason, stops, now_ms)
        return False

    def _open_if_due(self, reason: str, stops: Stops, now_ms: int) -> None:
        known = self._opened_here.get(reason) or self.table.breakers.get(reason)
        if known is not None:
            if known.is_open and (known.stops is Stops.ALL or stops is Stops.BULK):
                return
            if stops is Stops.BULK and known.accepts_bulk(now_ms):
                return
        breaker = FailureBreaker(reason, stops, now_ms, self._rates.seen(reason, stops))
        self._opened_here[reason] = breaker
        self._unpublished.append(breaker)
        self._refresh()

    def _refresh(self) -> None:
        before = {one.reason: one for one in self.open}
        self.open = open_breakers((self.table.breakers | self._opened_here).values())
        now = {one.reason: one for one in self.open}
        for reason, breaker in now.items():
            if reason not in before or before[reason].stops is not breaker.stops:
                log.error(
                    "a failure breaker is open: too many contacts fail for one reason",
                    reason=reason,
                    stops=breaker.stops.value,
                    failures=breaker.seen.failures,
                    outcomes=breaker.seen.outcomes,
                    remedy="contactstream breakers",
                )
        for reason in before.keys() - now.keys():
            log.warning("a failure breaker was released", reason=reason)
