"""When an org that is away is asked again."""

import pytest

from connectors.salesforce.api.errors import OrgUnavailable, UnexpectedAnswer
from streams.sink.circuit_breaker import (
    PROBE_LONGEST_SECONDS,
    RETRY_AFTER_LONGEST_SECONDS,
    CircuitBreaker,
    PauseReason,
    pause_reason,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_all_batches_may_start_while_the_org_answers() -> None:
    breaker = CircuitBreaker(Clock())
    assert not breaker.is_open
    assert breaker.most_in_flight(3, 8) == 8
    assert breaker.answered() == 0


def test_one_batch_at_a_time_probes_an_org_that_is_away() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock, jitter=lambda: 1.0)
    assert breaker.failed(None) == 1.0
    assert breaker.is_open
    assert breaker.most_in_flight(0, 8) == 0
    clock.now = 1.0
    assert breaker.most_in_flight(1, 8) == 0
    assert breaker.most_in_flight(0, 8) == 1
    assert breaker.failed(None) == 2.0
    assert breaker.answered() == 2
    assert not breaker.is_open
    assert breaker.most_in_flight(3, 8) == 8


def test_probes_become_rarer_up_to_a_bound() -> None:
    breaker = CircuitBreaker(Clock(), jitter=lambda: 1.0)
    waits = [breaker.failed(None) for _ in range(12)]
    assert waits == sorted(waits)
    assert waits[-1] == PROBE_LONGEST_SECONDS


@pytest.mark.parametrize(
    ("asked", "waits"), [(400.0, 400.0), (5000.0, RETRY_AFTER_LONGEST_SECONDS)]
)
def test_the_wait_that_the_org_asks_for_is_kept_within_a_bound(asked: float, waits: float) -> None:
    assert CircuitBreaker(Clock()).failed(asked) == waits


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OrgUnavailable("maintenance", 9.0, "down"), PauseReason("maintenance", 9.0, "down")),
        (UnexpectedAnswer("odd"), PauseReason("UnexpectedAnswer", None, "odd")),
        (KeyError("x"), PauseReason("unforeseen", None, "<class 'KeyError'>")),
    ],
)
def test_each_error_names_the_reason_of_the_pause(error: Exception, reason: PauseReason) -> None:
    assert pause_reason(error) == reason
