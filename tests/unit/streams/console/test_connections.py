"""Many, slow and broken connections cannot take the console from who is logged in."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp.test_utils import unused_port
from prometheus_client import CollectorRegistry

from streams.console.access import gatekeeper
from streams.console.server import MAX_CONNECTIONS, ConsoleServer
from streams.console.shell import Page, Shell
from streams.metrics import ConsoleMetrics
from streams.runtime import connections
from streams.settings import ConsoleSettings, load
from tests.support.waiting import until

TOKEN = "a token of the test"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Console:
    """A console that listens, as its process wires it."""

    server: ConsoleServer
    registry: CollectorRegistry
    port: int
    streams: list[Stream] = field(default_factory=list)

    async def open(self, count: int, begun: bytes = b"") -> list[Stream]:
        """Opens connections and sends the same on each."""
        opened = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            opened.append((reader, writer))
            self.streams.append((reader, writer))
            with contextlib.suppress(ConnectionError):
                writer.write(begun)
                await writer.drain()
        return opened

    def closed(self, reason: str) -> float:
        """How many connections the console closed for a reason."""
        name = "contactstream_console_connections_closed_total"
        return self.registry.get_sample_value(name, {"reason": reason}) or 0.0

    @property
    def open_connections(self) -> float:
        """How many the metric shows."""
        return self.registry.get_sample_value("contactstream_console_connections") or 0.0


@asynccontextmanager
async def listening(token: str = TOKEN) -> AsyncIterator[Console]:
    """A console without pages, of which strangers see the log-in."""
    port, registry = unused_port(), CollectorRegistry()
    settings = load(ConsoleSettings, {"CONSOLE_LISTEN": f"127.0.0.1:{port}"})
    pages: Sequence[Page] = ()
    metrics = ConsoleMetrics(registry)
    server = ConsoleServer(gatekeeper(settings, token, "ada", port), Shell([]), pages, metrics)
    await server.listen(f"127.0.0.1:{port}")
    running = Console(server, registry, port)
    try:
        yield running
    finally:
        for _, writer in running.streams:
            writer.close()
        await server.stop()


def session(running: Console) -> aiohttp.ClientSession:
    """A browser, which keeps one connection."""
    jar = aiohttp.CookieJar(unsafe=True)
    address = f"http://127.0.0.1:{running.port}"
    return aiohttp.ClientSession(
        address,
        connector=aiohttp.TCPConnector(limit=1),
        cookie_jar=jar,
        headers={"Origin": address, "Sec-Fetch-Site": "same-origin"},
    )


async def log_in(browser: aiohttp.ClientSession) -> None:
    async with browser.post("/login", data={"token": TOKEN}, allow_redirects=False) as answer:
        assert answer.status == 303
    async with browser.get("/nowhere") as answer:
        assert answer.status == 404, "logged in"


async def test_strangers_never_hold_more_than_the_bound_and_never_drive_out_who_is_logged_in() -> (
    None
):
    async with listening() as running, session(running) as browser:
        await log_in(browser)
        await running.open(MAX_CONNECTIONS + 20, b"GET / HTTP/1.1\r\nX-Slow: ")
        await until(lambda: running.closed("evicted") == 21, "the oldest made room")
        assert running.open_connections == MAX_CONNECTIONS
        async with browser.get("/nowhere") as answer:
            assert answer.status == 404
        assert running.closed("too_many") == 0
        async with session(running) as another:
            await log_in(another)


async def test_a_slow_sender_is_cut_off_and_a_person_who_reads_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = b"POST /login HTTP/1.1\r\nHost: c\r\nContent-Length: 100\r\n\r\nhalf"
    async with listening() as running, session(running) as browser:
        await log_in(browser)
        ((reader, _),) = await running.open(1, half)
        await until(lambda: running.open_connections == 2, "it is connected")
        running.server.cut_slow()
        assert running.closed("slow") == 0, "it still has time"
        monkeypatch.setattr(connections, "WHOLE_REQUEST_SECONDS", -1.0)
        running.server.cut_slow()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        assert running.closed("slow") == 1
        async with browser.get("/nowhere") as answer:
            assert answer.status == 404
        assert running.open_connections == 1


@pytest.mark.parametrize(
    "begun", [b"garbage\r\n\r\n", b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: -5\r\n\r\n"]
)
async def test_a_request_that_is_not_http_gets_400_with_the_usual_headers(
    begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening() as running:
        ((reader, _),) = await running.open(1, begun)
        answer = await reader.read()
        assert b" 400 " in answer.partition(b"\r\n")[0]
        assert b"frame-ancestors" in answer
        assert b"aiohttp" not in answer
        assert caplog.text == ""


async def test_the_reasons_are_known_from_the_start() -> None:
    async with listening() as running:
        samples = Counter(
            sample.labels["reason"]
            for metric in running.registry.collect()
            for sample in metric.samples
            if sample.name == "contactstream_console_connections_closed_total"
        )
        assert samples == {"slow": 1, "evicted": 1, "too_many": 1}
