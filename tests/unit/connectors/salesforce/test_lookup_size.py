"""A lookup that is refused for its size is halved, and the size that passed is remembered."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.errors import RequestRejected
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.lookup_size import FIRST_PATIENCE, MAX_PATIENCE, LookupSize
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from tests.support.salesforce_org import SimulatedOrg, simulated_org


def person(number: int) -> ContactVersion:
    return ContactVersion(
        f"g/{number:04d}",
        100,
        {"surname": f"P{number}", "emails": [{"email": f"p{number:04d}@acme.example"}]},
    )


def halved(org: SimulatedOrg) -> int:
    return sum(
        count for (what, _), count in org.counts.items() if what is SyncWarning.LOOKUP_HALVED
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"query_uri_limit": 3_000}, "too_long"),
        ({"query_uri_limit": 3_000, "query_uri_status": 431}, "too_long"),
        ({"query_uri_limit": 3_000, "query_uri_status": 413}, "too_large"),
        ({"statement_limit": 2_000}, "too_long"),
        ({"query_value_limit": 50}, "query_too_complicated"),
    ],
)
async def test_a_lookup_that_is_refused_for_its_size_is_halved_once_and_not_for_each_batch(
    settings: dict[str, Any], reason: str
) -> None:
    async with simulated_org() as org:
        await org.sync.start()
        org.world.change_settings(settings)
        outcomes = await org.all(*(person(number) for number in range(40)))
        assert {one.status for one in outcomes.values()} == {OutcomeStatus.CREATED}
        assert {detail for what, detail in org.counts if what is SyncWarning.LOOKUP_HALVED} == {
            reason
        }
        refused = halved(org)
        assert 1 <= refused <= 3
        outcomes = await org.all(*(person(number) for number in range(100, 140)))
        assert {one.status for one in outcomes.values()} == {OutcomeStatus.CREATED}
        assert halved(org) == refused


async def test_a_proxy_that_refuses_the_whole_request_is_met_in_the_same_way() -> None:
    async with simulated_org() as org:
        await org.sync.start()
        org.fault("status", kind="composite_query", status=431, body="html", times=2)
        outcomes = await org.all(*(person(number) for number in range(40)))
        assert {one.status for one in outcomes.values()} == {OutcomeStatus.CREATED}
        assert halved(org) == 2
        assert org.calls["composite_query"] == 2 + 4  # of 10 contacts each


async def test_a_single_contact_whose_lookup_is_refused_teaches_nothing() -> None:
    async with simulated_org() as org:
        await org.sync.start()
        org.world.change_settings({"query_uri_limit": 10})
        with pytest.raises(RequestRejected):
            await org.sync.sync([person(number) for number in range(8)])
        org.world.change_settings({"query_uri_limit": None})
        before = org.calls["composite_query"]
        await org.all(*(person(number) for number in range(8)))
        assert org.calls["composite_query"] == before + 1


def test_a_larger_lookup_is_tried_again_after_a_while_and_ever_more_seldom() -> None:
    """An org that takes 300 contacts: of the calls that ask for 1,000, few are refused."""
    size, refused, calls = LookupSize(), 0, 10_000
    for _ in range(calls):
        most = first = size.most(1000)
        while most > 300:
            refused += 1
            most //= 2
        if most < first:
            size.passed_after_refusal(most)
        else:
            size.passed(most)
    assert size.most(1000) in {250, 500}
    assert 2 < refused <= calls / MAX_PATIENCE + 10


def test_a_limit_that_is_lifted_is_forgotten() -> None:
    size = LookupSize()
    size.passed_after_refusal(125)
    lookups = 0
    while size.most(1000) < 1000:
        size.passed(size.most(1000))
        lookups += 1
    assert lookups == 3 * FIRST_PATIENCE


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 1000)), max_size=300), st.integers(1, 1000))
def test_a_lookup_is_never_larger_than_wanted_nor_empty(
    steps: list[tuple[bool, int]], wanted: int
) -> None:
    size = LookupSize()
    for refused, number in steps:
        if refused:
            size.passed_after_refusal(number)
            assert size.most(1000) <= number
        else:
            size.passed(number)
        assert 1 <= size.most(wanted) <= wanted
