"""A topic of one partition, read to the end that it has now: how a compacted topic serves as a
table.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import TracebackType
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.kafka.clients import METADATA_SECONDS, ErrorLog, client_config
from streams.kafka.polling import EndOfPartition, poll
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings

ResultT = TypeVar("ResultT")

STALL_SECONDS = (
    60.0  # without a record: a broker that restarts is back by then, and the caller starts over
)
BATCH = 500
FETCH_BYTES = 256 * 1024
"""One answer of the broker, as compressed as it was written; a larger batch comes alone. Unpacked
it may be ten times that.
"""
AHEAD_KBYTES = (
    1024  # fetched while a batch is worked on, and beyond it the answer that is under way
)
AHEAD_RECORDS = 4 * BATCH  # likewise: small records take several times their own size
# until the client asks again when it has enough ahead: by default a second, in which we have long
# worked that off
FULL_MS = 10
# until the broker says that nothing follows: by default half a second, in which it hopes for a
# record
END_MS = 10
POLL_SECONDS = 0.2  # the client waits it out where fewer than BATCH records are left
_CONFIG: dict[str, str | int | bool] = {
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
OFFSET_TAIL = -2000
# librdkafka's RD_KAFKA_OFFSET_TAIL_BASE: less n, it starts n records before the end


class SnapshotStalled(TimeoutError):
    """A topic was not read to its end in time; read it again from the start."""


def read_to_end(
    kafka: KafkaSettings,
    topic: str,
    *,
    offset: int = 0,
    last: int | None = None,
    since: float | None = None,
    within: float | None = None,
) -> Generator[KafkaRecord, None, None]:
    """Yields the records of a topic in the order of their offsets, to its present end. Blocks.

    A compacted topic may still yield older records of a key. Joins no group and commits nothing.

    By default it reads partition 0 from its start. `offset` starts there instead; `last` starts so
    many offsets before the end. `since` (epoch seconds) reads every partition from that moment.

    Raises SnapshotStalled when the broker sends nothing for STALL_SECONDS, or when the end is not
    reached `within` so many seconds. Raises KafkaException for an error that the client cannot
    recover from, and for a topic that does not exist when `since` is given.
    """
    consumer = Consumer(client_config(kafka) | _CONFIG)
    started = heard = time.monotonic()
    log_error = ErrorLog()
    try:
        if since is not None:
            starts = _offsets_since(consumer, topic, since)
        else:
            starts = [TopicPartition(topic, 0, offset if last is None else OFFSET_TAIL - last)]
        consumer.assign(starts)
        unfinished = {start.partition for start in starts}
        while unfinished:
            for event in poll(consumer, BATCH, POLL_SECONDS, log_error):
                if isinstance(event, EndOfPartition):
                    unfinished.discard(event.partition)
                    if not unfinished:
                        return
                elif event.partition in unfinished:
                    yield event
                heard = time.monotonic()  # after the yield: a slow caller is no stall
            if within is not None and time.monotonic() - started > within:
                raise SnapshotStalled(f"{topic} was not read to its end within {within:.0f} s")
            if time.monotonic() - heard > STALL_SECONDS:
                raise SnapshotStalled(f"{topic}: no record for {STALL_SECONDS:.0f} s")
    finally:
        consumer.close()


def _offsets_since(consumer: Consumer, topic: str, since: float) -> list[TopicPartition]:
    """The first offset of each partition that is not older than `since`; without those that have
    none.
    """
    known = consumer.list_topics(topic, timeout=METADATA_SECONDS).topics[topic]
    if known.error is not None:
        raise KafkaException(known.error)
    # Below zero it would be one of the protocol's special timestamps.
    at_ms = max(0, int(since * 1000))
    asked = [TopicPartition(topic, partition, at_ms) for partition in known.partitions]
    found = consumer.offsets_for_times(asked, timeout=METADATA_SECONDS)
    return [partition for partition in found if partition.offset >= 0]


class Snapshots:
    """A process's readings of topics, one after the other however many ask: each takes memory and a
    core.

    An asynchronous context manager.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._thread = ThreadPoolExecutor(1, "snapshots")

    async def __aenter__(self) -> "Snapshots":
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(
        self, topic: str, function: Callable[[Iterator[KafkaRecord]], ResultT], since: int = 0
    ) -> ResultT:
        """What `function` makes of the records of `read_to_end`, of which it need not take all; it
        runs in a thread.

        Raises SnapshotStalled and KafkaException.
        """

        def work() -> ResultT:
            with closing(read_to_end(self._kafka, topic, offset=since)) as records:
                return function(records)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
