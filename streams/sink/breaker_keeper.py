"""Keeps what stops all writing in step with its topic, and tells people that something does."""

from collections import Counter

from confluent_kafka import KafkaException

from streams.control import PausedPart, Stops
from streams.kafka.endings import ending
from streams.kafka.followed import Followed
from streams.kafka.polling import TopicReplaced
from streams.metrics import SinkMetrics
from streams.runtime.exit_codes import ExitCode
from streams.runtime.ops import Health
from streams.sink.circuit_breaker import CircuitBreaker
from streams.sink.stopping import StopRequest
from streams.sink.writing_stops import WritingStops

# For the end of contactstream.control, which holds a record for each reason of failures. A broker
# that takes longer is asked again (`assignment.RECALL_SECONDS`).
CONTROL_SECONDS = 10.0


class BreakerKeeper:
    """The failure breakers and the pause of this process, their topic, and its readiness.

    `control` gives the records of contactstream.control to `stops.failures`, and of other topics to
    whom they concern. Without it, as in tests, a restart closes every breaker.
    """

    def __init__(
        self,
        stops: WritingStops,
        control: Followed | None,
        org_breaker: CircuitBreaker,
        metrics: SinkMetrics,
        health: Health,
    ) -> None:
        self._stops = stops
        self._failures = stops.failures
        self._control = control
        self._org_breaker = org_breaker
        self._metrics = metrics
        self._health = health
        self._waits = False

    async def load(self) -> None:
        """Returns once everything is known that the topic says, before this sink writes.

        Raises SnapshotStalled, KafkaException.
        """
        if self._control is not None:
            await self._control.catch_up(CONTROL_SECONDS)
            self._failures.forget_unpublished()

    async def follow(self, stop: StopRequest) -> None:
        """Follows the topic until it is cancelled.

        An error that no retry helps against stops the sink.
        """
        if self._control is None:
            return
        try:
            await self._control.run()
        except (KafkaException, TopicReplaced) as error:
            code, reason = ending(error) or (ExitCode.KAFKA_REFUSED, str(error))
            stop.request(reason, code)

    def report(self, *, is_writer: bool) -> None:
        """Sets the metrics and the readiness; to be called in each round of the loop.

        While a breaker stops all writing, the writer is not ready, but alive: no restart would
        help. A standby is ready whatever is open. During a pause the writer is ready, because it
        does what it was told, and a rollout must not wait for the end of the pause.
        """
        self._stops.log_changes()
        for part in (PausedPart.WRITES, PausedPart.CREATIONS):
            pause = self._stops.pause_of(part)
            ends = self._metrics.pause_ends.labels(part.value)
            ends.set(0 if pause is None else pause.until_ms / 1000)
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
