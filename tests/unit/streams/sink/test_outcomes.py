"""What follows from the outcomes of a batch, without changing anything."""

import copy
from dataclasses import replace

import orjson
import pytest
from prometheus_client import CollectorRegistry

from connectors.salesforce.outcome import NEXT_BATCH, NO_ROOM, Outcome, OutcomeStatus, ReplacedValue
from streams.events import ContactChange, Kind
from streams.journal import parse_journal
from streams.kafka.records import KafkaRecord
from streams.metrics import FIRST_RESOLUTIONS, SinkMetrics
from streams.sink.batching import (
    NO_BATCH_FAILURES,
    BatchFailures,
    PendingChange,
    PendingChanges,
    RowAttempts,
)
from streams.sink.outcomes import (
    HELD_SECONDS,
    OutcomePlan,
    count_finished,
    count_outcomes,
    first_resolution,
    plan_outcomes,
)
from streams.sink.retry_policy import RETRY_ATTEMPTS, RIDE_SECONDS, longest_backoff
from tests.support.sink_harness import NAMES


def row(key: str, attempts: int = 0) -> PendingChange:
    change = ContactChange(key, Kind.UPDATED, 1, "", "", "webhook", 0, {"id": key})
    record = KafkaRecord("contacts.changes", key.encode(), b"{}", [], 0, 7)
    return PendingChange(
        change,
        record,
        frozenset((key,)),
        0.0,
        [7],
        row_attempts=RowAttempts(attempts, 0.0, "unable_to_lock_row", attempts),
        batch_failures=BatchFailures(2, "server_error", 4),
    )


def planned(outcomes: list[Outcome], rows: list[PendingChange], now: float = 1.0) -> OutcomePlan:
    before = copy.deepcopy(rows)
    plan = plan_outcomes(NAMES, outcomes, rows, now, lambda: 1.0)
    assert rows == before
    return plan


def test_a_written_row_is_finished_with_its_outcome_on_the_topic() -> None:
    ada = row("g/ada")
    plan = planned([Outcome("g/ada", OutcomeStatus.CREATED, "Lead", "00Q1")], [ada])
    assert (plan.finished, plan.retries, plan.anything_written) == ([ada], [], True)
    topics = [record.topic for record in plan.records]
    assert topics == [NAMES.outcomes.name, NAMES.journal.name], "the journal names the new record"


def test_a_released_contact_that_was_left_out_has_the_reason_in_its_outcome() -> None:
    def reason(**contact: str) -> str:
        ada = row("g/ada")
        change = replace(ada.change, kind=Kind.DELETED, contact={"id": "ada", **contact})
        released = Outcome("g/ada", OutcomeStatus.RELEASED, "Lead", "00Q1", "key")
        plan = planned([released], [replace(ada, change=change)])
        return str(orjson.loads(plan.records[0].value or b"")["reason"])

    assert reason(excluded="not_in_group") == "not_in_group"
    assert reason() == ""


def test_a_replaced_value_is_journalled_beside_its_outcome_and_not_before_the_row_is_written() -> (
    None
):
    value = ReplacedValue("Lead", "00Q1", "Title", "Engineer", "Analyst")
    updated = Outcome("g/ada", OutcomeStatus.UPDATED, "Lead", "00Q1", "key", replaced=(value,))
    plan = planned([updated], [row("g/ada")])
    entries = [
        parse_journal(record) for record in plan.records if record.topic == NAMES.journal.name
    ]
    assert [(entry.old, entry.new) for entry in entries if entry] == [("Engineer", "Analyst")]
    registry = CollectorRegistry()
    count_outcomes(SinkMetrics(registry), plan)
    counted = {"object": "Lead", "origin": "webhook"}
    name = "contactstream_sink_replaced_values_total"
    assert registry.get_sample_value(name, counted) == 1
    waits = replace(updated, status=OutcomeStatus.RETRY, reason="unable_to_lock_row", replaced=())
    assert planned([waits], [row("g/ada")]).records == []


@pytest.mark.parametrize("status", [OutcomeStatus.COVERED, OutcomeStatus.AMBIGUOUS])
def test_a_contact_without_a_record_is_counted_by_itself_and_not_for_the_match_rate(
    status: OutcomeStatus,
) -> None:
    registry = CollectorRegistry()
    plan = planned([Outcome("g/ada", status, candidates=("003x", "003y"))], [row("g/ada")])
    count_outcomes(SinkMetrics(registry), plan)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"contactstream_sink_{name}_total", labels)

    assert value("rows", outcome=status.value, origin="webhook") == 1
    resolved = [
        value("first_resolutions", result=result, how=how, origin="webhook")
        for result, how in FIRST_RESOLUTIONS
    ]
    assert set(resolved) == {0}
    assert orjson.loads(plan.records[0].value or b"")["candidates"] == ["003x", "003y"]
    assert not plan.anything_written


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome("k", OutcomeStatus.UPDATED, "Lead", "00Q", "email"), ("found", "email")),
        (Outcome("k", OutcomeStatus.FILLED, "Contact", "003", "merged"), ("found", "merged")),
        (Outcome("k", OutcomeStatus.CREATED, "Contact", "003"), ("created", "contact")),
        (Outcome("k", OutcomeStatus.CREATED, "Lead", "00Q"), ("created", "lead")),
    ],
)
def test_a_first_resolution_says_how_the_contact_was_found_or_what_was_created(
    outcome: Outcome, expected: tuple[str, str]
) -> None:
    assert first_resolution(outcome) == expected
    assert expected in FIRST_RESOLUTIONS


def test_what_a_replay_brings_is_counted_apart_from_live_changes() -> None:
    registry = CollectorRegistry()
    ada, bob = row("g/ada"), row("g/bob")
    bob.change = replace(bob.change, origin="replay", received_ms=1)
    outcomes = [
        Outcome("g/bob", OutcomeStatus.UPDATED, "Lead", "00Q2", "email", first=True),
        Outcome("g/ada", OutcomeStatus.CREATED, "Lead", "00Q1", first=True),
    ]
    plan, metrics = planned(outcomes, [ada, bob]), SinkMetrics(registry)
    count_outcomes(metrics, plan)
    count_finished(metrics, plan.finished)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"contactstream_{name}", labels)

    first = "sink_first_resolutions_total"
    assert value(first, result="found", how="email", origin="replay") == 1
    assert value(first, result="created", how="lead", origin="webhook") == 1
    assert value(first, result="found", how="email", origin="webhook") == 0
    assert value("sink_matched_total", by="email", origin="replay") == 1
    assert value("sink_rows_total", outcome="updated", origin="replay") == 1
    assert value("latency_seconds_count", origin="replay") == 1
    assert not value("latency_seconds_count", origin="webhook")


def test_a_failed_row_is_finished_with_its_outcome_and_a_dead_letter() -> None:
    plan = planned([Outcome("g/ada", OutcomeStatus.FAILED, reason="x")], [row("g/ada")])
    assert not plan.anything_written
    topics = [record.topic for record in plan.records]
    assert topics == [NAMES.dead_letter.name, NAMES.outcomes.name]


def test_a_row_that_another_batch_held_waits_without_counting_an_attempt() -> None:
    ada = row("g/ada", 3)
    plan = planned([Outcome("g/ada", OutcomeStatus.RETRY, reason=NEXT_BATCH)], [ada])
    (again,) = plan.retries
    assert (again.not_before, again.row_attempts) == (1.0 + HELD_SECONDS, ada.row_attempts)
    assert again.batch_failures == NO_BATCH_FAILURES
    assert (plan.retry_reasons, plan.finished, plan.records) == ([], [], [])


def test_a_row_that_found_no_room_in_a_full_batch_may_go_at_once() -> None:
    ada = row("g/ada", 3)
    plan = planned([Outcome("g/ada", OutcomeStatus.RETRY, reason=NO_ROOM)], [ada])
    (again,) = plan.retries
    assert (again.not_before, again.row_attempts) == (0, ada.row_attempts)
    assert again.batch_failures == NO_BATCH_FAILURES
    assert (plan.retry_reasons, plan.finished, plan.records) == ([], [], [])


def test_a_row_with_a_passing_fault_waits_and_counts_an_attempt() -> None:
    outcome = Outcome("g/ada", OutcomeStatus.RETRY, reason="unable_to_lock_row")
    plan = planned([outcome], [row("g/ada", 1)])
    (again,) = plan.retries
    assert again.row_attempts == RowAttempts(2, 0.0, "unable_to_lock_row", 2)
    assert again.not_before > 1.0
    assert plan.retry_reasons == ["unable_to_lock_row"]


def test_the_locked_rows_of_a_batch_are_due_together_after_their_longest_back_off() -> None:
    keys = [f"g/{number}" for number in range(20)]
    jitters = iter(number / 20 for number in range(20))
    locked = [Outcome(key, OutcomeStatus.RETRY, reason="unable_to_lock_row") for key in keys]
    plan = plan_outcomes(NAMES, locked, [row(key) for key in keys], 100.0, lambda: next(jitters))
    assert {again.due for again in plan.retries} == {100.0 + longest_backoff(1) + RIDE_SECONDS}
    assert len({again.not_before for again in plan.retries}) == 20
    waiting = PendingChanges()
    waiting.put_back(plan.retries)
    assert waiting.next_batch((), 100.0 + longest_backoff(1), 1000) == []
    together = waiting.next_batch((), 100.0 + longest_backoff(1) + RIDE_SECONDS, 1000)
    assert [one.key for one in together] == keys


def test_a_locked_row_rides_with_a_batch_that_goes_anyway() -> None:
    locked = Outcome("g/ada", OutcomeStatus.RETRY, reason="unable_to_lock_row")
    plan = planned([locked], [row("g/ada")], now=100.0)
    waiting = PendingChanges()
    waiting.put_back(plan.retries)
    waiting.add(replace(row("g/bob"), due=101.0, batch_failures=NO_BATCH_FAILURES))
    assert [one.key for one in waiting.next_batch((), 101.0, 1000)] == ["g/bob"]
    waiting.add(replace(row("g/cleo"), due=103.0, batch_failures=NO_BATCH_FAILURES))
    taken = waiting.next_batch((), 103.0, 1000)
    assert [one.key for one in taken] == ["g/ada", "g/cleo"]


def test_a_lone_locked_row_goes_by_itself_after_the_stated_wait() -> None:
    """On a quiet topic nothing else goes, and its wait is bounded at every attempt."""
    attempts, waits = 0, []
    while attempts < RETRY_ATTEMPTS:
        locked = Outcome("g/ada", OutcomeStatus.RETRY, reason="unable_to_lock_row")
        (again,) = planned([locked], [row("g/ada", attempts)], now=100.0).retries
        waiting = PendingChanges()
        waiting.put_back([again])
        assert waiting.next_batch((), again.due - 0.01, 1000) == []
        assert waiting.next_batch((), again.due, 1000)
        waits.append(again.due - 100.0)
        attempts += 1
    assert waits == [4.0, 6.0, 10.0, 18.0, 34.0, 62.0, 62.0, 62.0]


def test_a_passing_fault_that_outlived_its_attempts_is_a_failure() -> None:
    outcome = Outcome("g/ada", OutcomeStatus.RETRY, reason="unable_to_lock_row")
    plan = planned([outcome], [row("g/ada", RETRY_ATTEMPTS)], now=1e6)
    (final,) = plan.outcomes
    assert (final.status, final.reason) == (
        OutcomeStatus.FAILED,
        "retries_exhausted_unable_to_lock_row",
    )
    headers = dict(plan.records[0].headers)
    assert headers["dlq.attempts"] == b"%d" % (RETRY_ATTEMPTS + 1)


def test_a_batch_with_a_missing_outcome_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="1 contacts of a batch have no outcome"):
        planned([], [row("g/ada")])
