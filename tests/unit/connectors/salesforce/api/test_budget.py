"""The daily calls: every documented form of the header, and the reserve that stays."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.budget import (
    PROBE_SECONDS,
    RECENT_SECONDS,
    Budget,
    LimitInfo,
    Usage,
    parse_limit_info,
    parse_limits,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def said(text: str) -> httpx.Headers:
    return httpx.Headers({"sforce-limit-info": text})


@pytest.mark.parametrize(
    ("header", "info"),
    [
        ("api-usage=8370/15000", LimitInfo(Usage(8370, 15000))),
        (
            "api-usage=110018/100000; api-bursts=1/750",
            LimitInfo(Usage(110018, 100000), bursts=Usage(1, 750)),
        ),
        ("per-app-api-usage=17/250(appName=sample-connected-app)", LimitInfo(app=Usage(17, 250))),
        (
            "api-usage=25/5000; per-app-api-usage=17/250(appName=sample-connected-app)",
            LimitInfo(Usage(25, 5000), Usage(17, 250)),
        ),
        ("per-app-api-usage=17/250(appName=the api-usage=1/2 app)", LimitInfo(app=Usage(17, 250))),
        (None, LimitInfo()),
        ("", LimitInfo()),
        ("api-usage=many/15000", LimitInfo()),
        ("something-new=1/2", LimitInfo()),
    ],
)
def test_every_form_of_the_header_is_read(header: str | None, info: LimitInfo) -> None:
    assert parse_limit_info(header) == info


@given(st.text())
def test_no_header_breaks_the_parser(header: str) -> None:
    parse_limit_info(header)


def test_a_budget_that_knows_nothing_lets_calls_through() -> None:
    budget = Budget()
    budget.observe(httpx.Headers())
    assert budget.usage is None
    assert not budget.exhausted
    assert budget.admit()


@pytest.mark.parametrize(
    ("reserve", "used", "exhausted"),
    [
        (0.1, 13499, False),
        (0.1, 13500, True),
        (500, 14499, False),
        (500, 14500, True),
        (0, 14999, False),
        (0, 15000, True),
    ],
)
def test_the_reserve_is_a_share_or_a_number(reserve: float, used: int, exhausted: bool) -> None:
    budget = Budget(reserve)
    budget.observe(said(f"api-usage={used}/15000"))
    assert budget.exhausted is exhausted


def test_more_calls_than_allowed_are_exhausted_too() -> None:
    budget = Budget(0)
    budget.observe(said("api-usage=110018/100000; api-bursts=1/750"))
    assert budget.exhausted


def test_the_apps_own_limit_counts_as_well() -> None:
    budget = Budget(0.1)
    budget.observe(said("api-usage=25/5000; per-app-api-usage=240/250(appName=contactstream)"))
    assert budget.exhausted


def test_a_count_that_goes_back_for_a_moment_is_not_believed() -> None:
    budget = Budget(reserve=0)
    for used in (8370, 8382, 8380, 8376):
        budget.observe(said(f"api-usage={used}/15000"))
    assert budget.usage == Usage(8382, 15000)


def test_a_count_that_stays_lower_is_believed_after_a_while() -> None:
    clock = Clock()
    budget = Budget(reserve=0.1, clock=clock)
    budget.observe(said("api-usage=14000/15000"))
    clock.now += RECENT_SECONDS / 2
    budget.observe(said("api-usage=9000/15000"))
    assert budget.exhausted
    clock.now += RECENT_SECONDS / 2 + 1
    assert not budget.exhausted


def test_a_bought_allowance_counts_at_once() -> None:
    budget = Budget(reserve=0.1)
    budget.observe(said("api-usage=14000/15000"))
    budget.observe(said("api-usage=14001/30000"))
    assert not budget.exhausted


def test_an_exhausted_budget_lets_one_call_through_now_and_then_and_resumes_by_itself() -> None:
    clock = Clock()
    budget = Budget(reserve=0.1, clock=clock)
    budget.observe(said("api-usage=14000/15000"))
    assert not budget.admit()
    clock.now += PROBE_SECONDS
    assert [budget.admit(), budget.admit()] == [True, False]
    budget.observe(said("api-usage=9000/15000"))
    clock.now += PROBE_SECONDS + 1
    assert [budget.admit(), budget.admit()] == [True, True]


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 100)), min_size=1, max_size=30))
def test_the_highest_recent_use_counts(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    budget = Budget(clock=clock)
    seen: list[tuple[float, int]] = []
    for wait, used in steps:
        clock.now += wait
        budget.observe(said(f"api-usage={used}/100"))
        seen.append((clock.now, used))
        recent = [count for at, count in seen if at >= clock.now - RECENT_SECONDS]
        assert budget.usage == Usage(max(recent), 100)


def test_limits_are_read_as_used_and_allowed() -> None:
    body = {
        "DailyApiRequests": {
            "Max": 15000,
            "Remaining": 14998,
            "Ant Migration Tool": {"Max": 0, "Remaining": 0},
        },
        "DataStorageMB": {"Max": 5, "Remaining": -1},
        "Odd": {"Max": "?"},
    }
    assert parse_limits(body) == {"DailyApiRequests": Usage(2, 15000), "DataStorageMB": Usage(6, 5)}
    assert parse_limits([]) == {}


def test_a_negative_reserve_is_refused() -> None:
    with pytest.raises(ValueError, match="reserve"):
        Budget(-1)
