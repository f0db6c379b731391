"""What happens when the sink's partition is assigned, revoked or lost.

librdkafka calls these callbacks in the Kafka thread, from inside of a poll. The state belongs to
the event loop, which is free meanwhile: it waits for the poll. So each callback hands its change of
the state to the event loop and waits until it is made.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.salesforce.unanswered_calls import UnansweredCalls
from streams.kafka.clients import METADATA_SECONDS
from streams.kafka.committed import committed_offsets
from streams.kafka.log_range import offset_range
from streams.kafka.offsets import starting_offsets
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.publisher import PublishFailed
from streams.kafka.transactions import TransactionalPublisher
from streams.runtime.exit_codes import ExitCode
from streams.runtime.ops import Health
from streams.sink.assignment import Assignment, CurrentAssignment
from streams.sink.catch_up import written_to
from streams.sink.circuit_breaker import CircuitBreaker
from streams.sink.consumer import SinkConsumer, StartOutOfRange
from streams.sink.open_calls import (
    CALLS_ENDED,
    CALLS_MAY_BE_OPEN,
    predecessor_may_have_calls,
)
from streams.sink.running_tasks import RunningTasks
from streams.sink.stopping import StopRequest

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

# For batches in flight when the partition is revoked: half a session, since the takeover waits.
REVOKE_SECONDS = 5.0
# For the coordinator to say where to start: a broker's restart, and less than a poll may take.
START_OFFSET_SECONDS = 45.0
# Between two questions to a coordinator that does not answer.
COORDINATOR_RETRY_SECONDS = 0.5


class RebalanceListener:
    """The callbacks of the consumer group, for `Consumer.subscribe`. Created in the event loop."""

    def __init__(
        self,
        consumer: SinkConsumer,
        current: CurrentAssignment,
        publisher: TransactionalPublisher,
        in_flight: RunningTasks,
        breaker: CircuitBreaker,
        health: Health,
        stop: StopRequest,
        unanswered: UnansweredCalls,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._consumer = consumer
        self._current = current
        self._publisher = publisher
        self._in_flight = in_flight
        self._breaker = breaker
        self._health = health
        self._stop = stop
        self._unanswered = unanswered

    def on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Excludes the last writer of outcomes, and starts at the group's commit.

        Raises StartOutOfRange if that is outside of the log.
        Raises TopicReplaced if it belongs to an older topic of the same name.
        """
        if partitions and (found := self._where_to_start(consumer, partitions)):
            starting, up_to, may_have_calls = found
            consumer.incremental_assign(starting)
            consumer.resume(starting)  # librdkafka remembers the pause of a partition that was lost
            self._in_loop(
                self._current.begin(starting[0], up_to, predecessor_may_have_calls=may_have_calls)
            )

    def on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Waits for the batches in flight, and commits what is finished."""
        if not partitions:
            return
        assignment = self._current.assignment
        offset, calls = self._in_loop(self._finish_in_flight(assignment))
        if assignment is not None and offset is not None:
            self._consumer.commit_now(assignment, offset, calls)
        self._in_loop(self._end("revoked"))

    def on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Another process has the partition already: nothing may be committed any more."""
        self._in_loop(self._end("lost"))

    async def _end(self, why: str) -> None:
        await self._current.end(why)
        self._publisher.release()

    async def _finish_in_flight(self, assignment: Assignment | None) -> tuple[int | None, str]:
        """Waits for the batches in flight.

        Returns the offset to commit, None if there is none, and what is to be said of the calls.
        """
        await self._in_flight.wait(REVOKE_SECONDS)
        ended = len(self._in_flight) == 0 and self._unanswered.remaining == 0
        calls = CALLS_ENDED if ended else CALLS_MAY_BE_OPEN
        if assignment is None:
            return None, calls
        offset = assignment.tracker.committable()
        if offset is None and assignment.calls_announced:
            offset = assignment.committed_offset
        return offset, calls

    def _in_loop(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(REVOKE_SECONDS * 2)

    def _where_to_start(
        self, consumer: Consumer, partitions: list[TopicPartition]
    ) -> tuple[list[TopicPartition], int, bool] | None:
        """Each partition at its offset, and what the last writer left behind.

        That is up to which offset it may have written, and whether it may have calls. Before it
        asks, it takes over what the sink writes: what is read of a predecessor from now on is
        final. None when Kafka did not say it within START_OFFSET_SECONDS, and the sink stops.

        Raises StartOutOfRange and TopicReplaced.
        """
        deadline = time.monotonic() + START_OFFSET_SECONDS
        self._publisher.release()  # each assignment has a producer of its own
        while True:
            try:
                self._publisher.take_over(METADATA_SECONDS)
                topic_ids = {one.topic: self._consumer.topic_id for one in partitions}
                starting = starting_offsets(consumer, partitions, topic_ids)
                (committed,) = committed_offsets(consumer, partitions[:1], METADATA_SECONDS)
                _, end = offset_range(consumer, partitions[0], METADATA_SECONDS)
            except OffsetOutOfRange as error:
                raise StartOutOfRange(str(error)) from error
            except PublishFailed as error:
                self._stop.request(f"Kafka refuses the producer: {error}", ExitCode.KAFKA_REFUSED)
                return None
            except KafkaException as error:
                reason = f"kafka did not say at which offset to start: {error.args[0].str()}"
                log.warning("start offset not known", error=error.args[0].str())
                self._health.waiting(reason)
                if time.monotonic() > deadline:
                    self._stop.request(reason, ExitCode.NO_COORDINATOR)
                if self._stop.requested:
                    return None
                time.sleep(COORDINATOR_RETRY_SECONDS)
            else:
                if not self._breaker.is_open:
                    self._health.ready()
                self._consumer.own_calls.restore(committed.metadata)
                up_to = written_to(committed, end)
                return starting, up_to, predecessor_may_have_calls(committed)
