"""Successors of released records: who they are, and how often they are searched for."""

import threading
import time
from collections.abc import Iterator

import orjson

from connectors.salesforce.outcome import Outcome, OutcomeStatus
from streams.events import ContactChange, Kind
from streams.kafka.records import KafkaRecord
from streams.reader.takeover import (
    MAX_SEARCH_PAUSE_SECONDS,
    SEARCH_PAUSE_FACTOR,
    Releases,
    living_offsets,
    pause_after_search,
    successors,
    with_thread_seconds,
)
from streams.sink.outcomes import outcome_value
from tests.support.change_records import change


def test_contacts_whose_last_outcome_was_to_fill_a_released_record_are_its_successors() -> None:
    outcomes = [
        KafkaRecord("o", key.encode(), orjson.dumps({"outcome": outcome, "id": record_id}), [])
        for key, outcome, record_id in [
            ("g/owner", "released", "1"),
            ("g/successor", "filled", "1"),
            ("h/successor", "filled", "1"),
            ("h/other", "filled", "2"),
            ("h/gone", "filled", "1"),
            ("h/gone", "unchanged", ""),
        ]
    ]
    assert successors(outcomes, Releases({"1"})) == {"g/successor", "h/successor"}
    changes = [
        change("g/successor", 1, 0),
        change("g/successor", 2, 1),
        change("h/successor", 1, 2),
        change("h/successor", 2, 3, Kind.DELETED),
    ]
    assert living_offsets(changes, {"g/successor", "h/successor"}) == {"g/successor": 1}


def test_contacts_that_a_released_record_covered_or_might_be_are_its_successors() -> None:
    def outcome_record(outcome: Outcome) -> KafkaRecord:
        changed = ContactChange(outcome.key, Kind.UPDATED, 1, "", "", "webhook", 1, {})
        return KafkaRecord("o", outcome.key.encode(), outcome_value(outcome, changed), [])

    covered, ambiguous = OutcomeStatus.COVERED, OutcomeStatus.AMBIGUOUS
    outcomes = [
        outcome_record(Outcome("g/covered", covered, "Lead", "1", candidates=("1",))),
        outcome_record(Outcome("g/also", covered, "Lead", "2", candidates=("2", "1"))),
        outcome_record(Outcome("g/ambiguous", ambiguous, candidates=("2", "1"))),
        outcome_record(Outcome("g/other", ambiguous, candidates=("2", "3"))),
        outcome_record(Outcome("g/decided", ambiguous, candidates=("1", "2"))),
        outcome_record(Outcome("g/decided", OutcomeStatus.UPDATED, "Lead", "1")),
    ]
    assert successors(outcomes, Releases({"1"})) == {"g/covered", "g/also", "g/ambiguous"}


def test_a_release_without_an_outcome_has_successors_as_well() -> None:
    def outcome_record(
        key: str, status: OutcomeStatus, record_id: str | None, kind: Kind, reason: str = ""
    ) -> KafkaRecord:
        outcome = Outcome(key, status, "Lead", record_id, reason=reason)
        return KafkaRecord(
            "o",
            key.encode(),
            outcome_value(outcome, ContactChange(key, kind, 1, "", "", "webhook", 1, {})),
            [],
        )

    outcomes = [
        outcome_record("g/owner", OutcomeStatus.CREATED, "1", Kind.UPDATED),
        outcome_record("h/successor", OutcomeStatus.FILLED, "1", Kind.UPDATED),
        outcome_record("h/other", OutcomeStatus.FILLED, "2", Kind.UPDATED),
        outcome_record("g/nobody", OutcomeStatus.FILLED, "2", Kind.UPDATED),
        # The sink that released the record was killed before it wrote the outcome.
        outcome_record("g/owner", OutcomeStatus.UNCHANGED, None, Kind.DELETED, "no_record"),
        outcome_record("g/nobody", OutcomeStatus.UNCHANGED, None, Kind.DELETED, "no_record"),
        outcome_record("g/released", OutcomeStatus.RELEASED, "3", Kind.DELETED),
        outcome_record("g/kept", OutcomeStatus.UNCHANGED, "4", Kind.UPDATED),
    ]
    releases = Releases()
    releases.add(outcomes)
    assert releases == Releases({"3"}, {"g/owner", "g/nobody"})
    assert successors(outcomes, releases) == {"h/successor"}


def test_the_pause_grows_with_the_search_up_to_a_limit() -> None:
    assert pause_after_search(0.5) == SEARCH_PAUSE_FACTOR * 0.5
    assert pause_after_search(600.0) == MAX_SEARCH_PAUSE_SECONDS


def test_the_work_of_other_threads_does_not_count_as_time_of_the_search() -> None:
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            pass

    def search(_records: Iterator[KafkaRecord]) -> str:
        began = time.process_time()
        while time.process_time() - began < 1.0:  # which the other thread spends
            stop.wait(0.02)
        return "found"

    other = threading.Thread(target=burn)
    other.start()
    try:
        found, seconds = with_thread_seconds(search)(iter(()))
    finally:
        stop.set()
        other.join()
    assert found == "found"
    assert seconds < 0.5
