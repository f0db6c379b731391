"""People, grants, dead letters and one person in Chromium: axe, a phone, a redrive by clicks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.console.test_browser import DESK, PHONE, violations
from tests.support.chromium import Page, chromium
from tests.support.console import console
from tests.support.people_story import BASE, HOSTILE, World

pytestmark = [pytest.mark.slow, pytest.mark.system]

GRANT = "11111111-aaaa-4bbb-8ccc-000000000001"


def world() -> World:
    """Some of everything, of which some names are hostile."""
    made = World()
    for number, status in enumerate(("created", "updated", "covered", "ambiguous", "failed")):
        made.outcome(
            f"{GRANT}/{number}",
            status,
            first=True,
            matched="email",
            at_ms=(BASE + number * 86_400) * 1000,
            candidates=["003A00000000001AAA", HOSTILE],
        )
    made.outcome(f"{GRANT}/9", "skipped", reason="role_address")
    made.outcome(f"{GRANT}/10", "held", reason="creations_per_day", at_ms=BASE * 1000)
    made.outcome(f"{GRANT}/11", "held", reason="data_storage", at_ms=BASE * 1000)
    made.grant(GRANT, "grant.listed", email="ada@acme.example", provider="google")
    made.grant("expired", "grant.expired")
    made.letters.add(f"{GRANT}/4")
    made.letters.add(f"{GRANT}/5", reason="apex_error")
    return made


@asynccontextmanager
async def opened(folder: Path, made: World) -> AsyncIterator[tuple[Page, str]]:
    """A tab, and the address of a console over this world."""
    async with console(made.pages) as server, chromium(folder / "profile") as page:
        yield page, server.origin["Origin"]


async def test_axe_finds_nothing_and_nothing_is_cut_off(tmp_path: Path) -> None:
    made = world()
    letter = next(iter(made.letters.whole_letters))
    paths = (
        "/people",
        f"/people?grant={GRANT}",
        "/people/release",
        "/grants",
        "/dead-letters",
        f"/dead-letters/letter?id={letter}",
        "/dead-letters/redrive?reason=apex_error",
        "/person",
        "/person?subject=g1/ada",
    )
    async with opened(tmp_path, made) as (page, origin):
        for (width, height), scheme in ((DESK, "light"), (DESK, "dark"), (PHONE, "light")):
            await page.look_like(width, height, scheme)
            for path in paths:
                await page.goto(origin + path)
                assert await violations(page) == [], (path, width, scheme)
                wide = await page.run("document.documentElement.scrollWidth")
                assert wide <= width, f"{path} is wider than a screen of {width} pixels"
        assert page.problems == []


async def test_a_redrive_and_a_reveal_by_clicks(tmp_path: Path) -> None:
    made = world()
    async with opened(tmp_path, made) as (page, origin):
        await page.goto(f"{origin}/dead-letters?reason=apex_error")
        await page.leave_by('a[href^="/dead-letters/letter"]')
        assert "ada@x.example" not in await page.run("document.body.textContent")
        await page.leave_by('form[action$="reveal"] button')
        assert "ada@x.example" in await page.run("document.body.textContent")
        assert [name for name, _ in made.letters.revealed] == ["ada@desk"]

        await page.goto(f"{origin}/dead-letters?reason=apex_error")
        await page.leave_by('a[href^="/dead-letters/redrive"]')
        assert "Redrive 1 letter?" in await page.run("document.body.textContent")
        await page.run("document.querySelector('#why').value = 'the trigger is mended'")
        await page.leave_by("form.confirm button")
        assert "1 letter was redriven." in await page.run("document.body.textContent")
        ((action, acting, keys),) = made.letters.done
        assert (action, acting.why, keys) == ("redrive", "the trigger is mended", [f"{GRANT}/5"])
        assert page.problems == []


async def test_held_people_are_released_by_clicks(tmp_path: Path) -> None:
    made = world()
    async with opened(tmp_path, made) as (page, origin):
        await page.goto(f"{origin}/people?grant={GRANT}")
        await page.leave_by(f'a[href="/people/release?grant={GRANT}&limit=data_storage"]')
        assert "Release 1 person?" in await page.run("document.body.textContent")
        await page.run("document.querySelector('#why').value = 'we bought storage'")
        await page.leave_by("form.confirm button")
        assert "1 person is released" in await page.run("document.body.textContent")
        assert made.releases.done == [("ada@desk", "we bought storage", 1)]
        assert page.problems == []


async def test_a_keyboard_leads_to_the_next_page_of_a_table_and_into_its_rows(
    tmp_path: Path,
) -> None:
    made = World()
    for number in range(450):
        made.outcome(f"{GRANT}/{number}", "covered", at_ms=BASE * 1000)
    async with opened(tmp_path, made) as (page, origin):
        await page.goto(f"{origin}/people")
        await page.run("document.querySelector('nav.pages a[rel=next]').focus()")
        await page.press("Enter")
        await page.until(
            "location.search === '?covered_page=2' && document.readyState !== 'loading'"
        )
        assert "201-400 of 450" in await page.run("document.body.textContent")
        await page.press("Tab")
        row = "document.activeElement.closest('#table-covered td') !== null"
        assert await page.run(row), "the next key is in the table, not at the top of the page"
        assert await violations(page) == []


async def test_an_address_typed_into_the_filter_is_not_in_the_address_line(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, world()) as (page, origin):
        await page.goto(f"{origin}/dead-letters")
        await page.run("document.querySelector('#email').value = 'ada@x.example'")
        await page.leave_by("form.filters button")
        assert "2 open letters" in await page.run("document.body.textContent")
        address = await page.run("location.href")
        assert "email_hash=" in address
        assert "ada" not in address
        assert page.problems == []
