"""The loop of the reader: stands by, and is active while it holds the partition of reader.runs.

The consumer group of reader.runs elects the active reader. One reader at a time asks Nylas, so that
the limits of Nylas are kept in one place. The active reader reads contacts.refetch, grants.events
and contacts.outcomes by assignment: in the group, two members would share those topics.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from streams.events import UnreadableRecord
from streams.kafka.clients import ErrorLog
from streams.kafka.polling import ConsumerErrors, EndOfPartition, poll
from streams.kafka.records import KafkaRecord
from streams.metrics import ReaderMetrics
from streams.reader.webhook_states import show_unknown
from streams.runs import RunLog
from streams.runtime.logs import place
from streams.runtime.ops import Health

log = structlog.get_logger()

# One poll of the consumer. It is also how soon a signal to stop takes effect.
POLL_SECONDS = 0.3

POLL_RECORDS = 500

Work = Callable[[RunLog], Coroutine[None, None, None]]
"""What an active reader does, until it is cancelled. The run log is kept up to date meanwhile."""


@dataclass(slots=True)
class AssignedRuns:
    """The partition of reader.runs while the group assigns it to this reader."""

    run_log: RunLog = field(default_factory=RunLog)
    read_to_end: bool = False
    """Whether the partition was read to its end. Before that, the run log misses runs."""


class Reader:
    """A standby until the group assigns the partition, then active until it is taken away.

    `consumer` must have `enable.partition.eof`; `run` closes it. `revoke_seconds` bounds how long
    the group is kept waiting for the work to stop.
    """

    def __init__(
        self,
        consumer: Consumer,
        runs_topic: str,
        work: Work,
        revoke_seconds: float,
        metrics: ReaderMetrics,
        health: Health,
    ) -> None:
        self._consumer, self._runs_topic = consumer, runs_topic
        self._work, self._revoke_seconds = work, revoke_seconds
        self._metrics, self._health = metrics, health
        self._errors = ConsumerErrors(
            ErrorLog(lambda name: metrics.kafka_errors.labels(name).inc())
        )
        self._assigned: AssignedRuns | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Stands by and works until `stopping` is set; the work has stopped when it returns.

        Raises KafkaException for an error that the client cannot recover from, OffsetOutOfRange for
        a position outside of reader.runs, TopicReplaced when reader.runs is gone, and whatever ends
        the work. Each ends the process; a standby or a new process continues from the topics.
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "election") as thread:
            self._subscribe(loop)
            self._health.ready()
            try:
                while not stopping.is_set():
                    events = await loop.run_in_executor(thread, self._poll)
                    self._health.beat()
                    for event in events:
                        self._take(event)
                    self._start_work()
                    self._raise_failure()
            finally:
                await self._stop_work()
                await loop.run_in_executor(thread, self._consumer.close)

    def _poll(self) -> list[KafkaRecord | EndOfPartition]:
        return list(poll(self._consumer, POLL_RECORDS, POLL_SECONDS, self._errors))

    def _subscribe(self, loop: asyncio.AbstractEventLoop) -> None:
        """The callbacks are called in the thread that polls."""

        def revoked(consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
            self._on_revoke(loop, consumer, partitions)

        self._consumer.subscribe(
            [self._runs_topic], on_assign=self._on_assign, on_revoke=revoked, on_lost=revoked
        )

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        if not partitions:
            return
        self._assigned = AssignedRuns()
        consumer.incremental_assign(
            [TopicPartition(one.topic, one.partition, OFFSET_BEGINNING) for one in partitions]
        )

    def _on_revoke(
        self,
        loop: asyncio.AbstractEventLoop,
        consumer: Consumer,
        partitions: Sequence[TopicPartition],
    ) -> None:
        """Stops the work before the group may assign the partition to another reader.

        The group waits for that unless it counts this reader as lost already.
        """
        if not partitions:
            return
        self._assigned = None
        asyncio.run_coroutine_threadsafe(self._stop_work(), loop).result(self._revoke_seconds)
        consumer.incremental_unassign(list(partitions))

    def _take(self, event: KafkaRecord | EndOfPartition) -> None:
        if self._assigned is None:
            return
        if isinstance(event, EndOfPartition):
            self._assigned.read_to_end = True
            return
        try:
            self._assigned.run_log.apply(event.key or b"", event.value)
        except UnreadableRecord as error:
            log.warning(
                "record of reader.runs skipped: unreadable", **place(event), reason=str(error)
            )

    def _start_work(self) -> None:
        assigned = self._assigned
        if assigned is not None and assigned.read_to_end and self._task is None:
            log.info("this reader is active")
            self._metrics.active.set(1)
            self._task = asyncio.create_task(self._work(assigned.run_log), name="reader")

    def _raise_failure(self) -> None:
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def _stop_work(self) -> None:
        task, self._task = self._task, None
        self._metrics.active.set(0)
        self._metrics.runs_in_progress.set(0)
        self._metrics.oldest_unfinished.set_function(time.time)
        show_unknown(self._metrics.webhooks)
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])
