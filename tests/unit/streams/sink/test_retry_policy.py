"""A contact is dead-lettered for a batch's failure only alone, while others are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.sink.batching import NO_BATCH_FAILURES, NO_ROW_ATTEMPTS, BatchFailures, RowAttempts
from streams.sink.retry_policy import (
    ATTEMPTS_FOR_SAME_REASON,
    DEAD_LETTER_MOST,
    DEAD_LETTER_SECONDS,
    LONE_FAILURES,
    RETRY_ATTEMPTS,
    RETRY_SECONDS,
    SUSPECT_FAILURES,
    DeadLetterWindow,
    FailureDecision,
    Next,
    after_batch_failure,
    backoff,
    failed_attempt,
    failures_after_split,
    longest_backoff,
    may_retry,
    next_step,
)

counts = st.integers(0, 50)


@given(rows=st.integers(1, 1000), failures=counts, others_written=st.booleans(), letters=counts)
def test_a_contact_is_dead_lettered_only_alone_after_failures_beside_others_and_with_few_others(
    rows: int, failures: int, others_written: bool, letters: int
) -> None:
    decided = next_step(rows, failures, others_written=others_written, dead_lettered=letters)
    poison = rows == 1 and failures >= LONE_FAILURES and others_written
    assert (decided is Next.DEAD_LETTER) is (poison and letters < DEAD_LETTER_MOST)
    assert (decided is Next.RETRY) is (failures < SUSPECT_FAILURES)


@given(rows=st.integers(1, 1000))
def test_a_batch_that_fails_on_is_split_down_to_one_contact_in_a_bounded_number_of_failures(
    rows: int,
) -> None:
    failures = total = 0
    while True:
        failures, total = failures + 1, total + 1
        decided = next_step(rows, failures, others_written=True, dead_lettered=0)
        if decided is Next.DEAD_LETTER:
            break
        if decided is Next.SPLIT and rows > 1:
            rows = -(-rows // 2)
            failures = failures_after_split(rows)
    assert rows == 1
    assert total <= SUSPECT_FAILURES + 10 + LONE_FAILURES


def failing(
    known: list[BatchFailures], reason: str, written: int, dead_lettered: int = 0
) -> FailureDecision:
    return after_batch_failure(known, reason, batches_written=written, dead_lettered=dead_lettered)


def test_a_fault_that_is_certainly_no_rows_changes_nothing_about_the_rows() -> None:
    known = [BatchFailures(7, "server_error", 1, 2)]
    decided = failing(known, "", 100)
    assert (decided.next, decided.org_works, decided.rows) == (Next.RETRY, False, tuple(known))


def test_failures_count_while_the_reason_stays_the_same() -> None:
    rows = [NO_BATCH_FAILURES, BatchFailures(2, "network", 4, 1)]
    decided = failing(rows, "server_error", 5)
    assert decided.rows == (
        BatchFailures(1, "server_error", None, 5),
        BatchFailures(1, "server_error", 4, 5),
    )
    assert decided.next is Next.RETRY


def test_rows_are_suspected_together_then_in_halves_and_one_row_is_dead_lettered() -> None:
    rows = [NO_BATCH_FAILURES] * 3
    for _ in range(SUSPECT_FAILURES):
        decided = failing(list(rows), "server_error", 5)
        rows = list(decided.rows)
    assert decided.next is Next.SPLIT
    assert rows == [BatchFailures(SUSPECT_FAILURES - 1, "server_error", 2, 5)] * 3
    decided = failing(rows[:2], "server_error", 6)
    assert (decided.next, decided.org_works) == (Next.SPLIT, True)
    (row, _) = decided.rows
    assert row == BatchFailures(0, "server_error", 1, 6)
    for failures in range(1, LONE_FAILURES):
        decided = failing([row], "server_error", 6 + failures)
        (row,) = decided.rows
        assert decided.next is (Next.RETRY if failures < SUSPECT_FAILURES else Next.SPLIT)
    assert failing([row], "server_error", 20).next is Next.DEAD_LETTER
    assert failing([row], "server_error", 20, DEAD_LETTER_MOST).next is Next.SPLIT


def test_a_row_is_not_at_fault_while_nothing_else_is_written() -> None:
    alone = [BatchFailures(LONE_FAILURES, "server_error", 1, 5)]
    assert not failing(alone, "server_error", 5).org_works
    assert failing(alone, "server_error", 5).next is Next.SPLIT


def test_dead_letters_of_the_last_hour_are_counted() -> None:
    window = DeadLetterWindow()
    window.add(0.0)
    window.add(10.0)
    assert window.count(10.0) == 2
    assert window.count(DEAD_LETTER_SECONDS) == 1
    assert window.count(DEAD_LETTER_SECONDS + 10.0) == 0


@given(
    reason=st.sampled_from(["unable_to_lock_row", *ATTEMPTS_FOR_SAME_REASON]),
    attempts=counts,
    seconds=st.floats(0, 1e6),
)
def test_a_row_is_retried_for_its_time_and_for_its_attempts_both(
    reason: str, attempts: int, seconds: float
) -> None:
    """A lock, then ten minutes without the org, then a lock are two attempts."""
    again = may_retry(RowAttempts(attempts, 0.0, reason, 1), seconds)
    assert again is (attempts < RETRY_ATTEMPTS or seconds < RETRY_SECONDS)


@given(equal=st.integers(1, 20))
def test_a_fault_that_seldom_passes_is_retried_less_often(equal: int) -> None:
    for reason, most in ATTEMPTS_FOR_SAME_REASON.items():
        assert may_retry(RowAttempts(equal, 0.0, reason, equal), 0.0) is (equal < most)
    assert may_retry(RowAttempts(equal, 0.0, "unable_to_lock_row", equal), 0.0)


def test_attempts_remember_the_first_failure_and_count_equal_reasons() -> None:
    attempts = NO_ROW_ATTEMPTS
    for now, reason in ((0.0, "a"), (1.0, "a"), (2.0, "b"), (3.0, "b")):
        attempts = failed_attempt(attempts, reason, now)
    assert attempts == RowAttempts(4, 0.0, "b", 2)


def test_a_row_that_failed_long_ago_is_given_up_after_its_time_and_not_before() -> None:
    attempts = RowAttempts(RETRY_ATTEMPTS, 1000.0, "unable_to_lock_row", RETRY_ATTEMPTS)
    assert may_retry(attempts, 1000.0 + RETRY_SECONDS - 1)
    assert not may_retry(attempts, 1000.0 + RETRY_SECONDS)


def test_the_first_failure_of_a_row_is_when_it_first_failed() -> None:
    first = failed_attempt(NO_ROW_ATTEMPTS, "a", 7.0)
    assert first == RowAttempts(1, 7.0, "a", 1)
    assert failed_attempt(first, "a", 9.0) == RowAttempts(2, 7.0, "a", 2)


def test_a_contact_alone_starts_anew_and_its_first_failure_is_counted_from_then() -> None:
    fresh = [BatchFailures(0, "server_error", 1, 5)]
    assert failing(fresh, "server_error", 7).rows == (BatchFailures(1, "server_error", 1, 7),)
    again = [BatchFailures(1, "server_error", 1, 5)]
    assert failing(again, "server_error", 7).rows == (BatchFailures(2, "server_error", 1, 5),)


def test_the_org_works_only_if_others_were_written_beside_each_row_of_a_suspected_batch() -> None:
    suspected = BatchFailures(1, "server_error", 2, 5)
    for other, works in (
        (suspected, True),
        (BatchFailures(1, "server_error", None, 5), False),  # it was in the batches of all
        (BatchFailures(1, "server_error", 2, 6), False),
        (BatchFailures(1, "network", 2, 5), False),
    ):
        assert failing([suspected, other], "server_error", 6).org_works is works
        assert failing([other, suspected], "server_error", 6).org_works is works


def test_a_batch_has_failed_as_often_as_the_row_that_failed_most() -> None:
    rows = [BatchFailures(1, "server_error", 2, 5), BatchFailures(4, "server_error", 2, 5)]
    assert failing(rows, "server_error", 6).failures == 5
    assert failing(rows, "", 6).failures == 4


@pytest.mark.parametrize(
    ("size", "half", "failures"), [(2, 1, 0), (3, 2, 2), (5, 3, 2), (1000, 500, 2)]
)
def test_a_suspected_batch_is_halved_and_each_half_is_split_again_at_its_next_failure(
    size: int, half: int, failures: int
) -> None:
    rows = [BatchFailures(SUSPECT_FAILURES - 1, "server_error", None, 5)] * size
    decided = failing(rows, "server_error", 9)
    assert decided.next is Next.SPLIT
    assert decided.failures == SUSPECT_FAILURES
    assert decided.rows == (BatchFailures(failures, "server_error", half, 9),) * size


@pytest.mark.parametrize(
    ("attempt", "shortest", "longest"),
    [(0, 0.5, 1.0), (1, 1.0, 2.0), (3, 4.0, 8.0), (5, 16.0, 32.0), (6, 30.0, 60.0), (99, 30, 60)],
)
def test_the_wait_doubles_with_each_attempt_and_jitter_takes_up_to_half_of_it(
    attempt: int, shortest: float, longest: float
) -> None:
    assert backoff(attempt, lambda: 0.0) == shortest
    assert backoff(attempt, lambda: 0.5) == (shortest + longest) / 2
    assert backoff(attempt, lambda: 1.0) == longest == longest_backoff(attempt)


def test_the_first_wait_and_the_longest_are_chosen_by_the_caller() -> None:
    waits = [backoff(attempt, lambda: 1.0, 3.0, 20.0) for attempt in range(5)]
    assert waits == [3.0, 6.0, 12.0, 20.0, 20.0]
    assert waits == [longest_backoff(attempt, 3.0, 20.0) for attempt in range(5)]


@given(attempt=st.integers(0, 10_000), jitter=st.floats(0, 1))
def test_the_wait_between_attempts_grows_and_stays_bounded(attempt: int, jitter: float) -> None:
    wait = backoff(attempt, lambda: jitter)
    assert min(60.0, 2.0 ** min(attempt, 30)) / 2 <= wait <= 60.0


def test_a_contact_that_fails_alone_again_and_again_is_suspected_alone() -> None:
    rows = [BatchFailures(SUSPECT_FAILURES - 1, "server_error", None, 5)]
    (row,) = failing(rows, "server_error", 5).rows
    assert (row.count, row.max_rows) == (SUSPECT_FAILURES, 1)
