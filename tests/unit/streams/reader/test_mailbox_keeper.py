"""The reader puts the rule in force, notes changes, and reads newly selected mailboxes."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from streams.control import ControlTable
from streams.control_selection import Members, members_record
from streams.grant_addresses import GrantAddress, GrantAddresses, address_record
from streams.kafka.records import KafkaRecord
from streams.mailboxes import EVERY_MAILBOX, MailboxRule, Why
from streams.metrics import ReaderMetrics
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.grant_events import GrantTable, deleted_record, parse_grant_event
from streams.reader.mailbox_keeper import BACKFILL_DELAY_SECONDS, MailboxKeeper
from streams.reader.run_writer import RunWriter
from streams.runs import Run, RunKind, RunLog
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
NOW = 1_800_000_000.0
BY_SET = MailboxRule(("permission-set:Sales",))


class Topic:
    """contactstream.control and reader.runs, as the readers of a deployment share them."""

    def __init__(self) -> None:
        self.records: list[KafkaRecord] = []
        self.log = RunLog()

    async def publish(self, records: Sequence[KafkaRecord]) -> None:
        for record in records:
            if record.topic == TOPICS.runs.name:
                self.log.apply(record.key or b"", record.value)
            else:
                self.records.append(record)

    def keys(self) -> list[str]:
        return [(record.key or b"").decode() for record in self.records]


class Harness:
    """A reader that has just become the active one."""

    def __init__(self, topic: Topic, rule: MailboxRule, **grants: str) -> None:
        self.topic, self.control = topic, ControlTable()
        for record in topic.records:
            self.control.apply(record)
        self.addresses, self.grants = GrantAddresses(), GrantTable()
        for grant, address in grants.items():
            self.add(grant, address)
        gate = Gate(lambda: 0, 1, lambda _: None)
        metrics = ReaderMetrics(CollectorRegistry())
        context = ReaderContext(TOPICS, topic.publish, gate, metrics)
        runs = RunWriter(topic.log, topic.publish, TOPICS)
        self.keeper = MailboxKeeper(
            context, self.control, self.addresses, self.grants, runs, rule, lambda: NOW
        )

    def add(self, grant: str, address: str) -> None:
        self.addresses.apply(address_record(TOPICS, GrantAddress(grant, address, "google"), 9))

    def publish_members(self, *addresses: str) -> None:
        self.control.apply(members_record(TOPICS, Members("Sales", frozenset(addresses), 5)))

    async def start(self) -> "Harness":
        await self.keeper.put_in_force()
        await self.keeper.keep()
        return self

    def runs(self) -> list[Run]:
        return list(self.topic.log.runs.values())


async def test_a_deployment_that_names_no_mailboxes_writes_nothing() -> None:
    harness = await Harness(Topic(), EVERY_MAILBOX, a="ada@x.example").start()
    assert harness.topic.records == []
    assert harness.keeper.choose("anything").selected


async def test_the_rule_comes_into_force_once_and_each_choice_is_noted_once() -> None:
    topic = Topic()
    harness = Harness(topic, MailboxRule(("ada@x.example",)), a="ada@x.example", b="bob@x.example")
    await harness.start()
    assert topic.keys() == ["selection/mailboxes", "selection/grant/a", "selection/grant/b"]
    await harness.keeper.keep()
    await Harness(
        topic, MailboxRule(("ada@x.example",)), a="ada@x.example", b="bob@x.example"
    ).start()
    assert len(topic.records) == 3, "neither a second look nor a successor writes it again"
    assert harness.runs() == [], "the first choice asks for no reading"


async def test_who_gets_the_permission_set_is_read_a_minute_later() -> None:
    harness = await Harness(Topic(), BY_SET, a="ada@x.example", b="bob@x.example").start()
    assert harness.keeper.choose("a").why is Why.MEMBERS_UNKNOWN
    harness.publish_members("ada@x.example")
    await harness.keeper.keep()
    (run,) = harness.runs()
    assert (run.kind, run.grants, run.by) == (RunKind.BACKFILL, ("a",), "selection")
    assert run.not_before == NOW + BACKFILL_DELAY_SECONDS
    harness.publish_members()
    await harness.keeper.keep()
    assert not harness.control.selection.grants["a"].choice.selected
    assert len(harness.runs()) == 1, "who loses it is not read"


async def test_a_later_rule_without_entries_reads_what_was_left_out_before() -> None:
    topic = Topic()
    await Harness(
        topic, MailboxRule(("ada@x.example",)), a="ada@x.example", b="b@x.example"
    ).start()
    harness = await Harness(topic, EVERY_MAILBOX, a="ada@x.example", b="b@x.example").start()
    assert [run.grants for run in harness.runs()] == [("b",)]


async def test_a_new_grant_is_noted_and_a_deleted_one_forgotten() -> None:
    harness = await Harness(Topic(), MailboxRule(("*@x.example",)), a="ada@x.example").start()
    harness.add("b", "bob@x.example")
    event = parse_grant_event(deleted_record(TOPICS, "a", 9))
    assert event is not None
    harness.grants.apply(event)
    await harness.keeper.keep()
    assert list(harness.control.selection.grants) == ["b"]
    assert harness.runs() == [], "its own event asks for its first reading"


async def test_a_grant_whose_address_is_not_known_is_undecided() -> None:
    harness = await Harness(Topic(), MailboxRule(("*@x.example",))).start()
    assert harness.keeper.choose("new").why is Why.ADDRESS_UNKNOWN
    assert harness.keeper.choose("new", "ada@x.example").selected, "a listing names it"
