"""Publishes what follows from batches, again and again until the broker has it."""

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog

from streams.control import breaker_record
from streams.kafka.publisher import PublishFailed, RecordPublisher
from streams.kafka.records import KafkaRecord
from streams.metrics import SinkMetrics
from streams.runtime.exit_codes import ExitCode
from streams.sink.assignment import Assignment
from streams.sink.failure_breakers import FailureBreakers
from streams.sink.retry_policy import backoff
from streams.sink.stopping import StopRequest
from streams.topics import Topics

log = structlog.get_logger()

# Between attempts to publish outcomes that the broker did not acknowledge.
PUBLISH_FIRST_SECONDS, PUBLISH_LONGEST_SECONDS = 0.1, 5.0


class OutcomePublisher:
    """Publishes records of batches, and with them the failure breakers that opened."""

    def __init__(
        self,
        publisher: RecordPublisher,
        names: Topics,
        failures: FailureBreakers,
        metrics: SinkMetrics,
        stop: StopRequest,
    ) -> None:
        self._publisher = publisher
        self._names = names
        self._failures = failures
        self._metrics = metrics
        self._stop = stop

    async def acknowledged(
        self,
        records: Sequence[KafkaRecord],
        assignment: Assignment,
        attempting: Callable[[], None] = lambda: None,
    ) -> bool:
        """True once the broker has all records, and those of breakers that opened, in one piece.

        False when the partition is gone, whose offsets are the new owner's then. False also when
        the broker refuses a record or our user, or the producer cannot publish any more; these stop
        the sink. `attempting` is called before each attempt.
        """
        attempt = 0
        opened = self._failures.take_unpublished()
        records = [*records, *(breaker_record(self._names, one) for one in opened)]
        for one in opened:
            self._metrics.breaker_openings.labels(one.reason, one.stops.value).inc()
        while assignment.active:
            attempting()
            try:
                await self._publisher.publish(records)
            except PublishFailed as error:
                log.warning("outcomes not acknowledged", error=str(error))
                if error.permanent or error.fatal or error.denied:
                    self._stop.request(f"Kafka refuses an outcome: {error}", ExitCode.KAFKA_REFUSED)
                    return False
                attempt += 1
                await asyncio.sleep(
                    backoff(attempt, random.random, PUBLISH_FIRST_SECONDS, PUBLISH_LONGEST_SECONDS)
                )
            else:
                return assignment.active
        return False
