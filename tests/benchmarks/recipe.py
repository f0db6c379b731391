"""The baseline of the whole flow: what a recipe for Nylas and Salesforce does, and no more.

    python -m tests.benchmarks.recipe webhooks PORT ORG CONTACTS_PER_CALL SECRET
    python -m tests.benchmarks.recipe pages NYLAS API_KEY ORG CONTACTS_PER_CALL GRANT...

For each contact it gets the Contact by the external ID, and then writes it by a PATCH. With 1
contact per call these are two plain requests; with 25, the most subrequests that a Composite takes,
the GETs of 25 contacts share a call, and so do their PATCHes. 25 calls are under way at any time.

It shares no code with contactstream. A webhook is answered as soon as its contact is in a queue in
memory, so a crash loses contacts. Nothing is compared, matched, ordered or repeated, and a call
that fails ends the program. At its end `pages` prints the processor seconds that it used after its
start.
"""

import asyncio
import hashlib
import hmac
import json
import sys
import time
from typing import Any
from urllib.parse import quote

import aiohttp
import uvloop
from aiohttp import web
from yarl import URL

CALLS_AT_ONCE = 25
# A call of an org that is slow, on a machine that does other things as well.
CALL_SECONDS = 60
DATA = "/services/data/v62.0"

Contact = dict[str, Any]


def fields_of(contact: Contact) -> dict[str, Any]:
    """The fields of Salesforce's Contact."""
    emails, phones = contact.get("emails") or [{}], contact.get("phone_numbers") or [{}]
    return {
        "FirstName": contact.get("given_name"),
        "LastName": contact.get("surname") or "Unknown",
        "Email": emails[0].get("email"),
        "Title": contact.get("job_title"),
        "Phone": phones[0].get("number"),
    }


def path_of(contact: Contact) -> str:
    """The path of the Contact that has the contact's key as its external ID."""
    key = quote(f"{contact['grant_id']}/{contact['id']}", safe="")
    return f"{DATA}/sobjects/Contact/Nylas_Contact_Id__c/{key}"


class Writer:
    """Writes contacts from a queue, with CALLS_AT_ONCE calls under way."""

    def __init__(self, http: aiohttp.ClientSession, org: str, token: str, per_call: int) -> None:
        self._http, self._org, self._per_call = http, org, per_call
        self._headers = {"Authorization": f"Bearer {token}"}
        self.queue: asyncio.Queue[Contact] = asyncio.Queue()

    async def run(self) -> None:
        """Never returns. Raises RuntimeError when a call fails."""
        await asyncio.gather(*(self._work() for _ in range(CALLS_AT_ONCE)))

    async def _work(self) -> None:
        while True:
            batch = [await self.queue.get()]
            while len(batch) < self._per_call and not self.queue.empty():
                batch.append(self.queue.get_nowait())
            if self._per_call == 1:
                await self._one(batch[0])
            else:
                await self._several(batch)
            for _ in batch:
                self.queue.task_done()

    async def _one(self, contact: Contact) -> None:
        await self._call("GET", path_of(contact), None, missing=True)
        await self._call("PATCH", path_of(contact), fields_of(contact))

    async def _several(self, batch: list[Contact]) -> None:
        await self._composite("GET", [(path_of(each), None) for each in batch], missing=True)
        await self._composite("PATCH", [(path_of(each), fields_of(each)) for each in batch])

    async def _composite(
        self, method: str, parts: list[tuple[str, Any]], missing: bool = False
    ) -> None:
        requests = [
            {"method": method, "url": path, "referenceId": f"r{number}"}
            | ({} if body is None else {"body": body})
            for number, (path, body) in enumerate(parts)
        ]
        answer = await self._call("POST", f"{DATA}/composite", {"compositeRequest": requests})
        for part in answer["compositeResponse"]:
            _check(part["httpStatusCode"], part["body"], missing)

    async def _call(self, method: str, path: str, body: Any, missing: bool = False) -> Any:
        url = URL(f"{self._org}{path}", encoded=True)
        async with self._http.request(method, url, json=body, headers=self._headers) as answer:
            content = await answer.read()
            _check(answer.status, content, missing)
            return json.loads(content) if content else None


def _check(status: int, body: object, missing: bool) -> None:
    if status >= 300 and not (missing and status == 404):
        raise RuntimeError(f"the org answered {status}: {body!r}")


async def login(http: aiohttp.ClientSession, org: str) -> str:
    """An access token of the org."""
    form = {"grant_type": "client_credentials", "client_id": "id", "client_secret": "secret"}
    async with http.post(f"{org}/services/oauth2/token", data=form) as answer:
        return str((await answer.json())["access_token"])


async def serve(writer: Writer, port: int, secret: str) -> None:
    """Takes webhooks until the process ends."""

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, request.headers.get("X-Nylas-Signature", "")):
            return web.Response(status=401)
        writer.queue.put_nowait(json.loads(body)["data"]["object"])
        return web.Response()

    application = web.Application()
    application.router.add_post("/", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await writer.run()


async def read_pages(
    http: aiohttp.ClientSession, writer: Writer, nylas: str, key: str, grants: list[str]
) -> None:
    """Reads every page of the grants, and returns when all contacts are written."""
    writing = asyncio.create_task(writer.run())
    for grant in grants:
        cursor: str | None = ""
        while cursor is not None:
            asked = {"limit": "200"} | ({"page_token": cursor} if cursor else {})
            async with http.get(
                f"{nylas}/v3/grants/{grant}/contacts",
                params=asked,
                headers={"Authorization": f"Bearer {key}"},
            ) as answer:
                _check(answer.status, await answer.read(), missing=False)
                page = await answer.json()
            for contact in page["data"]:
                writer.queue.put_nowait(contact)
            cursor = page.get("next_cursor")
    joined = asyncio.create_task(writer.queue.join())
    await asyncio.wait([writing, joined], return_when=asyncio.FIRST_COMPLETED)
    if writing.done():
        writing.result()


async def main(arguments: list[str]) -> None:
    """Takes webhooks, or reads pages, as the arguments say."""
    timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        if arguments[0] == "webhooks":
            _, port, org, per_call, secret = arguments
            writer = Writer(http, org, await login(http, org), int(per_call))
            await serve(writer, int(port), secret)
        else:
            _, nylas, key, org, per_call, *grants = arguments
            started = time.process_time()
            writer = Writer(http, org, await login(http, org), int(per_call))
            await read_pages(http, writer, nylas, key, grants)
            print(time.process_time() - started, flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
