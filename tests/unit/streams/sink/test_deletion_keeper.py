"""Deletions in Salesforce are on their topic before the cursor, and known to the next sink."""

import json
from collections.abc import Iterator
from typing import Any

from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from connectors.salesforce.deleted_records import DeletedRecord, DeletedRecords
from connectors.salesforce.simulator.schema import make_id
from streams.kafka.records import KafkaRecord
from streams.metrics import SinkMetrics
from streams.sink.assignment import Assignment, ReadProgress
from streams.sink.deleted_topic import (
    Entry,
    Forgotten,
    Lift,
    SweepCursor,
    apply_entry,
    entries,
    entry_record,
)
from streams.sink.deletion_keeper import (
    RECYCLE_BIN_SECONDS,
    SWEEP_RETRY_SECONDS,
    SWEEP_SECONDS,
    DeletionKeeper,
)
from streams.sink.deletions import Deletions
from streams.sink.fence import BatchFence, WriteFence
from tests.support.salesforce_org import SimulatedOrg, simulated_org
from tests.support.sink_harness import NAMES, FakePublisher

KEY = "Nylas_Contact_Id__c"
A, B, LEAD = make_id("003", 1), make_id("003", 2), make_id("00Q", 1)
WORLD = {
    "contacts": [
        {"Id": A, "LastName": "Lovelace", "Email": "ada@x.example", KEY: "g/1"},
        {"Id": B, "LastName": "Lovelace", "Email": "al@x.example"},
    ],
    "leads": [{"Id": LEAD, "LastName": "J", "Company": "x", "Email": "junk@x.example", KEY: "g/2"}],
}


class Topic:
    """sink.deleted-records, as far as the publisher has it."""

    def __init__(self, publisher: FakePublisher) -> None:
        self._publisher = publisher
        self._read = 0

    @property
    def records(self) -> list[KafkaRecord]:
        return [
            record
            for record in self._publisher.records
            if record.topic == NAMES.deleted_records.name
        ]

    @property
    def keys(self) -> list[str]:
        return [(record.key or b"").decode() for record in self.records]

    def read_all(self) -> Iterator[KafkaRecord]:
        self._read = 0
        return self.read_new()

    def read_new(self) -> Iterator[KafkaRecord]:
        found = self.records[self._read :]
        self._read += len(found)
        yield from found


class Harness:
    """A keeper of a simulated org, whose clock the test moves."""

    def __init__(self, org: SimulatedOrg, publisher: FakePublisher | None = None) -> None:
        self.org = org
        self.publisher = publisher or FakePublisher()
        self.topic = Topic(self.publisher)
        self.metrics = SinkMetrics(CollectorRegistry())
        self.now = org.world.now().timestamp()
        self.keeper = DeletionKeeper(
            org.sync,
            self.publisher,
            NAMES,
            self.metrics,
            self.topic,  # type: ignore[arg-type]
            lambda: self.now,
        )
        self.assignment = Assignment(
            TopicPartition("contacts.changes", 0), 0, None, Deletions(), ReadProgress(0)
        )

    def fence(self) -> BatchFence:
        return WriteFence(10.0).for_batch(self.assignment)

    async def keep(self, later: float = 0.0) -> None:
        self.now += later
        await self.keeper.keep(self.fence())

    def failed(self) -> float:
        return float(self.metrics.sweeps.labels("failed")._value.get())


async def test_a_first_start_asks_nothing_and_sweeps_a_day_later_with_one_call() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org)
        await harness.keeper.load()
        await harness.keep()
        assert harness.topic.keys == ["salt", "cursor"]
        assert not org.calls
        org.world.delete("Lead", LEAD)
        await harness.keep(SWEEP_SECONDS - 1)
        assert not org.calls
        await harness.keep(1)
        assert org.calls["composite_query"] == 1
        assert harness.topic.keys[2:] == ["g/2", "cursor"]
        await harness.keep(SWEEP_SECONDS)
        assert harness.topic.keys[4:] == ["cursor"], "what is known is not written again"


async def test_a_deletion_and_a_merge_are_known_to_the_next_sink_after_the_bin_is_emptied() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org)
        await harness.keep()
        org.world.merge("Contact", B, [A])
        org.world.delete("Lead", LEAD)
        await harness.keep(SWEEP_SECONDS)
        org.world.empty_recycle_bin()
        raw = b"".join((record.value or b"") for record in harness.topic.records)
        assert b"example" not in raw, "no address in clear"
        org.sync = org.new_sync(org.client, org.sync.policy)
        await Harness(org, harness.publisher).keeper.load()
        known = org.sync.deleted_records
        assert [each.master_id for each in known.found("g/1", [])] == [B]
        assert [each.key for each in known.found("h/9", ["junk@x.example"])] == ["g/2"]


async def test_what_is_new_is_acknowledged_before_the_cursor_moves() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org)
        await harness.keep()
        org.world.delete("Lead", LEAD)
        harness.publisher.refuse = 1
        await harness.keep(SWEEP_SECONDS)
        assert harness.topic.keys == ["salt", "cursor"]
        assert harness.failed() == 1
        assert len(org.sync.deleted_records) == 0
        await harness.keep(SWEEP_RETRY_SECONDS - 1)
        assert harness.topic.keys == ["salt", "cursor"]
        await harness.keep(1)
        assert harness.topic.keys[2:] == ["g/2", "cursor"]


async def test_a_sink_that_lost_its_partition_neither_asks_nor_writes() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org)
        await harness.keep()
        written = len(harness.topic.records)
        harness.assignment.active = False
        await harness.keep(SWEEP_SECONDS)
        assert (len(harness.topic.records), org.calls["composite_query"]) == (written, 0)


async def test_an_org_that_is_away_is_asked_again_later() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org)
        await harness.keep()
        org.fault("status", status=503, kind="composite_query")
        await harness.keep(SWEEP_SECONDS)
        assert harness.failed() == 1
        await harness.keep(SWEEP_RETRY_SECONDS)
        assert harness.topic.keys == ["salt", "cursor", "cursor"]


async def test_a_lift_by_an_operator_is_noticed_and_outlives_the_next_sweep() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org)
        await harness.keep()
        org.world.delete("Lead", LEAD)
        await harness.keep(SWEEP_SECONDS)
        harness.publisher.records.append(entry_record(NAMES, Lift(int(harness.now), "g/2")))
        await harness.keep(60)
        assert org.sync.deleted_records.found("g/2", ["junk@x.example"]) == []
        await harness.keep(SWEEP_SECONDS)
        assert org.sync.deleted_records.found("g/2", ["junk@x.example"]) == []


async def test_a_gap_that_is_longer_than_the_recycle_bin_is_said() -> None:
    async with simulated_org(WORLD) as org:
        harness = Harness(org)
        await harness.keep()
        with capture_logs() as logged:
            await harness.keep(RECYCLE_BIN_SECONDS + SWEEP_SECONDS)
        assert any("may be created again" in line["event"] for line in logged)


KEYS = st.sampled_from(["g/1", "g/2", "h/1", "address:x/1"])
HASHES = st.integers(0, 2**64 - 1)
ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    st.builds(
        DeletedRecord,
        KEYS,
        st.just(A),
        st.sampled_from([None, B]),
        st.integers(0, 2**40),
        st.lists(HASHES, max_size=3).map(tuple),
    ),
    st.builds(Lift, st.integers(0, 2**40), KEYS),
    st.builds(Lift, st.integers(0, 2**40), st.none(), HASHES),
    st.builds(Forgotten, KEYS),
    st.builds(SweepCursor, st.integers(0, 2**40), st.just({"Contact": 1, "Lead": 2})),
    st.binary(min_size=16, max_size=16),
)


@given(ENTRIES.filter(lambda entry: getattr(entry, "key", "") != "address:x/1"))
def test_every_entry_is_read_as_it_was_written(entry: Entry) -> None:
    assert list(entries([entry_record(NAMES, entry)])) == [entry]


@given(st.lists(st.tuples(st.binary(max_size=9), st.none() | st.binary(max_size=20)), max_size=9))
def test_records_that_nobody_can_read_are_skipped(raw: list[tuple[bytes, bytes | None]]) -> None:
    known = DeletedRecords()
    for entry in entries(KafkaRecord("t", key, value, []) for key, value in raw):
        apply_entry(entry, known)
    damaged: list[Any] = [[], 5, {"lifted_at": "x"}, {"salt": "zz"}]
    values = [json.dumps(each).encode() for each in damaged]
    assert list(entries(KafkaRecord("t", b"salt", value, []) for value in values)) == []
