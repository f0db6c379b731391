"""Publishes records to Kafka and waits until the broker has acknowledged them."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.kafka.access import is_denied, named_denial
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.records import KafkaRecord
from streams.kafka.sizes import SplitProducers, TopicRefusesRecord, record_bytes
from streams.runtime.ops import WorkInFlight

log = structlog.get_logger()


class PublishFailed(RuntimeError):
    """The broker did not acknowledge a record in time, or refused it.

    The time is the producer's delivery time-out. Whether the record is stored is unknown: publish
    it again. `permanent`: the broker refuses this record always. `fatal`: this producer cannot
    publish any more, so the process has to be restarted. `denied`: our user may not write there; a
    new start waits until it may, and says what is missing.
    """

    def __init__(
        self, error: str, *, permanent: bool = False, fatal: bool = False, denied: bool = False
    ) -> None:
        super().__init__(error)
        self.denied = denied
        self.permanent = permanent
        self.fatal = fatal


class BatchTooLarge(PublishFailed):
    """The broker refused a batch of records because of its size; each alone may be small enough."""

    def __init__(self, error: str, topic: str, record_bytes: int) -> None:
        super().__init__(error, permanent=True)
        self.topic = topic
        self.record_bytes = record_bytes
        """The size of one of its records."""


class RecordPublisher(Protocol):
    """What stages need of a publisher."""

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        """Returns once every record is acknowledged. Raises PublishFailed."""


# How long the producer's thread waits for callbacks at a time. They are served as they come; only
# `close` waits for the thread.
CALLBACK_POLL_SECONDS = 0.1

# The producer reports every record by its delivery time-out, acknowledged or not. Its timers run
# once a second, and a busy event loop takes the report later.
DELIVERY_MARGIN_SECONDS = 30.0

# librdkafka's default for delivery.timeout.ms, where the configuration has none.
DEFAULT_DELIVERY_MS = 300_000

# How an operator makes the splitting unnecessary.
REMEDY = "contactstream topics check"

# How long `send` gathers records while earlier ones wait for their acknowledgement. That usually
# comes sooner; a partition without a leader holds back the others no longer than this.
GATHER_SECONDS = 0.05

_REFUSED = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError._KEY_SERIALIZATION)


def publish_failure(error: KafkaError, message: Message | None = None) -> PublishFailed:
    """What the error of a delivery report, or of the producer, means for the caller."""
    fatal = error.fatal() or error.code() == KafkaError._FATAL
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and message is not None:
        return BatchTooLarge(error.str(), message.topic() or "", record_bytes(message))
    topic = message.topic() if message is not None else None
    error = named_denial(error, topic or "")
    return PublishFailed(
        error.str(), permanent=error.code() in _REFUSED, fatal=fatal, denied=is_denied(error)
    )


def refused_record(error: KafkaError, record: KafkaRecord) -> PublishFailed:
    """The failure of a record that the producer did not even take."""
    if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
        return publish_failure(error)
    size = len(record.key or b"") + len(record.value or b"")
    return PublishFailed(
        f"a record of {size} bytes for {record.topic} is larger than {MAX_MESSAGE_BYTES} bytes, "
        "the most that this program sends",
        permanent=True,
    )


class _Group:
    """Records published together; the future is resolved with the last acknowledgement.

    `finished` is called with the group then, in the thread that serves the producer's callbacks.
    """

    __slots__ = ("error", "finished", "future", "message", "records", "sent", "waiting")

    def __init__(
        self,
        future: "asyncio.Future[None]",
        records: Sequence[KafkaRecord],
        finished: "Callable[[_Group], None]",
        *,
        sent: bool = False,
    ) -> None:
        self.future, self.records, self.finished = future, records, finished
        self.sent = sent  # by `Publisher.send`, which waits for nothing
        self.waiting = len(records)
        self.error: KafkaError | None = None
        self.message: Message | None = None

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self.error is None:
            self.error, self.message = error, message
        self.waiting -= 1
        if self.waiting == 0:
            self.finished(self)

    def fail(self, failure: PublishFailed) -> None:
        if not self.future.done():
            self.future.set_exception(failure)


class Publisher:
    """A producer for one event loop.

    A thread serves the producer's callbacks. It passes all groups that a poll has finished to the
    loop at once.

    A fatal error of the producer, or any error that ends the thread, fails the publisher for good:
    every caller that waits gets PublishFailed with `fatal`, and so does every later one. The
    process has to end then, with `ExitCode.KAFKA_REFUSED`: it waits for `failed`.

    `send` gathers records instead of giving each to the producer at once. librdkafka's idempotent
    producer sends nothing more to a partition while five of its records are in flight: it counts
    records where Kafka counts requests (`RD_KAFKA_IDEMP_MAX_INFLIGHT - rktp_msgs_inflight` in
    rd_kafka_toppar_producer_serve of rdkafka_broker.c, 2.16). For what is due meanwhile its thread
    does not wait but asks again and again, which costs a whole processor.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.failed = asyncio.Event()
        """Set once the publisher cannot publish any more."""
        self.failure: str | None = None
        """Why it cannot."""
        delivery_seconds = config.get("delivery.timeout.ms", DEFAULT_DELIVERY_MS) / 1000
        self.in_flight = WorkInFlight(
            "records that wait for Kafka's acknowledgement",
            delivery_seconds + DELIVERY_MARGIN_SECONDS,
        )
        """For `Health.watch`: the records that were given to the producer."""
        self._config = config
        self._open: set[_Group] = set()  # groups that a caller waits for
        self._gathered: list[_Group] = []  # by `send`, not yet given to the producer
        self._gathered_until: asyncio.TimerHandle | None = None
        self._sent = 0  # groups of `send` that the producer has not reported
        self._finished: deque[_Group] = deque()
        self._closing = threading.Event()
        self._producer: Producer | None = None
        self._split = SplitProducers(config)
        self._thread: threading.Thread | None = None
        self._flush_seconds = 0.0

    def open(self) -> None:
        """Starts the producer, which connects in the background.

        While no broker answers, `publish` waits as long as the delivery time-out allows.
        """
        self._producer = Producer(self._config)
        self._thread = threading.Thread(
            target=self._serve,
            args=(self._producer, asyncio.get_running_loop()),
            name="publisher",
            daemon=True,
        )
        self._thread.start()

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        """Returns once every record is acknowledged; their partitions and offsets are ignored.

        Does not block the loop. Raises PublishFailed when a record was not acknowledged in time, or
        the producer's queue is full. Then publish all of them again; some may be stored twice. The
        records of a batch that is refused as too large are sent again in smaller batches.

        Raises PublishFailed with `permanent` for a record that the broker always refuses, and with
        `fatal` when this publisher cannot publish any more.
        """
        if self._producer is None:
            raise RuntimeError("the publisher is not open")
        if self.failure is not None:
            raise PublishFailed(self.failure, fatal=True)
        if not records:
            return
        while True:
            producer = self._split.suited(self._producer, (each.topic for each in records))
            try:
                await self._publish_with(producer, records)
            except BatchTooLarge as error:
                await self._split_from_now_on(producer, error)
            else:
                return

    async def _split_from_now_on(self, producer: Producer, refused: BatchTooLarge) -> None:
        """Makes smaller batches for the topic. Raises PublishFailed for a record that is too large.

        Which records of the batch are on the topic is not known: the caller publishes all again.
        """
        topic, size = refused.topic, refused.record_bytes
        try:
            await asyncio.to_thread(self._split.learn, producer, topic, size, self._config)
        except TopicRefusesRecord as error:
            raise PublishFailed(str(error), permanent=True) from refused
        log.warning("a batch was refused as too large; it is split", topic=topic, remedy=REMEDY)

    async def _publish_with(self, producer: Producer, records: Sequence[KafkaRecord]) -> None:
        future = asyncio.get_running_loop().create_future()
        group = _Group(future, records, self._finished.append)
        self._open.add(group)
        try:
            with self.in_flight:
                self._produce(producer, group)
                await future
        except PublishFailed as error:
            if error.fatal:
                self._fail(str(error))
            raise
        finally:
            self._open.discard(group)

    def send(self, record: KafkaRecord) -> "asyncio.Future[None]":
        """Publishes one record of many callers; the future is resolved with its acknowledgement.

        For records that come one by one and often. Those that come while earlier ones wait for
        their acknowledgement are given to the producer together, after GATHER_SECONDS at the most.
        A record whose future was cancelled before that is not published.

        The future raises PublishFailed as `publish` does; and BatchTooLarge for a record of a batch
        that is refused as too large: see `send_refused`.
        """
        if self._producer is None:
            raise RuntimeError("the publisher is not open")
        loop = asyncio.get_running_loop()
        group = _Group(loop.create_future(), (record,), self._finished.append, sent=True)
        if self.failure is not None:
            group.fail(PublishFailed(self.failure, fatal=True))
            return group.future
        self._open.add(group)
        self._gathered.append(group)
        if self._gathered_until is None:
            seconds = GATHER_SECONDS if self._sent else 0.0
            self._gathered_until = loop.call_later(seconds, self._send_gathered)
        return group.future

    async def send_refused(self, record: KafkaRecord, refused: BatchTooLarge) -> None:
        """Publishes a record again whose batch was refused; from now on in smaller batches.

        Raises PublishFailed as `publish` does.
        """
        if self._producer is not None:
            await self._split_from_now_on(self._producer, refused)
        await self.publish([record])

    def _send_gathered(self) -> None:
        """Gives the gathered records to the producer; runs in the event loop."""
        if self._gathered_until is not None:
            self._gathered_until.cancel()
            self._gathered_until = None
        gathered, self._gathered = self._gathered, []
        for group in gathered:
            if group.future.done() or self._producer is None:
                self._open.discard(group)
                group.fail(PublishFailed("the process stops"))
                continue
            self._sent += 1
            self.in_flight.begin()
            try:
                topic = group.records[0].topic
                self._produce(self._split.suited(self._producer, (topic,)), group)
            except PublishFailed as error:
                self._reported(group, error)

    def _reported(self, group: _Group, failure: PublishFailed | None) -> None:
        """A group of `send` was acknowledged, or failed."""
        self._sent -= 1
        self.in_flight.end()
        self._open.discard(group)
        if failure is None:
            if not group.future.done():
                group.future.set_result(None)
            return
        group.fail(failure)
        if failure.fatal:
            self._fail(str(failure))

    def _resolve(self, groups: Sequence[_Group]) -> None:
        """Tells the callers what became of their records; runs in the event loop."""
        for group in groups:
            failure = None if group.error is None else publish_failure(group.error, group.message)
            if group.sent:
                self._reported(group, failure)
            elif failure is not None:
                group.fail(failure)
            elif not group.future.done():
                group.future.set_result(None)
        if self._gathered and not self._sent:
            self._send_gathered()

    def _produce(self, producer: Producer, group: _Group) -> None:
        """Gives the records of a group to the producer. Raises PublishFailed."""
        for record in group.records:
            try:
                producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    headers=record.headers,
                    on_delivery=group.delivered,
                )
            except (BufferError, KafkaException) as error:
                # The records before this one are still reported, to a group that never completes
                # and that no caller waits for.
                if isinstance(error, KafkaException):
                    raise refused_record(error.args[0], record) from error
                raise PublishFailed(str(error)) from error

    async def close(self, seconds: float) -> int:
        """Waits at most so many seconds for records in flight.

        Returns how many remained unacknowledged.
        """
        if self._producer is None or self._thread is None:
            return 0
        self._flush_seconds = seconds
        self._closing.set()
        await asyncio.to_thread(self._thread.join, seconds + 2 * CALLBACK_POLL_SECONDS)
        left = sum(map(len, (self._producer, *self._split.all)))
        self._producer, self._thread = None, None
        return left

    def _serve(self, producer: Producer, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._closing.is_set():
                # Raises a fatal error of the producer, which is not given to `error_cb`.
                producer.poll(CALLBACK_POLL_SECONDS)
                for each in self._split.all:
                    each.poll(0)
                self._hand_over(loop)
            # In this thread, because the callbacks count down and so must all run in one thread.
            producer.flush(self._flush_seconds)
            for each in self._split.all:
                each.flush(self._flush_seconds)
            self._hand_over(loop)
        except BaseException as error:  # noqa: BLE001  the thread must not end without a word
            self._hand_over(loop)
            if not loop.is_closed():
                reason = error.args[0].str() if isinstance(error, KafkaException) else repr(error)
                loop.call_soon_threadsafe(self._fail, reason)

    def _fail(self, reason: str) -> None:
        """Publishes nothing from now on; runs in the event loop."""
        if self.failure is None:
            log.error("the producer failed for good", error=reason)
            self.failure = reason
            self.failed.set()
        for group in self._open:
            group.fail(PublishFailed(reason, fatal=True))

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._finished and not loop.is_closed():
            groups = [self._finished.popleft() for _ in range(len(self._finished))]
            loop.call_soon_threadsafe(self._resolve, groups)
