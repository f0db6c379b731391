"""A console without Kafka: the server with pages over plain data."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, unused_port
from prometheus_client import CollectorRegistry

from streams.console.access import gatekeeper
from streams.console.server import ConsoleServer
from streams.console.shell import MenuEntry, Page, Shell
from streams.metrics import ConsoleMetrics
from streams.settings import ConsoleSettings, load

Client = TestClient[web.Request, web.Application]


class Browser:
    """A client that says with each POST that a page of the console sent it, as a browser does."""

    def __init__(self, client: Client, port: int) -> None:
        self.client = client
        self.origin = {"Sec-Fetch-Site": "same-origin", "Origin": f"http://127.0.0.1:{port}"}

    async def get(
        self, path: str, expect: int = 200, headers: Mapping[str, str] | None = None
    ) -> str:
        """The body of an answer, redirections followed."""
        async with self.client.get(path, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == expect, text
            return text

    async def post(self, path: str, expect: int = 200, /, **fields: str) -> str:
        """The body of the answer to a form, redirections followed."""
        async with self.client.post(path, data=fields, headers=self.origin) as answer:
            text = await answer.text()
            assert answer.status == expect, text
            return text


@asynccontextmanager
async def console(
    make: Callable[[Shell], Sequence[Page]], token: str = "", **environ: str
) -> AsyncIterator[Browser]:
    """A running console with these pages and settings, and a browser."""
    port = unused_port()
    settings = load(ConsoleSettings, {"CONSOLE_LISTEN": f"127.0.0.1:{port}", **environ})
    keeper = gatekeeper(settings, token, "ada@desk", port)
    entries: list[MenuEntry] = []
    shell = Shell(entries)
    pages = make(shell)
    entries.extend(page.entry for page in pages)
    server = ConsoleServer(keeper, shell, pages, ConsoleMetrics(CollectorRegistry()))
    started = TestServer(server.application(pages), host="127.0.0.1", port=port)
    async with TestClient(started) as client:
        yield Browser(client, port)
