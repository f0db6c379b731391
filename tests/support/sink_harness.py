"""A Sink without a broker: the consumer and the publisher are lists, the org is the test's."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from prometheus_client import CollectorRegistry

from streams.events import Kind, change_headers
from streams.kafka.publisher import PublishFailed
from streams.kafka.records import Headers, KafkaRecord
from streams.metrics import SinkMetrics
from streams.runtime.ops import Health
from streams.runtime.traces import NO_TRACES, Traces
from streams.settings import KafkaSettings, SinkSettings
from streams.sink.failure_breakers import FailureBreakers
from streams.sink.fence import WriteFence
from streams.sink.live_pace import LivePace
from streams.sink.open_calls import CALLS_ENDED
from streams.sink.parts import KafkaEnds, Predecessor, Telemetry, WriteGuards
from streams.sink.stage import Sink
from streams.sink.stopping import Stop
from streams.sink.write_limits import WriteLimits
from streams.topics import topics
from tests.support.letters import failed_record

NAMES = topics(
    KafkaSettings.model_construct(
        topic_prefix="", events_partitions=1, events_retention_days=14, replication_factor=1
    )
)
DEADLINE = 60.0  # far more than anything here takes


@dataclass(frozen=True)
class FakeMessage:
    """What the sink asks of a message of confluent-kafka."""

    record: KafkaRecord
    fault: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.fault

    def topic(self) -> str:
        return self.record.topic

    def key(self) -> bytes | None:
        return self.record.key

    def value(self) -> bytes | None:
        return self.record.value

    def headers(self) -> Headers:
        return self.record.headers

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.record.offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


class FakeConsumer:
    """One partition, assigned at the first poll.

    The next poll calls `between_polls`, as librdkafka calls rebalances. The first `refuse` requests
    for the committed offset fail. The next poll delivers `error`, if there is one, after the
    records.
    """

    def __init__(self) -> None:
        self.log: list[KafkaRecord] = []
        self.position = 0
        self.commits: list[int] = []
        """The offsets to which commits went on."""
        self.commit_note = CALLS_ENDED
        """The metadata of the last commit."""
        self.paused = False
        self.polls = 0
        self.refuse = 0
        self.rebalancing = False
        """Whether commits are refused until the next poll, as while the group assigns anew."""
        self.error: KafkaError | None = None
        self.between_polls: list[Callable[[], Any]] = []
        self.lock = threading.Lock()
        self._callbacks: dict[str, Any] = {}

    def subscribe(self, names: list[str], **callbacks: Any) -> None:
        self._callbacks = callbacks
        self.between_polls.append(self.assign)

    @property
    def partition(self) -> TopicPartition:
        committed = self.commits[-1] if self.commits else 0
        return TopicPartition(NAMES.changes.name, 0, committed, self.commit_note)

    def assign(self) -> None:
        self.position = self.partition.offset
        self._callbacks["on_assign"](self, [self.partition])

    def lose(self) -> None:
        self._callbacks["on_lost"](self, [self.partition])

    def revoke(self) -> None:
        self._callbacks["on_revoke"](self, [self.partition])

    def consume(self, count: int, _timeout: float) -> list[FakeMessage]:
        self.polls += 1
        self.rebalancing = False
        while self.between_polls:
            self.between_polls.pop(0)()
        time.sleep(0.001)  # the test's loop runs meanwhile
        with self.lock:
            taken = [] if self.paused else self.log[self.position : self.position + count]
            self.position += len(taken)
        error, self.error = self.error, None
        return [
            *(FakeMessage(record) for record in taken),
            *(
                [FakeMessage(KafkaRecord(NAMES.changes.name, None, None, []), error)]
                if error
                else []
            ),
        ]

    def seek(self, partition: TopicPartition) -> None:
        self.position = partition.offset

    def list_topics(self, _topic: str, timeout: float) -> Any:
        """No topic: it was deleted."""
        return SimpleNamespace(topics={})

    def get_watermark_offsets(
        self, _partition: TopicPartition, timeout: float, cached: bool = False
    ) -> tuple[int, int]:
        return 0, len(self.log)

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.refuse:
            self.refuse -= 1
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return partitions

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        pass

    def pause(self, _partitions: list[TopicPartition]) -> None:
        self.paused = True

    def resume(self, _partitions: list[TopicPartition]) -> None:
        self.paused = False

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        if self.rebalancing:
            raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))
        if offsets[0].offset != self.partition.offset:
            self.commits.append(offsets[0].offset)
        self.commit_note = offsets[0].metadata or ""

    def close(self) -> None:
        pass


class FakePublisher:
    """Keeps what is published. The first `refuse` calls fail."""

    def __init__(self) -> None:
        self.records: list[KafkaRecord] = []
        self.refuse = 0
        self.owners: list[str] = []
        """What the sink said about who owns its outcomes."""
        self.refuse_take_over: list[Exception] = []
        """The next calls of `take_over` raise these."""

    def take_over(self, _seconds: float) -> None:
        if self.refuse_take_over:
            raise self.refuse_take_over.pop(0)
        if self.owners[-1:] != ["taken over"]:
            self.owners.append("taken over")

    def release(self) -> None:
        self.owners.append("released")

    async def publish(self, records: Iterable[KafkaRecord]) -> None:
        await asyncio.sleep(0)
        if self.refuse:
            self.refuse -= 1
            raise PublishFailed("not acknowledged")
        self.records.extend(records)


@dataclass
class SinkHarness:
    """A running Sink. `skip` moves its clock, and with it every wait."""

    sink: Sink
    consumer: FakeConsumer
    publisher: FakePublisher
    metrics: SinkMetrics
    health: Health
    skipped: list[float] = field(default_factory=lambda: [0.0])
    running: asyncio.Task[Stop] | None = None

    def skip(self, seconds: float) -> None:
        self.skipped[0] += seconds

    def offer(
        self,
        key: str,
        version: int,
        contact: dict[str, Any] | None,
        origin: bytes = b"webhook",
        received_ms: int = 0,
    ) -> None:
        """A record at the end of contacts.changes; a contact of None is a deletion."""
        kind = Kind.DELETED if contact is None else Kind.UPDATED
        value = json.dumps({"id": key} if contact is None else contact).encode()
        headers = change_headers(kind, version, "f" * 32, "m", origin, b"%d" % received_ms)
        with self.consumer.lock:
            offset = len(self.consumer.log)
            self.consumer.log.append(
                KafkaRecord(NAMES.changes.name, key.encode(), value, headers, 0, offset)
            )

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """The last outcome of each contact, as the compacted topic keeps it."""
        return dict(self.all_outcomes())

    def all_outcomes(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ((record.key or b"").decode(), json.loads(record.value or b"{}"))
            for record in self.publisher.records
            if record.topic == NAMES.outcomes.name
        ]

    def dead_letters(self) -> list[KafkaRecord]:
        return [
            failed_record(record)
            for record in self.publisher.records
            if record.topic == NAMES.dead_letter.name
        ]

    def control_records(self) -> list[KafkaRecord]:
        """What is published to contactstream.control."""
        return [record for record in self.publisher.records if record.topic == NAMES.control.name]

    @property
    def committed(self) -> int:
        return self.consumer.commits[-1] if self.consumer.commits else 0

    async def until(self, condition: Callable[[], Any], what: str, *, skip: float = 0.0) -> None:
        """Waits for a condition; each check moves the sink's clock by `skip` seconds."""
        ends = time.monotonic() + DEADLINE
        while not condition():
            assert self.running is None or not self.running.done(), f"the sink ended before {what}"
            assert time.monotonic() < ends, f"not within {DEADLINE} s: {what}"
            self.skip(skip)
            await asyncio.sleep(0.002)

    async def until_polled(self, times: int = 1) -> None:
        """Waits until the sink has polled so many times more."""
        polls = self.consumer.polls
        await self.until(lambda: self.consumer.polls >= polls + times, "the sink polls on")

    async def until_committed(self, *, skip: float = 0.0) -> None:
        await self.until(
            lambda: self.committed == len(self.consumer.log), "everything is committed", skip=skip
        )


@asynccontextmanager
async def running_sink(
    org: Any,
    fence: WriteFence | None = None,
    skipped: list[float] | None = None,
    deleted_before: Callable[[], Iterable[tuple[str, int]]] = tuple,
    topic_id: str = "id-1",
    failures: FailureBreakers | None = None,
    control: Any = None,
    traces: Traces = NO_TRACES,
    consumer: FakeConsumer | None = None,
    **settings: Any,
) -> AsyncIterator[SinkHarness]:
    """A running Sink.

    `org` is a Sync, or a stand-in for one. `skipped` holds the seconds that the sink's clock is
    ahead of the machine's. `deleted_before` returns what a predecessor deleted. `topic_id` is that
    of contacts.changes. `control` stands in for the FollowedTopic that feeds `failures`.
    Without a `consumer` of the caller it is a FakeConsumer.
    """
    skipped = [0.0] if skipped is None else skipped

    def clock() -> float:
        return time.monotonic() + skipped[0]

    consumer, publisher = consumer or FakeConsumer(), FakePublisher()
    metrics = SinkMetrics(CollectorRegistry())
    health = Health(60.0)
    # The copy is not checked: a test may want bounds that are too small for production.
    short: dict[str, Any] = {"linger": 0.01, "bulk_linger": 0.01}
    wanted = SinkSettings(**short).model_copy(update=settings)
    failures = failures or FailureBreakers()
    sink = Sink(
        org,
        KafkaEnds(consumer, publisher, NAMES, topic_id, control),  # type: ignore[arg-type]
        wanted,
        Telemetry(metrics, health, traces),
        WriteGuards(
            fence or WriteFence(10.0),
            failures,
            WriteLimits(failures.table),
            LivePace(wanted.live_call_share, clock),
        ),
        Predecessor(deleted_before),
        clock=clock,
    )
    one = SinkHarness(sink, consumer, publisher, metrics, health, skipped)
    one.running = asyncio.create_task(sink.run())
    try:
        yield one
    finally:
        sink.stop("the test is over")
        if one.running is not None:
            await asyncio.wait_for(one.running, DEADLINE)
