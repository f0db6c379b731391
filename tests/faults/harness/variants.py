"""Runs a real stage with one promise broken on purpose.

    python -m tests.faults.harness.variants VARIANT STAGE

runs the stage as `contactstream STAGE` would, patched. With such a stage a test can show that the
broken promise is noticed. The variant `whole` breaks nothing. In every variant a test can hold the
stage at a moment that is otherwise too short to hit: see `held`. Only the order of events matters
to a stage, so that holding breaks nothing.
"""

import asyncio
import inspect
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

# A test that does not release the moment fails by its own deadline before this.
HELD_SECONDS = 60.0
CHECK_SECONDS = 0.01

FOLDER = "FAULTS_HOLD"
"""Environment variable: a folder. A file in it with a moment's name holds the stage at that moment
until the file is deleted.
"""

LINGER = "FAULTS_LINGER_MS"
"""Environment variable: milliseconds that records wait in dedupe's producer before sending."""

SMALL_BATCH = 5  # records, so that a batch waits in Faust's queue while the agent has another
# How long a fetch lasts while dedupe is held at `sought`: long enough for a test to act during it.
FETCH_SECONDS = 10.0

BOUNDS = {
    "FAULTS_STOP_SECONDS": "STOP_SECONDS",
    "FAULTS_STALLED_SECONDS": "STALLED_SECONDS",
    "FAULTS_LAG_SECONDS": "LAG_SECONDS",
    "FAULTS_OVERDUE_SECONDS": "OVERDUE_SECONDS",
    "FAULTS_ELECTION_SECONDS": "ELECTION_SECONDS",
}
"""By environment variable, the bound of dedupe or the sink that its value in seconds replaces.

So a test need not wait for the real bound.
"""

CLIENT = "FAULTS_CLIENT_ID"
"""Environment variable: the sink's client ID. Member IDs begin with it, and assignors go through
the members in the order of their IDs.
"""


def wants(name: str) -> bool:
    """Whether there is such a file in the test's folder."""
    folder = os.environ.get(FOLDER)
    return folder is not None and Path(folder, name).exists()


def held(moment: str) -> bool:
    """Whether a test holds the stage at this moment; if so, notes that the moment is reached."""
    if not wants(moment):
        return False
    note(moment)
    return True


def note(moment: str) -> None:
    """Notes that the moment is reached, for the test to see."""
    Path(os.environ[FOLDER], f"{moment}.reached").touch()


def hold(moment: str) -> None:
    """Waits while the test holds the moment. For a thread: the stage's event loop goes on."""
    until = time.monotonic() + HELD_SECONDS
    while held(moment) and time.monotonic() < until:
        time.sleep(CHECK_SECONDS)


async def hold_async(moment: str) -> None:
    """Waits while the test holds the moment, in the event loop."""
    until = time.monotonic() + HELD_SECONDS
    while held(moment) and time.monotonic() < until:  # the test is another process
        await asyncio.sleep(CHECK_SECONDS)


class Moved(RuntimeError):
    """What a variant replaces does not exist any more, or has other parameters.

    The variant would break nothing, and its test would show nothing.
    """


def replace(owner: Any, name: str, new: Any) -> None:
    """Replaces the attribute `name` of `owner`. Raises Moved."""
    try:
        old = inspect.getattr_static(owner, name)
    except AttributeError:
        raise Moved(f"{owner.__name__} has no {name}") from None
    if inspect.isfunction(old) and inspect.isfunction(new):
        before, after = (list(inspect.signature(each).parameters) for each in (old, new))
        if before != after:
            raise Moved(f"{owner.__name__}.{name} takes {before}, the variant {after}")
    setattr(owner, name, new)


def _hold_bridge() -> None:
    from streams.bridge.intake import NotificationIntake

    publish = NotificationIntake._publish

    async def held_publish(self: Any, decision: Any, record: Any, received_ms: Any) -> Any:
        await hold_async("before_publish")
        return await publish(self, decision, record, received_ms)

    replace(NotificationIntake, "_publish", held_publish)


def _hold_dedupe() -> None:
    """Moments of a batch: `before_plan`, when the agent has it; `before_outputs`.

    `unsent`, when the producer has all records of a step; `between` the outputs and the changelog;
    `done`, when both are acknowledged.

    Moments of a recovery: `sought`, just before its end. While it is held: `dropped`, when records
    were fetched that Faust then skipped; `queued` and `queued_again`, when a batch of them waits
    for the agent.
    """
    from streams.dedupe import faust_batches, process
    from streams.dedupe.faust_batches import BatchConsumer, ConsumerThread
    from streams.dedupe.producer import AcknowledgedProducer
    from streams.dedupe.stage import Dedupe

    seek, fetch, batch = (
        BatchConsumer.perform_seek,
        ConsumerThread._fetch_records,
        faust_batches.BATCH_RECORDS,
    )
    getmany, plan = BatchConsumer.getmany, Dedupe.plan
    publish, flush, config = (
        AcknowledgedProducer.publish,
        AcknowledgedProducer._flush,
        vars(process)["producer_config"],
    )
    flushed = 0
    fetched = False

    def held_plan(self: Any, records: Any) -> Any:
        hold("before_plan")
        return plan(self, records)

    def held_publish(self: Any, outputs: Any) -> None:
        hold("before_outputs")
        publish(self, outputs)

    def held_flush(self: Any, producer: Any) -> None:
        nonlocal flushed
        hold("unsent")
        flush(self, producer)
        flushed += 1
        hold("between" if flushed % 2 else "done")

    def lingering_config(kafka: Any, *, delivery_timeout: float, linger_ms: float = 5) -> Any:
        return config(
            kafka,
            delivery_timeout=delivery_timeout,
            linger_ms=float(os.environ.get(LINGER, linger_ms)),
        )

    async def held_seek(self: Any) -> None:
        await seek(self)
        await hold_async("sought")

    async def noted_fetch(
        self: Any,
        consumer: Any,
        active_partitions: Any,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        nonlocal fetched
        wanted = wants("sought")
        vars(faust_batches)["BATCH_RECORDS"] = SMALL_BATCH if wanted else batch
        found = await fetch(
            self, consumer, active_partitions, FETCH_SECONDS if wanted else timeout, max_records
        )
        fetched = bool(found)
        return found

    async def noted_getmany(self: Any, timeout: float) -> Any:
        nonlocal fetched
        fetched = queued = False
        async for tp, message in getmany(self, timeout):
            yield tp, message
            queued = True  # Faust asks for the next batch once this one is in the queue
            if wants("sought.reached"):
                note("queued_again" if wants("queued.reached") else "queued")
        if fetched and not queued and wants("sought.reached"):
            note("dropped")

    replace(BatchConsumer, "perform_seek", held_seek)
    replace(ConsumerThread, "_fetch_records", noted_fetch)
    replace(BatchConsumer, "getmany", noted_getmany)
    replace(Dedupe, "plan", held_plan)
    replace(AcknowledgedProducer, "publish", held_publish)
    replace(AcknowledgedProducer, "_flush", held_flush)
    replace(process, "producer_config", lingering_config)


def _hold_sink() -> None:
    """Moments: `before_write`, when the org has answered who is there and nothing is written yet.

    `before_commit`.
    """
    from connectors.salesforce.sync import Sync
    from connectors.salesforce.write_rules import EVERYTHING
    from streams.sink import process
    from streams.sink.consumer import SinkConsumer
    from streams.sink.open_calls import CALLS_MAY_BE_OPEN

    write, commit, config = Sync.write, SinkConsumer.commit_now, vars(process)["consumer_config"]

    def named(kafka: Any, group_id: str, *, session_timeout: float, max_poll: float = 60.0) -> Any:
        made = config(kafka, group_id, session_timeout=session_timeout, max_poll=max_poll)
        return made | ({"client.id": os.environ[CLIENT]} if CLIENT in os.environ else {})

    async def held_write(self: Any, plan: Any, fence: Any, rules: Any = EVERYTHING) -> Any:
        await hold_async("before_write")
        return await write(self, plan, fence, rules)

    def held_commit(
        self: Any, assignment: Any, offset: int, calls: str = CALLS_MAY_BE_OPEN
    ) -> None:
        hold("before_commit")
        commit(self, assignment, offset, calls)

    replace(Sync, "write", held_write)
    replace(SinkConsumer, "commit_now", held_commit)
    replace(process, "consumer_config", named)


def acknowledge_first() -> None:
    """The bridge answers 200 and publishes afterwards."""
    from streams.bridge.intake import NotificationIntake

    publish = NotificationIntake._publish
    in_flight: set[asyncio.Task[Any]] = set()

    async def answer_first(self: Any, decision: Any, record: Any, received_ms: Any) -> Any:
        task = asyncio.create_task(publish(self, decision, record, received_ms))
        in_flight.add(task)
        task.add_done_callback(in_flight.discard)
        return decision

    replace(NotificationIntake, "_publish", answer_first)


def table_first() -> None:
    """Dedupe writes its table before the changes that it forwards are acknowledged."""
    from streams.dedupe.stage import Dedupe

    def publish(self: Any, records: Any, plan: Any) -> None:
        partition = records[0].partition
        self._wait_until_heard()
        self._producer.publish_to(self._changelog, partition, plan.changelog)
        self._table.remember(partition, plan.changelog)
        self._producer.publish(plan.outputs)
        self._count(len(records), plan)

    replace(Dedupe, "publish", publish)


def forward_stale() -> None:
    """Dedupe forwards versions that are older than the newest one seen."""
    from streams.dedupe import planner
    from streams.dedupe.versions import DedupeState

    decide = vars(planner)["decide"]

    def without_check(state: Any, event: Any, now: int) -> Any:
        decision = decide(state, event, now)
        if decision.reason != "stale" or not event.fingerprint:
            return decision
        known = DedupeState(
            event.version, event.version, event.fingerprint, event.mapping, (event.id_hash,)
        )
        return decision._replace(forward=True, reason="forwarded", state=known)

    replace(planner, "decide", without_check)


def done_early() -> None:
    """Dedupe's agent asks for the next batch while it works on the first.

    So Faust takes the first for done.
    """
    from streams.dedupe.stage import Dedupe

    at_work = set[asyncio.Task[None]]()

    async def work(self: Dedupe, records: Any) -> None:
        self.in_flight.begin()
        plan = await asyncio.to_thread(self.plan, records)
        await asyncio.to_thread(self.publish, records, plan)
        self.in_flight.end()

    async def agent(self: Any, batches: Any) -> None:
        async for records in batches:
            at_work.add(asyncio.create_task(work(self, records)))

    replace(Dedupe, "agent", agent)


def _open_first_window() -> None:
    """Stock Faust's order at the end of a recovery.

    Records that are fetched before the queues are cleared are lost.
    """
    from faust.tables.recovery import Recovery

    from streams.dedupe.faust_batches import PausedRecovery

    async def stock(self: Any, generation_id: int = 0) -> None:
        self.app.consumer._open_in = self.app.rebalancing_count
        await Recovery.on_recovery_completed(self, generation_id)

    replace(PausedRecovery, "on_recovery_completed", stock)


def _open_second_window() -> None:
    """Stock Faust's live set of partitions.

    When it is emptied, a fetch in flight returns records of all partitions, and those of paused
    partitions are dropped.
    """
    from faust.transport.drivers.aiokafka import Consumer

    from streams.dedupe.faust_batches import BatchConsumer

    async def live_set(
        self: Any,
        active_partitions: Any,
        timeout: float,
    ) -> Any:
        return await Consumer._getmany(self, active_partitions, timeout)

    replace(BatchConsumer, "_getmany", live_set)
    replace(BatchConsumer, "stop_flow", lambda self: Consumer.stop_flow(self))


def _unchecked_holes() -> None:
    """The offsets that arrive are not checked, and holes count as done."""
    from streams.dedupe.faust_batches import BatchConsumer

    async def take_unchecked(self: Any, tp: Any, batch: list[Any]) -> list[Any]:
        last = batch[-1].offset
        self._handed_out[tp].append(last)
        self._read_offset[tp] = last - 1
        return batch

    def past_holes(self: Any, tp: Any) -> int | None:
        if acked := self._acked_index[tp]:
            self._finished[tp] = max(acked) + 1
            acked.clear()
            self._handed_out[tp].clear()
        self._acked[tp].clear()
        found: int | None = self._finished.get(tp)
        return found

    replace(BatchConsumer, "_take", take_unchecked)
    replace(BatchConsumer, "_new_offset", past_holes)


def first_window() -> None:
    """The first window, without the check of the offsets."""
    _open_first_window()
    _unchecked_holes()


def second_window() -> None:
    """The second window, without the check of the offsets."""
    _open_second_window()
    _unchecked_holes()


def open_windows() -> None:
    """Both windows, without the check of the offsets."""
    _open_first_window()
    _open_second_window()
    _unchecked_holes()


def no_watchdog() -> None:
    """Dedupe does not notice that it was paused, nor that no heartbeat was answered.

    It publishes no batch again, which it may do only with these fences.
    """
    from streams.dedupe import producer
    from streams.dedupe.fence import HeartbeatFence
    from streams.runtime.watchdog import Watchdog

    for method in ("start", "check", "tick"):
        replace(Watchdog, method, lambda self: None)
    for method in ("check", "wait"):
        replace(HeartbeatFence, method, lambda self: None)
    replace(producer, "ELECTION_SECONDS", 0.0)


def no_delivery_timeout() -> None:
    """Dedupe's producer sends a record however late."""
    from streams.dedupe import process
    from streams.dedupe.producer import AcknowledgedProducer

    config = vars(process)["producer_config"]

    def patient(kafka: Any, *, delivery_timeout: float, linger_ms: float = 5) -> Any:
        return config(kafka, delivery_timeout=300.0, linger_ms=linger_ms)

    replace(process, "producer_config", patient)
    flush = AcknowledgedProducer._flush

    def wait_longer(self: Any, producer: Any) -> None:
        self._seconds = 300.0
        flush(self, producer)

    replace(AcknowledgedProducer, "_flush", wait_longer)


def no_fences_dedupe() -> None:
    """None of dedupe's fences."""
    no_watchdog()
    no_delivery_timeout()


def no_fences_sink() -> None:
    """The sink never checks whether the partition is still its own.

    Nor does it write to the journal before it sends: the broker refuses that of a sink that has a
    successor.
    """
    from streams.sink.fence import BatchFence, WriteFence
    from streams.sink.intended_values import IntendedValues

    def count(self: Any) -> None:
        self.requests_sent += 1

    async def note(self: Any, rows: Any) -> None:
        pass

    replace(IntendedValues, "note", note)
    replace(BatchFence, "__call__", count)
    replace(WriteFence, "in_doubt", property(lambda self: False))


def commit_early() -> None:
    """The sink commits what it has taken."""
    from streams.kafka.offsets import OffsetTracker

    committable = OffsetTracker.committable

    def taken(self: Any) -> int | None:
        committable(self)
        return self._next if self._next >= 0 else None

    replace(OffsetTracker, "committable", taken)


def commit_past_gap() -> None:
    """The sink commits past an unfinished record when one behind it is finished."""
    from streams.kafka.offsets import OffsetTracker

    committable, finish = OffsetTracker.committable, OffsetTracker.finish

    def highest(self: Any, offset: int) -> None:
        self._highest = max(offset, getattr(self, "_highest", -1))
        finish(self, offset)

    def past_the_gap(self: Any) -> int | None:
        found = committable(self)
        return found if found is None else max(found, getattr(self, "_highest", -1) + 1)

    replace(OffsetTracker, "finish", highest)
    replace(OffsetTracker, "committable", past_the_gap)


def last_offset_wins() -> None:
    """Of several changes of a contact in a batch the sink keeps the last, whatever its version."""
    from streams.sink.batching import PendingChanges

    add = PendingChanges.add

    def last(self: Any, row: Any) -> bool:
        other = self._rows.get(row.key)
        if other is not None:
            other.change, other.record, other.claims = row.change, row.record, row.claims
            other.version = row.version
            other.offsets.extend(row.offsets)
            return True
        return add(self, row)

    replace(PendingChanges, "add", last)


def no_version_check() -> None:
    """The sink does not compare versions with the org's before it writes."""
    from connectors.salesforce.sobject_record import SObjectRecord

    replace(SObjectRecord, "version", property(lambda self: None))


def range_assignor() -> None:
    """The sink joins its group with librdkafka's default assignor."""
    from streams.sink import process
    from streams.sink.rebalance import RebalanceListener

    config = vars(process)["consumer_config"]

    def default(
        kafka: Any, group_id: str, *, session_timeout: float, max_poll: float = 60.0
    ) -> Any:
        made = config(kafka, group_id, session_timeout=session_timeout, max_poll=max_poll)
        return made | {"partition.assignment.strategy": "range"}

    assigned = RebalanceListener.on_assign

    class Eager:
        """The consumer, which the eager protocol tells to take everything at once."""

        def __init__(self, consumer: Any) -> None:
            self._consumer = consumer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._consumer, "assign" if name == "incremental_assign" else name)

    def eagerly(self: Any, consumer: Any, partitions: Any) -> None:
        assigned(self, Eager(consumer), partitions)  # type: ignore[arg-type]

    replace(process, "consumer_config", default)
    replace(RebalanceListener, "on_assign", eagerly)


def takes_nothing() -> None:
    """The sink polls, and takes nothing of what comes."""
    from streams.sink.consumer import SinkConsumer

    consume = SinkConsumer._consume

    def in_vain(self: Any, limit: int, seconds: float) -> list[Any]:
        consume(self, limit, seconds)
        return []

    replace(SinkConsumer, "_consume", in_vain)


def no_wait() -> None:
    """The sink releases records while a call may still be open."""
    from connectors.salesforce.unanswered_calls import UnansweredCalls

    replace(UnansweredCalls, "remaining", property(lambda self: 0.0))


def deaf_publisher() -> None:
    """A fatal error ends the producer's thread without a word: who publishes waits for ever."""
    from streams.kafka import transactions

    replace(transactions, "_answer", _answer_successes(transactions._answer))
    replace(transactions.TransactionalPublisher, "_fail", lambda self, worker, reason: None)


def _answer_successes(answer: Callable[..., None]) -> Callable[..., None]:
    def only_successes(groups: Any, failure: Any) -> None:
        if failure is None:
            answer(groups, failure)

    return only_successes


def no_topic_watch() -> None:
    """Nobody compares the topics with what they were, or asks whether one is gone."""
    from streams.kafka.polling import ConsumerErrors
    from streams.kafka.topic_watch import TopicWatch

    replace(TopicWatch, "start", lambda self, end: None)
    replace(ConsumerErrors, "raise_if_gone", lambda self, consumer: None)


def no_log_watch() -> None:
    """Dedupe does not look whether its position is still within the log."""
    from streams.dedupe.log_loss import LossWatch

    replace(LossWatch, "confirmed", lambda self, found: None)


def no_split() -> None:
    """A batch that is refused as too large is not sent again in smaller ones."""
    from streams.kafka.sizes import SplitProducers, TopicRefusesRecord

    def refuse(self: Any, used: Any, topic: str, record_bytes: int, client_config: Any) -> None:
        raise TopicRefusesRecord(f"{topic} refuses a batch")

    replace(SplitProducers, "learn", refuse)


def nothing() -> None:
    """Breaks nothing."""


VARIANTS: dict[tuple[str, str], Callable[[], None]] = {
    ("acknowledge_first", "bridge"): acknowledge_first,
    ("table_first", "dedupe"): table_first,
    ("no_version_check", "dedupe"): forward_stale,
    ("done_early", "dedupe"): done_early,
    ("first_window", "dedupe"): first_window,
    ("second_window", "dedupe"): second_window,
    ("open_windows", "dedupe"): open_windows,
    ("first_window_alone", "dedupe"): _open_first_window,
    ("second_window_alone", "dedupe"): _open_second_window,
    ("no_watchdog", "dedupe"): no_watchdog,
    ("no_fences", "dedupe"): no_fences_dedupe,
    ("commit_early", "sink"): commit_early,
    ("commit_past_gap", "sink"): commit_past_gap,
    ("last_offset_wins", "sink"): last_offset_wins,
    ("no_version_check", "sink"): no_version_check,
    ("no_fences", "sink"): no_fences_sink,
    ("range_assignor", "sink"): range_assignor,
    ("takes_nothing", "sink"): takes_nothing,
    ("no_wait", "sink"): no_wait,
    ("deaf_publisher", "sink"): deaf_publisher,
    ("no_topic_watch", "dedupe"): no_topic_watch,
    ("no_topic_watch", "sink"): no_topic_watch,
    ("no_topic_watch", "reader"): no_topic_watch,
    ("no_log_watch", "dedupe"): no_log_watch,
    ("no_split", "dedupe"): no_split,
    ("no_split", "sink"): no_split,
    ("whole", "bridge"): nothing,
    ("whole", "dedupe"): nothing,
    ("whole", "sink"): nothing,
}
"""By variant and stage. A stage that a variant does not name runs whole."""


def _set_bounds(stage: str) -> None:
    for variable, name in BOUNDS.items():
        if variable in os.environ:
            bounded = False
            for part in iter_modules(import_module(f"streams.{stage}").__path__):
                module = import_module(f"streams.{stage}.{part.name}")
                if hasattr(module, name):
                    replace(module, name, float(os.environ[variable]))
                    bounded = True
            if not bounded:
                raise Moved(f"streams.{stage} has no {name}")


HOLDS: dict[str, Callable[[], None]] = {
    "bridge": _hold_bridge,
    "dedupe": _hold_dedupe,
    "sink": _hold_sink,
}


def main() -> None:
    variant, stage = sys.argv[1:]
    if variant not in {name for name, _ in VARIANTS}:
        raise SystemExit(f"{variant!r} is not a variant of tests/faults/harness/variants.py")
    if stage in HOLDS:
        HOLDS[stage]()
    _set_bounds(stage)
    VARIANTS.get((variant, stage), nothing)()
    from streams.cli import main as contactstream

    contactstream([stage])


if __name__ == "__main__":
    main()
