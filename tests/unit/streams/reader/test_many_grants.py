"""Many grants connected at once: calls to Nylas, runs at work, and who waits for whom."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace

from prometheus_client import CollectorRegistry

from connectors.nylas.client import Answer, NylasClient
from connectors.nylas.errors import NotFound, Passing
from streams.control import ControlTable
from streams.grant_addresses import GrantAddresses
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.mailboxes import EVERY_MAILBOX
from streams.metrics import ReaderMetrics
from streams.reader.context import ReaderContext
from streams.reader.deletion_guard import DeletionGuard
from streams.reader.gate import Gate
from streams.reader.grant_events import GrantTable
from streams.reader.grant_listing import GrantListing
from streams.reader.grant_removal import GrantRemover
from streams.reader.mailbox_keeper import MailboxKeeper
from streams.reader.reconcile import Reconciler
from streams.reader.reoffer import Reoffer
from streams.reader.replay import Replayer
from streams.reader.run_executor import RunDefaults, RunExecutor
from streams.reader.run_scheduler import MAX_RUNS_AT_WORK, RunScheduler
from streams.reader.run_writer import RunWriter
from streams.reader.scan import Scanner
from streams.runs import FINAL, Run, RunKind, RunLog, RunState, continue_record
from streams.settings import KafkaSettings, load
from streams.topics import topics
from streams.waves import held_back, read_so_far, waits_for_a_person
from tests.support.group_names import group_names
from tests.support.waiting import until

KAFKA = load(KafkaSettings, {})
TOPICS = topics(KAFKA)


class FakeNylas(NylasClient):
    """An application with grants of one contact each; a grant in `silent` has no answer."""

    def __init__(self, grants: Sequence[str]) -> None:
        super().__init__("http://nowhere.example", "key")
        self.known, self.calls = set(grants), Counter[str]()
        self.silent: set[str] = set()
        self.silent_grants_api = False
        self.moving, self.listings = set[str](), 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def get(
        self,
        kind: str,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        grant: str | None = None,
    ) -> Answer:
        self.calls[kind] += 1
        await asyncio.sleep(0)
        if kind == "list_grants":
            offset = int((params or {})["offset"])
            page = [{"id": name} for name in sorted(self.known)[offset : offset + 200]]
            return Answer({"data": page}, 1000, "r")
        if kind == "get_grant":
            name = path.rpartition("/")[2]
            if self.silent_grants_api:
                raise Passing(503)
            if name not in self.known:
                raise NotFound("unknown", served_at=1000, of_grant=True)
            return Answer({"data": {"id": name, "provider": "google"}}, 1000, "r")
        await self.may_answer.wait()
        if grant in self.silent:
            raise Passing(503)
        if grant in self.moving:
            return self._moving_page((params or {}).get("page_token"))
        return Answer({"data": [{"id": "c"}]}, 1000, "r")

    def _moving_page(self, cursor: object) -> Answer:
        """One of two pages; each listing holds another contact."""
        if cursor:
            return Answer({"data": [{"id": "last"}]}, 1000, "r")
        self.listings += 1
        page = [{"id": f"c{self.listings}"}]
        return Answer({"data": page, "next_cursor": "second"}, 1000, "r")


class Harness:
    """The parts of the active reader that carry out runs; writes come back as from the topic."""

    def __init__(self, *grants: str) -> None:
        self.nylas, self.log = FakeNylas(grants), RunLog()
        self.contacts: list[str] = []
        self.at_work: set[bytes] = set()
        self.most_at_work = 0

        async def publish(records: Sequence[KafkaRecord]) -> None:
            for record in records:
                if record.topic == TOPICS.runs.name:
                    self.log.apply(record.key or b"", record.value)
                    self.note(record)
                elif record.topic == TOPICS.events.name:
                    self.contacts.append((record.key or b"").decode())

        gate = Gate(lambda: 0, 10**9, lambda _: None)
        context = ReaderContext(TOPICS, publish, gate, ReaderMetrics(CollectorRegistry()))
        snapshots = Snapshots(KAFKA)
        self.runs = RunWriter(self.log, publish, TOPICS)
        self.scanner = Scanner(context, self.nylas, group_names(context, self.nylas), 4)
        executor = RunExecutor(
            self.log,
            self.runs,
            GrantListing(context, self.nylas, GrantTable(), GrantAddresses(), 0.2),
            self.scanner,
            Reconciler(context, self.nylas, snapshots, Reoffer(context, snapshots)),
            GrantRemover(context, self.nylas, snapshots),
            Replayer(context, snapshots, self.runs, self.log, lambda _target: nullcontext(context)),
            RunDefaults(("address_book",), 0.2),
            MailboxKeeper(
                context,
                ControlTable(),
                GrantAddresses(),
                GrantTable(),
                self.runs,
                EVERY_MAILBOX,
            ),
            DeletionGuard(context, ControlTable(), GrantTable(), 0.2),
        )
        self.scheduler = RunScheduler(
            self.log, self.runs, executor, 0.0, context.work.runs, context.metrics.runs_in_progress
        )

    def note(self, record: KafkaRecord) -> None:
        key = record.key or b""
        run = self.log.runs.get(key.decode())
        if run is not None:
            (self.at_work.add if run.state is RunState.RUNNING else self.at_work.discard)(key)
            self.most_at_work = max(self.most_at_work, len(self.at_work))

    async def connect(self, *grants: str) -> None:
        """Asks for the run of each grant, as the event that it was created does."""
        for number, name in enumerate(grants):
            run = Run(RunKind.BACKFILL, (name,), 1000 + number, "grant.created")
            await self.runs.request(run, f"run-{name}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(each.run()) for each in (self.scanner, self.scheduler)]
            yield
            for task in work:
                task.cancel()

    def finished(self) -> int:
        return sum(run.state in FINAL for run in self.log.runs.values())


def names(count: int, letter: str = "g") -> list[str]:
    return [f"{letter}{number:05}" for number in range(count)]


async def test_each_grant_connected_costs_one_call_beside_its_contacts() -> None:
    grants = names(200)
    harness = Harness(*grants)
    await harness.connect(*grants)
    async with harness.running():
        await until(lambda: harness.finished() == 200, "every run ends", 60)
    assert sorted(harness.contacts) == sorted(f"{name}/c" for name in grants)
    assert harness.nylas.calls == {"get_grant": 200, "list_contacts": 200}
    assert harness.most_at_work <= MAX_RUNS_AT_WORK


async def test_grants_without_an_answer_hold_back_no_others() -> None:
    stuck, others = names(MAX_RUNS_AT_WORK, "a"), names(5, "b")
    harness = Harness(*stuck, *others)
    harness.nylas.silent = set(stuck)
    await harness.connect(*stuck, *others)
    async with harness.running():
        await until(lambda: len(harness.contacts) == 5, "the others are read")
    assert {key.partition("/")[0] for key in harness.contacts} == set(others)


async def test_a_backfill_that_a_person_asks_for_starts_before_the_grants_that_wait() -> None:
    grants = names(MAX_RUNS_AT_WORK + 20)
    harness = Harness(*grants, "wanted")
    harness.nylas.may_answer.clear()
    await harness.connect(*grants)
    asked = Run(RunKind.BACKFILL, ("wanted",), int(time.time()), "command")
    async with harness.running():
        await until(lambda: harness.most_at_work == MAX_RUNS_AT_WORK, "as many as may start")
        run_id = await harness.runs.request(asked)
        harness.nylas.may_answer.set()
        await until(lambda: harness.finished() == len(grants) + 1, "all end")
    assert harness.log.runs[run_id].state is RunState.DONE
    assert harness.contacts.index("wanted/c") <= MAX_RUNS_AT_WORK, "before the 20 that waited"


async def test_a_grant_that_nylas_does_not_find_or_does_not_show_is_read_all_the_same() -> None:
    harness = Harness("g1")
    harness.nylas.silent_grants_api = True
    await harness.connect("g1")
    async with harness.running():
        await until(lambda: harness.finished() == 1, "it ends")
    assert harness.contacts == ["g1/c"]
    unknown = Harness()
    await unknown.connect("g2")
    async with unknown.running():
        await until(lambda: unknown.finished() == 1, "it ends")
    assert unknown.contacts == ["g2/c"], "the notification may be ahead of the grants API"


async def test_a_run_that_names_addresses_or_many_grants_reads_the_listing() -> None:
    grants = names(300)
    harness = Harness(*grants)
    many = Run(RunKind.BACKFILL, tuple(grants), 1000, "command")
    await harness.runs.request(many, "many")
    await harness.runs.request(replace(many, grants=("a@b.example",)), "address")
    async with harness.running():
        await until(lambda: harness.finished() == 2, "both end", 60)
    assert harness.nylas.calls["get_grant"] == 0
    assert harness.nylas.calls["list_grants"] <= 4


async def test_a_backfill_that_cannot_be_complete_says_so_and_asks_for_a_reconcile() -> None:
    harness = Harness("g1")
    harness.nylas.moving = {"g1"}
    await harness.connect("g1")
    async with harness.running():
        await until(lambda: harness.finished() == 1, "it ends")
    backfill = harness.log.runs.pop("run-g1")
    assert backfill.state is RunState.DONE
    assert "1 of 1 grants incomplete" in backfill.error
    assert sorted(harness.contacts) == ["g1/c1", "g1/c2", "g1/c3", "g1/last"]
    (asked,) = harness.log.runs.values()
    assert (asked.kind, asked.grants, asked.by) == (RunKind.RECONCILE, ("g1",), "gap")
    assert asked.not_before > time.time() + 3000


async def test_backfills_of_one_grant_that_cannot_be_complete_ask_for_one_reconcile() -> None:
    harness = Harness("g1")
    harness.nylas.moving = {"g1"}
    await harness.connect("g1")
    await harness.runs.request(Run(RunKind.BACKFILL, ("g1",), 2000, "command"), "again")
    async with harness.running():
        await until(lambda: harness.finished() == 2, "both end")
    asked = [run for run in harness.log.runs.values() if run.kind is RunKind.RECONCILE]
    assert [run.by for run in asked] == ["gap"]


async def test_a_backfill_in_waves_waits_for_a_person_after_each() -> None:
    grants = names(5)
    harness = Harness(*grants)
    waved = Run(RunKind.BACKFILL, None, 1000, "command", wave=2)
    await harness.runs.request(waved, "waved")

    def waits(contacts: int) -> bool:
        run, log = harness.log.runs["waved"], harness.log
        read = len(harness.contacts) == contacts
        return read and waits_for_a_person(
            run, log.progress("waved"), log.continued.get("waved", 0)
        )

    async with harness.running():
        await until(lambda: waits(2), "the first wave is read")
        harness.log.apply(*continued("waved", 1))
        await until(lambda: waits(4), "then the second")
        harness.log.apply(*continued("waved", 2))
        await until(lambda: harness.finished() == 1, "and the rest")
    assert sorted(harness.contacts) == [f"{name}/c" for name in grants]
    assert harness.log.runs["waved"].state is RunState.DONE


async def test_the_next_reader_goes_on_where_the_waves_were() -> None:
    grants = names(4)
    harness = Harness(*grants)
    await harness.runs.request(Run(RunKind.BACKFILL, None, 1000, "command", wave=2), "waved")
    async with harness.running():
        await until(lambda: len(harness.contacts) == 2, "the first wave is read")
        await until(lambda: read_so_far(harness.log.progress("waved")) == 2, "and noted")
    successor = Harness(*grants)
    successor.log.runs, successor.log.grants = harness.log.runs, harness.log.grants
    successor.log.apply(*continued("waved", 1))
    async with successor.running():
        await until(lambda: successor.finished() == 1, "the second wave ends the run")
    assert len(successor.contacts) == 2
    assert {*harness.contacts, *successor.contacts} == {f"{name}/c" for name in grants}


async def test_a_run_that_waits_after_a_wave_can_be_cancelled() -> None:
    harness = Harness(*names(3))
    await harness.runs.request(Run(RunKind.BACKFILL, None, 1000, "command", wave=1), "waved")
    async with harness.running():
        await until(lambda: len(harness.contacts) == 1, "the first wave is read")
        harness.log.cancelled.add("waved")
        await until(lambda: harness.finished() == 1, "it ends")
    assert harness.log.runs["waved"].state is RunState.CANCELLED
    assert "2 of 3 grants were not finished" in harness.log.runs["waved"].error


async def test_a_reconcile_of_everything_leaves_later_waves_alone() -> None:
    harness = Harness(*names(3))
    await harness.runs.request(Run(RunKind.BACKFILL, None, 1000, "command", wave=1), "waved")
    async with harness.running():
        await until(lambda: len(harness.contacts) == 1, "the first wave is read")
        held = held_back(harness.log)
    assert len(held) == 2
    ended = Harness(*names(3))
    ended.log.runs["waved"] = replace(harness.log.runs["waved"], state=RunState.CANCELLED)
    ended.log.grants = harness.log.grants
    assert held_back(ended.log) == set()


def continued(run_id: str, times: int) -> tuple[bytes, bytes | None]:
    record = continue_record(TOPICS, run_id, times)
    return record.key or b"", record.value
