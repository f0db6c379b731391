"""A partition read by assignment, its offsets kept in a group without members: for a process that is the only one at work anyway."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from streams.events import Record
from streams.kafka import METADATA_SECONDS, consumer_config
from streams.settings import KafkaSettings
from streams.snapshot import to_record

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

POLL_SECONDS = 0.3
BATCH = 500
AGAIN_SECONDS = 1.0


class AssignedPartition:
    """Partition 0 of a topic. An asynchronous context manager; its blocking calls run in a thread of their own."""

    def __init__(self, kafka: KafkaSettings, topic: str, group_id: str) -> None:
        self._kafka, self._topic, self._group = kafka, topic, group_id
        self._thread = ThreadPoolExecutor(1, f"assigned-{topic}")
        self._consumer: Consumer | None = None
        self.committed = 0
        """The offset committed by whoever read before; 0 when nobody did."""
        self.position = 0
        """The offset behind the last record consumed."""
        self.at_end = False
        """Whether the end of the partition has been seen."""

    async def __aenter__(self) -> "AssignedPartition":
        # The session's bound means nothing without a group membership; the client wants one all the same.
        config = consumer_config(self._kafka, self._group, session_timeout=10.0)
        self._consumer = Consumer(config | {"enable.partition.eof": True})
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._thread.submit(consumer.close)  # behind a poll that may be under way
        self._thread.shutdown(wait=False)

    async def start(self, *, from_beginning: bool = False) -> int:
        """Seeks to the committed offset, or to the beginning; returns how many offsets expired unread. Waits for the broker."""
        while True:
            try:
                committed, low = await self._call(self._look)
                break
            except KafkaException as error:
                log.warning("the broker does not answer", topic=self._topic, error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
        self.committed = max(committed, 0)
        self.position = max(low, 0 if from_beginning else self.committed)
        offset = OFFSET_BEGINNING if from_beginning else self.position
        await self._call(lambda: self._open.assign([TopicPartition(self._topic, 0, offset)]))
        return max(0, low - committed) if committed >= 0 else 0

    async def consume(self) -> list[Record]:
        """The next records; an empty list after a while without any. Raises KafkaException for what the client calls fatal."""
        records = []
        for message in await self._call(lambda: self._open.consume(BATCH, POLL_SECONDS)):
            error = message.error()
            if error is None:
                record = to_record(message)
                self.position = record.offset + 1
                records.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                self.at_end = True
            elif error.fatal():
                raise KafkaException(error)
        return records

    async def commit(self, offset: int) -> bool:
        """Commits; False when the broker did not take it, and the next commit will do as well."""
        partition = TopicPartition(self._topic, 0, offset)
        try:
            await self._call(lambda: self._open.commit(offsets=[partition], asynchronous=False))
        except KafkaException as error:
            log.warning("commit failed, repeated with the next", topic=self._topic, error=str(error))
            return False
        return True

    @property
    def _open(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("use it as an asynchronous context manager")
        return self._consumer

    def _look(self) -> tuple[int, int]:
        partition = TopicPartition(self._topic, 0)
        committed = self._open.committed([partition], timeout=METADATA_SECONDS)[0].offset
        low, _ = self._open.get_watermark_offsets(partition, timeout=METADATA_SECONDS)
        return committed, low

    async def _call(self, function: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
