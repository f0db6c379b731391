"""The metrics of coverage and letters: they follow the state, and no grant's name is in them."""

import math
import time

import orjson
import pytest
from prometheus_client import CollectorRegistry

from streams.console.state.gauges import LARGEST_GRANTS, ConsoleGauges, hashed
from streams.console.state.letters import LetterState
from streams.console.state.people import PeopleState
from streams.kafka.records import KafkaRecord
from streams.metrics import ConsoleMetrics
from tests.unit.streams.console.test_letters_as_the_command import TOPICS, closing, letter

PEOPLE = "contactstream_coverage_people"
GRANT_PEOPLE = "contactstream_coverage_grant_people"
OPEN = "contactstream_dead_letters_open"
OLDEST = "contactstream_dead_letters_oldest_timestamp_seconds"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def people(*contacts: tuple[str, str]) -> PeopleState:
    state = PeopleState()
    for offset, (key, status) in enumerate(contacts):
        value = orjson.dumps({"outcome": status, "at_ms": 1, "version": 1})
        state.take(KafkaRecord("o", key.encode(), value, [], 0, offset))
    return state


def grants_with_series(registry: CollectorRegistry) -> dict[str, float]:
    (metric,) = [each for each in registry.collect() if each.name == GRANT_PEOPLE]
    samples = [each for each in metric.samples if each.labels["state"] == "eligible"]
    return {each.labels["grant"]: each.value for each in samples}


def test_every_series_is_there_before_anything_was_read(registry: CollectorRegistry) -> None:
    ConsoleGauges(ConsoleMetrics(registry))
    for state in ("eligible", "with_record", "covered", "ambiguous", "failed"):
        value = registry.get_sample_value(PEOPLE, {"state": state})
        assert value is not None
        assert math.isnan(value)
    assert grants_with_series(registry).keys() == {"other"}
    oldest = registry.get_sample_value(OLDEST)
    assert oldest is not None
    assert time.time() - oldest < 60


def test_coverage_is_that_of_the_state(registry: CollectorRegistry) -> None:
    gauges = ConsoleGauges(ConsoleMetrics(registry))
    gauges.show_people(
        people(("a/1", "created"), ("a/2", "covered"), ("b/1", "ambiguous"), ("b/2", "skipped"))
    )
    shown = {
        state: registry.get_sample_value(PEOPLE, {"state": state})
        for state in ("eligible", "with_record", "covered", "ambiguous", "failed")
    }
    expected = {"eligible": 3, "with_record": 1, "covered": 1, "ambiguous": 1, "failed": 0}
    assert shown == expected
    assert grants_with_series(registry) == {hashed("a"): 2, hashed("b"): 1, "other": 0}


def test_only_the_largest_grants_have_series_and_the_rest_are_in_other(
    registry: CollectorRegistry,
) -> None:
    gauges = ConsoleGauges(ConsoleMetrics(registry))
    first = [(f"first-{number}/1", "created") for number in range(LARGEST_GRANTS + 5)]
    gauges.show_people(people(*first))
    found = grants_with_series(registry)
    assert len(found) == LARGEST_GRANTS + 1
    assert found["other"] == 5
    larger = [(f"large-{number}/{each}", "created") for number in range(20) for each in (1, 2)]
    gauges.show_people(people(*first, *larger))
    found = grants_with_series(registry)
    assert found.keys() == {hashed(f"large-{number}") for number in range(20)} | {"other"}
    assert sum(found.values()) == LARGEST_GRANTS + 5 + 40
    assert not any("first" in name or "large" in name for name in found)


def test_a_reason_whose_letters_are_closed_stays_at_zero(registry: CollectorRegistry) -> None:
    gauges, letters = ConsoleGauges(ConsoleMetrics(registry)), LetterState(TOPICS)
    written = letter(0, "too_large")._replace(partition=0, offset=0)
    letters.take(written)
    gauges.show_letters(letters)
    assert registry.get_sample_value(OPEN, {"reason": "too_large"}) == 1
    (opened,) = letters.backlog().by_reason.elements()
    assert opened == "too_large"
    oldest_ms = letters.backlog().oldest_ms
    assert oldest_ms is not None
    assert registry.get_sample_value(OLDEST) == oldest_ms / 1000
    letters.take(closing(0)._replace(partition=0, offset=1))
    gauges.show_letters(letters)
    assert registry.get_sample_value(OPEN, {"reason": "too_large"}) == 0
    oldest = registry.get_sample_value(OLDEST)
    assert oldest is not None
    assert time.time() - oldest < 60
