"""The Salesforce simulator behind a real socket, used with bare HTTP and without our client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from aiohttp.test_utils import TestServer

from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World

BASE = "/services/data/v62.0"
KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
Json = dict[str, Any]


def row(key: str | None = None, sobject: Any = "Contact", **fields: Any) -> Json:
    """A row of a collection, with the LastName (and Company) that a record needs."""
    needed = {"LastName": "Doe"} | ({"Company": "Acme"} if sobject == "Lead" else {})
    held = {} if key is None else {KEY: key}
    return {"attributes": {"type": sobject}, **needed, **held, **fields}


@dataclass
class RawOrg:
    """A logged-in HTTP client of a simulated org."""

    world: World
    http: httpx.AsyncClient

    async def collection(
        self, method: str, path: str, rows: list[Json], **more: Any
    ) -> httpx.Response:
        headers = more.pop("headers", {})
        body = {"allOrNone": False, "records": rows, **more}
        return await self.http.request(
            method, f"{BASE}/composite/sobjects{path}", json=body, headers=headers
        )

    async def upsert(
        self, *rows: Json, sobject: str = "Contact", key: str = KEY, **more: Any
    ) -> list[Json]:
        """The results of an upserted collection. Fails if the collection is refused whole."""
        return _accepted(await self.collection("PATCH", f"/{sobject}/{key}", list(rows), **more))

    async def update(self, *rows: Json, **more: Any) -> list[Json]:
        return _accepted(await self.collection("PATCH", "", list(rows), **more))

    async def ask(self, statement: str, resource: str = "query") -> httpx.Response:
        return await self.http.get(f"{BASE}/{resource}?q={quote(statement)}")

    async def query(self, statement: str, resource: str = "query") -> list[Json]:
        """The records of the first page."""
        response = await self.ask(statement, resource)
        assert response.status_code == 200, response.text
        records: list[Json] = response.json()["records"]
        return records

    async def ids(self, where: str, sobject: str = "Contact") -> list[str]:
        return [
            record["Id"] for record in await self.query(f"SELECT Id FROM {sobject} WHERE {where}")
        ]

    async def composite(
        self, *parts: Json, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        return await self.http.post(
            f"{BASE}/composite", json={"compositeRequest": list(parts), **more}, headers=headers
        )

    async def subresponses(self, *parts: Json, **more: Any) -> list[Json]:
        response = await self.composite(*parts, **more)
        assert response.status_code == 200, response.text
        answers: list[Json] = response.json()["compositeResponse"]
        return answers

    async def control(self, method: str, path: str, document: Any = None) -> Any:
        """The answer of the control plane. Fails if it is not a success."""
        response = await self.http.request(method, f"/_sim/{path}", json=document)
        assert response.status_code < 300, response.text
        return response.json()

    def stored(self, key: str, sobject: str = "Contact") -> Json:
        """The stored record that holds a key."""
        (found,) = (
            record
            for record in self.world.org.tables[sobject].rows.values()
            if record.get(KEY) == key
        )
        return found

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.world.services.refused)


def _accepted(response: httpx.Response) -> list[Json]:
    assert response.status_code == 200, response.text
    rows: list[Json] = response.json()
    return rows


def upsert_part(reference_id: str, rows: list[Json], sobject: str = "Contact", **more: Any) -> Json:
    """A subrequest that upserts a collection by the key."""
    body = {"allOrNone": more.pop("all_or_none", False), "records": rows}
    url = f"{BASE}/composite/sobjects/{sobject}/{KEY}"
    return {"method": "PATCH", "url": url, "referenceId": reference_id, "body": body, **more}


def query_part(reference_id: str, statement: str, **more: Any) -> Json:
    url = f"{BASE}/query?q={quote(statement)}"
    return {"method": "GET", "url": url, "referenceId": reference_id, **more}


@asynccontextmanager
async def raw_org(document: Json | None = None, *, logged_in: bool = True) -> AsyncIterator[RawOrg]:
    """Serves a world for the length of a test."""
    world = World(document)
    server = TestServer(app(world))
    await server.start_server()
    try:
        # Plain HTTP; loading the certificates would be most of a test's time.
        async with httpx.AsyncClient(
            base_url=str(server.make_url("")), timeout=10, verify=False
        ) as http:
            if logged_in:
                form = {
                    "grant_type": "client_credentials",
                    "client_id": "id",
                    "client_secret": "secret",
                }
                token = (await http.post("/services/oauth2/token", data=form)).json()[
                    "access_token"
                ]
                http.headers["Authorization"] = f"Bearer {token}"
            yield RawOrg(world, http)
    finally:
        await server.close()
