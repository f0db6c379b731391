"""Bulk API 2.0 query jobs of the simulated org."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import TestServer

from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World

DATA = "/services/data/v62.0"
CSV = {"Accept": "text/csv"}
ALL = {"operation": "query", "query": "SELECT Id, Website, ParentId FROM Account"}
ACCOUNTS = [
    {"Id": make_id("001", 1), "Name": "Acme", "Website": "acme.example"},
    {"Id": make_id("001", 2), "Name": 'Bob "B" Inc, Ltd', "Website": None},
    {"Id": make_id("001", 3), "Name": "Gone", "IsDeleted": True},
]


@asynccontextmanager
async def org(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is logged in to an org with these Accounts."""
    world = World({"accounts": ACCOUNTS, "settings": settings})
    async with TestServer(app(world)) as server, httpx.AsyncClient() as client:
        client.base_url = httpx.URL(str(server.make_url("")))
        form = {"grant_type": "client_credentials", "client_id": "a", "client_secret": "b"}
        token = (await client.post("/services/oauth2/token", data=form)).json()
        client.headers["Authorization"] = f"Bearer {token['access_token']}"
        yield client


async def created(client: httpx.AsyncClient, **job: str) -> str:
    answer = await client.post(f"{DATA}/jobs/query", json=ALL | job)
    assert (answer.status_code, answer.json()["state"]) == (200, "UploadComplete")
    return f"{DATA}/jobs/query/{answer.json()['id']}"


async def test_a_job_runs_for_a_while_and_has_its_results_as_csv() -> None:
    async with org(bulk_polls=1) as client:
        job = await created(client)
        early = await client.get(f"{job}/results", headers=CSV)
        assert (early.status_code, early.json()[0]["errorCode"]) == (400, "INVALIDJOBSTATE")
        states = [(await client.get(job)).json()["state"] for _ in range(2)]
        assert states == ["InProgress", "JobComplete"]
        answer = await client.get(f"{job}/results", headers=CSV)
        assert answer.text.splitlines() == [
            '"Id","Website","ParentId"',
            f'"{make_id("001", 1)}","acme.example",""',
            f'"{make_id("001", 2)}","",""',
        ]
        assert answer.headers["Sforce-Locator"] == "null"
        assert answer.headers["Sforce-NumberOfRecords"] == "2"


async def test_query_all_finds_the_deleted_and_pages_have_locators() -> None:
    async with org(bulk_polls=0) as client:
        statement = "SELECT Name, CreatedDate, IsDeleted FROM Account"
        job = await created(client, operation="queryAll", query=statement)
        first = await client.get(f"{job}/results?maxRecords=2", headers=CSV)
        locator = first.headers["Sforce-Locator"]
        last = await client.get(f"{job}/results?maxRecords=2&locator={locator}", headers=CSV)
        assert last.headers["Sforce-Locator"] == "null"
        assert first.text.splitlines()[2].startswith('"Bob ""B"" Inc, Ltd"')
        name, moment, deleted = last.text.splitlines()[1].split(",")
        assert (name, deleted) == ('"Gone"', '"true"')
        assert moment.endswith('.000Z"')


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({"operation": "insert"}, "INVALIDJOB"),
        ({"query": ""}, "INVALIDJOB"),
        ({"query": "SELECT COUNT() FROM Account"}, "API_ERROR"),
        ({"query": "SELECT Nothing FROM Account"}, "API_ERROR"),
    ],
)
async def test_a_job_that_cannot_run_is_refused(job: dict[str, str], code: str) -> None:
    async with org() as client:
        answer = await client.post(f"{DATA}/jobs/query", json=ALL | job)
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)


async def test_an_org_without_the_api_and_jobs_that_are_not_there() -> None:
    async with org(bulk_api=False) as client:
        answer = await client.post(f"{DATA}/jobs/query", json=ALL)
        assert answer.json()[0]["errorCode"] == "FEATURENOTENABLED"
        assert (await client.get(f"{DATA}/jobs/query/750000000000001AAA")).status_code == 404


async def test_an_aborted_job_has_no_results() -> None:
    async with org(bulk_polls=0) as client:
        job = await created(client)
        await client.patch(job, json={"state": "Aborted"})
        assert (await client.get(job)).json()["state"] == "Aborted"
        assert (await client.get(f"{job}/results", headers=CSV)).status_code == 400
