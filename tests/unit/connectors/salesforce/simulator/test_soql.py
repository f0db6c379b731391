"""The simulator's SOQL: what is found, in which order and form, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.simulator.soql import SoqlError, compile_query
from connectors.salesforce.simulator.world import World
from tests.support.raw_org import KEY, VERSION, Json, raw_org

A1, A2, A3 = "0015g0000000001", "0015g0000000002", "0015g0000000003"
WORLD: Json = {
    "accounts": [
        {"Name": "Acme", "Website": "acme.com"},
        {"Name": "Bolt", "Website": "https://www.Bolt.example", "ParentId": A1},
        {"Name": "Gone", "Website": "gone.example", "IsDeleted": True},
    ],
    "contacts": [
        {
            "LastName": "Adams",
            "Email": "ann@acme.com",
            "AccountId": A1,
            KEY: "g/A",
            VERSION: 10,
            "Title": "100% boss",
        },
        {
            "LastName": "brown",
            "Email": "bob@acme.com",
            "AccountId": A2,
            KEY: "g/a",
            VERSION: 20,
            "Title": "O'Neil",
        },
        {
            "LastName": "Cole",
            "Nylas_Email_2__c": "cole@acme.com",
            "Birthdate": "1990-05-01",
            "Title": "a_b",
        },
        {"LastName": "Doe", "LeadSource": "Web", "Title": "back\\slash"},
    ],
    "leads": [
        {
            "LastName": "Lead",
            "Company": "Acme",
            KEY: "g/L",
            "IsConverted": True,
            "ConvertedContactId": "0035g0000000001",
            "ConvertedAccountId": A1,
        },
        {"LastName": "Open", "Company": "Bolt"},
    ],
}


def names(world: World, where: str, sobject: str = "Contact") -> list[str]:
    query = compile_query(world.org, f"SELECT Id FROM {sobject} WHERE {where}")
    return [row["LastName"] for row in query.rows()]


@pytest.fixture(scope="module")
def world() -> World:
    return World(WORLD)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("Email = 'ANN@Acme.com'", ["Adams"]),
        ("LastName = 'BROWN'", ["brown"]),
        (f"{KEY} = 'g/A'", ["Adams"]),
        (f"{KEY} IN ('g/a', 'g/X')", ["brown"]),
        (
            f"{KEY} IN ('g/A') OR Email IN ('bob@acme.com') OR Nylas_Email_2__c IN "
            "('COLE@acme.com')",
            ["Adams", "brown", "Cole"],
        ),
        ("Email = null", ["Cole", "Doe"]),
        ("Email = ''", ["Cole", "Doe"]),
        ("Email != null", ["Adams", "brown"]),
        ("Email != 'ann@acme.com'", ["brown", "Cole", "Doe"]),
        ("Email NOT IN ('ann@acme.com', 'bob@acme.com')", ["Cole", "Doe"]),
        ("Email IN ('ann@acme.com', null)", ["Adams", "Cole", "Doe"]),
        (f"{VERSION} > 10", ["brown"]),
        (f"{VERSION} >= 1e1 AND {VERSION} < 20", ["Adams"]),
        (f"{VERSION} <> 10", ["brown", "Cole", "Doe"]),
        ("LastName > 'B' AND LastName <= 'cole'", ["brown", "Cole"]),
        ("LastName LIKE '%o%'", ["brown", "Cole", "Doe"]),
        ("LastName LIKE '_OE'", ["Doe"]),
        ("Title LIKE '100\\% b%'", ["Adams"]),
        ("Title LIKE 'a\\_b'", ["Cole"]),
        ("Title = 'o\\'neil'", ["brown"]),
        ("Title = 'back\\\\slash'", ["Doe"]),
        ("AccountId = '0015g0000000001'", ["Adams"]),
        ("AccountId IN ('0015g0000000001AAA', '0015g0000000002AAA')", ["Adams", "brown"]),
        ("Account.Website LIKE '%bolt%'", ["brown"]),
        ("Account.Parent.Name = 'acme'", ["brown"]),
        ("Account.Name = null", ["Cole", "Doe"]),
        ("Contact.LastName = 'doe'", ["Doe"]),
        ("Birthdate = 1990-05-01", ["Cole"]),
        ("Birthdate < 1990-01-01", []),
        ("IsDeleted = false AND LeadSource = 'web'", ["Doe"]),
        ("(LastName = 'Doe' OR LastName = 'Cole') AND Email = null", ["Cole", "Doe"]),
        ("LastName = 'Doe' AND (Email = null OR Email = 'x')", ["Doe"]),
        ("NOT (LastName = 'Doe' OR Email != null)", ["Cole"]),
        ("Id IN ('0035g0000000003', '0035g0000000001AAA')", ["Adams", "Cole"]),
        ("Id = '0035g0000000099'", []),
    ],
)
def test_a_condition_finds(world: World, where: str, found: list[str]) -> None:
    assert names(world, where) == found


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (
            f"SELECT Id FROM Contact WHERE {KEY} = 'a' AND Email = 'b' OR Email = 'c'",
            "MALFORMED_QUERY",
        ),
        (
            f"SELECT Id FROM Contact WHERE {KEY} = 'a' OR Email = 'b' AND Email = 'c'",
            "MALFORMED_QUERY",
        ),
        ("SELECT Id FROM Contact WHERE Email IN ()", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE Description LIKE '%x%'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Description = null", "INVALID_FIELD"),
        ("SELECT Id FROM Contact ORDER BY Description", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Email = 'it's'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE Email = 'a\\x'", "MALFORMED_QUERY"),
        ('SELECT Id FROM Contact WHERE Email = "a"', "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE (Email = 'a'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE Email ~ 'a'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact FOR UPDATE", "MALFORMED_QUERY"),
        ("SELECT * FROM Contact", "MALFORMED_QUERY"),
        ("SELECT FROM Contact", "MALFORMED_QUERY"),
        ("DELETE FROM Contact", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact LIMIT many", "MALFORMED_QUERY"),
        ("SELECT Nothing FROM Contact", "INVALID_FIELD"),
        ("SELECT Id, id FROM Contact", "INVALID_FIELD"),
        ("SELECT Nothing.Name FROM Contact", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Nothing = 'a'", "INVALID_FIELD"),
        ("SELECT Id FROM Nothing", "INVALID_TYPE"),
        ("SELECT Id FROM Contact WHERE Email = 5", "INVALID_FIELD"),
        (f"SELECT Id FROM Contact WHERE {VERSION} = '5'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE SystemModstamp > '2026-01-01T00:00:00Z'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE SystemModstamp > 2026-01-01", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE SystemModstamp > 2026-01-01T00:00:00", "MALFORMED_QUERY"),
        (
            "SELECT Id FROM Contact WHERE SystemModstamp > 2026-01-01T00:00:00.000+0000",
            "MALFORMED_QUERY",
        ),
        (
            "SELECT Id FROM Contact WHERE SystemModstamp > 2026-13-01T00:00:00Z",
            "INVALID_QUERY_FILTER_OPERATOR",
        ),
        ("SELECT Id FROM Contact WHERE IsDeleted = 'false'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Id = 'nonsense'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Contact WHERE Id = '0035g0000000001AAB'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Contact WHERE Id > '0035g0000000001AAA'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Contact WHERE Id LIKE '003%'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Email > null", "INVALID_QUERY_FILTER_OPERATOR"),
        (f"SELECT Id FROM Contact WHERE Email = '{'x' * 4001}'", "MALFORMED_QUERY"),
        (
            f"SELECT Id FROM Contact WHERE Email IN ({','.join(['null'] * 25_000)})",
            "MALFORMED_QUERY",
        ),
    ],
)
async def test_a_statement_is_refused(statement: str, code: str) -> None:
    world = World(WORLD)
    with pytest.raises(SoqlError) as refusal:
        compile_query(world.org, statement)
    assert refusal.value.code == code


async def test_a_refused_statement_answers_400_with_the_column() -> None:
    async with raw_org() as org:
        response = await org.ask("SELECT Id, Foo__c FROM Contact")
        assert response.status_code == 400
        (error,) = response.json()
        assert error["errorCode"] == "INVALID_FIELD"
        assert (
            "ERROR at Row:1:Column:12\nNo such column 'Foo__c' on entity 'Contact'"
            in error["message"]
        )
        assert org.refused == {"INVALID_FIELD": 1}
        (refusal,) = await org.control("GET", "refusals")
        assert (refusal["kind"], refusal["code"]) == ("query", "INVALID_FIELD")
        assert (await org.http.get("/services/data/v62.0/query")).status_code == 400


def test_a_statement_of_exactly_the_limit_is_taken(world: World) -> None:
    head = "SELECT Id FROM Contact WHERE Email IN ("
    values = ",".join(["null"] * 19_990)
    statement = f"{head}{values})"
    statement += " " * (100_000 - len(statement))
    assert len(statement) == 100_000
    assert compile_query(world.org, statement).rows()
    with pytest.raises(SoqlError):
        compile_query(world.org, statement + " ")


async def test_records_carry_attributes_and_their_parents() -> None:
    async with raw_org(WORLD) as org:
        adams, _, cole, _ = await org.query(
            "SELECT id, lastname, Account.Website, Account.Owner.Name FROM Contact"
        )
        base = "/services/data/v62.0/sobjects"
        assert adams["attributes"] == {
            "type": "Contact",
            "url": f"{base}/Contact/0035g0000000001AAA",
        }
        assert (adams["Id"], adams["LastName"], adams["Account"]["Website"]) == (
            "0035g0000000001AAA",
            "Adams",
            "acme.com",
        )
        assert adams["Account"]["attributes"] == {
            "type": "Account",
            "url": f"{base}/Account/{A1}AAA",
        }
        assert adams["Account"]["Owner"]["Name"] == "Sales"
        assert cole["Account"] is None


async def test_a_converted_lead_is_found_and_leads_to_its_contact() -> None:
    async with raw_org(WORLD) as org:
        (lead,) = await org.query(
            "SELECT IsConverted, ConvertedContactId, ConvertedContact.Email, "
            f"ConvertedContact.{KEY} FROM Lead "
            f"WHERE {KEY} = 'g/L'"
        )
        assert lead["IsConverted"] is True
        assert lead["ConvertedContactId"] == "0035g0000000001AAA"
        assert (lead["ConvertedContact"]["Email"], lead["ConvertedContact"][KEY]) == (
            "ann@acme.com",
            "g/A",
        )


async def test_deleted_records_are_only_in_query_all() -> None:
    async with raw_org(WORLD) as org:
        statement = "SELECT Name, IsDeleted FROM Account WHERE Website != null"
        assert [found["Name"] for found in await org.query(statement)] == ["Acme", "Bolt"]
        everything = await org.query(statement, "queryAll")
        assert [(found["Name"], found["IsDeleted"]) for found in everything][-1] == ("Gone", True)
        (found,) = await org.query(f"SELECT Name FROM Account WHERE Id = '{A3}'", "queryAll")
        assert found["Name"] == "Gone"


async def test_order_limit_offset_and_count() -> None:
    async with raw_org(WORLD) as org:

        async def ordered(tail: str) -> list[str]:
            return [
                found["LastName"]
                for found in await org.query(f"SELECT LastName FROM Contact {tail}")
            ]

        assert await ordered("ORDER BY LastName DESC") == ["Doe", "Cole", "brown", "Adams"]
        assert await ordered("ORDER BY Email, LastName DESC LIMIT 3") == ["Doe", "Cole", "Adams"]
        assert await ordered("ORDER BY Email DESC NULLS LAST, LastName ASC") == [
            "brown",
            "Adams",
            "Cole",
            "Doe",
        ]
        assert await ordered("ORDER BY LastName LIMIT 2 OFFSET 1") == ["brown", "Cole"]
        count = await org.ask("SELECT COUNT() FROM Contact")
        assert count.json() == {"totalSize": 4, "done": True, "records": []}


async def test_changes_since_a_moment_are_found_in_whole_seconds() -> None:
    async with raw_org() as org:
        await org.control("POST", "clock", {"now": "2026-01-02T03:04:05.900Z", "frozen": True})
        await org.control("POST", "records/Account", {"Name": "Old", "Website": "old.example"})
        await org.control("POST", "clock", {"advance_seconds": 10})
        await org.control("POST", "records/Account", {"Name": "New", "Website": "new.example"})

        async def since(operator: str, moment: str) -> list[str]:
            found = await org.query(
                f"SELECT Name FROM Account WHERE SystemModstamp {operator} {moment} ORDER BY Name"
            )
            return [record["Name"] for record in found]

        assert await since(">=", "2026-01-02T03:04:05Z") == ["New", "Old"]
        assert await since(">", "2026-01-02T03:04:05.000Z") == ["New"]
        assert await since(">", "2026-01-02T04:04:05%2B01:00".replace("%2B", "+")) == ["New"]
        assert await since("<", "2026-01-02T03:04:05Z") == []


async def test_long_answers_come_in_pages() -> None:
    world = {
        "settings": {"page_size": 300},
        "contacts": [{"LastName": f"P{n:04}"} for n in range(700)],
    }
    async with raw_org(world) as org:
        page = (await org.ask("SELECT LastName FROM Contact ORDER BY LastName")).json()
        assert (page["totalSize"], page["done"], len(page["records"])) == (700, False, 300)
        seen = page["records"]
        while not page["done"]:
            page = (await org.http.get(page["nextRecordsUrl"])).json()
            seen += page["records"]
        assert [record["LastName"] for record in seen] == [f"P{n:04}" for n in range(700)]
        assert "nextRecordsUrl" not in page
        assert (await org.control("GET", "state"))["calls"]["query_more"] == 2
        unknown = await org.http.get("/services/data/v62.0/query/01gNothing-300")
        assert unknown.json()[0]["errorCode"] == "INVALID_QUERY_LOCATOR"


async def test_a_page_may_be_asked_smaller_and_never_below_200() -> None:
    async with raw_org({"contacts": [{"LastName": f"P{n}"} for n in range(300)]}) as org:
        url = "/services/data/v62.0/query?q=SELECT+Id+FROM+Contact"
        page = (await org.http.get(url, headers={"Sforce-Query-Options": "batchSize=50"})).json()
        assert len(page["records"]) == 200


@given(
    st.text(min_size=1, max_size=60).filter(
        lambda text: text.isprintable() and text.strip() == text
    )
)
def test_any_escaped_text_finds_the_record_that_holds_it(text: str) -> None:
    org = World(
        {
            "contacts": [
                {"LastName": "X", "Title": text},
                {"LastName": "Y", "Title": "other than that"},
            ]
        }
    ).org
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    rows = compile_query(org, f"SELECT Id FROM Contact WHERE Title = '{escaped}'").rows()
    assert [row["LastName"] for row in rows] == ["X"]


def test_a_full_statement_over_a_large_org_is_answered_by_the_indexes() -> None:
    contacts = [
        {"LastName": "P", KEY: f"grant/{n}", "Email": f"p{n}@example.com"} for n in range(20_000)
    ]
    org = World({"contacts": contacts}).org
    keys = ",".join(f"'grant/{n}'" for n in range(1000))
    emails = ",".join(f"'p{n}@example.com'" for n in range(1000))
    statement = (
        f"SELECT Id, LastName, Email FROM Contact WHERE {KEY} IN ({keys}) OR Email IN ({emails}) "
        f"OR Nylas_Email_2__c IN ({emails}) OR Nylas_Email_3__c IN ({emails})"
    )
    assert len(statement) > 60_000

    class Looked(dict[str, Any]):
        """The records of the table; counts those that are looked at."""

        count = 0

        def __getitem__(self, key: str) -> Any:
            Looked.count += 1
            return super().__getitem__(key)

        def values(self) -> Any:
            Looked.count += len(self)
            return super().values()

    table = org.tables["Contact"]
    table.rows = Looked(table.rows)
    assert len(compile_query(org, statement).rows()) == 1000
    assert Looked.count == 1000
