"""Three address books and an org, labelled with who is who, and what people do there meanwhile.

Nobody gets another person's values, every person that could be found is found, and what people
merged, deleted and typed stands.
"""

from collections import Counter
from math import ceil
from typing import Any

import pytest

from connectors.salesforce.api.errors import OrgUnavailable
from connectors.salesforce.outcome import NOT_ATTEMPTED, OutcomeStatus
from tests.support.labelled_world import deliver, examine, labelled_world, play
from tests.support.salesforce_org import simulated_org

WRITTEN = {OutcomeStatus.CREATED, OutcomeStatus.UPDATED, OutcomeStatus.RELEASED}
# What a flow says that ran into a limit which it shares with everything else in its transaction.
FLOW_LIMIT = (
    "We can't save this record because the “Contact Sync” process failed. Give your Salesforce "
    "admin these details. The flow failed to run: Apex trigger "
    "caused an unexpected exception: System.LimitException: Too many SOQL queries: 101"
)


def test_the_world_is_large_enough() -> None:
    world = labelled_world(1)
    assert len({world.person_of_key[key] for key in world.person_of_key}) >= 300
    assert len({key.partition("/")[0] for key in world.person_of_key} - {"gone"}) == 3
    assert min(len(world.document[table]) for table in world.document) >= 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "order", "size"),
    [(1, None, 1000), (1, 1, 1000), (1, 2, 40), (2, 3, 1000), (3, 4, 20)],
)
async def test_everybody_has_the_one_right_outcome_in_any_order(
    seed: int, order: int | None, size: int
) -> None:
    world = labelled_world(seed)
    async with simulated_org(world.document) as org:
        played = await play(org, world, order=order, size=size)
        verdicts = examine(world, played)
        assert not verdicts.counts(), f"{verdicts.counts()}\n{verdicts}"


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"lead_mapping": False}, {"person_accounts": True}])
async def test_everybody_has_the_one_right_outcome_in_other_orgs(options: dict[str, bool]) -> None:
    world = labelled_world(7, **options)
    async with simulated_org(world.document) as org:
        verdicts = examine(world, await play(org, world, order=8))
        assert not verdicts.counts(), f"{verdicts.counts()}\n{verdicts}"


@pytest.mark.slow
async def test_what_people_do_between_lookup_and_write_stands_as_well() -> None:
    world = labelled_world(8)
    async with simulated_org(world.document) as org:
        verdicts = examine(world, await play(org, world, order=9, late=True))
        assert not verdicts.counts(), f"{verdicts.counts()}\n{verdicts}"


@pytest.mark.slow
async def test_faults_in_between_change_nothing_about_who_is_who() -> None:
    """Rows are locked, and flows fail with limits, on every day."""
    world = labelled_world(4)
    async with simulated_org(world.document) as org:
        await org.sync.start()
        org.fault("rows", code="UNABLE_TO_LOCK_ROW", every=10, times=4)
        org.fault("rows", code="CANNOT_EXECUTE_FLOW_TRIGGER", message=FLOW_LIMIT, every=7, times=2)
        org.fault("rows", code="CANNOT_EXECUTE_FLOW_TRIGGER", message=FLOW_LIMIT, after=12, times=2)
        verdicts = examine(world, await play(org, world, order=6, size=200))
        assert not verdicts.counts(), f"{verdicts.counts()}\n{verdicts}"


@pytest.mark.slow
async def test_a_refused_first_read_of_the_accounts_sends_nobody_to_the_wrong_object() -> None:
    world = labelled_world(5)
    async with simulated_org(world.document) as org:
        org.world.change_settings({"hidden_fields": ["Account.Website"]})
        paused = 0
        for _ in range(2):
            try:
                await org.sync.sync(list(world.changes[1].values()))
            except OrgUnavailable:
                paused += 1
        org.world.change_settings({"hidden_fields": []})
        org.now += 1_000
        verdicts = examine(world, await play(org, world, order=7))
        assert not verdicts.counts(), f"{verdicts.counts()}\n{verdicts}"
        assert paused == 2, "the sync went on without having read the Accounts"


@pytest.mark.slow
async def test_two_thousand_contacts_take_twelve_calls_and_one_for_a_batch_without_news() -> None:
    world = labelled_world(6, contacts=2000)
    first = list(world.changes[1].values())
    assert len(first) >= 2000
    async with simulated_org(world.document) as org:
        outcomes = await deliver(org, first)
        calls = sum(count for kind, count in org.calls.items() if kind != "token")
        assert calls <= 12, dict(org.calls)

        settled = [change for change in first if outcomes[change.key].status in WRITTEN][:2000]
        waiting = settled
        while waiting:
            batch, waiting = waiting[:1000], waiting[1000:]
            before = Counter(org.calls)
            results = await org.sync.sync(batch)
            assert org.calls - before == Counter(composite_query=1)
            left = {result.key for result in results if result.reason in NOT_ATTEMPTED}
            assert len(left) <= len(batch) / 2
            assert {result.status for result in results if result.key not in left} <= {
                OutcomeStatus.UNCHANGED
            }
            waiting = [change for change in batch if change.key in left] + waiting
        before = Counter(org.calls)
        await deliver(org, first)
        news: dict[str, Any] = dict(org.calls - before)
        assert set(news) == {"composite_query"}, "a reconcile without news wrote something"
        assert news["composite_query"] <= ceil(len(first) / 600)
