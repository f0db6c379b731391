"""An org that answers lookups and writes of people at next to no cost, as a process of its own.

    python -m tests.benchmarks.quick_org PORT ACCOUNTS MS_CALL MS_ROW

The simulator checks everything, which takes longer than the sink does. Here a Composite whose
parts are queries of people or collections is answered from dictionaries: found by key and address,
upserted by key, updated by ID. Everything else (logins, describes, Accounts) the simulator answers.
A call takes MS_CALL milliseconds, and MS_ROW more for each row that it writes.
"""

import asyncio
import gzip
import re
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web

from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World

KEY = "Nylas_Contact_Id__c"
ADDRESSES = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")
PREFIXES = {"Contact": "003", "Lead": "00Q"}
# More than a day of any run, so that no reserve is reached.
DAILY_CALLS = 10_000_000
# As fast as gzip gets: the time that the answer takes to pack is not the sink's.
GZIP_LEVEL = 1
_STATEMENT = re.compile(r"SELECT (?P<fields>.+?) FROM (?P<sobject>Contact|Lead) WHERE (?P<rest>.*)")
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'")
_STAMP = "2026-01-01T00:00:00.000+0000"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Row = dict[str, Any]


def host_of(account: int) -> str:
    """The website of an Account, and so the domain of its people."""
    return f"company-{account}.com"


class People:
    """The Contacts and Leads, by ID, by key and by address."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._by_value: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)

    def query(self, statement: re.Match[str]) -> dict[str, Any]:
        """The answer to a lookup."""
        sobject, fields = statement["sobject"], re.split(r",\s*", statement["fields"])
        nested = {name.partition(".")[0] for name in fields if "." in name}
        plain = [name for name in fields if "." not in name]
        ids = {
            record_id: None
            for value in dict.fromkeys(_LITERAL.findall(statement["rest"]))
            for record_id in self._by_value.get((sobject, value.replace("\\'", "'").lower()), ())
        }
        records = [
            {
                "attributes": {"type": sobject, "url": f"/sobjects/{sobject}/{record_id}"},
                **{name: self._rows[record_id].get(name) for name in plain},
                **dict.fromkeys(nested),
            }
            for record_id in ids
        ]
        return {"totalSize": len(records), "done": True, "records": records}

    def write(self, row: Row, sobject: str) -> dict[str, Any]:
        """The result of one row of a collection."""
        record_id = row.get("Id")
        created = False
        if record_id is None:
            key = row[KEY].lower()
            record_id = next(iter(self._by_value[sobject, key]), None)
            created = record_id is None
        if record_id is None:
            record_id = f"{PREFIXES[sobject]}{len(self._rows):012d}AAA"
            self._rows[record_id] = {"Id": record_id, "IsDeleted": False, "CreatedDate": _STAMP}
        stored = self._rows[record_id]
        stored.update(row)
        for name in (KEY, *ADDRESSES):
            if value := stored.get(name):
                self._by_value[sobject, value.lower()][record_id] = None
        return {"id": record_id, "success": True, "errors": [], "created": created}


def answer_quickly(people: People, part: dict[str, Any]) -> tuple[Any, int] | None:
    """The body of the answer to a part of a Composite, and how many rows it writes."""
    url = part["url"].partition("/services/data/")[2].partition("/")[2]
    if url.startswith("queryAll?q="):
        found = _STATEMENT.fullmatch(unquote(url.partition("=")[2]))
        return None if found is None else (people.query(found), 0)
    if url.startswith("composite/sobjects") and part["method"] in {"PATCH", "POST"}:
        rows = part["body"]["records"]
        made = [people.write(row, row.pop("attributes")["type"]) for row in rows]
        return made, len(rows)
    return None


def quick(people: People, call_seconds: float, row_seconds: float) -> Any:
    """Middleware: answers what it knows, and hands on the rest."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.endswith("/composite"):
            return await handler(request)
        parts = orjson.loads(await request.read())["compositeRequest"]
        answers = [answer_quickly(people, part) for part in parts]
        if all(found is None for found in answers):
            return await handler(request)
        rows = sum(found[1] for found in answers if found is not None)
        await asyncio.sleep(call_seconds + row_seconds * rows)
        return web.Response(
            body=gzip.compress(orjson.dumps(_composite(parts, answers)), GZIP_LEVEL),
            headers={
                "Content-Encoding": "gzip",
                "Content-Type": "application/json;charset=UTF-8",
                "Sforce-Limit-Info": f"api-usage=1/{DAILY_CALLS}",
            },
        )

    return answer


def _composite(
    parts: list[dict[str, Any]], answers: list[tuple[Any, int] | None]
) -> dict[str, list[dict[str, Any]]]:
    """What is not about people, such as a look for changed Accounts, finds nothing."""
    nothing = {"totalSize": 0, "done": True, "records": []}
    return {
        "compositeResponse": [
            {
                "body": nothing if found is None else found[0],
                "httpHeaders": {},
                "httpStatusCode": 200,
                "referenceId": part["referenceId"],
            }
            for part, found in zip(parts, answers, strict=True)
        ]
    }


def _accounts(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        yield {"Name": f"Company {number}", "Website": f"https://www.{host_of(number)}/"}


async def _serve(port: int, accounts: int, call_seconds: float, row_seconds: float) -> None:
    world = World({"accounts": [*_accounts(accounts)], "settings": {"daily_limit": DAILY_CALLS}})
    made = app(world)
    made.middlewares.insert(0, quick(People(), call_seconds, row_seconds))
    runner = web.AppRunner(made, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(
        _serve(
            int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000, float(sys.argv[4]) / 1000
        )
    )
