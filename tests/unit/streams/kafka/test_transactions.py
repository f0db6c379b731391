"""Records are published in transactions of the one owner; who was excluded publishes nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka import transactions
from streams.kafka.publisher import PublishFailed
from streams.kafka.records import KafkaRecord
from streams.kafka.transactions import TransactionalPublisher, transactional

# Far more than anything here takes.
DEADLINE = 10.0


def record(key: str, size: int = 2) -> KafkaRecord:
    return KafkaRecord("contacts.outcomes", key.encode(), b"x" * size, [])


def away() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer", False, True))


def abortable(code: int = KafkaError._MSG_TIMED_OUT) -> KafkaException:
    return KafkaException(KafkaError(code, "to be aborted", False, False, True))


def excluded() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._FENCED, "fenced", True))


class Message:
    def __init__(self, topic: str, value: bytes, key: bytes) -> None:
        self._topic, self._value, self._key = topic, value, key

    def topic(self) -> str:
        return self._topic

    def value(self) -> bytes:
        return self._value

    def key(self) -> bytes:
        return self._key


class Log:
    """A topic, and its one transactional ID: the last producer that was initialized owns it."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        """The keys of each committed transaction."""
        self.owner: Producer | None = None
        self.faults: list[KafkaException] = []
        """The next calls of the log raise these."""
        self.refuse_init: list[KafkaException] = []
        self.limit = 10**9
        self.open = threading.Event()
        """While it is not set, a commit waits."""
        self.open.set()
        self.committing = threading.Event()

    @property
    def keys(self) -> list[str]:
        return [key for each in self.transactions for key in each]

    def producer(self, config: dict[str, Any]) -> "Producer":
        assert config["transactional.id"] == "sink-0"
        return Producer(self)


class Producer:
    """A transactional producer; a flush makes a batch of what was produced since the last one."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.batch: list[tuple[Message, Callable[..., None]]] = []
        self.keys: list[str] = []
        self.failed: KafkaException | None = None
        self.in_transaction = False

    def init_transactions(self, _seconds: float) -> None:
        if self.log.refuse_init:
            raise self.log.refuse_init.pop(0)
        self.log.owner = self

    def begin_transaction(self) -> None:
        assert not self.in_transaction
        self.in_transaction, self.keys, self.failed = True, [], None

    def produce(
        self, topic: str, value: bytes, key: bytes, headers: Any, on_delivery: Callable[..., None]
    ) -> None:
        assert self.in_transaction
        self.batch.append((Message(topic, value, key), on_delivery))

    def poll(self, _seconds: float) -> int:
        return 0

    def flush(self, _seconds: float) -> int:
        batch, self.batch = self.batch, []
        if self.failed is None and sum(len(one.value()) for one, _ in batch) > self.log.limit:
            self.failed = abortable(KafkaError.MSG_SIZE_TOO_LARGE)
            for one, on_delivery in batch:
                on_delivery(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), one)
        else:
            for one, on_delivery in batch:
                on_delivery(None, one)
            self.keys += [one.key().decode() for one, _ in batch]
        return 0

    def commit_transaction(self, _seconds: float) -> None:
        self.log.committing.set()
        self.log.open.wait(DEADLINE)
        if self.log.owner is not self:
            raise excluded()
        if self.log.faults:
            raise self.log.faults.pop(0)
        self.flush(0)
        if self.failed is not None:
            raise self.failed
        self.log.transactions.append(self.keys)
        self.in_transaction = False

    def abort_transaction(self, _seconds: float) -> None:
        if self.log.owner is not self:
            raise excluded()
        for one, on_delivery in self.batch:
            on_delivery(KafkaError(KafkaError._PURGE_QUEUE), one)
        self.batch, self.in_transaction = [], False


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(transactions, "Producer", made.producer)
    monkeypatch.setattr(transactions, "ATTEMPT_PAUSE_SECONDS", 0.001)
    return made


@asynccontextmanager
async def owning(*, take_over: bool = True) -> AsyncIterator[TransactionalPublisher]:
    publisher = TransactionalPublisher(transactional({"delivery.timeout.ms": 30_000}, "sink-0"))
    publisher.open()
    if take_over:
        await asyncio.to_thread(publisher.take_over, 1.0)
    try:
        yield publisher
    finally:
        await publisher.close(1.0)


async def published(publisher: TransactionalPublisher, *records: KafkaRecord) -> None:
    await asyncio.wait_for(publisher.publish(records), DEADLINE)


async def test_what_waits_goes_into_one_transaction_in_its_order(log: Log) -> None:
    log.open.clear()
    async with owning() as publisher:
        first = asyncio.create_task(publisher.publish([record("a"), record("b")]))
        await asyncio.to_thread(log.committing.wait, DEADLINE)
        others = [asyncio.create_task(publisher.publish([record(key)])) for key in "cde"]
        await asyncio.sleep(0)
        assert not first.done()
        log.open.set()
        await asyncio.wait_for(asyncio.gather(first, *others), DEADLINE)
        assert log.transactions == [["a", "b"], ["c", "d", "e"]]


async def test_large_groups_are_not_put_together(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "TRANSACTION_BYTES", 100)
    async with owning() as publisher:
        groups = [publisher.publish([record(key, 100)]) for key in "abc"]
        await asyncio.wait_for(asyncio.gather(*groups), DEADLINE)
    assert log.transactions == [["a"], ["b"], ["c"]]


async def test_nothing_is_published_before_the_takeover_and_after_the_release(log: Log) -> None:
    async with owning(take_over=False) as publisher:
        with pytest.raises(PublishFailed) as raised:
            await published(publisher, record("a"))
        assert not raised.value.fatal
        publisher.take_over(1.0)
        await published(publisher, record("b"))
        publisher.release()
        with pytest.raises(PublishFailed):
            await published(publisher, record("c"))
        publisher.take_over(1.0)
        await published(publisher, record("d"))
    assert log.keys == ["b", "d"]


async def test_a_takeover_that_is_not_answered_goes_on_when_it_is_called_again(log: Log) -> None:
    log.refuse_init = [away()]
    async with owning(take_over=False) as publisher:
        with pytest.raises(KafkaException):
            publisher.take_over(1.0)
        publisher.take_over(1.0)
        owner = log.owner
        publisher.take_over(1.0)
        assert log.owner is owner, "who owns the ID keeps it"
        await published(publisher, record("a"))


async def test_a_takeover_that_kafka_refuses_names_the_transactional_id(log: Log) -> None:
    refused = KafkaError(
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "Transactional Id authorization failed"
    )
    log.refuse_init = [KafkaException(refused)]
    async with owning(take_over=False) as publisher:
        with pytest.raises(
            PublishFailed, match=r"sink-0: .*authorization failed.*topics acls"
        ) as raised:
            publisher.take_over(1.0)
        assert raised.value.fatal


async def test_a_displaced_process_publishes_nothing_and_goes_on_after_its_release(
    log: Log,
) -> None:
    async with owning() as old, owning() as successor:
        with pytest.raises(PublishFailed) as raised:
            await published(old, record("late"))
        assert not raised.value.fatal
        with pytest.raises(PublishFailed):
            await published(old, record("again"))
        await published(successor, record("newer"))
        old.release()  # the consumer has heard that the partition went
        await asyncio.sleep(0)
        assert old.failure is None
        successor.release()
        old.take_over(1.0)
        await published(old, record("mine"))
    assert log.keys == ["newer", "mine"]


async def test_a_process_that_was_excluded_and_keeps_its_partition_fails_for_good(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "DISPLACED_SECONDS", 0.0)
    async with owning() as publisher:
        log.owner = None  # Kafka itself ended the transaction, after an outage
        with pytest.raises(PublishFailed):
            await published(publisher, record("a"))
        await asyncio.wait_for(publisher.failed.wait(), DEADLINE)
        assert publisher.failure is not None
        assert "still ours" in publisher.failure
        with pytest.raises(PublishFailed) as raised:
            await published(publisher, record("a"))
        assert raised.value.fatal


async def test_any_other_fatal_error_fails_the_publisher_at_once(log: Log) -> None:
    log.faults = [KafkaException(KafkaError(KafkaError._FATAL, "sequence lost", True))]
    async with owning() as publisher:
        with pytest.raises(PublishFailed, match="sequence lost") as raised:
            await published(publisher, record("a"))
        assert raised.value.fatal
        await asyncio.wait_for(publisher.failed.wait(), DEADLINE)
        with pytest.raises(PublishFailed) as raised:
            await published(publisher, record("b"))
        assert raised.value.fatal


async def test_a_commit_that_is_not_answered_is_repeated(log: Log) -> None:
    log.faults = [away(), away(), away()]
    async with owning() as publisher:
        await published(publisher, record("a"))
    assert log.transactions == [["a"]]


async def test_a_commit_that_is_not_answered_is_given_up_with_the_partition(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def never(_self: Producer, _seconds: float) -> None:
        asked.set()
        raise away()

    monkeypatch.setattr(Producer, "commit_transaction", never)
    async with owning() as publisher:
        task = asyncio.create_task(publisher.publish([record("a")]))
        await asyncio.to_thread(asked.wait, DEADLINE)
        assert not task.done()
        publisher.release()
        with pytest.raises(PublishFailed, match="the partition went") as raised:
            await asyncio.wait_for(task, DEADLINE)
        assert not raised.value.fatal
    assert log.transactions == []


async def test_an_aborted_transaction_fails_its_groups_and_the_next_one_works(log: Log) -> None:
    log.faults = [abortable()] * (transactions.MAX_ATTEMPTS + 1)
    async with owning() as publisher:
        with pytest.raises(PublishFailed, match="to be aborted") as raised:
            await published(publisher, record("a"))
        assert not raised.value.fatal
        assert not raised.value.permanent
        await published(publisher, record("a"))  # the first attempt is aborted once more
    assert log.transactions == [["a"]]


async def test_a_topic_that_our_user_may_not_write_to_is_named_and_not_tried_again(
    log: Log,
) -> None:
    log.faults = [abortable(KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    async with owning() as publisher:
        with pytest.raises(PublishFailed, match=rf"{record('a').topic}: to be aborted") as raised:
            await published(publisher, record("a"))
        assert raised.value.denied
        assert not raised.value.fatal
        await published(publisher, record("b"))
    assert log.transactions == [["b"]]


async def test_a_refusal_is_named_also_when_there_is_no_transaction_to_abort(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_self: Producer, _seconds: float) -> None:
        raise KafkaException(KafkaError(KafkaError.INVALID_TXN_STATE, "invalid state"))

    monkeypatch.setattr(Producer, "abort_transaction", unknown)
    log.faults = [abortable(KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    async with owning() as publisher:
        with pytest.raises(PublishFailed, match=rf"{record('a').topic}: to be aborted") as raised:
            await published(publisher, record("a"))
        assert raised.value.fatal
        await asyncio.wait_for(publisher.failed.wait(), DEADLINE)
        assert "contactstream topics acls" in (publisher.failure or "")


async def test_a_batch_that_is_refused_as_too_large_is_published_in_slices(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.kafka.sizes.topic_limit", lambda _config, _topic: 1000)
    log.limit = 1000
    async with owning() as publisher:
        await published(publisher, *(record(key, 400) for key in "abcdef"))
        assert log.transactions == [["a", "b", "c", "d", "e", "f"]]
        with pytest.raises(PublishFailed, match="refuses a record of 1003 bytes") as raised:
            await published(publisher, record("ok", 10), record("xx", 1000), record("yy", 1001))
        assert raised.value.permanent
        await published(publisher, record("g"))
    assert log.keys == ["a", "b", "c", "d", "e", "f", "g"]


async def test_a_late_report_of_an_aborted_transaction_says_nothing_about_the_next(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[Callable[[], None]] = []
    flush, aborted = Producer.flush, threading.Event()

    def flush_late(self: Producer, seconds: float) -> int:
        if log.transactions == [] and not aborted.is_set():
            aborted.set()
            for one, on_delivery in self.batch:
                error = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
                late.append(partial(on_delivery, error, one))
            late.pop(0)()
            self.failed = abortable(KafkaError.MSG_SIZE_TOO_LARGE)
            return 0
        while late:
            late.pop(0)()
        return flush(self, seconds)

    monkeypatch.setattr("streams.kafka.sizes.topic_limit", lambda _config, _topic: 1000)
    monkeypatch.setattr(Producer, "flush", flush_late)
    async with owning() as publisher:
        await published(publisher, *(record(key, 400) for key in "abc"))
    assert log.transactions == [["a", "b", "c"]]


async def test_a_group_that_nobody_waits_for_any_more_is_left_out(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.open.clear()
    async with owning() as publisher:
        first = asyncio.create_task(publisher.publish([record("a")]))
        await asyncio.to_thread(log.committing.wait, DEADLINE)
        monkeypatch.setattr(publisher, "_publish_seconds", 0.01)
        with pytest.raises(PublishFailed, match="not committed within"):
            await published(publisher, record("b"))
        log.open.set()
        await asyncio.wait_for(first, DEADLINE)
        monkeypatch.setattr(publisher, "_publish_seconds", DEADLINE)
        await published(publisher, record("c"))
    assert log.transactions == [["a"], ["c"]]
