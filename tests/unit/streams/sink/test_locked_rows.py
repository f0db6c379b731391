"""Rows refused for a lock wait out their back-off and share a batch, instead of making many."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from connectors.salesforce.simulator.store import lock_error
from tests.support.salesforce_org import SimulatedOrg, simulated_org
from tests.support.sink_harness import running_sink

CONTACTS = 2_000
# Two batches of 1,000 take two calls each, and the start takes one.
UNDISTURBED_CALLS = 5
# The rows that are refused twice go in two more batches, which take two calls each, when those of
# both first batches meet; in four if they never do.
MOST_CALLS_FOR_LOCKS = 8


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


def person(number: int) -> dict[str, Any]:
    return {"surname": f"P{number}", "emails": [{"email": f"p{number}@p{number}.example"}]}


def lock_rows(org: SimulatedOrg, every: int, times: int) -> Counter[str]:
    """Refuses every so many-th contact so many times; returns how often each was refused."""
    store = org.world.org
    usual = store._refusals
    refused: Counter[str] = Counter()

    def refusals(table: Any, draft: Any, *rest: Any) -> list[Any]:
        name = draft.values["LastName"]
        if int(name[1:]) % every == 0 and refused[name] < times:
            refused[name] += 1
            return [lock_error("001000000000001")]
        return usual(table, draft, *rest)

    store._refusals = refusals  # type: ignore[method-assign, assignment]
    return refused


@pytest.mark.slow
async def test_locked_rows_go_together_and_cost_a_handful_of_calls() -> None:
    async with simulated_org() as org, running_sink(org.sync) as sink:
        refused = lock_rows(org, every=10, times=2)
        for number in range(CONTACTS):
            sink.offer(f"g/{number}", 1, person(number))
        await sink.until_committed(skip=0.02)
        assert set(refused.values()) == {2}
        assert len(refused) == CONTACTS // 10
        assert sink.dead_letters() == []
        assert len(org.people()) == CONTACTS
        calls = org.calls.total() - org.calls["token"]
        assert calls <= UNDISTURBED_CALLS + MOST_CALLS_FOR_LOCKS
