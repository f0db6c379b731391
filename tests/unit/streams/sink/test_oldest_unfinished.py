"""The lag of the sink in seconds: the oldest change that is not finished, by its receipt."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.salesforce.api.client import Fence
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.unanswered_calls import UnansweredCalls
from tests.support.sink_harness import SinkHarness, running_sink


class SlowOrg:
    """A stand-in for Sync that creates a contact once the test says so."""

    def __init__(self) -> None:
        self.answers: dict[str, asyncio.Event] = {}
        self.unanswered = UnansweredCalls()
        self.is_started = True

    def needed(self, contact: Mapping[str, Any]) -> dict[str, Any]:
        return dict(contact)

    def claims(self, change: ContactVersion) -> frozenset[str]:
        return frozenset((change.key,))

    async def restore(self) -> None:
        pass

    async def sync(
        self, changes: Sequence[ContactVersion], fence: Fence, _rules: object
    ) -> list[Outcome]:
        fence()
        for change in changes:
            await self.answers.setdefault(change.key, asyncio.Event()).wait()
        return [Outcome(change.key, OutcomeStatus.CREATED) for change in changes]


def oldest(sink: SinkHarness) -> float:
    (family,) = sink.metrics.oldest_unfinished.collect()
    return family.samples[0].value


async def test_it_is_the_receipt_of_the_oldest_change_and_now_when_all_are_finished() -> None:
    org = SlowOrg()
    async with running_sink(org, batch_size=1) as sink:
        assert abs(oldest(sink) - time.time()) < 60
        sink.offer("g/ada", 1, {"surname": "Ada"}, received_ms=9_000)
        sink.offer("g/bob", 1, {"surname": "Bob"}, received_ms=7_000)
        await sink.until(lambda: len(org.answers) == 2, "both are on their way")
        assert oldest(sink) == 7
        org.answers["g/bob"].set()
        await sink.until(lambda: "g/bob" in sink.outcomes(), "Bob is written")
        await sink.until(lambda: oldest(sink) == 9, "the other one is the oldest")
        org.answers["g/ada"].set()
        await sink.until_committed()
        assert abs(oldest(sink) - time.time()) < 60


async def test_a_sink_that_lost_the_partition_has_nothing_unfinished() -> None:
    org = SlowOrg()
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, {"surname": "Ada"}, received_ms=9_000)
        await sink.until(lambda: oldest(sink) == 9, "the change is taken")
        sink.consumer.between_polls.append(sink.consumer.lose)
        await sink.until(lambda: abs(oldest(sink) - time.time()) < 60, "the partition is gone")
        org.answers.setdefault("g/ada", asyncio.Event()).set()


async def test_a_change_that_holds_no_contact_is_finished_once_it_is_dead_lettered() -> None:
    async with running_sink(SlowOrg()) as sink:
        sink.offer("no-key", 1, {"surname": "Ada"}, received_ms=9_000)
        await sink.until_committed()
        assert len(sink.dead_letters()) == 1
        assert abs(oldest(sink) - time.time()) < 60
