"""A partition read by assignment, its offsets kept in a group without members: for a process that
is the only one at work anyway.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from streams.kafka.clients import METADATA_SECONDS, ErrorLog, consumer_config
from streams.kafka.polling import EndOfPartition, OffsetOutOfRange, poll
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

POLL_SECONDS = 0.3
BATCH = 500
AGAIN_SECONDS = 1.0
BEYOND_LOOKS = 5
"""Looks, `AGAIN_SECONDS` apart, that all find a commit beyond the end of the log: the end that a
new leader tells may lag at first.
"""


class AssignedPartition:
    """Partition 0 of a topic. An asynchronous context manager; its blocking calls run in a thread
    of their own.

    `on_lost` is called each time that the position turned out not to be in the log any more.
    """

    def __init__(
        self, kafka: KafkaSettings, topic: str, group_id: str, on_lost: Callable[[], None]
    ) -> None:
        self._kafka, self._topic, self._group, self._on_lost = kafka, topic, group_id, on_lost
        self._thread = ThreadPoolExecutor(1, f"assigned-{topic}")
        self._consumer: Consumer | None = None
        self._errors = ErrorLog()
        self._out_of_range: OffsetOutOfRange | None = None
        self.committed = 0
        """The offset committed by whoever read before; 0 when nobody did."""
        self.position = 0
        """The offset behind the last record consumed."""
        self.at_end = False
        """Whether the end of the partition has been seen."""

    async def __aenter__(self) -> "AssignedPartition":
        # The session's bound means nothing without a group membership; the client wants one all the
        # same.
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
            self._thread.submit(consumer.close)  # behind a poll that may be under way
        self._thread.shutdown(wait=False)

    async def start(self, *, from_beginning: bool = False) -> bool:
        """Seeks to the committed offset, or to the beginning; waits for the broker. True when
        records were lost: the committed offset is not in the log, because they expired unread or
        because it is another log, and reading starts at the log's start.
        """
        committed, low, high = await self._look()
        for _ in range(BEYOND_LOOKS - 1):
            if committed <= high:
                break
            await asyncio.sleep(AGAIN_SECONDS)
            committed, low, high = await self._look()
        lost = 0 <= committed < low or committed > high
        if lost:
            self._tell_loss(committed, low, high)
        self.committed = low if lost else max(committed, 0)
        self.position = low if from_beginning else max(low, self.committed)
        await self._assign(OFFSET_BEGINNING if from_beginning else self.position)
        return lost

    async def start_over(self) -> None:
        """Seeks to the start of the log as if nobody had ever committed. Waits for the broker."""
        _, low, high = await self._look()
        self._tell_loss(self.position, low, high)
        self.committed = self.position = low
        self.at_end = False
        self._out_of_range = None
        await self._assign(OFFSET_BEGINNING)

    async def consume(self) -> list[KafkaRecord]:
        """The next records; an empty list after a while without any. Raises OffsetOutOfRange, and
        KafkaException for what the client calls fatal; what else the client reports is logged, and
        passes or comes again.
        """
        return await self._call(self._poll)

    def _poll(self) -> list[KafkaRecord]:
        if self._out_of_range is not None:
            raise self._out_of_range
        records: list[KafkaRecord] = []
        try:
            for event in poll(self._open, BATCH, POLL_SECONDS, self._errors):
                if isinstance(event, EndOfPartition):
                    self.at_end = True
                else:
                    self.position = event.offset + 1
                    records.append(event)
        except OffsetOutOfRange as error:
            if not records:
                raise
            self._out_of_range = error  # reported once: the records before it come first
        return records

    async def commit(self, offset: int) -> bool:
        """Commits; False when the broker did not take it, and the next commit will do as well."""
        partition = TopicPartition(self._topic, 0, offset)
        try:
            await self._call(lambda: self._open.commit(offsets=[partition], asynchronous=False))
        except KafkaException as error:
            log.warning(
                "commit failed, repeated with the next", topic=self._topic, error=str(error)
            )
            return False
        return True

    @property
    def _open(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("use it as an asynchronous context manager")
        return self._consumer

    def _tell_loss(self, position: int, low: int, high: int) -> None:
        self._on_lost()
        log.error(
            "the position is not in the log any more; reading starts at the log's start",
            topic=self._topic,
            position=position,
            log_start=low,
            log_end=high,
        )

    async def _assign(self, offset: int) -> None:
        await self._call(lambda: self._open.assign([TopicPartition(self._topic, 0, offset)]))

    async def _look(self) -> tuple[int, int, int]:
        """The committed offset (negative without one), the log's start and its end."""
        while True:
            try:
                return await self._call(self._ask)
            except KafkaException as error:
                log.warning("the broker does not answer", topic=self._topic, error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)

    def _ask(self) -> tuple[int, int, int]:
        partition = TopicPartition(self._topic, 0)
        committed = self._open.committed([partition], timeout=METADATA_SECONDS)[0].offset
        low, high = self._open.get_watermark_offsets(partition, timeout=METADATA_SECONDS)
        return committed, low, high

    async def _call(self, function: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
