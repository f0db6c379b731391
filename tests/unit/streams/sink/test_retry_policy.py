"""Whom to blame: a contact only ever beside others that were written, alone, and after its time."""

from hypothesis import given
from hypothesis import strategies as st

from streams.sink.retry_policy import (
    BURIED_MOST,
    EQUAL_ATTEMPTS,
    EQUAL_FAILURES,
    LONE_FAILURES,
    RETRY_ATTEMPTS,
    RETRY_SECONDS,
    Next,
    after_failure,
    after_split,
    may_retry,
)

counts = st.integers(0, 50)


@given(rows=st.integers(1, 1000), failures=counts, others_written=st.booleans(), buried=counts)
def test_a_contact_is_blamed_only_alone_after_equal_failures_beside_others_and_not_with_many(
    rows: int, failures: int, others_written: bool, buried: int
) -> None:
    decided = after_failure(rows, failures, others_written=others_written, buried=buried)
    guilty = rows == 1 and failures >= LONE_FAILURES and others_written and buried < BURIED_MOST
    assert (decided is Next.BURY) is guilty
    assert (decided is Next.AGAIN) is (failures < EQUAL_FAILURES)


@given(rows=st.integers(1, 1000))
def test_a_batch_that_fails_on_is_taken_apart_to_a_single_contact_in_a_bounded_number_of_failures(
    rows: int,
) -> None:
    failures = total = 0
    while True:
        failures, total = failures + 1, total + 1
        decided = after_failure(rows, failures, others_written=True, buried=0)
        if decided is Next.BURY:
            break
        if decided is Next.APART and rows > 1:
            rows = -(-rows // 2)
            failures = after_split(rows)
    assert rows == 1
    assert total <= EQUAL_FAILURES + 10 + LONE_FAILURES


@given(
    reason=st.sampled_from(["unable_to_lock_row", *EQUAL_ATTEMPTS]),
    attempts=counts,
    seconds=st.floats(0, 1e6),
)
def test_a_row_is_retried_for_its_time_and_for_its_attempts_both(
    reason: str, attempts: int, seconds: float
) -> None:
    """A lock, then ten minutes without the org, then a lock are two attempts."""
    again = may_retry(reason, attempts=attempts, equal=1, seconds=seconds)
    assert again is (attempts < RETRY_ATTEMPTS or seconds < RETRY_SECONDS)


@given(equal=st.integers(1, 20))
def test_what_seldom_passes_is_tried_less_often(equal: int) -> None:
    for reason, most in EQUAL_ATTEMPTS.items():
        assert may_retry(reason, attempts=equal, equal=equal, seconds=0) is (equal < most)
    assert may_retry("unable_to_lock_row", attempts=equal, equal=equal, seconds=0)
