"""Publishes records to Kafka and waits until the broker has acknowledged them."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
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
    """Records published together; the future is resolved with the last acknowledgement."""

    __slots__ = ("error", "future", "message", "waiting")

    def __init__(self, future: asyncio.Future[None], waiting: int) -> None:
        self.future, self.waiting = future, waiting
        self.error: KafkaError | None = None
        self.message: Message | None = None

    def delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and self.error is None:
            self.error, self.message = error, message
        self.waiting -= 1


class Publisher:
    """A producer for one event loop.

    A thread serves the producer's callbacks. It passes all groups that a poll has finished to the
    loop at once.

    A fatal error of the producer, or any error that ends the thread, fails the publisher for good:
    every caller that waits gets PublishFailed with `fatal`, and so does every later one. The
    process has to end then, with `ExitCode.KAFKA_REFUSED`: it waits for `failed`.
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
        group = _Group(asyncio.get_running_loop().create_future(), len(records))
        self._open.add(group)
        try:
            with self.in_flight:
                self._produce(producer, group, records)
                await group.future
        except PublishFailed as error:
            if error.fatal:
                self._fail(str(error))
            raise
        finally:
            self._open.discard(group)

    def _produce(self, producer: Producer, group: _Group, records: Sequence[KafkaRecord]) -> None:
        """Gives the records to the producer. Raises PublishFailed."""

        def delivered(error: KafkaError | None, message: Any) -> None:
            group.delivered(error, message)
            if group.waiting == 0:
                self._finished.append(group)

        for record in records:
            try:
                producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    headers=record.headers,
                    on_delivery=delivered,
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
            if not group.future.done():
                group.future.set_exception(PublishFailed(reason, fatal=True))

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._finished and not loop.is_closed():
            groups = [self._finished.popleft() for _ in range(len(self._finished))]
            loop.call_soon_threadsafe(_resolve, groups)


def _resolve(groups: Sequence[_Group]) -> None:
    for group in groups:
        if group.future.done():
            continue
        if group.error is None:
            group.future.set_result(None)
        else:
            group.future.set_exception(publish_failure(group.error, group.message))
