"""The reader lists contact groups only for a rule, and publishes their names once."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from connectors.nylas.errors import Passing, Refused
from streams.contact_groups import NO_GROUPS, GroupRule
from streams.control import ControlTable
from streams.grant_addresses import GrantAddress, GrantAddresses, address_record
from streams.kafka.records import KafkaRecord
from streams.metrics import ReaderMetrics
from streams.reader import group_names
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.grant_events import GrantTable, deleted_record, parse_grant_event
from streams.reader.group_names import GroupNameKeeper
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.waiting import until

TOPICS = topics(load(KafkaSettings, {}))
RULE = GroupRule(("Customers",))
NOW = 1_800_000_000.0


class Harness:
    """A keeper over one topic, and what Nylas lists."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: list[KafkaRecord] = []
        self.listed: dict[str, str] | Exception = {"1": "Customers"}
        self.asked: list[str] = []
        self.now = NOW
        self.addresses = GrantAddresses()

        async def list_contact_groups(_client: object, grant: str) -> dict[str, str]:
            self.asked.append(grant)
            if isinstance(self.listed, Exception):
                raise self.listed
            return dict(self.listed)

        monkeypatch.setattr(group_names, "list_contact_groups", list_contact_groups)

    @property
    def control(self) -> ControlTable:
        table = ControlTable()
        for record in self.records:
            table.apply(record)
        return table

    async def start(self, rule: GroupRule = RULE) -> GroupNameKeeper:
        async def publish(records: Sequence[KafkaRecord]) -> None:
            self.records += records

        gate, metrics = Gate(lambda: 0, 1, lambda _: None), ReaderMetrics(CollectorRegistry())
        keeper = GroupNameKeeper(
            ReaderContext(TOPICS, publish, gate, metrics),
            NylasClient("http://nowhere.example", "key"),
            self.control,
            self.addresses,
            rule,
            lambda: self.now,
        )
        await keeper.put_in_force()
        return keeper


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch)


def contact(*ids: str) -> dict[str, Any]:
    return {"id": "c", "groups": [{"id": each} for each in ids]}


async def test_without_a_rule_nothing_is_asked_or_written(harness: Harness) -> None:
    keeper = await harness.start(NO_GROUPS)
    await keeper.read("g")
    await keeper.read_for(contact("1"), "g", 0)
    assert keeper.named("g", [contact("1")]) == [contact("1")]
    assert (harness.asked, harness.records) == ([], [])


async def test_names_are_published_when_they_change_and_contacts_get_them(
    harness: Harness,
) -> None:
    keeper = await harness.start()
    await keeper.read("g")
    await keeper.read("g")
    assert len(harness.records) == 2, "the rule, and the names once"
    assert harness.control.selection.names_of_groups("g") == {"1": "Customers"}
    (named,) = keeper.named("g", [contact("1", "x")])
    assert named["groups"] == [{"id": "1", "name": "Customers"}, {"id": "x", "name": ""}]
    harness.listed = {"1": "Clients"}
    await keeper.read("g")
    assert harness.control.selection.names_of_groups("g") == {"1": "Clients"}


async def test_an_unknown_group_of_a_contact_is_asked_for_once(harness: Harness) -> None:
    keeper = await harness.start()
    await keeper.read("g")
    await keeper.read_for(contact("1"), "g", int(NOW) + 5)
    assert harness.asked == ["g"], "every group is known"
    harness.now += 10
    await keeper.read_for(contact("new"), "g", int(NOW) + 5)
    await keeper.read_for(contact("new"), "g", int(NOW) + 5)
    assert harness.asked == ["g", "g"], "Nylas lists it in no other answer either"


async def test_a_mailbox_of_ews_has_no_groups_and_is_not_asked(harness: Harness) -> None:
    harness.addresses.apply(address_record(TOPICS, GrantAddress("g", "a@x.example", "ews"), 9))
    keeper = await harness.start()
    await keeper.read("g")
    await keeper.read("h", "ews")
    assert harness.asked == []
    assert harness.control.selection.group_names.keys() == {"g", "h"}


async def test_a_provider_that_refuses_the_question_has_no_groups(harness: Harness) -> None:
    keeper = await harness.start()
    harness.listed = Refused(400, "not supported")
    await keeper.read("g")
    assert harness.control.selection.names_of_groups("g") == {}


@pytest.mark.parametrize("fault", [Refused(403, "no scope"), Passing(503)])
async def test_any_other_fault_decides_nothing(harness: Harness, fault: Exception) -> None:
    keeper = await harness.start()
    harness.listed = fault
    with pytest.raises(type(fault)):
        await keeper.read("g")
    assert "g" not in harness.control.selection.group_names


async def test_names_are_forgotten_when_no_rule_reads_them(harness: Harness) -> None:
    keeper = await harness.start()
    await keeper.read("g")
    await harness.start(NO_GROUPS)
    selection = harness.control.selection
    assert (selection.groups, selection.group_names) == (NO_GROUPS, {})


async def test_the_names_of_a_deleted_grant_are_forgotten(harness: Harness) -> None:
    keeper = await harness.start()
    await keeper.read("g")
    await keeper.read("h")
    grants = GrantTable()
    event = parse_grant_event(deleted_record(TOPICS, "g", int(NOW)))
    assert event is not None
    grants.apply(event)
    work = asyncio.create_task(keeper.run(grants))
    await until(lambda: "g" not in harness.control.selection.group_names, "it is forgotten")
    work.cancel()
    assert harness.control.selection.group_names.keys() == {"h"}
