"""A topic of one partition, read to the end that it has now: how a compacted topic serves as a table."""

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import TracebackType
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.events import Record
from streams.kafka import client_config, to_record
from streams.settings import KafkaSettings

ResultT = TypeVar("ResultT")

STALL_SECONDS = 60.0  # without a record: a broker that restarts is back by then, and the caller starts over
BATCH = 500
FETCH_BYTES = 256 * 1024
"""One answer of the broker, as compressed as it was written; a larger batch comes alone. Unpacked it may be ten times that."""
AHEAD_KBYTES = 1024  # fetched while a batch is worked on, and beyond it the answer that is under way
AHEAD_RECORDS = 4 * BATCH  # likewise: small records take several times their own size
FULL_MS = 10  # until the client asks again when it has enough ahead: by default a second, in which we have long worked that off
END_MS = 10  # until the broker says that nothing follows: by default half a second, in which it hopes for a record
POLL_SECONDS = 0.2  # the client waits it out where fewer than BATCH records are left
OFFSET_TAIL = -2000  # librdkafka's RD_KAFKA_OFFSET_TAIL_BASE: less n, it starts n records before the end


class SnapshotStalled(RuntimeError):
    """The broker sent nothing for too long; read again from the start."""


def read_all(
    kafka: KafkaSettings, topic: str, last: int | None = None, since: int = 0
) -> Generator[Record, None, None]:
    """Yields the records of partition 0 in order, older ones of a key included where compaction has not been. Blocks.

    From the start or the offset `since`; with `last` only those of the last so many offsets. Joins no group and commits nothing.
    Raises SnapshotStalled, and KafkaException for what the client calls fatal.
    """
    consumer = Consumer(
        client_config(kafka)
        | {
            "group.id": "contactstream-snapshot",  # demanded by the client, never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # a tail longer than the log, or a log that begins later
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.message.max.bytes": FETCH_BYTES,
            "queued.max.messages.kbytes": AHEAD_KBYTES,
            "queued.min.messages": AHEAD_RECORDS,
            "fetch.queue.backoff.ms": FULL_MS,
            "fetch.wait.max.ms": END_MS,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, 0, since if last is None else OFFSET_TAIL - last)])
        heard = time.monotonic()
        while True:
            for message in consumer.consume(BATCH, POLL_SECONDS):
                error = message.error()
                if error is None:
                    yield to_record(message)
                    heard = time.monotonic()  # after the yield: a slow reader is no stall
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif error.fatal():
                    raise KafkaException(error)
            if time.monotonic() - heard > STALL_SECONDS:
                raise SnapshotStalled(f"{topic}: no record for {STALL_SECONDS:.0f} s")
    finally:
        consumer.close()


class Snapshots:
    """A process's readings of topics, one after the other however many ask: each takes memory and a core.

    An asynchronous context manager.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._thread = ThreadPoolExecutor(1, "snapshots")

    async def __aenter__(self) -> "Snapshots":
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(self, topic: str, function: Callable[[Iterator[Record]], ResultT], since: int = 0) -> ResultT:
        """What `function` makes of the records of `read_all`, of which it need not take all; it runs in a thread.

        Raises SnapshotStalled and KafkaException.
        """

        def work() -> ResultT:
            with closing(read_all(self._kafka, topic, since=since)) as records:
                return function(records)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
