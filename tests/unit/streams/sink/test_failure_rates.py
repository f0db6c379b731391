"""When the failures of a reason reach a limit, against a count that keeps every outcome."""

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.control import FailuresSeen, Stops
from streams.sink.failure_rates import Failure, FailureLimits, FailureRates

DEFAULT = FailureLimits()
SMALL = FailureLimits(bulk_share=0.25, all_share=0.5, in_a_row=6, min_outcomes=8, window=12)

Outcomes = list[tuple[str, bool]]
"""The reason of each failure, "" for a good outcome, and whether it is of a bulk run."""


def failure(reason: str, number: int) -> Failure | None:
    return Failure(reason, f"g/{number}", number) if reason else None


def rates_after(outcomes: Outcomes, limits: FailureLimits = DEFAULT) -> FailureRates:
    rates = FailureRates(limits)
    for number, (reason, bulk) in enumerate(outcomes):
        rates.add(failure(reason, number), bulk=bulk)
    return rates


def stops(outcomes: Outcomes, limits: FailureLimits = DEFAULT) -> dict[str, Stops]:
    return rates_after(outcomes, limits).reached()


def allowed(outcomes: Outcomes, limits: FailureLimits) -> list[dict[str, Stops]]:
    """The same from all outcomes, by the words of the limits; any of these is right."""
    found: dict[str, Stops] = {}
    for which, share, what in (
        ([each for each in outcomes if each[1]], limits.bulk_share, Stops.BULK),
        (outcomes, limits.all_share, Stops.ALL),
    ):
        latest = [reason for reason, _ in which[-limits.window :]]
        if len(latest) >= limits.min_outcomes:
            for reason, count in Counter(filter(None, latest)).items():
                if count / len(latest) >= share:
                    found[reason] = what
    row = []
    for reason, _ in reversed(outcomes):
        if not reason:
            break
        row.append(reason)
    if len(row) < limits.in_a_row:
        return [found]
    most = Counter(row)
    # of two that are equally frequent, either may be named
    named = [reason for reason in most if most[reason] == max(most.values())]
    return [found | {reason: Stops.ALL} for reason in named]


sequences = st.lists(st.tuples(st.sampled_from(["", "", "", "a", "b"]), st.booleans()), max_size=60)


@settings(max_examples=200)
@example([*[("", True)] * 5, *[("a", False)] * 2, ("a", True), ("b", False), *[("b", True)] * 2])
@given(sequences)
def test_a_reason_reaches_the_limits_that_a_full_count_reaches(outcomes: Outcomes) -> None:
    assert stops(outcomes, SMALL) in allowed(outcomes, SMALL)


@given(sequences)
def test_what_was_seen_is_what_the_window_holds(outcomes: Outcomes) -> None:
    rates = rates_after(outcomes, SMALL)
    for reason, what in rates.reached().items():
        seen = rates.seen(reason, what)
        assert 0 < seen.failures <= seen.outcomes
        assert outcomes[seen.first_ms][0] == outcomes[seen.last_ms][0] == reason
        assert seen.example == f"g/{seen.last_ms}"
        assert seen.in_a_row or seen.outcomes <= SMALL.window


@given(sequences, sequences)
def test_after_a_release_counting_starts_anew(before: Outcomes, after: Outcomes) -> None:
    rates = rates_after(before, SMALL)
    rates.clear()
    for number, (reason, bulk) in enumerate(after):
        rates.add(failure(reason, number), bulk=bulk)
    assert rates.reached() == rates_after(after, SMALL).reached()


@given(st.integers(0, 600))
def test_live_failures_never_stop_bulk_runs_alone(failed: int) -> None:
    outcomes = [("a", False)] * failed + [("", False)] * (600 - failed)
    assert Stops.BULK not in stops(outcomes).values()


def good(count: int, bulk: bool = True) -> Outcomes:
    return [("", bulk)] * count


def test_a_bulk_run_stops_at_one_in_a_hundred_of_five_hundred() -> None:
    assert stops(good(495) + [("a", True)] * 4) == {}
    assert stops(good(494) + [("a", True)] * 5) == {}, "499 are too few"
    assert stops(good(495) + [("a", True)] * 5) == {"a": Stops.BULK}
    assert stops(good(495) + [("a", True)] * 2 + [("b", True)] * 3) == {}, "each reason by itself"


def test_a_rule_that_refuses_two_live_changes_in_a_hundred_stops_nothing() -> None:
    assert stops(([("a", False)] * 2 + good(98, bulk=False)) * 60) == {}


def test_live_changes_stop_at_a_fifth_of_five_hundred() -> None:
    assert stops(good(401, bulk=False) + [("a", False)] * 99) == {}
    assert stops(good(400, bulk=False) + [("a", False)] * 100) == {"a": Stops.ALL}


def test_a_bulk_run_that_fails_whole_stops_everything() -> None:
    assert stops([("a", True)] * 499) == {}
    assert stops([("a", True)] * 500) == {"a": Stops.ALL}


def test_a_thousand_failures_in_a_row_stop_everything_though_no_reason_has_a_fifth() -> None:
    row = [(f"r{number % 20}", False) for number in range(1000)]
    outcomes = good(5000, bulk=False) + row
    assert stops(outcomes[:-1]) == {}
    rates = rates_after(outcomes)
    ((reason, what),) = rates.reached().items()
    assert what is Stops.ALL
    seen = rates.seen(reason, what)
    last = seen.last_ms
    assert seen == FailuresSeen(50, 1000, True, last - 980, last, f"g/{last}")
    assert outcomes[last][0] == reason
    assert stops(outcomes + good(1, bulk=False)) == {}


def test_a_reason_that_appears_after_a_million_good_outcomes_is_seen_all_the_same() -> None:
    rates = rates_after(good(20_000))
    for number in range(50):
        assert not rates.reached()
        rates.add(failure("a", number), bulk=True)
    assert rates.reached() == {"a": Stops.BULK}
    assert rates.seen("a", Stops.BULK) == FailuresSeen(50, 5000, False, 0, 49, "g/49")
