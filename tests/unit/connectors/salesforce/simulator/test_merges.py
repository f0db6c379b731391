"""What people do to records of the simulated org: merge, delete, bring back, empty the bin."""

import pytest

from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.simulator.settings import BadValueError
from connectors.salesforce.simulator.world import World
from tests.support.raw_org import KEY, raw_org, row

A, B, C = "0035g0000000001AAA", "0035g0000000002AAA", "0035g0000000003AAA"
LEAD = make_id("00Q", 1)
PEOPLE = {
    "contacts": [
        {"Id": A, "LastName": "Doe", "Email": "ann@acme.com", KEY: "g/A"},
        {"Id": B, "LastName": "Doe", "Email": "doe@acme.com", "ReportsToId": A},
        {"Id": C, "LastName": "Doe"},
    ],
    "leads": [
        {
            "Id": LEAD,
            "LastName": "Doe",
            "Company": "Acme",
            "IsConverted": True,
            "ConvertedContactId": A,
        }
    ],
}
MERGED = f"SELECT Id, IsDeleted, MasterRecordId, MasterRecord.Email, {KEY} FROM Contact"


async def test_the_loser_of_a_merge_is_deleted_and_names_the_master_which_keeps_its_values() -> (
    None
):
    async with raw_org(PEOPLE) as org:
        org.world.merge("Contact", B, [A], {"Title": "Boss"})
        (loser,) = await org.query(f"{MERGED} WHERE {KEY} = 'g/A'", "queryAll")
        assert (loser["IsDeleted"], loser["MasterRecordId"]) == (True, B)
        assert loser["MasterRecord"]["Email"] == "doe@acme.com"
        statement = f"SELECT Email, Title, MasterRecordId, {KEY} FROM Contact WHERE Id = '{B}'"
        (master,) = await org.query(statement, "queryAll")
        assert (master["Email"], master["Title"]) == ("doe@acme.com", "Boss")
        assert master["MasterRecordId"] is master[KEY] is None
        assert not await org.query(f"{MERGED} WHERE {KEY} = 'g/A'")


async def test_a_later_merge_of_the_master_makes_a_chain_whose_deleted_link_shows_no_fields() -> (
    None
):
    async with raw_org(PEOPLE) as org:
        org.world.merge("Contact", B, [A])
        org.world.merge("Contact", C, [B])
        (first,) = await org.query(f"{MERGED} WHERE Id = '{A}'", "queryAll")
        assert (first["MasterRecordId"], first["MasterRecord"]) == (B, None)
        (lead,) = await org.query("SELECT ConvertedContactId, ConvertedContact.Id FROM Lead")
        assert (lead["ConvertedContactId"], lead["ConvertedContact"]) == (A, None)
        org.world.settings.deleted_parents = True
        (first,) = await org.query(f"{MERGED} WHERE Id = '{A}'", "queryAll")
        assert first["MasterRecord"]["Email"] == "doe@acme.com"


async def test_a_deleted_record_takes_no_write_and_its_key_is_free() -> None:
    async with raw_org(PEOPLE) as org:
        org.world.delete("Contact", A)
        (refused,) = await org.update({"attributes": {"type": "Contact"}, "Id": A, "Title": "X"})
        assert refused["errors"][0]["statusCode"] == "ENTITY_IS_DELETED"
        (made,) = await org.upsert(row("g/A"))
        assert made["created"] is True
        with pytest.raises(BadValueError, match="duplicate value found"):
            org.world.undelete("Contact", A)


async def test_an_undeleted_record_is_as_it_was_and_has_no_master() -> None:
    async with raw_org(PEOPLE) as org:
        org.world.merge("Contact", B, [A])
        org.world.undelete("Contact", A)
        (back,) = await org.query(f"{MERGED} WHERE {KEY} = 'g/A'")
        assert (back["Id"], back["IsDeleted"], back["MasterRecordId"]) == (A, False, None)


async def test_the_recycle_bin_once_emptied_leaves_nothing_for_query_all() -> None:
    async with raw_org(PEOPLE) as org:
        org.world.merge("Contact", B, [A])
        org.world.empty_recycle_bin()
        assert not await org.query(f"{MERGED} WHERE Id = '{A}'", "queryAll")
        (refused,) = await org.update({"attributes": {"type": "Contact"}, "Id": A, "Title": "X"})
        assert refused["errors"][0]["statusCode"] == "INVALID_CROSS_REFERENCE_KEY"


@pytest.mark.parametrize(
    ("name", "master", "losers"),
    [
        ("User", A, [B]),
        ("Contact", A, []),
        ("Contact", A, [A]),
        ("Contact", A, [B, B]),
        ("Contact", A, [LEAD]),
    ],
)
def test_a_merge_that_no_user_can_make_is_refused(
    name: str, master: str, losers: list[str]
) -> None:
    with pytest.raises(BadValueError):
        World(PEOPLE).merge(name, master, losers)


async def test_people_act_over_http_as_well() -> None:
    async with raw_org(PEOPLE) as org:
        merge = {"sobject": "Contact", "master": B, "losers": [A], "values": {"Title": "Boss"}}
        answer = await org.http.post("/_sim/merge", json=merge)
        assert answer.json()["Title"] == "Boss"
        answer = await org.http.post("/_sim/undelete", json={"sobject": "Contact", "id": A})
        assert answer.json()["Id"] == A
        await org.http.delete(f"/_sim/records/Contact/{A}")
        await org.http.post("/_sim/recycle-bin/empty")
        deleted = (await org.http.get("/_sim/records/Contact?deleted=true")).json()
        assert [record["Id"] for record in deleted] == [B, C]
