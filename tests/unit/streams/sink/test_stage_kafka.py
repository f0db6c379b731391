"""The sink and its partition: where it starts, its lag, and the exit code when it cannot go on."""

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from structlog.testing import capture_logs

from connectors.salesforce.api.client import Fence
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.unanswered_calls import UnansweredCalls
from streams.kafka.polling import TOPIC_GONE_SECONDS, OffsetOutOfRange
from streams.kafka.publisher import PublishFailed
from streams.kafka.topic_watch import commit_metadata
from streams.runtime.exit_codes import ExitCode
from streams.sink.consumer import LAG_SECONDS
from streams.sink.open_calls import CALLS_ENDED, CALLS_MAY_BE_OPEN
from tests.support.sink_harness import DEADLINE, FakeConsumer, SinkHarness, running_sink


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Org:
    """A stand-in for Sync: creates every contact once it is `open`."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.unanswered = UnansweredCalls()
        self.is_started = True

    def needed(self, contact: Mapping[str, Any]) -> dict[str, Any]:
        return dict(contact)

    def claims(self, change: ContactVersion) -> frozenset[str]:
        return frozenset((change.key,))

    async def restore(self) -> None:
        pass

    async def sync(
        self, changes: Sequence[ContactVersion], fence: Fence, _rules: object
    ) -> list[Outcome]:
        await self.open.wait()
        return [Outcome(change.key, OutcomeStatus.CREATED) for change in changes]


def lag(sink: SinkHarness) -> float:
    (metric,) = sink.metrics.lag.collect()
    return metric.samples[0].value


async def test_a_coordinator_that_does_not_answer_is_waited_for() -> None:
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until_committed()
        sink.consumer.refuse = 2
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        await sink.until(
            lambda: "kafka did not say at which offset to start" in sink.health.waiting_for,
            "it says so",
        )
        sink.offer("g/bob", 1, {})
        await sink.until_committed()
        assert sink.health.waiting_for == ""


async def test_a_coordinator_that_stays_away_ends_the_sink_with_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.sink.rebalance.START_OFFSET_SECONDS", 0.0)
    async with running_sink(Org()) as sink:
        sink.consumer.refuse = 1_000
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        assert sink.running is not None
        stop = await asyncio.wait_for(sink.running, 15)
    assert stop.status is ExitCode.NO_COORDINATOR


async def test_the_lag_counts_uncommitted_changes_and_is_0_once_the_partition_is_lost() -> None:
    org = Org()
    async with running_sink(org) as sink:
        for name in ("ada", "bob", "cleo"):
            sink.offer(f"g/{name}", 1, {})
        await sink.until(lambda: lag(sink) == 3, "three changes wait", skip=LAG_SECONDS)
        org.open.set()
        await sink.until(lambda: lag(sink) == 0, "nothing waits", skip=LAG_SECONDS)
        assert sink.committed == 3
        org.open.clear()
        sink.offer("g/dora", 1, {})
        await sink.until(lambda: lag(sink) == 1, "one waits", skip=LAG_SECONDS)
        sink.consumer.between_polls.append(sink.consumer.lose)
        await sink.until(lambda: lag(sink) == 0, "the new owner reports the lag", skip=LAG_SECONDS)
        org.open.set()


async def test_an_unexpected_error_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running_sink(Org()) as sink:
        assert sink.running is not None
        monkeypatch.setattr("streams.sink.outcomes.dead_letter", lambda *_, **__: 1 / 0)
        sink.offer("no key of a contact", 1, {})
        stop = await asyncio.wait_for(sink.running, 15)
    assert stop.status is ExitCode.UNEXPECTED_ERROR


@pytest.mark.parametrize(
    "code",
    [KafkaError._FATAL, KafkaError._AUTHENTICATION, KafkaError.TOPIC_AUTHORIZATION_FAILED],
)
async def test_an_error_that_the_kafka_client_cannot_recover_from_ends_the_sink(code: int) -> None:
    async with running_sink(Org()) as sink:
        assert sink.running is not None
        sink.consumer.error = KafkaError(code, fatal=code == KafkaError._FATAL)
        stop = await asyncio.wait_for(sink.running, 15)
    assert stop.status is ExitCode.KAFKA_REFUSED
    assert KafkaError(code).name() in stop.reason
    denied = code == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert ("contactstream topics acls" in stop.reason) == denied


async def test_a_position_outside_of_the_log_ends_the_sink_and_says_what_to_do() -> None:
    async with running_sink(Org()) as sink:
        assert sink.running is not None
        running, sink.running = sink.running, None
        sink.consumer.error = KafkaError(KafkaError._AUTO_OFFSET_RESET)
        with pytest.raises(OffsetOutOfRange) as raised:
            await asyncio.wait_for(running, 15)
    assert "Run `contactstream reconcile --all`" in str(raised.value)
    assert "the next start says to which offset to reset the group" in str(raised.value)


async def test_an_error_that_the_kafka_client_recovers_from_is_passed() -> None:
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        sink.consumer.error = KafkaError(KafkaError._TRANSPORT)
        await sink.until(lambda: sink.consumer.error is None, "the error was polled")
        sink.offer("g/ada", 1, {})
        await sink.until_committed()


async def test_an_unexpected_error_while_deletions_are_read_ends_the_sink() -> None:
    def broken() -> Iterable[tuple[str, int]]:
        raise ZeroDivisionError

    org = Org()
    org.open.set()
    async with running_sink(org, deleted_before=broken) as sink:
        assert sink.running is not None
        sink.offer("g/ada", 1, {})
        stop = await asyncio.wait_for(sink.running, 15)
        assert stop.status is ExitCode.UNEXPECTED_ERROR
        assert sink.outcomes() == {}


async def beats(
    sink: SinkHarness, monkeypatch: pytest.MonkeyPatch, condition: str, *, skip: float = 0.0
) -> None:
    """Waits until the main loop has gone round and reported it ("alive"), or not ("stalled")."""
    reported: list[None] = []
    monkeypatch.setattr(sink.health, "beat", lambda: reported.append(None))
    sink.consumer.polls = 0

    def rounds() -> bool:
        if sink.consumer.polls < 20:
            return False
        found = "alive" if reported else "stalled"
        reported.clear()
        sink.consumer.polls = 0
        return found == condition

    await sink.until(rounds, condition, skip=skip)


async def test_a_sink_that_takes_none_of_the_waiting_records_is_not_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until_committed()
        await beats(sink, monkeypatch, "alive", skip=LAG_SECONDS)
        sink.consumer.paused = True  # by nobody: the consumer hangs
        sink.offer("g/bob", 1, {})
        await beats(sink, monkeypatch, "stalled", skip=LAG_SECONDS)
        sink.consumer.paused = False
        await sink.until_committed()
        await beats(sink, monkeypatch, "alive", skip=LAG_SECONDS)


async def test_a_broker_that_holds_a_commit_for_long_does_not_make_the_sink_look_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.sink.stage.COMMIT_BEAT_SECONDS", 0.01)
    held, answered, commit = threading.Event(), threading.Event(), FakeConsumer.commit

    def hangs(self: FakeConsumer, offsets: list[TopicPartition], asynchronous: bool) -> None:
        held.set()
        answered.wait(DEADLINE)
        commit(self, offsets, asynchronous)

    monkeypatch.setattr(FakeConsumer, "commit", hangs)
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until(held.is_set, "it commits")
        reported: list[None] = []
        monkeypatch.setattr(sink.health, "beat", lambda: reported.append(None))
        await sink.until(lambda: len(reported) > 2, "it reports that it is alive")
        answered.set()
        await sink.until_committed()


async def test_a_sink_excludes_the_last_writer_before_it_reads_what_that_one_left() -> None:
    read: list[list[str]] = []

    def deleted_before() -> Iterable[tuple[str, int]]:
        read.append(list(sink.publisher.owners))
        return ()

    org = Org()
    org.open.set()
    async with running_sink(org, deleted_before=deleted_before) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until_committed()
        assert [each[-1] for each in read] == ["taken over"]
        sink.consumer.between_polls += [sink.consumer.lose]
        await sink.until_polled(2)
        assert sink.publisher.owners[-1] == "released"
        sink.consumer.between_polls += [sink.consumer.assign]
        sink.offer("g/bob", 1, {})
        await sink.until_committed()
        assert sink.publisher.owners[-2:] == ["released", "taken over"]
        sink.consumer.between_polls += [sink.consumer.revoke]
        await sink.until(lambda: sink.publisher.owners[-1] == "released", "it is released")


async def test_a_transaction_coordinator_that_does_not_answer_is_waited_for() -> None:
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        away = KafkaException(KafkaError(KafkaError._TIMED_OUT))
        sink.publisher.refuse_take_over = [away, away]
        sink.offer("g/ada", 1, {})
        await sink.until_committed()
        assert sink.publisher.refuse_take_over == []


async def test_a_transactional_id_that_kafka_refuses_ends_the_sink() -> None:
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        sink.publisher.refuse_take_over = [PublishFailed("not authorized", fatal=True)]
        assert sink.running is not None
        stop = await asyncio.wait_for(sink.running, DEADLINE)
    assert stop.status is ExitCode.KAFKA_REFUSED
    assert "not authorized" in stop.reason


async def test_a_producer_that_failed_for_good_ends_the_sink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def failed(_records: object) -> None:
        raise PublishFailed("sequence lost", fatal=True)

    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        assert sink.running is not None
        monkeypatch.setattr(sink.publisher, "publish", failed)
        sink.offer("g/ada", 1, {})
        stop = await asyncio.wait_for(sink.running, 15)
    assert stop.status is ExitCode.KAFKA_REFUSED
    assert "sequence lost" in stop.reason
    assert sink.committed == 0


async def test_a_batch_that_hangs_makes_liveness_fail_although_the_loop_goes_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.sink.batch_runner.REQUEST_STEP_SECONDS", 0.0)
    org = Org()
    async with running_sink(org) as sink:
        assert sink.health.alive
        sink.offer("g/ada", 1, {})
        await sink.until(lambda: not sink.health.alive, "it hangs")
        assert "batches on their way to Salesforce" in sink.health.stalled_by
        org.open.set()
        await sink.until_committed()
        assert sink.health.alive


async def test_a_sink_does_not_continue_in_a_topic_that_was_made_anew() -> None:
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until_committed()
        await sink.until(lambda: bool(sink.consumer.commit_note), "the commit names the topic")
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        sink.offer("g/bob", 1, {})
        await sink.until_committed()
        assert sink.running is not None
        sink.consumer.commit_note = commit_metadata("id-0")
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        stop = await asyncio.wait_for(sink.running, 15)
    assert stop.status is ExitCode.TOPIC_REPLACED
    assert "contacts.changes was deleted and created again" in stop.reason


async def test_a_topic_that_is_gone_ends_the_sink() -> None:
    async with running_sink(Org()) as sink:
        assert sink.running is not None
        sink.consumer.error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        await sink.until(lambda: sink.consumer.error is None, "the error was polled")
        sink.skip(TOPIC_GONE_SECONDS)
        stop = await asyncio.wait_for(sink.running, 15)
    assert stop.status is ExitCode.TOPIC_REPLACED
    assert "topics create" in stop.reason


async def test_a_writer_says_in_its_commit_whether_its_calls_have_ended() -> None:
    async with running_sink(Org()) as sink:
        notes: list[str] = []
        await sink.until(lambda: notes_of(sink) == CALLS_MAY_BE_OPEN, "its calls are announced")
        sink.consumer.between_polls += [
            sink.consumer.revoke,
            lambda: notes.append(notes_of(sink)),
        ]
        await sink.until(lambda: bool(notes), "the partition is revoked")
        assert notes == [CALLS_ENDED]


async def test_a_writer_that_stops_while_its_group_assigns_anew_says_that_its_calls_ended() -> None:
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until_committed()
        assert notes_of(sink) == CALLS_MAY_BE_OPEN
        sink.sink.stop("signal")
        # The next round of the loop ends it. What it commits then is refused.
        sink.consumer.between_polls.append(lambda: setattr(sink.consumer, "rebalancing", True))
        assert sink.running is not None
        await asyncio.wait_for(sink.running, 15)
    assert notes_of(sink) == CALLS_ENDED


async def test_a_writer_without_a_coordinator_stops_all_the_same() -> None:
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, {})
        await sink.until_committed()

        def refused(*_: object, **__: object) -> None:
            sink.skip(0.5)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

        sink.consumer.commit = refused  # type: ignore[method-assign]
        sink.sink.stop("signal")
        assert sink.running is not None
        await asyncio.wait_for(sink.running, 15)
    assert notes_of(sink) == CALLS_MAY_BE_OPEN, "the successor waits"


async def test_a_writer_whose_call_had_no_answer_does_not_say_that_its_calls_have_ended() -> None:
    org = Org()
    async with running_sink(org) as sink:
        await sink.until(lambda: notes_of(sink) == CALLS_MAY_BE_OPEN, "its calls are announced")
        org.unanswered.note()
        sink.consumer.between_polls.append(sink.consumer.revoke)
        await sink.until(lambda: not sink.sink.is_writer, "the partition is revoked")
        assert notes_of(sink) == CALLS_MAY_BE_OPEN


@pytest.mark.parametrize(
    ("note", "waits"), [(CALLS_ENDED, False), (CALLS_MAY_BE_OPEN, True), ("", True)]
)
async def test_the_successor_of_a_writer_that_was_killed_waits_for_its_calls(
    note: str, waits: bool
) -> None:
    org = Org()
    org.open.set()
    async with running_sink(org) as sink:
        sink.consumer.between_polls += [
            sink.consumer.lose,
            lambda: setattr(sink.consumer, "commit_note", note),
            sink.consumer.assign,
        ]
        await sink.until(lambda: not sink.consumer.between_polls, "another writer was killed")
        sink.offer("g/ada", 1, {})
        await sink.until_committed()
        assert (org.unanswered.remaining > 0) is waits


def notes_of(sink: SinkHarness) -> str:
    """What the last commit says of the calls."""
    return sink.consumer.commit_note.split()[-1]
