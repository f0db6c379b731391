"""A call without an answer may be carried out minutes later: nothing it does may go back in time.

The late calls are real ones: they are kept back on their way, and reach the org when the test says.
"""

from collections.abc import Sequence

import pytest

from connectors.salesforce.api.client import Fence, no_fence
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.api.errors import OrgUnavailable
from connectors.salesforce.outcome import UNANSWERED_CALL, ContactVersion, OutcomeStatus
from connectors.salesforce.policy import Policy
from connectors.salesforce.unanswered_calls import LONGEST_CALL_SECONDS, UnansweredCalls
from tests.support.plain_org import change, gone
from tests.support.salesforce_org import Composite, SimulatedOrg, simulated_org

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
ADA = "ada@else.example"


class Network:
    """Keeps the writes of a client back, and lets them through when the test says."""

    def __init__(self, org: SimulatedOrg) -> None:
        self._late: list[Sequence[Subrequest]] = []
        self._org = org
        self._composite: Composite | None = None

    async def lose(self, *changes: ContactVersion) -> None:
        """A writer sends its calls and is killed before the answer."""
        self._org.client.intercept = self._keep
        with pytest.raises(OrgUnavailable):
            await self._org.sync.sync(changes)
        self._org.client.intercept = None

    async def _keep(
        self, composite: Composite, requests: Sequence[Subrequest], kind: str, fence: Fence
    ) -> list[SubAnswer]:
        if kind != "composite_write":
            return await composite(requests, kind, fence)
        self._composite = composite
        self._late.append(requests)
        raise OrgUnavailable("network", 5.0)

    async def deliver(self) -> None:
        """The org carries out what was sent."""
        assert self._composite is not None
        for requests in self._late:
            await self._composite(requests, "composite_write", no_fence)
        self._late.clear()


def successor(org: SimulatedOrg, *, told: bool = True) -> None:
    """Another process writes from now on. It knows that calls may be open, unless not `told`."""
    org.sync = org.new_sync(org.client, Policy())
    if told:
        org.sync.unanswered.note()


async def one(org: SimulatedOrg, made: ContactVersion) -> tuple[OutcomeStatus, str]:
    (outcome,) = await org.sync.sync([made])
    return outcome.status, outcome.reason


@pytest.mark.parametrize("seconds", [30, 500])
async def test_a_late_creation_makes_no_second_record_of_a_deleted_contact(seconds: int) -> None:
    async with simulated_org() as org:
        network = Network(org)
        made = change("g/1", ADA, version=5)
        await network.lose(made)
        successor(org)
        assert (await one(org, made))[0] is OutcomeStatus.CREATED
        waiting = (OutcomeStatus.RETRY, UNANSWERED_CALL)
        assert await one(org, gone("g/1", version=9)) == waiting
        org.now += seconds
        await network.deliver()
        assert await one(org, gone("g/1", version=9)) == waiting
        org.now += LONGEST_CALL_SECONDS - seconds
        assert (await one(org, gone("g/1", version=9)))[0] is OutcomeStatus.RELEASED
        (record,) = org.people()
        assert (record.get(KEY), record[VERSION]) == (None, 9)


@pytest.mark.parametrize("seconds", [30, 500])
async def test_a_late_update_of_the_former_owner_does_not_pass_over_the_new_one(
    seconds: int,
) -> None:
    async with simulated_org() as org:
        network = Network(org)
        await one(org, change("g/1", ADA, version=5, title="First"))
        await network.lose(change("g/1", ADA, version=8, title="Late"))
        successor(org)
        other = change("h/1", ADA, version=5, title="Other")
        for made in (gone("g/1", version=10), other):
            await one(org, made)
        org.now += seconds
        await network.deliver()
        (record,) = org.people()
        assert record[KEY] == "g/1", "nobody took the record over while the call was open"
        org.now += LONGEST_CALL_SECONDS
        assert (await one(org, gone("g/1", version=10)))[0] is OutcomeStatus.RELEASED
        assert (await one(org, other))[0] is OutcomeStatus.UPDATED
        (record,) = org.people()
        assert (record[KEY], record[VERSION], record["Title"]) == ("h/1", 5, "Other")


async def test_a_row_that_comes_after_the_release_is_refused_by_the_version_that_stays() -> None:
    async with simulated_org() as org:
        network = Network(org)
        await one(org, change("g/1", ADA, version=5, title="First"))
        await network.lose(change("g/1", ADA, version=8, title="Late"))
        successor(org, told=False)
        assert (await one(org, gone("g/1", version=10)))[0] is OutcomeStatus.RELEASED
        await network.deliver()
        (record,) = org.people()
        assert (record.get(KEY), record[VERSION], record["Title"]) == (None, 10, "First")


async def test_what_changes_no_owner_goes_on_while_a_call_is_open() -> None:
    hand_typed = {"LastName": "Typed", "Company": "x", "Email": "typed@else.example"}
    async with simulated_org({"leads": [hand_typed]}) as org:
        successor(org)
        made = [
            change("g/1", ADA, version=5),
            change("g/2", "typed@else.example", last="Typed", version=5),
        ]
        statuses = {outcome.key: outcome.status for outcome in await org.sync.sync(made)}
        assert statuses == {"g/1": OutcomeStatus.CREATED, "g/2": OutcomeStatus.UPDATED}
        assert (await one(org, change("h/1", ADA, version=7)))[0] is OutcomeStatus.FILLED
        assert (await one(org, change("g/1", ADA, version=8, title="New")))[0] is (
            OutcomeStatus.UPDATED
        )


def test_the_wait_ends_when_the_org_has_ended_every_call() -> None:
    now = [0.0]
    calls = UnansweredCalls(10.0, clock=lambda: now[0])
    assert calls.remaining == 0
    calls.note()
    now[0] = 4.0
    assert calls.remaining == 6.0
    calls.note()
    now[0] = 14.0
    assert calls.remaining == 0
