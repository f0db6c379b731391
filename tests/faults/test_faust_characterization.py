"""The behaviour of the pinned Faust on which streams/dedupe/faust_batches.py relies.

Also the behaviour that it defends against. Each test uses Faust's own objects. A test with "stock"
in its name fails when an upgrade changes Faust. Then read what changed: a defence may have become
needless, or wrong. No test needs a broker: each race is shown by driving the steps in the order
that loses records.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn

import faust
import pytest
from aiokafka.consumer.consumer import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult
from aiokafka.errors import KafkaError
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import Consumer
from faust.types.tuples import TP, ConsumerMessage
from hypothesis import given
from hypothesis import strategies as st
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from streams.dedupe import faust_batches
from streams.dedupe.faust_batches import BatchConsumer, BatchTable, ConsumerThread, PausedRecovery
from streams.dedupe.faust_check import IncompatibleFaust, check_faust
from streams.dedupe.stage import Dedupe
from streams.runtime.exit_codes import ExitCode
from streams.runtime.unfinished import UnfinishedTimes

EVENTS = TP("events", 0)
CHANGELOG = TP("changelog", 0)
BROKER = "kafka://127.0.0.1:1"  # never asked


class Died(BaseException):
    """The process would have ended here."""


def die(code: ExitCode, reason: str, **_: object) -> NoReturn:
    raise Died(code, reason)


def stock_app() -> Any:
    app = faust.App("stock", broker=BROKER, store="memory://", web_enabled=False)
    app.flow_control.resume()
    app.topics._acking_topics.add("events")
    return app


def our_app() -> Any:
    app = faust_batches.App("ours", broker=BROKER, die=die)
    app.flow_control.resume()
    app.topics._acking_topics.add("events")
    return app


@pytest.fixture
async def stock() -> AsyncIterator[Any]:
    app = stock_app()
    yield app
    close(app)


@pytest.fixture
async def ours() -> AsyncIterator[Any]:
    app = our_app()
    BatchTable(app, "seen", "changelog", 1)
    yield app
    close(app)


def close(app: Any) -> None:
    """Closes the loop that Faust makes for the consumer's thread, which never runs here."""
    app.consumer._thread.thread_loop.close()


def stream_of(app: Any) -> Any:
    topic = app.topic(
        "events", key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )
    return topic.stream()


def message(app: Any, offset: int, value: Any = b"{}") -> ConsumerMessage:
    generation = app.consumer_generation_id
    return ConsumerMessage(
        *("events", 0, offset, 0.0, 0, None, b"k", value, None), tp=EVENTS, generation_id=generation
    )


async def deliver(stream: Any, *messages: ConsumerMessage) -> None:
    """Delivers messages to the stream as Faust's conductor does."""
    for each in messages:
        each.incref()
        stream.channel.queue.put_nowait(await stream.channel.decode(each))


# An agent that fails


async def test_stock_counts_an_event_as_done_when_its_agent_raised(stock: Any) -> None:
    stream = stream_of(stock)
    await deliver(stream, message(stock, 7))
    events = stream.__aiter__()
    await anext(events)
    assert stock.consumer._acked[EVENTS] == []
    await events.aclose()  # as at the end of an agent that raised or was cancelled
    assert stock.consumer._acked[EVENTS] == [7]
    await stream.stop()


async def test_stock_counts_a_whole_take_as_done_when_its_agent_raised(stock: Any) -> None:
    stream = stream_of(stock)
    await deliver(stream, *(message(stock, offset) for offset in range(5)))
    batches = stream.take(5, within=5.0)
    assert len(await anext(batches)) == 5
    assert stock.consumer._acked[EVENTS] == []
    await batches.aclose()
    assert sorted(stock.consumer._acked[EVENTS]) == [0, 1, 2, 3, 4]
    await stream.stop()


@pytest.mark.parametrize(
    "fault", [ValueError("a bug"), asyncio.CancelledError(), SystemExit(1), GeneratorExit()]
)
async def test_an_agent_that_would_fail_ends_the_process_before_faust_can_count_its_batch(
    ours: Any, fault: BaseException
) -> None:
    stream = stream_of(ours)
    await deliver(stream, message(ours, 7, [SimpleNamespace(partition=0)]))

    def wait_until_heard() -> None:
        raise fault

    def die_here(code: ExitCode, reason: str) -> NoReturn:
        assert ours.consumer._acked[EVENTS] == [], "nothing is acknowledged at the moment of death"
        raise Died(code, reason)

    unused: Any = None
    dedupe = Dedupe(unused, unused, unused, "changelog", unused, wait_until_heard, die_here)
    with pytest.raises(Died) as died:
        await dedupe.agent(stream)
    assert died.value.args[0] is ExitCode.UNEXPECTED_ERROR
    await stream.stop()


async def test_a_stream_without_acknowledgements_leaves_them_to_the_agent(ours: Any) -> None:
    stream = stream_of(ours)
    stream.enable_acks = False
    await deliver(stream, *(message(ours, offset, [offset]) for offset in (7, 8)))
    batches, events = stream.__aiter__(), []
    for _ in range(2):
        await anext(batches)
        events.append(stream.current_event)
    assert ours.consumer._acked[EVENTS] == []
    assert len(ours.consumer._unacked_messages) == 2, "a rebalance waits for both"
    events[0].ack()
    assert ours.consumer._acked[EVENTS] == [7]
    assert len(ours.consumer._unacked_messages) == 1
    await batches.aclose()  # as at the end of an agent that was cancelled
    assert ours.consumer._acked[EVENTS] == [7]
    await stream.stop()


# The committed offset


async def test_stock_commits_past_a_single_unfinished_event(stock: Any) -> None:
    consumer = stock.consumer
    consumer._committed_offset[EVENTS] = 10
    consumer._acked[EVENTS] = [11, 12]  # 10 is still in flight
    assert consumer._new_offset(EVENTS) == 13


async def test_stock_commits_past_everything_before_the_first_event_of_a_new_group(
    stock: Any,
) -> None:
    consumer = stock.consumer
    consumer._acked[EVENTS] = [50, 51]  # 0 to 49 are still in flight
    assert consumer._new_offset(EVENTS) == 52


async def test_stock_counts_a_hole_as_acknowledged(stock: Any) -> None:
    consumer = stock.consumer
    consumer._committed_offset[EVENTS] = 10
    # Faust does this when 20 follows 10, whatever has become of the records between them.
    await consumer._add_gap(EVENTS, 11, 19)
    consumer._acked[EVENTS] = [10, 20]
    consumer._acked_index[EVENTS] = {10, 20}
    assert consumer._new_offset(EVENTS) == 21


async def test_stock_counts_a_failed_commit_as_committed(stock: Any) -> None:
    consumer = failing_commit(stock)
    assert not await Consumer._commit_offsets(consumer, {EVENTS: 20})
    assert consumer._committed_offset[EVENTS] == 20


async def test_a_failed_commit_is_tried_again(ours: Any) -> None:
    consumer = failing_commit(ours)
    consumer._finished[EVENTS] = 20
    assert not await consumer._commit_offsets({EVENTS: 20})
    assert consumer._filter_committable_offsets([EVENTS]) == {EVENTS: 20}


def failing_commit(app: Any) -> Any:
    async def refuse(_: object) -> bool:
        return False

    async def flush() -> None:
        pass

    consumer = app.consumer
    consumer._commit = refuse
    consumer.assignment = lambda: {EVENTS}
    app.producer.flush = flush
    return consumer


@given(st.lists(st.integers(1, 50), max_size=12), st.randoms(use_true_random=False))
def test_the_commit_is_the_end_of_the_unbroken_run_of_finished_batches(
    sizes: list[int], random: Any
) -> None:
    async def run(app: Any) -> None:
        consumer = reading_from(app, 0)
        consumer._finished[EVENTS] = 0
        in_flight: dict[int, ConsumerMessage] = {}  # by first offset
        end = 0
        for size in sizes:
            batch = [
                SimpleNamespace(
                    offset=end + each,
                    timestamp=0,
                    timestamp_type=0,
                    key=b"g/c",
                    value=b"{}",
                    headers=(),
                )
                for each in range(size)
            ]
            in_flight[end] = consumer._message(EVENTS, await consumer._take(EVENTS, batch))
            end += size
        for first in random.sample(list(in_flight), len(in_flight)):
            consumer.ack(in_flight.pop(first))
            assert consumer._new_offset(EVENTS) == min(in_flight, default=end)

    async def closed() -> None:
        app = our_app()
        try:
            await run(app)
        finally:
            close(app)

    asyncio.run(closed())


async def test_stock_loses_at_a_rebalance_the_acknowledgements_since_the_last_commit(
    stock: Any,
) -> None:
    assert await committable_at_revoke(stock) == {}


async def test_at_a_rebalance_everything_finished_is_committed(ours: Any) -> None:
    ours.consumer._handed_out[EVENTS].append(19)
    assert await committable_at_revoke(ours) == {EVENTS: 20}


async def committable_at_revoke(app: Any) -> dict[TP, int]:
    consumer = app.consumer
    found: dict[TP, int] = {}

    async def revoked(_: object) -> None:
        found.update(
            consumer._filter_committable_offsets(list(consumer._filter_tps_with_pending_acks()))
        )

    consumer._on_partitions_revoked = revoked
    consumer.ack(message(app, 19))
    await consumer.on_partitions_revoked({EVENTS})
    return found


# Where reading starts


async def test_stock_leaves_the_position_alone_where_nothing_is_committed() -> None:
    sought: list[object] = []
    consumer: Any = AIOKafkaConsumer.__new__(AIOKafkaConsumer)
    consumer._closed = True
    consumer._subscription = SimpleNamespace(assigned_partitions=lambda: {EVENTS})
    consumer._fetcher = SimpleNamespace(seek_to=lambda *where: sought.append(where))

    async def nothing(_: object) -> None:
        return None

    consumer.committed = nothing
    assert await consumer.seek_to_committed() == {EVENTS: None}
    assert sought == []


def with_log(consumer: Any, committed: int | None, start: int, end: int) -> list[dict[TP, int]]:
    """A log from `start` to `end`; returns where the consumer seeks to."""
    sought: list[dict[TP, int]] = []

    async def answer(value: Any) -> Any:
        return value

    async def seek_wait(where: dict[TP, int]) -> None:
        sought.append(where)

    consumer.assignment = lambda: {EVENTS, CHANGELOG}
    consumer.seek_to_committed = lambda: answer({EVENTS: committed, CHANGELOG: None})
    consumer.earliest_offsets = lambda *tps: answer(dict.fromkeys(tps, start))
    consumer.highwaters = lambda *tps: answer(dict.fromkeys(tps, end))
    consumer.seek_wait = seek_wait
    return sought


@pytest.mark.parametrize(("committed", "expected"), [(None, 5), (5, 5), (7, 7), (9, 9)])
async def test_reading_starts_at_the_commit_or_at_the_start_of_the_log(
    ours: Any, committed: int | None, expected: int
) -> None:
    sought = with_log(ours.consumer, committed, start=5, end=9)
    await ours.consumer.perform_seek()
    assert sought == [{EVENTS: expected}]
    assert ours.consumer._due == {EVENTS: expected}


@pytest.mark.parametrize("committed", [0, 4, 10])
async def test_a_commit_outside_of_the_log_ends_the_process(
    ours: Any, committed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.dedupe.faust_batches.LOSS_CONFIRM_SECONDS", 0.0)
    with_log(ours.consumer, committed, start=5, end=9)
    with pytest.raises(Died, match="eset the group") as died:
        await ours.consumer.perform_seek()
    assert died.value.args[0] is ExitCode.OFFSET_OUT_OF_RANGE


async def test_an_end_that_lags_behind_after_an_election_does_not_end_the_process(
    ours: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.dedupe.faust_batches.LOSS_CONFIRM_SECONDS", 0.0)
    sought = with_log(ours.consumer, 9, start=5, end=8)
    ends = iter((8, 9))

    async def highwaters(*tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, next(ends))

    ours.consumer.highwaters = highwaters
    await ours.consumer.perform_seek()
    assert sought == [{EVENTS: 9}]


# What reaches the agent


def records(
    *offsets: int, timestamp: int = 0, headers: tuple[tuple[str, bytes], ...] = ()
) -> list[Any]:
    return [
        SimpleNamespace(
            offset=offset, timestamp=timestamp + offset, key=b"g/c", value=b"{}", headers=headers
        )
        for offset in offsets
    ]


def reading_from(app: Any, due: int) -> BatchConsumer:
    consumer: BatchConsumer = app.consumer
    with_log(consumer, due, start=0, end=1000)
    consumer._open_in = app.rebalancing_count
    consumer._due[EVENTS] = due
    return consumer


async def test_the_oldest_unfinished_event_is_known_by_the_time_of_its_receipt(ours: Any) -> None:
    consumer = reading_from(ours, 10)
    ours.received = unfinished = UnfinishedTimes(now=lambda: 99.0)
    old = records(10, headers=(("received_ms", b"7000"),))
    await consumer._take(EVENTS, old + records(11, headers=(("received_ms", b"9000"),)))
    await consumer._take(EVENTS, records(12, headers=(("received_ms", b"8000"),)))
    assert unfinished.oldest_seconds() == 7
    consumer.ack(message(ours, 11))
    consumer._new_offset(EVENTS)
    assert unfinished.oldest_seconds() == 8
    consumer._forget([EVENTS])  # another worker has the partition now
    assert unfinished.oldest_seconds() == 99


async def test_a_hole_in_the_offsets_ends_the_process(ours: Any) -> None:
    consumer = reading_from(ours, 10)
    assert await consumer._take(EVENTS, records(10, 11)) == records(10, 11)
    with pytest.raises(Died) as died:
        await consumer._take(EVENTS, records(13))
    assert died.value.args == (ExitCode.RECORDS_MISSING, "events[0]: 13 follows 11")


async def test_a_hole_made_by_retention_has_its_own_exit_code(ours: Any) -> None:
    consumer = reading_from(ours, 10)
    with_log(consumer, 10, start=20, end=30)
    with pytest.raises(Died) as died:
        await consumer._take(EVENTS, records(20))
    assert died.value.args[0] is ExitCode.OFFSET_OUT_OF_RANGE


async def test_a_record_fetched_before_and_after_a_seek_reaches_the_agent_once(
    ours: Any,
) -> None:
    consumer = reading_from(ours, 10)
    assert await consumer._take(EVENTS, records(8, 9)) == []
    assert await consumer._take(EVENTS, records(9, 10, 11)) == records(10, 11)


async def test_a_log_that_lost_its_end_and_has_new_records_there_ends_the_process(
    ours: Any,
) -> None:
    consumer = reading_from(ours, 10)
    assert await consumer._take(EVENTS, records(10, 11)) == records(10, 11)
    # The log ended at 11 after a power cut, and aiokafka starts over; new events follow.
    with pytest.raises(Died, match="the log lost its end") as died:
        await consumer._take(EVENTS, [*records(9, 10), *records(11, 12, timestamp=1000)])
    assert died.value.args[0] is ExitCode.OFFSET_OUT_OF_RANGE


async def test_a_client_that_starts_over_is_sent_back_to_the_last_record_once(ours: Any) -> None:
    consumer = reading_from(ours, 10)
    sought = with_log(consumer, 10, start=0, end=1000)
    assert await consumer._take(EVENTS, records(10, 11)) == records(10, 11)
    assert await consumer._take(EVENTS, records(0, 1, 2)) == []
    assert sought == [{EVENTS: 11}]
    assert await consumer._take(EVENTS, records(3, 4)) == []
    assert sought == [{EVENTS: 11}], "the fetch in flight brings more of the old records"
    assert await consumer._take(EVENTS, records(11, 12)) == records(12)


async def test_nothing_reaches_the_agent_once_a_rebalance_has_begun(ours: Any) -> None:
    consumer = reading_from(ours, 10)
    ours.on_rebalance_start()
    assert await consumer._take(EVENTS, records(10)) == []
    assert consumer._due[EVENTS] == 10


# The second window: no active partitions, for a moment


def fetched(partitions: set[TP]) -> Any:
    """The records that aiokafka returns for these partitions, when two partitions have records."""
    result: Any = FetchResult.__new__(FetchResult)
    result.getall = lambda _: ["record"]
    result.has_more = lambda: True
    fetcher: Any = Fetcher.__new__(Fetcher)
    fetcher._records = {EVENTS: result, CHANGELOG: result}
    fetcher._subscriptions = SimpleNamespace(
        reassignment_in_progress=False, is_assigned=lambda _: True
    )
    fetcher._closed = True
    return Fetcher.fetched_records(fetcher, partitions)


async def test_aiokafka_takes_an_empty_set_for_all_partitions() -> None:
    assert set(await fetched({CHANGELOG})) == {CHANGELOG}
    assert set(await fetched(set())) == {CHANGELOG, EVENTS}


def asked_for(consumer: Any) -> list[set[TP]]:
    """The sets of partitions that the consumer's thread is asked to fetch."""
    asked: list[set[TP]] = []

    async def getmany(partitions: set[TP], timeout: float) -> dict[TP, list[Any]]:
        asked.append(partitions)
        return {}

    consumer._thread.getmany = getmany
    return asked


async def test_stock_passes_to_a_fetch_the_set_that_recovery_empties(stock: Any) -> None:
    consumer = stock.consumer
    asked = asked_for(consumer)
    consumer._set_active_tps({CHANGELOG})
    await consumer._wait_next_records(0.1)
    consumer.pause_partitions({CHANGELOG})
    assert asked == [set()]


async def test_a_fetch_keeps_the_partitions_it_was_asked_for(ours: Any) -> None:
    consumer = ours.consumer
    asked = asked_for(consumer)
    consumer._set_active_tps({CHANGELOG})
    await consumer._wait_next_records(0.1)
    consumer.pause_partitions({CHANGELOG})
    assert asked == [{CHANGELOG}]


async def test_a_fetch_in_flight_takes_nothing_of_the_next_assignment(ours: Any) -> None:
    consumer = ours.consumer
    asked = asked_for(consumer)
    consumer._set_active_tps({CHANGELOG, EVENTS})
    await consumer._wait_next_records(0.1)
    consumer.stop_flow()  # the first thing that happens when partitions are revoked
    assert await fetched(asked[0]) == {}


# How much a fetch takes


def holding(sizes: Mapping[TP, Sequence[int]]) -> tuple[ConsumerThread, Any, dict[TP, Any]]:
    """Our consumer's thread, and a fetcher that has fetched records of these sizes."""

    class Iterated:
        def __init__(self, tp: TP) -> None:
            self.next_fetch_offset = 0
            self.left = iter(sizes[tp])

        def __iter__(self) -> "Iterated":
            return self

        def __next__(self) -> Any:
            size = next(self.left)
            self.next_fetch_offset += 1
            return SimpleNamespace(
                offset=self.next_fetch_offset - 1, serialized_key_size=0, serialized_value_size=size
            )

    class Position:
        paused, position = False, 0

        def consumed_to(self, offset: int) -> None:
            self.position = offset

    positions = {tp: Position() for tp in sizes}
    assignment: Any = SimpleNamespace(active=True, state_value=positions.__getitem__)
    subscriptions = SimpleNamespace(
        reassignment_in_progress=False,
        is_assigned=lambda _: True,
        fetch_context=contextlib.nullcontext,
    )
    fetcher: Any = SimpleNamespace(
        _subscriptions=subscriptions,
        _closed=False,
        _wait_consume_future=None,
        _notify=lambda _: None,
        _records={},
    )
    fetcher.fetched_records = partial(Fetcher.fetched_records, fetcher)
    for tp in sizes:
        records: Any = Iterated(tp)
        fetcher._records[tp] = FetchResult(
            tp, assignment=assignment, partition_records=records, backoff=0
        )
    thread = ConsumerThread.__new__(ConsumerThread)
    thread.consumer = SimpleNamespace(flow_active=True)
    return thread, SimpleNamespace(_fetcher=fetcher, _closed=False), positions


async def fetch_all(
    thread: ConsumerThread, consumer: Any, sizes: Mapping[TP, Sequence[int]]
) -> list[dict[TP, list[Any]]]:
    found = []
    while some := await thread._fetch_records(consumer, set(sizes), 0):
        found.append(some)
    return found


@given(
    st.lists(st.integers(0, 3 * 2**20), max_size=200), st.lists(st.integers(0, 2000), max_size=200)
)
def test_a_fetch_is_bounded_by_the_size_of_its_records_and_skips_none(
    first: list[int], second: list[int]
) -> None:
    sizes = {EVENTS: first, CHANGELOG: second}
    thread, consumer, positions = holding(sizes)
    found = asyncio.run(fetch_all(thread, consumer, sizes))
    for some in found:
        taken = [record.serialized_value_size for records in some.values() for record in records]
        assert sum(taken[: -faust_batches.RECORDS_PER_SIZE_CHECK]) < faust_batches.BATCH_BYTES
    for tp, given_sizes in sizes.items():
        offsets = [record.offset for some in found for record in some.get(tp, [])]
        assert offsets == list(range(len(given_sizes)))
        assert positions[tp].position == len(given_sizes)


async def test_a_fetch_takes_no_more_than_a_batch_of_records() -> None:
    sizes = {EVENTS: [1] * 10_000}
    thread, consumer, _ = holding(sizes)
    found = await fetch_all(thread, consumer, sizes)
    assert [len(some[EVENTS]) for some in found] == [4000, 4000, 2000]


async def test_records_before_an_error_of_the_fetch_come_before_the_error() -> None:
    thread, consumer, _ = holding({EVENTS: [1] * 5})
    refused = FetchError(error=KafkaError("not authorized"), backoff=0)
    consumer._fetcher._records[CHANGELOG] = refused
    both = {EVENTS, CHANGELOG}
    (records,) = (await thread._fetch_records(consumer, both, 0)).values()
    assert len(records) == 5
    with pytest.raises(KafkaError, match="not authorized"):
        await thread._fetch_records(consumer, both, 0)
    assert await thread._fetch_records(consumer, both, 0) == {}


# The first window: faust-streaming#596


class Fetching:
    """A consumer whose fetcher goes on during a seek.

    Records of partitions that are active then arrive in the agent's queue.
    """

    def __init__(self, queue: "FlowControlQueue[str]") -> None:
        self.queue = queue
        self.active: set[TP] = set()
        self.position = 100
        self.later: list[Iterable[TP]] | None = None
        self.during_seek: Callable[[], None] = lambda: None

    def assignment(self) -> set[TP]:
        return {EVENTS}

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        (self.active.update if self.later is None else self.later.append)(tps)

    async def perform_seek(self) -> None:
        if EVENTS in self.active:
            self.queue.force_put_nowait(f"record {self.position}")
            self.position += 1
        self.during_seek()

    def resume_flow(self) -> None:
        pass

    resuming_later = BatchConsumer.resuming_later

    @property
    def _resume_later(self) -> list[Iterable[TP]] | None:
        return self.later

    @_resume_later.setter
    def _resume_later(self, later: list[Iterable[TP]] | None) -> None:
        self.later = later

    def open(self, tps: Iterable[TP], rebalance: int) -> None:
        self.active.update(tps)


async def recovered(kind: Any, during_seek: Callable[[Any], None] = lambda app: None) -> Any:
    """Runs the end of a recovery; returns the application."""

    async def nothing(*_: object) -> None:
        pass

    flow = FlowControlEvent()
    queue: FlowControlQueue[str] = FlowControlQueue(
        maxsize=10, flow_control=flow, clear_on_resume=True
    )
    app: Any = SimpleNamespace(
        consumer=Fetching(queue),
        consumer_generation_id=1,
        rebalancing_count=1,
        flow_control=flow,
        on_rebalance_complete=SimpleNamespace(send=nothing),
        _fetcher=SimpleNamespace(maybe_start=nothing),
        assignor=SimpleNamespace(assigned_standbys=set),
        on_rebalance_end=lambda: None,
        conf=SimpleNamespace(broker_request_timeout=5.0, stream_recovery_delay=0.0),
        tracer=None,
    )
    app.consumer.during_seek = lambda: during_seek(app)
    tables: Any = SimpleNamespace(
        values=list,
        changelog_topics=set(),
        on_actives_ready=lambda: None,
        on_standbys_ready=lambda: None,
    )
    recovery = kind(app, tables)
    recovery._rebalance = 1
    await recovery.on_recovery_completed(1)
    return app


async def test_stock_clears_what_was_fetched_between_resuming_and_the_end_of_recovery() -> None:
    consumer = (await recovered(Recovery)).consumer
    assert consumer.position == 101, "a record was fetched, and the position has moved on"
    assert consumer.queue.empty(), "and the record is gone"
    assert EVENTS in consumer.active


async def test_nothing_is_fetched_before_the_queues_have_been_cleared() -> None:
    consumer = (await recovered(PausedRecovery)).consumer
    assert consumer.position == 100
    assert EVENTS in consumer.active


async def test_partitions_stay_paused_when_another_rebalance_begins_at_the_end_of_a_recovery() -> (
    None
):
    def rebalance(app: Any) -> None:
        app.rebalancing_count += 1

    assert (await recovered(PausedRecovery, rebalance)).consumer.active == set()
    assert (await recovered(Recovery, rebalance)).consumer.active == {EVENTS}, (
        "stock reads records that it will lose"
    )


# The end


@pytest.mark.slow
async def test_stock_waits_without_a_limit_for_an_event_in_flight(stock: Any) -> None:
    consumer = stock.consumer
    in_flight = message(stock, 7)
    consumer.track_message(in_flight)

    async def commit(**_: object) -> bool:
        return False

    consumer.commit = commit
    waiting = asyncio.ensure_future(consumer.wait_empty())
    await asyncio.sleep(2.5)
    assert not waiting.done()
    consumer.ack(in_flight)
    await asyncio.wait_for(waiting, 5.0)


async def test_an_unreadable_changelog_ends_the_process(
    ours: Any,
) -> None:
    (table,) = ours.tables.values()
    broken = SimpleNamespace(
        message=SimpleNamespace(partition=0), value=[SimpleNamespace(key=b"k")]
    )
    with pytest.raises(Died) as died:
        table.apply_changelog_batch([broken])
    assert died.value.args[0] is ExitCode.UNREADABLE_STATE


async def test_the_entries_of_a_lost_partition_are_forgotten(ours: Any) -> None:
    (table,) = ours.tables.values()
    for partition in (0, 1):
        table.remember(partition, {b"k": b"v"})
    await table.on_recovery_completed({TP("changelog", 1)}, set())
    assert table.size() == 1
    assert table.entries(1) == {b"k": b"v"}


# The pin


def test_the_installed_faust_is_the_one_that_is_overridden() -> None:
    check_faust()


def test_another_version_is_refused_with_a_remedy() -> None:
    with pytest.raises(
        IncompatibleFaust, match=r"0\.15\.4 is required: install deploy/requirements\.lock"
    ):
        check_faust({"faust-streaming": "0.15.4"})


def test_a_changed_source_is_refused_by_name() -> None:
    target = "faust.transport.consumer:Consumer.getmany"
    with pytest.raises(IncompatibleFaust, match=r"Consumer\.getmany is not the one"):
        check_faust({}, {target: "0" * 12})
