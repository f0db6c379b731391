"""Publishes records in transactions, so that a displaced process publishes nothing more.

A delivery time-out does not recall what was sent: a request that hangs in the network may reach the
broker after the records of a successor. Therefore the producer has a transactional ID, which names
what one process at a time writes. Whoever takes over initializes that ID. From then on the broker
refuses what its predecessor sends, however late it arrives, and its open transaction is aborted
(https://kafka.apache.org/documentation/#semantics).
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.kafka.access import is_denied, named_denial
from streams.kafka.publisher import (
    DELIVERY_MARGIN_SECONDS,
    REMEDY,
    BatchTooLarge,
    PublishFailed,
    publish_failure,
    refused_record,
)
from streams.kafka.records import KafkaRecord
from streams.kafka.sizes import RecordSlices, TopicRefusesRecord, published_bytes
from streams.runtime.ops import WorkInFlight

log = structlog.get_logger()

# After a crash, Kafka aborts the open transaction so late, unless a successor takes over before.
# Until then nobody reads past it. A broker that is away for longer may exclude a process that still
# is the writer, and which then has to be started again. Kafka allows 15 minutes by default.
TRANSACTION_SECONDS = 300.0

# The producer's delivery time-out: an outage that is shorter changes nothing. After it the
# transaction is aborted, which Kafka refuses if it never heard of the transaction; then the process
# has to be started again (https://github.com/confluentinc/librdkafka/issues/3297). librdkafka wants
# it below TRANSACTION_SECONDS.
DELIVERY_SECONDS = 240.0

# What goes into one transaction, so that librdkafka, which copies it, holds little. A larger group
# is a transaction of its own.
TRANSACTION_BYTES = 16 * 1024 * 1024

# One attempt to commit or abort. Short, so that a stop is noticed soon.
ATTEMPT_SECONDS = 1.0

# Transactions that are aborted for a reason of the producer, which is none of their records: it
# begins a new epoch after a batch that was refused. After so many the callers repeat it, more
# slowly.
MAX_ATTEMPTS = 5

# Between two attempts to commit or abort, where librdkafka reports a passing error at once.
ATTEMPT_PAUSE_SECONDS = 0.1

# How long an idle thread waits until it serves the producer's error callback.
IDLE_SECONDS = 0.5

# Until a process whose producer was excluded has to know that its partition went. The consumer
# hears it with its next heartbeat. Longer means that nobody else has the partition.
DISPLACED_SECONDS = 30.0

_DISPLACED = (
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
)
# Reported for the records of a transaction that is aborted; the cause is another error.
_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
# Of a broker that is away, where librdkafka does not call the error retriable.
_AWAY = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)


def transactional(config: Mapping[str, Any], transactional_id: str) -> dict[str, Any]:
    """The settings of a producer for TransactionalPublisher, from those of an idempotent one."""
    return dict(config) | {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": int(TRANSACTION_SECONDS * 1000),
    }


def is_displaced(error: BaseException) -> bool:
    """Whether the error means that another process has taken over, or that Kafka excluded us."""
    return isinstance(error, KafkaException) and error.args[0].code() in _DISPLACED


def reason_of(error: BaseException) -> str:
    """What an error says, for an operator."""
    return str(error.args[0].str()) if isinstance(error, KafkaException) else repr(error)


def may_pass(error: KafkaError) -> bool:
    """Whether an operation that failed so is to be tried again."""
    return not error.fatal() and (error.retriable() or error.code() in _AWAY)


Delivered = Callable[[KafkaError | None, Message], None]
"""What takes delivery reports."""


@dataclass(slots=True, eq=False)
class _Group:
    """Records that are published together, and who waits for them."""

    records: Sequence[KafkaRecord]
    future: asyncio.Future[None]
    failure: PublishFailed | None = None
    """Of its own records: the reason why the transaction was aborted."""
    attempt: int = 0
    """How many transactions it was in."""

    @property
    def size(self) -> int:
        return sum(map(published_bytes, self.records))

    def begin(self) -> Delivered:
        """It goes into a further transaction; returns what takes the delivery reports of that."""
        self.failure = None
        self.attempt += 1
        attempt = self.attempt

        def delivered(error: KafkaError | None, message: Message) -> None:
            # Reports of an aborted transaction may come during the next.
            current = attempt == self.attempt and self.failure is None
            if error is not None and current and error.code() not in _PURGED:
                self.failure = publish_failure(error, message)

        return delivered


class _GivenUp(Exception):
    """The partition went, and what the broker has of the transaction is not known."""


class TransactionWorker:
    """Works with one producer in a thread: what waits goes into one transaction after the other.

    `failed` is called in the thread with the error that ended it. The producer was initialized.
    """

    def __init__(
        self,
        producer: Producer,
        slices: RecordSlices,
        failed: Callable[["TransactionWorker", BaseException], None],
    ) -> None:
        self._slices = slices
        self._failed = failed
        self._waiting: SimpleQueue[_Group | None] = SimpleQueue()
        self._ending = threading.Event()
        self._ended: PublishFailed | None = None
        # The thread alone holds the producer, so that it also closes it.
        self._thread = threading.Thread(
            target=self._run, args=(producer,), name="transactions", daemon=True
        )

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    def submit(self, group: _Group) -> None:
        """Resolves the future of the group once it is committed, or with PublishFailed."""
        self._waiting.put(group)
        if self._ended is not None:
            self._refuse_waiting(self._ended)

    def end(self) -> None:
        """Begins no further transaction. One that is being committed may still succeed."""
        self._ending.set()
        self._waiting.put(None)  # wakes the thread

    def join(self, seconds: float) -> None:
        """Waits for the end of the thread. Blocks."""
        self._thread.join(seconds)

    # In the thread.

    def _run(self, producer: Producer) -> None:
        groups: list[_Group] = []
        failure: BaseException | None = None
        ended = PublishFailed("the partition went before the records were committed")
        try:
            while not self._ending.is_set():
                groups = self._next(producer)
                if groups and not self._ending.is_set():
                    self._publish(producer, groups)
        except _GivenUp:
            pass
        except BaseException as error:  # noqa: BLE001  the thread must not end without a word
            failure = error
            ended = PublishFailed(reason_of(error), fatal=not is_displaced(error))
        self._ended = ended
        _answer(groups, ended)
        self._refuse_waiting(ended)
        if failure is not None:
            self._failed(self, failure)

    def _refuse_waiting(self, failure: PublishFailed) -> None:
        while True:
            try:
                group = self._waiting.get_nowait()
            except Empty:
                return
            if group is not None:
                _answer([group], failure)

    def _next(self, producer: Producer) -> list[_Group]:
        """The groups that go into the next transaction; empty when none came for a while."""
        groups: list[_Group] = []
        size = 0
        try:
            group = self._waiting.get(timeout=IDLE_SECONDS)
            while group is not None:
                if not group.future.done():  # otherwise nobody waits for it any more
                    groups.append(group)
                    size += group.size
                if size >= TRANSACTION_BYTES:
                    break
                group = self._waiting.get_nowait()
        except Empty:
            if not groups:
                producer.poll(0)
        return groups

    def _publish(self, producer: Producer, groups: Sequence[_Group]) -> None:
        """Publishes the groups. Raises _GivenUp, and KafkaException for a producer that failed."""
        failure = PublishFailed("")
        for _ in range(MAX_ATTEMPTS):
            error = self._transact(producer, groups)
            if error is None:
                _answer(groups, None)
                return
            failure = PublishFailed(error.str(), denied=is_denied(error))
            log.info("a transaction was aborted", reason=str(failure))
            if failure.denied:
                break
            if not self._slice_from_now_on(groups) and any(each.failure for each in groups):
                break
        for group in groups:
            _answer([group], group.failure or failure)

    def _transact(self, producer: Producer, groups: Sequence[_Group]) -> KafkaError | None:
        """One transaction; the error for which it was aborted, or None when it was committed."""
        begun = [(group, group.begin()) for group in groups]
        producer.begin_transaction()
        try:
            for group, delivered in begun:
                self._produce(producer, group, delivered)
            self._until_done(producer.commit_transaction)
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            topics = {record.topic for group in groups for record in group.records}
            cause = named_denial(error.args[0], ", ".join(sorted(topics)))
            try:
                self._until_done(producer.abort_transaction)
            except KafkaException:
                # Kafka never heard of a transaction none of whose topics our user may write to.
                if is_denied(cause):
                    raise KafkaException(cause) from error
                raise
            return KafkaError(cause.code(), cause.str())
        return None

    def _produce(self, producer: Producer, group: _Group, delivered: Delivered) -> None:
        """Gives the records to the producer. Raises KafkaException."""
        for part, limited in self._slices.of(group.records):
            for record in part:
                try:
                    self._give(producer, record, delivered)
                except KafkaException as error:
                    refused = refused_record(error.args[0], record)
                    if refused.permanent:  # otherwise the transaction failed already
                        group.failure = refused
                    raise
            if limited:
                self._flush(producer)  # what follows goes into another batch

    def _give(self, producer: Producer, record: KafkaRecord, delivered: Delivered) -> None:
        while True:
            try:
                producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    headers=record.headers,
                    on_delivery=delivered,
                )
            except BufferError:  # the queue is full
                self._flush(producer)
            else:
                return

    def _flush(self, producer: Producer) -> None:
        """Waits until no record is in flight, by the delivery time-out. Raises _GivenUp."""
        while producer.flush(ATTEMPT_SECONDS):
            if self._ending.is_set():
                raise _GivenUp

    def _until_done(self, attempt: Callable[[float], object]) -> None:
        """Commits or aborts, however long no broker answers.

        Raises _GivenUp when the partition goes meanwhile, KafkaException for any other error.
        """
        while True:
            try:
                attempt(ATTEMPT_SECONDS)
            except KafkaException as error:
                if not may_pass(error.args[0]) or error.args[0].txn_requires_abort():
                    raise
                if self._ending.wait(ATTEMPT_PAUSE_SECONDS):
                    raise _GivenUp from error
            else:
                return

    def _slice_from_now_on(self, groups: Iterable[_Group]) -> bool:
        """Whether a batch was too large, and smaller ones may succeed. May block for a request."""
        for group in groups:
            refused = group.failure
            if isinstance(refused, BatchTooLarge):
                try:
                    self._slices.learn(refused.topic, refused.record_bytes)
                except TopicRefusesRecord as error:
                    group.failure = PublishFailed(str(error), permanent=True)
                    return False
                log.warning(
                    "a batch was refused as too large; it is split",
                    topic=refused.topic,
                    remedy=REMEDY,
                )
                return True
        return False


class TransactionalPublisher:
    """Publishes for the one process at a time that owns a transactional ID.

    Between `take_over` and `release` it publishes: all records that wait, in one transaction after
    the other. A later `take_over`, by any process, excludes the producer of an earlier one. If that
    is noticed while this process believes that it owns the ID, `publish` fails. DISPLACED_SECONDS
    later the publisher fails for good, unless `release` was called: then no other process excluded
    it, but Kafka, after an outage.

    Any other fatal error fails the publisher for good at once: the process has to end, with
    `ExitCode.KAFKA_REFUSED`. It waits for `failed`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config` is that of `transactional`."""
        self.failed = asyncio.Event()
        """Set once the publisher cannot publish any more."""
        self.failure: str | None = None
        """Why it cannot."""
        # A group may wait for the transaction before its own.
        self._publish_seconds = 2 * config["delivery.timeout.ms"] / 1000
        self.in_flight = WorkInFlight(
            "records that wait for Kafka's acknowledgement",
            self._publish_seconds + DELIVERY_MARGIN_SECONDS,
        )
        """For `Health.watch`: the records that were given to the producer."""
        self._config = dict(config)
        self._slices = RecordSlices(self._config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: Producer | None = None
        self._workers: list[TransactionWorker] = []
        self._current: TransactionWorker | None = None

    def open(self) -> None:
        """To be called in the event loop, before anything else."""
        self._loop = asyncio.get_running_loop()

    def take_over(self, seconds: float) -> None:
        """Excludes every earlier owner of the ID, and ends its transaction. Blocks.

        May run in any thread. Does nothing when this publisher has taken over already.

        Raises KafkaException when that is not done within so many seconds: call it again. Raises
        PublishFailed with `fatal` when Kafka refuses it.
        """
        if self._current is not None:
            return
        if self._starting is None:
            self._starting = Producer(self._config)
        try:
            self._starting.init_transactions(seconds)
        except KafkaException as error:
            if may_pass(error.args[0]):
                raise
            self._starting = None
            raise PublishFailed(
                f"transactional.id {self._config['transactional.id']}: "
                f"{named_denial(error.args[0]).str()}",
                fatal=True,
            ) from error
        producer, self._starting = self._starting, None
        worker = TransactionWorker(producer, self._slices, self._report)
        self._workers = [each for each in self._workers if each.alive] + [worker]
        self._current = worker  # before the thread can report that it failed
        worker.start()

    def release(self) -> None:
        """This process does not own the ID any more: what is not committed yet fails.

        May run in any thread. Does not block.
        """
        worker, self._current = self._current, None
        self._starting = None
        if worker is not None:
            worker.end()

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        """Returns once every record is committed; their partitions and offsets are ignored.

        Does not block the loop. Raises PublishFailed when the records were not committed in time,
        or not by this process. Then publish all of them again while this process is the owner; some
        may be stored twice. The records of a batch that is refused as too large are sent again in
        smaller batches.

        Raises PublishFailed with `permanent` for a record that the broker always refuses, and with
        `fatal` when this publisher cannot publish any more.
        """
        if self.failure is not None:
            raise PublishFailed(self.failure, fatal=True)
        worker = self._current
        if worker is None:
            raise PublishFailed("this process does not own the partition")
        if not records:
            return
        group = _Group(records, asyncio.get_running_loop().create_future())
        with self.in_flight:
            worker.submit(group)
            try:
                async with asyncio.timeout(self._publish_seconds):
                    await group.future
            except TimeoutError as error:
                raise PublishFailed(
                    f"not committed within {self._publish_seconds:.0f} s"
                ) from error

    async def close(self, seconds: float) -> None:
        """Releases the ID, and waits at most so many seconds for the transaction in flight."""
        self.release()
        for worker in self._workers:
            await asyncio.to_thread(worker.join, seconds)

    def _report(self, worker: TransactionWorker, error: BaseException) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._worker_failed, worker, error)

    def _worker_failed(self, worker: TransactionWorker, error: BaseException) -> None:
        """In the event loop."""
        if worker is not self._current:
            return  # it was released: others may exclude it
        reason = reason_of(error)
        if not is_displaced(error):
            self._fail(worker, reason)
            return
        log.warning("the producer was excluded: another process has taken over", error=reason)
        asyncio.get_running_loop().call_later(
            DISPLACED_SECONDS,
            self._fail,
            worker,
            f"Kafka excluded the producer, and the partition is still ours: {reason}",
        )

    def _fail(self, worker: TransactionWorker, reason: str) -> None:
        if worker is self._current and self.failure is None:
            log.error("the producer failed for good", error=reason)
            self.failure = reason
            self.failed.set()


def _answer(groups: Iterable[_Group], failure: PublishFailed | None) -> None:
    """Resolves the futures, each in its own event loop. May run in any thread."""
    for group in groups:
        loop = group.future.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, group.future, failure)


def _resolve(future: asyncio.Future[None], failure: PublishFailed | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)
