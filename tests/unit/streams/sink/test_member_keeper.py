"""The sink publishes who has the permission sets that select mailboxes, once an hour."""

from confluent_kafka import TopicPartition
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streams.control import ControlTable
from streams.metrics import SinkMetrics
from streams.sink.assignment import Assignment, CurrentAssignment, ReadProgress
from streams.sink.deletions import Deletions
from streams.sink.fence import BatchFence, WriteFence
from streams.sink.member_keeper import RETRY_SECONDS, MemberKeeper
from tests.support.salesforce_org import SimulatedOrg, simulated_org
from tests.support.sink_harness import NAMES, FakePublisher

WORLD = {"permission_sets": {"Sales_Sync": ["ada@acme.example"]}}


class Harness:
    """A keeper of a simulated org."""

    def __init__(self, org: SimulatedOrg, *names: str) -> None:
        self.publisher, self.now = FakePublisher(), 100.0
        self.metrics = SinkMetrics(CollectorRegistry())
        self.keeper = MemberKeeper(
            org.sync, self.publisher, NAMES, names, self.metrics, lambda: self.now
        )
        self.assignment = Assignment(
            TopicPartition("contacts.changes", 0), 0, None, Deletions(), ReadProgress(0)
        )

    def fence(self) -> BatchFence:
        return WriteFence(10.0).for_batch(self.assignment)

    def members(self) -> dict[str, frozenset[str]]:
        table = ControlTable()
        for record in self.publisher.records:
            table.apply(record)
        return table.selection.member_addresses()

    def counted(self, result: str) -> float:
        return float(self.metrics.member_lists.labels(result)._value.get())


async def test_who_has_the_permission_set_is_published_and_a_missing_one_is_named() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org, "Sales_Sync", "Typo")
        with capture_logs() as logged:
            await harness.keeper.keep(harness.fence())
        assert harness.members() == {"Sales_Sync": {"ada@acme.example"}}
        assert [line["permission_set"] for line in logged if "permission_set" in line] == ["Typo"]
        assert harness.counted("published") == 1


async def test_what_is_not_acknowledged_is_counted_and_published_again() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org, "Sales_Sync")
        harness.publisher.refuse = 1
        await harness.keeper.keep(harness.fence())
        assert (harness.counted("failed"), harness.members()) == (1, {})
        harness.now += RETRY_SECONDS
        await harness.keeper.keep(harness.fence())
        assert harness.members() == {"Sales_Sync": {"ada@acme.example"}}


async def test_without_a_permission_set_nothing_is_asked() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org)
        unassigned: CurrentAssignment = None  # type: ignore[assignment]  # it is not looked at
        await harness.keeper.run(unassigned, WriteFence(10.0))
        assert not org.calls
