"""Reads a topic of one partition by assignment, and commits to a group that has no members.

For a process that is the only active one anyway.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaException,
    TopicPartition,
)

from streams.kafka.access import is_denied
from streams.kafka.clients import METADATA_SECONDS, ErrorLog, consumer_config
from streams.kafka.committed import committed_of_group
from streams.kafka.log_range import offset_range
from streams.kafka.offsets import LOG_END_CHECK_SECONDS, LOG_END_CHECKS
from streams.kafka.polling import (
    ConsumerErrors,
    EndOfPartition,
    OffsetOutOfRange,
    TopicReplaced,
    poll,
)
from streams.kafka.records import KafkaRecord
from streams.kafka.topic_watch import commit_metadata, raise_if_replaced, read_topic_id
from streams.runtime.logs import place
from streams.settings import KafkaSettings

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

RECORDS_AT_ONCE = 500

# How long one `consume` waits for records; a commit waits behind it.
RECORDS_WAIT_SECONDS = 0.3

# Until a broker that did not answer is asked again.
BROKER_RETRY_SECONDS = 1.0


class AssignedPartition:
    """Partition 0 of a topic, read from the committed offset of a group.

    An asynchronous context manager. Its blocking calls run in a thread of its own. `on_lost` is
    called each time that the position turned out to be outside of the log.
    """

    def __init__(
        self, kafka: KafkaSettings, topic: str, group_id: str, on_lost: Callable[[], None]
    ) -> None:
        self._kafka, self._topic, self._group, self._on_lost = kafka, topic, group_id, on_lost
        self._thread = ThreadPoolExecutor(1, f"assigned-{topic}")
        self._consumer: Consumer | None = None
        self._topic_id = ""
        self._replaced = False  # the commit belongs to an older topic of the same name
        self._errors = ConsumerErrors(ErrorLog())
        self._error: OffsetOutOfRange | KafkaException | None = None
        self.committed = 0
        """The group's committed offset at the start; 0 without one."""
        self.position = 0
        """The offset behind everything consumed."""
        self.at_end = False
        """Whether the end of the partition was reached."""

    async def __aenter__(self) -> "AssignedPartition":
        # The session time-out means nothing to a consumer that joins no group; `consumer_config`
        # requires one.
        config = consumer_config(self._kafka, self._group, session_timeout=10.0)
        self._consumer = Consumer(config | {"enable.partition.eof": True})
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._thread.submit(consumer.close)  # in the thread, after a poll that may be in flight
        self._thread.shutdown(wait=False)

    async def start(self, *, from_beginning: bool = False) -> bool:
        """Seeks to the committed offset, or to the start of the log. Waits for the broker.

        Raises KafkaException when the broker refuses the group or the topic.

        True when records were lost: the committed offset is outside of the log, because they
        expired unread, or because the topic was deleted and created again. Then reading starts at
        the start of the log. The same holds when the commit names another topic ID than the
        topic has now.
        """
        committed, low, high = await self._offsets()
        for _ in range(LOG_END_CHECKS - 1):
            if committed <= high:
                break
            await asyncio.sleep(LOG_END_CHECK_SECONDS)
            committed, low, high = await self._offsets()
        lost = self._replaced or 0 <= committed < low or committed > high
        if lost:
            self._report_loss(committed, low, high)
        self.committed = low if lost else max(committed, 0)
        self.position = low if from_beginning else max(low, self.committed)
        await self._assign(OFFSET_BEGINNING if from_beginning else self.position)
        return lost

    async def start_over(self) -> None:
        """Seeks to the start of the log, as without a commit. Waits for the broker."""
        _, low, high = await self._offsets()
        self._report_loss(self.position, low, high)
        self.committed = self.position = low
        self.at_end = False
        self._error = None
        await self._assign(OFFSET_BEGINNING)

    async def end(self) -> int:
        """The offset behind the last record that is committed now.

        Raises KafkaException when no broker answers within METADATA_SECONDS.
        """
        _, end = await self._call(
            lambda: offset_range(self._open, TopicPartition(self._topic, 0), METADATA_SECONDS)
        )
        return end

    async def consume(self) -> list[KafkaRecord]:
        """The next records; an empty list when none came within RECORDS_WAIT_SECONDS.

        Raises OffsetOutOfRange, and then again until `start_over`; raises KafkaException for an
        error that the client cannot recover from, and TopicReplaced when the topic is gone. Records
        that came before the error are returned first. Other errors of the client are logged: it
        recovers by itself.
        """
        return await self._call(self._poll)

    def _poll(self) -> list[KafkaRecord]:
        if self._error is not None:
            raise self._error
        records: list[KafkaRecord] = []
        try:
            for event in poll(self._open, RECORDS_AT_ONCE, RECORDS_WAIT_SECONDS, self._errors):
                if isinstance(event, EndOfPartition):
                    self.at_end = True
                    # Behind the last record may be the marker of a transaction, or a hole of
                    # compaction. Without this the lag would never be 0.
                    self.position = max(self.position, event.offset)
                else:
                    self.position = event.offset + 1
                    records.append(event)
        except (OffsetOutOfRange, KafkaException) as error:
            # The client reports it once, so it is kept until the records before it were returned.
            self._error = error
            if not records:
                raise
        return records

    async def commit(self, offset: int) -> bool:
        """Commits. False when the broker did not accept it; the next commit makes up for it."""
        note = commit_metadata(self._topic_id)
        partition = TopicPartition(self._topic, 0, offset, note)
        try:
            await self._call(lambda: self._open.commit(offsets=[partition], asynchronous=False))
        except KafkaException as error:
            log.warning("commit failed", error=str(error), **place(partition))
            return False
        return True

    @property
    def _open(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("AssignedPartition is used outside of its `async with` block")
        return self._consumer

    def _report_loss(self, position: int, low: int, high: int) -> None:
        self._on_lost()
        log.error(
            "position out of the log; reading starts at the start of the log",
            topic=self._topic,
            position=position,
            log_start=low,
            log_end=high,
        )

    async def _assign(self, offset: int) -> None:
        await self._call(lambda: self._open.assign([TopicPartition(self._topic, 0, offset)]))

    async def _offsets(self) -> tuple[int, int, int]:
        """The committed offset (negative without one), the log's start and its end.

        Waits for the broker. Raises KafkaException when it refuses.
        """
        while True:
            try:
                return await self._call(self._request_offsets)
            except KafkaException as error:
                if is_denied(error.args[0]):
                    raise
                log.warning("broker did not answer", topic=self._topic, error=str(error))
                await asyncio.sleep(BROKER_RETRY_SECONDS)

    def _request_offsets(self) -> tuple[int, int, int]:
        partition = TopicPartition(self._topic, 0)
        (committed,) = committed_of_group(self._open, self._group, [partition], METADATA_SECONDS)
        low, high = offset_range(self._open, partition, METADATA_SECONDS)
        self._topic_id = read_topic_id(self._kafka, self._topic)
        try:
            raise_if_replaced(self._topic, committed.metadata, self._topic_id)
            self._replaced = False
        except TopicReplaced:
            self._replaced = True
        return committed.offset, low, high

    async def _call(self, function: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
