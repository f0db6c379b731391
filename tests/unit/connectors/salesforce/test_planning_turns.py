"""Batches are planned in turns: between two plans the event loop goes on with everything else."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest

from connectors.salesforce.api.client import Fence
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.planner import PlannedOutcome, SoughtPerson, WritePlanner
from tests.support.plain_org import change
from tests.support.salesforce_org import Composite, simulated_org

BATCHES = 4


async def test_others_go_on_between_two_plans_whose_answers_came_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []
    plan = WritePlanner.plan

    def noted(
        self: WritePlanner, people: Sequence[SoughtPerson], deleted: Iterable[ContactVersion]
    ) -> list[PlannedOutcome]:
        happened.append("plan")
        return plan(self, people, deleted)

    monkeypatch.setattr(WritePlanner, "plan", noted)
    together = asyncio.Barrier(BATCHES)

    async def answered_together(
        composite: Composite, parts: Sequence[Subrequest], kind: str, fence: Fence
    ) -> list[SubAnswer]:
        answers = await composite(parts, kind, fence)
        if kind == "composite_query":
            await together.wait()
        return answers

    async def others() -> None:
        while True:
            happened.append("others")
            await asyncio.sleep(0)

    async with simulated_org() as org:
        await org.sync.start()
        org.client.intercept = answered_together
        going_on = asyncio.create_task(others())
        batches = [change(f"g/{name}", f"{name}@{name}.example", last=name) for name in "abcd"]
        found = await asyncio.gather(*(org.sync.sync([one]) for one in batches))
        going_on.cancel()
    assert [outcome.status for (outcome,) in found] == [OutcomeStatus.CREATED] * BATCHES
    assert happened.count("plan") == BATCHES
    assert ("plan", "plan") not in pairwise(happened)
