"""The dead letters and the grants that the console knows, and the metrics that follow."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streams.commands.dead_letters.open_letters import scan
from streams.console.letter_filter import UnusableFilter, parse_filter
from streams.console.state.gauges import LARGEST_GRANTS, ConsoleGauges, hashed
from streams.console.state.letters import LetterState, takes
from streams.console.state.people import PeopleState
from streams.kafka.records import KafkaRecord
from streams.metrics import ConsoleMetrics
from streams.selection import Selection
from tests.unit.streams.commands.dead_letters.test_open_letters import TOPICS, failed, tombstone
from tests.unit.streams.console.test_people_state import outcome, record

REASONS = st.sampled_from(["string_too_long", "apex_error"])
STEPS = st.lists(st.tuples(st.integers(0, 4), REASONS, st.booleans()), max_size=25)


def placed(records: list[KafkaRecord]) -> list[KafkaRecord]:
    return [
        KafkaRecord(one.topic, one.key, one.value, one.headers, 0, place, one.timestamp_ms)
        for place, one in enumerate(records)
    ]


@given(STEPS)
def test_the_open_letters_are_those_of_the_command(steps: list[tuple[int, str, bool]]) -> None:
    records = []
    for number, reason, is_letter in steps:
        letter = failed(offset=number, reason=reason)
        records.append(letter if is_letter else tombstone(letter))
    state = LetterState(TOPICS)
    for each in placed(records):
        state.take(each)
    selection = Selection(reasons=("apex_error",))
    for wanted in (Selection(), selection):
        assert [each for each in state.all() if takes(wanted, each)] == scan(
            placed(records), wanted, TOPICS
        ).in_order
    backlog = state.backlog()
    assert backlog.by_reason.total() == len(state.all())
    assert (backlog.oldest_ms is None) is (not backlog.by_reason.total())


def test_letters_beyond_the_bound_are_counted() -> None:
    state = LetterState(TOPICS, max_letters=1)
    for each in placed([failed(offset=1), failed(offset=2)]):
        state.take(each)
    assert len(state.all()) == 1
    assert state.not_held == 1


def test_a_log_that_is_read_again_from_its_start_counts_once() -> None:
    state = LetterState(TOPICS)
    for each in placed([failed(offset=1), failed(offset=2)]):
        state.take(each)
    state.take(placed([failed(offset=3)])[0])
    assert len(state.all()) == 1


@pytest.mark.parametrize(
    "given",
    [{"since": "soon"}, {"since": "2030-01-01"}, {"key": "x"}, {"kind": "x"}, {"state": "x"}],
)
def test_a_filter_that_selects_nothing_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(UnusableFilter):
        parse_filter(given, 1_780_000_000.0)


def test_a_filter_without_a_condition_takes_everything() -> None:
    assert parse_filter({"reason": " ", "other": "x"}, 0.0).takes_everything
    assert not parse_filter({"id": "x"}, 0.0).takes_everything


def test_coverage_is_unknown_until_it_was_read_and_then_by_state_and_grant() -> None:
    registry, people = CollectorRegistry(), PeopleState()
    gauges = ConsoleGauges(ConsoleMetrics(registry))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"contactstream_{name}", labels)

    assert math.isnan(value("coverage_people", state="eligible") or 0)
    for number in range(LARGEST_GRANTS + 2):
        people.take(record(number, f"g{number:03}/1", outcome("created")))
    gauges.show_people(people)
    assert value("coverage_people", state="eligible") == LARGEST_GRANTS + 2
    assert value("coverage_people", state="covered") == 0
    assert value("coverage_grant_people", grant=hashed("g000"), state="with_record") == 1
    assert value("coverage_grant_people", grant="other", state="eligible") == 2
    for number in range(2):  # another grant becomes larger than one that has a series
        key = f"g{LARGEST_GRANTS + 1:03}/{number + 2}"
        people.take(record(number + 100, key, outcome("failed")))
    gauges.show_people(people)
    last = hashed(f"g{LARGEST_GRANTS + 1:03}")
    assert value("coverage_grant_people", grant=last, state="eligible") == 3
    gone = hashed(f"g{LARGEST_GRANTS - 1:03}")
    assert value("coverage_grant_people", grant=gone, state="eligible") is None


def test_the_metrics_of_letters_fall_back_to_none_open() -> None:
    registry, state = CollectorRegistry(), LetterState(TOPICS)
    gauges = ConsoleGauges(ConsoleMetrics(registry))
    letter = failed(offset=1, reason="apex_error")
    records = placed([letter, tombstone(letter)])
    state.take(records[0])
    gauges.show_letters(state)
    oldest = "contactstream_dead_letters_oldest_timestamp_seconds"
    first = registry.get_sample_value(oldest) or 0
    assert first == state.all()[0].last_failed_ms / 1000
    reason = {"reason": "apex_error"}
    assert registry.get_sample_value("contactstream_dead_letters_open", reason) == 1
    state.take(records[1])
    gauges.show_letters(state)
    assert registry.get_sample_value("contactstream_dead_letters_open", reason) == 0
    assert (registry.get_sample_value(oldest) or 0) >= first
