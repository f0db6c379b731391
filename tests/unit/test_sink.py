"""The sink's own logic, without a broker: its fence, whom it blames for a fault, and what it puts on which topic."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streams.sink import Membership
from tests.support.salesforce_org import SimulatedOrg, simulated_org
from tests.support.sink_desk import Desk, desk


def person(name: str, **fields: Any) -> dict[str, Any]:
    return {"surname": name, "emails": [{"email": f"{name}@{name}.example"}], **fields}


@asynccontextmanager
async def at_work(document: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[tuple[Desk, SimulatedOrg]]:
    """A sink before the simulated org, behind the fence that it has in production."""
    membership = Membership(10.0)
    async with simulated_org(document, fence=membership.check) as org, desk(org.sync, membership, **settings) as sink:
        yield sink, org


@pytest.mark.parametrize("how", ["lose", "revoke"])
async def test_a_batch_whose_partition_is_gone_sends_nothing_more(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.sink.REVOKE_SECONDS", 0.1)  # shorter than the org takes
    async with at_work() as (sink, org):
        sink.offer("g/ada", 1, person("ada"))
        await sink.until_committed()
        calls = org.calls.copy()
        # The write takes long, and its answer asks for smaller writes: the next Composite would come after a successor's.
        org.fault("delay_after", seconds=1.0)
        org.fault("rows", code="QUERY_TIMEOUT", times=None)
        for name in ("bob", "cleo", "dora"):
            sink.offer(f"g/{name}", 1, person(name))
        await sink.until(lambda: org.world.faults.met["rows"] >= 3, "the write is under way")
        sink.consumer.between_polls.append(getattr(sink.consumer, how))
        await sink.until(lambda: not sink.consumer.between_polls, "the partition is gone")
        await sink.until(lambda: not sink.sink.at_work, "the batch has ended")
        assert org.calls["composite_write"] == calls["composite_write"] + 1
        assert org.calls["composite_query"] == calls["composite_query"] + 1
        assert sink.committed == 1
        assert sink.outcomes().keys() == {"g/ada"}


async def test_a_partition_that_comes_back_is_worked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_work() as (sink, org):
        org.fault("delay_after", seconds=0.5)
        org.fault("rows", code="QUERY_TIMEOUT", times=1)
        sink.offer("g/ada", 1, person("ada"))
        sink.offer("g/bob", 1, person("bob"))
        await sink.until(lambda: org.world.faults.met["rows"] >= 2, "the write is under way")
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        await sink.until_committed()
        assert {one["outcome"] for one in sink.outcomes().values()} == {"created"}
        assert len(org.people()) == 2
