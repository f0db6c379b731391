"""Deleted grants: they share a reading of contacts.changes and hold back no new grant."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from streams.control import ControlTable
from streams.control_grants import confirmed_record
from streams.events import Kind
from streams.grant_addresses import GrantAddresses
from streams.kafka.offsets import OffsetTracker
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.metrics import ReaderMetrics
from streams.reader.context import ReaderContext
from streams.reader.deletion_guard import DeletionGuard
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

    def __init__(self, changes: Sequence[KafkaRecord], max_share: float = 1.0) -> None:
        self.snapshots, self.log, self.busy = FakeSnapshots(changes), RunLog(), set[str]()
        self.published: list[KafkaRecord] = []
        self.acknowledgements = 0

        async def publish(records: Sequence[KafkaRecord]) -> None:
            self.published += records
            self.acknowledgements += 1

        gate = Gate(lambda: 0, 10**6, lambda _: None)
        context = ReaderContext(TOPICS, publish, gate, ReaderMetrics(CollectorRegistry()))
        remover = GrantRemover(context, NylasClient("http://nowhere.example", "k"), self.snapshots)
        self.control, self.grants = ControlTable(), GrantTable()
        self.guard = DeletionGuard(context, self.control, self.grants, max_share, lambda: 100.0)
        self.deleted = DeletedGrants(
            lambda grant: grant not in self.busy,
            cast(DedupeBarrier, FakeBarrier()),
            remover,
            self.guard,
            context.work.deletions,
        )
        runs = RunWriter(self.log, publish, TOPICS)
        self.addresses = GrantAddresses()
        self.follower = GrantFollower(
            KAFKA, context, self.grants, self.addresses, runs, self.deleted.add
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


def confirm(harness: Harness, until: int) -> None:
    harness.control.apply(confirmed_record(TOPICS, until))


async def connect(harness: Harness, *grants: str, first: int = 0) -> None:
    await harness.take("grant.listed", *grants, first=first)


async def test_more_deletions_than_the_share_of_a_day_wait_until_a_person_confirms() -> None:
    grants = names(10)
    harness = Harness([change(f"{grant}/c", 9, 0) for grant in grants], max_share=0.2)
    harness.snapshots.may_end.set()
    await connect(harness, *grants)
    await harness.take("grant.deleted", *grants[:3], first=10)
    work = asyncio.create_task(harness.deleted.run())
    await until(lambda: harness.control.grant_deletions.held == set(grants[:3]), "it is said")
    await asyncio.sleep(0.7)  # two further looks
    assert harness.removed() == set()
    assert harness.unfinished.committable() == 10, "a restart finds them again"
    confirm(harness, 50)
    await until(lambda: harness.removed() == {f"{grant}/c" for grant in grants[:3]}, "they go")
    await until(lambda: harness.control.grant_deletions.held == set(), "and that is said too")
    assert harness.unfinished.committable() == 13
    work.cancel()


async def test_as_many_as_the_share_and_a_single_one_go_at_once() -> None:
    grants = names(10)
    harness = Harness([change(f"{grant}/c", 9, 0) for grant in grants], max_share=0.2)
    harness.snapshots.may_end.set()
    await connect(harness, *grants)
    await harness.take("grant.deleted", *grants[:2], first=10)
    work = asyncio.create_task(harness.deleted.run())
    await until(lambda: len(harness.removed()) == 2, "two of ten")
    work.cancel()
    alone = Harness([change("g0/c", 9, 0)], max_share=0.0)
    alone.snapshots.may_end.set()
    await alone.take("grant.deleted", "g0")
    work = asyncio.create_task(alone.deleted.run())
    await until(lambda: alone.removed() == {"g0/c"}, "one by itself is no accident")
    work.cancel()


async def test_held_grants_that_are_there_again_keep_their_contacts() -> None:
    grants = names(10)
    harness = Harness([change(f"{grant}/c", 9, 0) for grant in grants], max_share=0.2)
    harness.snapshots.may_end.set()
    await connect(harness, *grants)
    await harness.take("grant.deleted", *grants[:3], first=10)
    work = asyncio.create_task(harness.deleted.run())
    await until(lambda: len(harness.control.grant_deletions.held) == 3, "they wait")
    await connect(harness, *grants[:3], first=13)
    await until(lambda: harness.control.grant_deletions.held == set(), "nothing waits any more")
    assert harness.removed() == set()
    work.cancel()
