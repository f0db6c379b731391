"""The console's server: what it refuses, and what every answer carries."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from aiohttp import web

from connectors.salesforce.write_mode import WriteMode
from streams.commands.status.figures import (
    CallFigures,
    LetterFigures,
    OutcomeFigures,
    StageFigures,
    Status,
)
from streams.console.access import session_of
from streams.console.history import ScrapedHistory
from streams.console.measures import EVERY
from streams.console.pages.flow import FlowPage
from streams.console.reading import Reading
from streams.console.server import MAX_BODY_BYTES, MAX_WRONG_TOKENS, SESSION_COOKIE
from streams.console.shell import MenuEntry, Page, Shell, require_act
from streams.control import FailureBreaker, FailuresSeen, Stops
from streams.control_mode import ModeInForce
from tests.support.console import console
from tests.support.console_story import BreakerList, PauseList

TOKEN = "a token of the test"
HOSTILE = '<script>alert("x")</script>'
BOB = {"X-User": "bob@acme.example"}
NOW = 1_790_000_000_000


def status() -> Status:
    return Status(
        NOW,
        [
            StageFigures("bridge", rate=3.0),
            StageFigures("sink", 2, 7, NOW - 5_000, None, 2.5),
        ],
        OutcomeFigures(NOW - 60_000, Counter(created=8, failed=2), found=3, created=1),
        None,
        [FailureBreaker(HOSTILE, Stops.BULK, NOW, FailuresSeen(12, 400))],
        LetterFigures({"TOO_LONG": 2}, NOW),
        [],
        mode=ModeInForce(WriteMode.MIRROR, HOSTILE),
    )


class Doing:
    """A page with something to do."""

    entry = MenuEntry("doing", "Doing", "/doing")

    def __init__(self) -> None:
        self.done: list[str] = []

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return [web.post("/doing", self._do), web.get("/broken", self._break)]

    async def _do(self, request: web.Request) -> web.Response:
        person = require_act(request)
        await request.post()
        self.done.append(person.name)
        return web.Response(text="done")

    async def _break(self, _request: web.Request) -> web.Response:
        raise RuntimeError("with the address of ada@acme.example")


DOING = Doing()


def pages(shell: Shell) -> Sequence[Page]:
    DOING.done.clear()
    calls: Reading[tuple[float, CallFigures | None]]
    calls = Reading(lambda: (0.0, CallFigures(90, 1_000)), 60)
    history = ScrapedHistory([], EVERY)
    flow = FlowPage(shell, Reading(status, 60), calls, history, PauseList(), BreakerList())
    return [flow, DOING]


async def test_every_answer_forbids_foreign_scripts_frames_and_caches() -> None:
    async with console(pages) as browser:
        for path in ("/", "/nowhere", "/static/console.css", "/broken"):
            async with browser.client.get(path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "frame-ancestors 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                if not path.startswith("/static"):
                    assert answer.headers["Cache-Control"] == "no-store"


async def test_the_pages_have_no_script_and_no_style_of_their_own() -> None:
    async with console(pages) as browser:
        html = await browser.get("/")
        assert "<style" not in html
        assert " style=" not in html
        assert " onclick=" not in html
        assert html.count("<script") == html.count('<script src="/static/')


async def test_what_somebody_typed_is_text_and_not_markup() -> None:
    async with console(pages) as browser:
        html = await browser.get("/")
        assert HOSTILE not in html
        assert "&lt;script&gt;" in html


async def test_flow_says_what_needs_a_person_and_exports_its_table() -> None:
    async with console(pages) as browser:
        html = await browser.get("/")
        assert "1 thing needs a person" in html
        assert "75.0%" in html, "the match rate"
        assert "20.0%" in html, "the share that failed"
        exported = await browser.get("/?export=stages.csv")
        assert exported.splitlines()[-1] == "sink,2,7,5 s,2.5"
        assert '"stage": "sink"' in await browser.get("/?export=stages.json")
        assert "of this page there are: stages.csv" in await browser.get("/?export=x.csv", 404)


async def test_a_foreign_name_and_a_foreign_page_are_refused() -> None:
    async with console(pages) as browser:
        refused = await browser.get("/", 421, {"Host": "evil.example"})
        assert "CONSOLE_HOSTS" in refused
        for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            async with browser.client.post("/doing", headers=headers) as answer:
                assert answer.status == 403
        assert not DOING.done
        await browser.post("/doing")
        assert DOING.done == ["ada@desk"]


async def test_a_token_opens_the_pages_and_nothing_else_does() -> None:
    async with console(pages, TOKEN) as browser:
        assert "Log in" in await browser.get("/")
        await browser.post("/doing", 403)
        assert "not the token" in await browser.post("/login", 403, token="another token, wrong")
        async with browser.client.post(
            "/login", data={"token": TOKEN}, headers=browser.origin, allow_redirects=False
        ) as answer:
            cookie = answer.headers["Set-Cookie"]
        assert TOKEN not in cookie
        assert session_of(TOKEN) in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Flow" in await browser.get("/")
        await browser.post("/doing")
        await browser.post("/logout")
        assert "Log in" in await browser.get("/")
        browser.client.session.cookie_jar.update_cookies({SESSION_COOKIE: "made-up"})
        assert "Log in" in await browser.get("/")


async def test_a_token_is_not_guessed() -> None:
    async with console(pages, TOKEN) as browser:
        for number in range(MAX_WRONG_TOKENS):
            await browser.post("/login", 403, token=f"guess {number}")
        assert "in a minute" in await browser.post("/login", 429, token=TOKEN)


async def test_who_only_reads_cannot_act() -> None:
    proxy = {"CONSOLE_IDENTITY_HEADER": "X-User", "CONSOLE_TRUSTED_PROXIES": "127.0.0.1"}
    async with console(pages, CONSOLE_ACTORS="ada@acme.example", **proxy) as browser:
        await browser.get("/", 403)
        assert "may read, not act" in await browser.get("/", headers=BOB)
        for name, code in (("bob@acme.example", 403), ("ada@acme.example", 200)):
            headers = browser.origin | {"X-User": name}
            async with browser.client.post("/doing", headers=headers) as answer:
                assert answer.status == code
        assert DOING.done == ["ada@acme.example"]


async def test_a_form_that_is_too_large_is_refused() -> None:
    async with console(pages) as browser:
        await browser.post("/doing", 413, text="x" * (MAX_BODY_BYTES + 1))
        assert not DOING.done


async def test_an_error_of_a_page_names_no_person() -> None:
    async with console(pages) as browser:
        text = await browser.get("/broken", 500)
        assert "RuntimeError" in text
        assert "ada@acme.example" not in text


@pytest.mark.parametrize(("back", "to"), [("/people?x=1", "/people"), ("//evil.example", "/")])
async def test_the_colours_are_kept_and_lead_back_to_a_page_of_ours(back: str, to: str) -> None:
    async with console(pages) as browser:
        async with browser.client.post(
            "/theme",
            data={"theme": "dark", "back": back},
            headers=browser.origin,
            allow_redirects=False,
        ) as answer:
            assert answer.headers["Location"].startswith(to)
            assert "evil" not in answer.headers["Location"]
        assert 'data-theme="dark"' in await browser.get("/")


async def test_many_requests_at_once_read_kafka_once() -> None:
    reads = 0

    def read() -> Status:
        nonlocal reads
        reads += 1
        return status()

    reading = Reading(read, 60)
    await asyncio.gather(*(reading.get() for _ in range(20)))
    assert reads == 1
    reading.forget()
    await reading.get()
    assert reads == 2
