"""Deleted grants: they share a reading of contacts.changes and hold back no new grant."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from streams.events import Kind
from streams.grant_addresses import GrantAddresses
from streams.kafka.offsets import OffsetTracker
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.metrics import ReaderMetrics
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.grant_events import GrantTable
from streams.reader.grant_follower import GrantFollower
from streams.reader.grant_removal import DedupeBarrier, DeletedGrants, GrantRemover
from streams.reader.run_writer import RunWriter
from streams.runs import RunLog
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.change_records import change
from tests.support.waiting import until

KAFKA = load(KafkaSettings, {})
TOPICS = topics(KAFKA)


class FakeSnapshots(Snapshots):
    """contacts.changes as a test lays it down; each reading waits until the test lets it end."""

    def __init__(self, changes: Sequence[KafkaRecord]) -> None:
        super().__init__(KAFKA)
        self.changes, self.readings, self.may_end = changes, 0, asyncio.Event()

    async def read(
        self,
        topic: str,
        function: Callable[[Iterator[KafkaRecord]], Any],
        offset: int = 0,
        partition: int = 0,
    ) -> Any:
        self.readings += 1
        await self.may_end.wait()
        return function(iter(self.changes))


class FakeBarrier:
    async def wait(self) -> None:
        await asyncio.sleep(0)


class Harness:
    """A follower of grants.events and the removal behind it."""

    def __init__(self, changes: Sequence[KafkaRecord]) -> None:
        self.snapshots, self.log, self.busy = FakeSnapshots(changes), RunLog(), set[str]()
        self.published: list[KafkaRecord] = []
        self.acknowledgements = 0

        async def publish(records: Sequence[KafkaRecord]) -> None:
            self.published += records
            self.acknowledgements += 1

        gate = Gate(lambda: 0, 10**6, lambda _: None)
        context = ReaderContext(TOPICS, publish, gate, ReaderMetrics(CollectorRegistry()))
        remover = GrantRemover(context, NylasClient("http://nowhere.example", "k"), self.snapshots)
        self.deleted = DeletedGrants(
            lambda grant: grant not in self.busy,
            cast(DedupeBarrier, FakeBarrier()),
            remover,
            context.work.deletions,
        )
        runs = RunWriter(self.log, publish, TOPICS)
        self.addresses = GrantAddresses()
        self.follower = GrantFollower(
            KAFKA, context, GrantTable(), self.addresses, runs, self.deleted.add
        )
        self.unfinished = OffsetTracker()

    async def take(self, kind: str, *grants: str, first: int = 0) -> None:
        records = [
            KafkaRecord(
                TOPICS.grants.name,
                grant.encode(),
                json.dumps(
                    {"type": kind, "id": kind + grant, "time": 50, "data": {"object": {}}}
                ).encode(),
                [],
                0,
                first + number,
            )
            for number, grant in enumerate(grants)
        ]
        await self.follower.take(records, 0, self.unfinished)

    def removed(self) -> set[str]:
        return {
            (record.key or b"").decode()
            for record in self.published
            if record.topic == TOPICS.events.name
        }


def names(count: int) -> list[str]:
    return [f"g{number}" for number in range(count)]


async def test_all_waiting_deletions_share_a_reading_and_a_new_grant_waits_for_none() -> None:
    grants = names(200)
    harness = Harness(
        [change(f"{grant}/c", 9, number) for number, grant in enumerate(grants)]
        + [change("g7/gone", 9, 300, Kind.DELETED), change("other/c", 9, 301)]
    )
    work = asyncio.create_task(harness.deleted.run())
    await harness.take("grant.deleted", grants[0])
    await until(lambda: harness.snapshots.readings == 1, "the first reading begins")
    await harness.take("grant.deleted", *grants[1:], first=1)
    await asyncio.wait_for(harness.take("grant.created", "new", first=200), 5)
    assert [run.grants for run in harness.log.runs.values()] == [("new",)]
    assert harness.removed() == set()
    assert harness.unfinished.committable() is None or harness.unfinished.committable() == 0
    harness.snapshots.may_end.set()
    await until(lambda: harness.unfinished.committable() == 201, "every event is finished")
    assert harness.snapshots.readings == 2
    assert harness.removed() == {f"{grant}/c" for grant in grants}
    work.cancel()


async def test_a_grant_that_a_run_still_reads_holds_back_no_other_deletion() -> None:
    harness = Harness([change("g0/c", 9, 0), change("g1/c", 9, 1)])
    harness.snapshots.may_end.set()
    harness.busy = {"g0"}
    work = asyncio.create_task(harness.deleted.run())
    await harness.take("grant.deleted", "g0", "g1")
    await until(lambda: harness.removed() == {"g1/c"}, "the idle one is removed")
    harness.busy = set()
    await until(lambda: harness.unfinished.committable() == 2, "then the other")
    assert harness.removed() == {"g0/c", "g1/c"}
    work.cancel()


async def test_the_runs_of_many_new_grants_are_asked_for_together() -> None:
    harness = Harness([])
    await harness.take("grant.created", *names(500))
    assert len(harness.log.runs) == 500
    assert harness.acknowledgements == 1
