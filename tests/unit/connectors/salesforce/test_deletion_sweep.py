"""The daily sweep finds what people deleted and merged; that stands without the recycle bin."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce import deletion_sweep
from connectors.salesforce.api.client import no_fence
from connectors.salesforce.deleted_records import DeletedRecord, DeletedRecords
from connectors.salesforce.simulator.schema import make_id
from tests.support.salesforce_org import SimulatedOrg, simulated_org
from tests.unit.connectors.salesforce.test_merges_and_deletions import (
    KEY,
    LEAD,
    A,
    B,
    C,
    D,
    change,
    contact,
    lead,
    one,
)

ALWAYS = {"Contact": 0, "Lead": 0}


async def swept(org: SimulatedOrg, read_from: dict[str, int] | None = None) -> list[DeletedRecord]:
    """One step of a sweep, which is remembered."""
    step = await org.sync.sweep_deleted(read_from or ALWAYS, no_fence)
    for record in step.records:
        org.sync.deleted_records.remember(record)
    return step.records


async def test_a_sweep_takes_one_call_and_finds_nothing_new_the_next_time() -> None:
    document = {
        "contacts": [
            contact(A, "ada@x.example", **{KEY: "g/1"}),
            contact(B, "al@x.example"),
            contact(C, "no-key@x.example"),
        ],
        "leads": [lead(LEAD, "junk@x.example", **{KEY: "g/2"})],
    }
    async with simulated_org(document) as org:
        org.world.merge("Contact", B, [A])
        org.world.delete("Contact", C)
        org.world.delete("Lead", LEAD)
        found = await swept(org)
        assert {(record.key, record.record_id, record.master_id) for record in found} == {
            ("g/1", A, B),
            ("g/2", LEAD, None),
        }
        assert org.calls["composite_query"] == 1
        assert await swept(org) == []


async def test_what_a_sweep_found_stands_after_the_recycle_bin_is_emptied() -> None:
    document = {
        "contacts": [contact(A, "ada@x.example", **{KEY: "g/1"}), contact(B, "al@x.example")],
        "leads": [lead(LEAD, "junk@x.example", **{KEY: "g/2"})],
    }
    async with simulated_org(document) as org:
        org.world.merge("Contact", B, [A])
        org.world.delete("Lead", LEAD)
        await swept(org)
        org.world.empty_recycle_bin()
        assert (await one(org, change("g/1", "ada@x.example"))).record_id == B
        for key in ("g/2", "h/2"):
            outcome = await one(org, change(key, "junk@x.example"))
            assert outcome.reason == "deleted_in_salesforce"


@pytest.mark.parametrize("between", ["at once", "in two sweeps"])
async def test_a_kept_record_that_is_merged_on_or_deleted_changes_what_is_remembered(
    between: str,
) -> None:
    contacts = [
        contact(A, "a@x.example", **{KEY: "g/1"}),
        contact(B, "b@x.example"),
        contact(C, "c@x.example", **{KEY: "h/1"}),
        contact(D, "d@x.example"),
    ]
    async with simulated_org({"contacts": contacts}) as org:
        for master, loser in ((B, A), (C, B), (D, C)):
            org.world.merge("Contact", master, [loser])
            if between == "in two sweeps":
                await swept(org)
        await swept(org)
        org.world.empty_recycle_bin()
        known = org.sync.deleted_records
        assert {record.key: record.master_id for record in known.records()} == {
            "g/1": D,
            "h/1": D,
        }
        org.world.edit("Contact", D, {KEY: "z/1"})
        org.world.delete("Contact", D)
        await swept(org)
        assert {record.master_id for record in known.records()} == {None}


async def test_a_kept_record_that_took_the_key_over_and_is_deleted_blocks_its_addresses() -> None:
    contacts = [contact(A, "ada@x.example", **{KEY: "g/1"}), contact(B, "al@x.example")]
    async with simulated_org({"contacts": contacts}) as org:
        org.world.merge("Contact", B, [A])
        await swept(org)
        assert (await one(org, change("g/1", "ada@x.example"))).record_id == B
        org.world.delete("Contact", B)
        await swept(org)
        org.world.empty_recycle_bin()
        for key, address in (("g/1", "new@x.example"), ("h/1", "al@x.example")):
            assert (await one(org, change(key, address))).reason == "deleted_in_salesforce"


async def test_a_deleted_lead_that_was_converted_is_remembered_with_its_contact() -> None:
    async with simulated_org({"settings": {"lead_mapping": False}}) as org:
        await one(org, change("g/1", "ada@x.example"))
        (made,) = org.records("Lead")
        kept = org.world.convert(made["Id"], None)
        org.world.delete("Lead", made["Id"])
        await swept(org)
        org.world.empty_recycle_bin()
        assert (await one(org, change("g/1", "new@x.example"))).record_id == kept["Id"]


async def test_a_sweep_of_many_goes_on_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion_sweep, "MAX_SWEEP_ROWS", 2)
    contacts = [
        contact(make_id("003", number), f"p{number}@x.example", **{KEY: f"g/{number}"})
        for number in range(1, 6)
    ]
    async with simulated_org({"contacts": contacts}) as org:
        org.world.frozen_at = 1_750_000_000.0
        for row in contacts:
            org.world.frozen_at += 10
            org.world.delete("Contact", row["Id"])
        read_from, found, steps = dict(ALWAYS), set[str](), 0
        while True:
            step = await org.sync.sweep_deleted(read_from, no_fence)
            found |= {record.key for record in step.records}
            read_from, steps = step.read_up_to, steps + 1
            if step.done:
                break
        assert found == {f"g/{number}" for number in range(1, 6)}
        assert steps <= 6


async def test_what_was_lifted_is_not_remembered_again() -> None:
    leads = [lead(LEAD, "ada@x.example", **{KEY: "g/1"})]
    async with simulated_org({"leads": leads}) as org:
        org.world.delete("Lead", LEAD)
        await swept(org)
        known = org.sync.deleted_records
        known.lift_key("g/1", int(org.world.now().timestamp()))
        assert (await swept(org), len(known)) == ([], 0)


def record(key: str, at: int = 1, master: str | None = None, *hashes: int) -> DeletedRecord:
    return DeletedRecord(key, A, master, at, hashes)


def test_beyond_the_limit_the_oldest_is_forgotten_and_counted() -> None:
    known = DeletedRecords(max_records=2)
    assert [known.remember(record(key)) for key in ("g/1", "g/2", "g/3")] == [None, None, "g/1"]
    assert (len(known), known.forgotten) == (2, 1)
    assert known.found("g/1", []) == []


def test_two_orgs_hash_an_address_differently() -> None:
    one_org, other = DeletedRecords(), DeletedRecords()
    assert one_org.hash_of("ada@x.example") != other.hash_of("ada@x.example")


def test_a_merge_stays_when_the_lead_of_the_same_contact_is_deleted() -> None:
    merged = record("g/1", 5, B)
    assert not DeletedRecord("g/1", LEAD, None, 9, ()).outdates(merged)
    assert record("g/1", 9).outdates(merged), "the same record was brought back and deleted"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["g/1", "g/2", "h/1"]),
            st.integers(1, 9),
            st.sampled_from([None, B, C]),
            st.lists(st.sampled_from(["a@x", "b@x", "c@x"]), max_size=3),
        ),
        max_size=12,
    )
)
def test_every_remembered_record_is_found_by_its_key_and_no_forgotten_one_by_an_address(
    entries: list[tuple[str, int, str | None, list[str]]],
) -> None:
    known = DeletedRecords(max_records=2)
    newest: dict[str, Any] = {}
    for key, at, master, addresses in entries:
        made = record(key, at, master, *(known.hash_of(address) for address in addresses))
        forgotten = known.remember(made)
        newest[key] = made
        if forgotten is not None:
            del newest[forgotten]
    assert {each.key: each for each in known.records()} == newest
    for each in ("a@x", "b@x", "c@x"):
        for found in known.found("nobody", [each]):
            assert known.hash_of(each) in newest[found.key].address_hashes
