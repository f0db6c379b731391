"""Which org the sink may use: the first one is pinned, and another one is refused."""

import asyncio
from dataclasses import replace

import pytest

from connectors.salesforce.api.client import Fence, no_fence
from connectors.salesforce.api.errors import WriterFenced
from streams.control import ControlTable
from streams.control_org import OrgPin, org_record, parse_org
from streams.events import UnreadableRecord
from streams.kafka.records import KafkaRecord
from streams.sink.former_org import NotCleared
from streams.sink.org_guard import OrgGuard, OtherOrg, PinNotKept
from tests.support.sink_harness import NAMES, FakePublisher

OURS, THEIRS = "00D000000000001AAA", "00D000000000002AAA"


class Guarded:
    """A guard over a table that the test fills, and a login that leads where the test says."""

    def __init__(self, pin: OrgPin | None = None, org_id: str | None = OURS) -> None:
        self.table = ControlTable(org=pin)
        self.complete = True
        self.org_id = org_id
        self.publisher = FakePublisher()
        self.cleared = 0
        self.refuse_clearing = 0
        self.guard = OrgGuard(
            self.table, lambda: self.complete, self.publisher, NAMES, self.clear, lambda: 1.5
        )

    async def clear(self, _fence: Fence) -> None:
        await asyncio.sleep(0)
        if self.refuse_clearing:
            self.refuse_clearing -= 1
            raise NotCleared("contacts.outcomes: no answer")
        self.cleared += 1

    async def log_in(self) -> str | None:
        self.guard.accept(self.org_id)
        return self.org_id

    async def confirm(self) -> None:
        await self.guard.confirm(self.log_in, no_fence)


async def test_the_first_org_is_pinned_before_anything_is_written_to_it() -> None:
    one = Guarded()
    await asyncio.gather(one.confirm(), one.confirm())
    (record,) = one.publisher.records
    assert (record.topic, record.key) == ("contactstream.control", b"org")
    assert parse_org(record.key or b"", record.value or b"") == OrgPin(OURS, "sink", 1500)
    assert one.guard.refusal == ""


async def test_a_login_that_leads_to_another_org_is_refused_with_the_remedy() -> None:
    one = Guarded(OrgPin(OURS, "sink", 1), THEIRS)
    with pytest.raises(OtherOrg, match="contactstream org adopt --dry-run") as refused:
        await one.confirm()
    assert OURS in str(refused.value)
    assert THEIRS in str(refused.value)
    assert one.publisher.records == []


async def test_a_later_login_to_another_org_is_refused_before_its_token_is_used() -> None:
    one = Guarded()
    await one.confirm()
    with pytest.raises(OtherOrg):
        one.guard.accept(THEIRS)
    assert THEIRS in one.guard.refusal


async def test_an_adoption_elsewhere_ends_a_process_that_knew_the_former_org() -> None:
    one = Guarded(OrgPin(OURS, "sink", 1))
    await one.confirm()
    one.table.apply(org_record(NAMES, OrgPin(THEIRS, "ada", 2, adopting=True, former=OURS)))
    assert "was adopted; the sink starts anew" in one.guard.refusal


def test_pins_that_compaction_has_not_removed_yet_refuse_nothing_at_a_start() -> None:
    one = Guarded()
    one.complete = False
    for pin in (OrgPin(OURS, "sink", 1), OrgPin(THEIRS, "ada", 2, adopting=True)):
        one.table.apply(org_record(NAMES, pin))
        assert one.guard.refusal == ""
    one.table.apply(org_record(NAMES, OrgPin(THEIRS, "ada", 2)))
    one.complete = True
    one.guard.accept(THEIRS)
    assert one.guard.refusal == ""


async def test_nothing_is_pinned_by_a_writer_that_was_replaced_or_without_kafka() -> None:
    def fenced() -> None:
        raise WriterFenced("replaced")

    one = Guarded()
    with pytest.raises(WriterFenced):
        await one.guard.confirm(one.log_in, fenced)
    one.publisher.refuse = 1
    with pytest.raises(PinNotKept):
        await one.confirm()
    assert one.table.org is None
    await one.confirm()
    assert len(one.publisher.records) == 1


async def test_a_login_that_does_not_name_its_org_pins_nothing() -> None:
    one = Guarded(org_id=None)
    await one.confirm()
    assert one.publisher.records == []


@pytest.mark.parametrize("value", [b"{}", b'{"schema": 2}', b'{"schema": 1}', b"[]"])
def test_a_pin_that_cannot_be_read_leaves_the_last_one(value: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        parse_org(b"org", value)
    table = ControlTable(org=OrgPin(OURS, "sink", 1))
    table.apply(KafkaRecord(NAMES.control.name, b"org", value, []))
    assert table.org == OrgPin(OURS, "sink", 1)


def test_a_tombstone_unpins() -> None:
    table = ControlTable(org=OrgPin(OURS, "sink", 1))
    table.apply(KafkaRecord(NAMES.control.name, b"org", None, []))
    assert table.org is None


async def test_the_next_writer_clears_the_former_org_once_before_it_writes() -> None:
    adopted = OrgPin(OURS, "ada", 2, adopting=True, former=THEIRS)
    one = Guarded(adopted)
    one.refuse_clearing = 1
    with pytest.raises(NotCleared):
        await one.confirm()
    assert one.table.org == adopted, "a clearing that failed is repeated"
    await asyncio.gather(one.confirm(), one.confirm())
    await one.confirm()
    assert one.cleared == 1
    (record,) = one.publisher.records
    assert parse_org(record.key or b"", record.value or b"") == replace(adopted, adopting=False)


async def test_a_sink_of_the_former_org_clears_nothing() -> None:
    one = Guarded(OrgPin(THEIRS, "ada", 2, adopting=True, former=OURS))
    with pytest.raises(OtherOrg):
        await one.confirm()
    assert one.cleared == 0
