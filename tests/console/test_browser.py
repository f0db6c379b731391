"""The console in Chromium: for a keyboard, a phone, dark colours, and whoever needs assistance."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.chromium import Page, chromium
from tests.support.console import console
from tests.support.console_story import HOSTILE, OPEN, Deployment
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.system]

AXE = Path(__file__).with_name("axe-core-4.14.1.min.js").read_text()
PATHS = (
    "/",
    "/runs",
    "/runs/start?kind=backfill",
    "/runs/replay?source=events&since=36h",
    f"/runs/cancel?run={OPEN}",
    f"/release?reason={quote(HOSTILE)}",
    "/budget",
    "/health",
    "/nowhere",
)
DESK, PHONE = (1280, 900), (390, 844)
TOKEN = "a token of the test"


@asynccontextmanager
async def opened(
    folder: Path, deployment: Deployment, token: str = ""
) -> AsyncIterator[tuple[Page, str]]:
    """A tab, and the address of a console over this deployment."""
    async with console(deployment.pages, token) as server, chromium(folder / "profile") as page:
        yield page, server.origin["Origin"]


async def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.1 AA and its good practice on the page that is open."""
    await page.run(f"{AXE};0")
    found = await page.run("axe.run().then(found => JSON.stringify(found.violations))")
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:120] for node in each['nodes']]}"
        for each in json.loads(found)
    ]


@pytest.mark.parametrize(
    ("size", "scheme", "empty"),
    [(DESK, "light", False), (DESK, "dark", False), (PHONE, "light", False), (PHONE, "dark", True)],
)
async def test_axe_finds_nothing_and_nothing_is_cut_off(
    tmp_path: Path, size: tuple[int, int], scheme: str, empty: bool
) -> None:
    acting = ("/runs/cancel", "/release")
    paths = tuple(each for each in PATHS if not each.startswith(acting)) if empty else PATHS
    async with opened(tmp_path, Deployment(empty=empty)) as (page, origin):
        await page.look_like(*size, scheme)
        for path in paths:
            await page.goto(origin + path)
            assert await violations(page) == [], path
            wide = await page.run("document.documentElement.scrollWidth")
            assert wide <= size[0], f"{path} is wider than a screen of {size[0]} pixels"
        await page.run("document.querySelector('main').append(new Image())")
        assert [each.partition(":")[0] for each in await violations(page)] == ["image-alt"]
        # Of the page that does not exist.
        assert all("404" in each for each in page.problems), page.problems


async def test_the_colours_are_those_of_the_system_until_somebody_chooses(tmp_path: Path) -> None:
    async with opened(tmp_path, Deployment()) as (page, origin):
        colour = "getComputedStyle(document.body).backgroundColor"
        await page.look_like(*DESK, "light")
        await page.goto(origin)
        light = await page.run(colour)
        await page.look_like(*DESK, "dark")
        assert (dark := await page.run(colour)) != light
        await page.leave_by('button[value="light"]')
        assert await page.run(colour) == light
        await page.look_like(*DESK, "light")
        await page.leave_by('button[value="dark"]')
        assert await page.run(colour) == dark


async def test_a_keyboard_skips_the_menu_and_sees_where_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path, Deployment()) as (page, origin):
        await page.goto(f"{origin}/runs")
        await page.press("Tab")
        assert await page.run("document.activeElement.textContent") == "Skip to the content"
        assert await page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await page.press("Enter")
        await page.until("document.activeElement.id === 'main'")


async def test_flow_refreshes_itself_and_stops_while_it_is_hidden(tmp_path: Path) -> None:
    deployment = Deployment()
    async with opened(tmp_path, deployment) as (page, origin):
        await page.goto(origin)
        # As if it had been hidden from now on, and the last refresh were long ago.
        await page.run(
            "Object.defineProperty(document, 'visibilityState', "
            "{get: () => window.shown ? 'visible' : 'hidden'});"
            "document.querySelectorAll('[data-refresh]')"
            ".forEach(each => { each.dataset.refreshedAt = 1; });"
            "window.asked = 0;"
            "document.addEventListener('htmx:beforeRequest', () => { window.asked += 1; });"
        )
        await page.run("document.dispatchEvent(new Event('visibilitychange'))")
        assert await page.run("window.asked") == 0
        before = deployment.status_reads
        await page.run("window.shown = true; document.dispatchEvent(new Event('visibilitychange'))")
        await until(lambda: deployment.status_reads > before, "the page was asked for again")
        await page.until("document.querySelector('main[data-refresh] h1')")
        assert page.problems == []


async def test_a_run_is_cancelled_by_clicks_and_the_audit_names_who_and_why(tmp_path: Path) -> None:
    deployment = Deployment()
    async with opened(tmp_path, deployment, TOKEN) as (page, origin):
        await page.goto(f"{origin}/runs")
        assert await page.run("document.title") == "Log in · contactstream"
        await page.run(f"document.querySelector('#token').value = {json.dumps(TOKEN)}")
        await page.leave_by("button.primary")
        await page.goto(f"{origin}/runs")
        await page.leave_by(f'a[href="/runs/cancel?run={OPEN}"]')
        await page.run("document.querySelector('#why').value = 'the wrong application'")
        await page.leave_by("button.danger")
        note = await page.run("document.querySelector('.note').textContent")
        assert note == f"{OPEN} is being cancelled."
        assert page.problems == []
    assert deployment.doing.cancelled == [OPEN]
    begun, _ = deployment.audit.entries
    assert (begun.actor, begun.why) == ("ada@desk", "the wrong application")


async def test_another_site_can_neither_send_a_form_nor_show_the_console(tmp_path: Path) -> None:
    deployment = Deployment()
    async with opened(tmp_path, deployment) as (page, origin):
        html = (
            f'<form method="post" action="{origin}/runs/start"><input name="kind" value="backfill">'
            f'<button>Win</button></form><iframe src="{origin}/"></iframe>'
        )
        async with TestServer(page_of(html)) as other:
            await page.goto(str(other.make_url("/")))
            refused = "frame-ancestors 'none'"
            await until(lambda: any(refused in each for each in page.problems), "no frame")
            await page.leave_by("button")
            assert "not sent by a page of this console" in await page.run("document.body.innerText")
    assert deployment.doing.asked == []


def page_of(html: str) -> web.Application:
    """A site with one page."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    site = web.Application()
    site.router.add_get("/", answer)
    return site


async def test_every_page_is_readable_without_scripts(tmp_path: Path) -> None:
    async with opened(tmp_path, Deployment()) as (page, origin):
        await page.call("Emulation.setScriptExecutionDisabled", value=True)
        for path, word in (("/", "1,840"), ("/runs", OPEN), ("/budget", "61,200")):
            await page.goto(origin + path)
            assert word in await page.run("document.querySelector('main').innerText")
