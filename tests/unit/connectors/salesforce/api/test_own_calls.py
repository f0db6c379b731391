"""Our own calls of a day: bulk runs stop before live changes, and a successor counts on."""

import pytest

from connectors.salesforce.api.budget import Budget
from connectors.salesforce.api.errors import OrgUnavailable
from connectors.salesforce.api.own_calls import BULK_SHARE, OwnCalls
from connectors.salesforce.outcome import ContactVersion
from tests.support.salesforce_org import simulated_org

DAY = 20_000 * 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = DAY + 3600

    def __call__(self) -> float:
        return self.now


def made(calls: int, limit: int, clock: Clock) -> OwnCalls:
    own = OwnCalls(limit, clock)
    for _ in range(calls):
        own.note_call()
    return own


def test_bulk_runs_wait_before_live_changes_do_until_the_next_day() -> None:
    clock = Clock()
    own = made(int(100 * BULK_SHARE) - 1, 100, clock)
    assert (own.bulk_waits, own.exhausted) == (False, False)
    own.note_call()
    assert (own.bulk_waits, own.exhausted) == (True, False)
    for _ in range(20):
        own.note_call()
    assert own.exhausted
    clock.now = DAY + 86_400
    assert (own.today, own.bulk_waits, own.exhausted) == (0, False, False)


def test_without_a_limit_nothing_waits_and_nothing_is_noted() -> None:
    own = made(1000, 0, Clock())
    assert (own.bulk_waits, own.exhausted, own.note) == (False, False, "")


def test_a_successor_goes_on_with_the_count_in_the_commit() -> None:
    clock = Clock()
    note = made(70, 100, clock).note
    successor = OwnCalls(100, clock)
    successor.restore(f"topic=x written-to=5 {note}")
    assert successor.today == 70
    successor.restore(made(3, 100, clock).note)
    assert successor.today == 70, "an older commit takes nothing back"


@pytest.mark.parametrize(
    "metadata", [None, "", "own-calls=", "own-calls=x:y", "own-calls=20000", "own-calls=19999:70"]
)
def test_what_is_no_count_of_today_counts_for_nothing(metadata: str | None) -> None:
    own = OwnCalls(100, Clock())
    own.restore(metadata)
    assert own.today == 0


def test_a_clock_that_goes_back_gives_no_call_back() -> None:
    clock = Clock()
    own = made(70, 100, clock)
    clock.now -= 86_400
    assert own.today == 70


async def test_no_call_is_sent_once_the_limit_is_reached() -> None:
    own = made(9, 10, Clock())
    async with simulated_org({}, budget=Budget(own=own)) as org:
        own.note_call()
        contact = {"id": "1", "surname": "Hopper", "emails": [{"email": "g@new.example"}]}
        with pytest.raises(OrgUnavailable, match="SALESFORCE_MAX_CALLS_PER_DAY") as refused:
            await org.sync.sync([ContactVersion("g/1", 1, contact)])
        assert refused.value.reason == "own_limit"
        assert not org.calls.keys() - {"token"}, "a login is no call"
