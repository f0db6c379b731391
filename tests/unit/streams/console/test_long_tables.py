"""Long tables: a page builds the rows that it shows, and other requests run during an export."""

import asyncio
import re
from collections import Counter

import orjson
import pytest

from streams.commands.dead_letters.open_letters import OpenLetter
from streams.console.letter_filter import LetterFilter
from streams.console.pages import dead_letters, grants, people
from streams.console.paging import PAGE_ROWS
from streams.console.rounds import ROUND_ITEMS
from streams.console.tables import PIECE_ROWS
from tests.support.console import Browser, console
from tests.support.people_story import BASE, World

PEOPLE, LETTERS, GRANTS = 1_000, 1_100, 900


@pytest.fixture(scope="module")
def world() -> World:
    made = World()
    for number in range(PEOPLE):
        made.outcome(
            f"g{number % 2}/{number:04}", "covered", candidates=["003X"], at_ms=BASE * 1000
        )
    for number in range(LETTERS):
        made.letters.add(f"g{number % 2}/{number:04}")
    for number in range(GRANTS):
        made.grant(f"g{number:04}", "grant.expired", email=f"owner{number:04}@acme.example")
    return made


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many rows were built, by the name of their function."""
    counts = Counter[str]()
    for module, name in (
        (people, "person_row"),
        (dead_letters, "letter_row"),
        (grants, "grant_row"),
    ):
        real = getattr(module, name)

        def counting(*given: object, real=real, name=name, **named: object) -> object:  # type: ignore[no-untyped-def]
            counts[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(module, name, counting)
    return counts


@pytest.mark.parametrize(
    ("path", "row"),
    [("/people", "person_row"), ("/dead-letters", "letter_row"), ("/grants", "grant_row")],
)
async def test_a_page_builds_only_the_rows_that_it_shows(
    world: World, built: Counter[str], path: str, row: str
) -> None:
    async with console(world.pages) as browser:
        await browser.get(path)
        assert built == {row: PAGE_ROWS}


@pytest.mark.parametrize(
    ("path", "table", "rows"),
    [
        ("/people", "covered", PEOPLE),
        ("/people?grant=g1", "covered", PEOPLE // 2),
        ("/dead-letters", "letters", LETTERS),
        ("/dead-letters?grant=g1", "letters", LETTERS // 2),
        ("/grants?status=expired", "grants", GRANTS),
    ],
)
async def test_the_links_lead_through_every_row_and_back(
    world: World, path: str, table: str, rows: int
) -> None:
    async with console(world.pages) as browser:
        seen, address, text = 0, path, ""
        while address:
            text = await browser.get(address)
            first, last, total = place(text)
            assert (first, total) == (seen + 1, rows)
            seen = last
            address = link(text, "next")
        assert seen == rows
        back = await browser.get(link(text, "prev"))
        assert place(back)[1] == first - 1
        assert f'id="table-{table}"' in back, "where the link leads, for the keyboard"
        assert "a page, from 1" in await browser.get(f"/people?{table}_page=x&covered_page=x", 400)


def place(text: str) -> tuple[int, int, int]:
    """The first and the last row shown, and their number."""
    found = re.search(r"<li>([\d,]+)-([\d,]+) of ([\d,]+)</li>", text)
    assert found is not None, text
    first, last, total = (int(each.replace(",", "")) for each in found.groups())
    return first, last, total


def link(text: str, rel: str) -> str:
    """Where a link leads; empty without one."""
    found = re.search(rf'<a href="([^"]+)" rel="{rel}">', text)
    return found.group(1).replace("&amp;", "&") if found else ""


async def most_at_once(browser: Browser, path: str, built: Counter[str], name: str) -> int:
    """How many rows a request builds at most between two turns of another task."""
    most, before, over = 0, built[name], False

    async def others() -> None:
        nonlocal most, before
        while not over:
            most, before = max(most, built[name] - before), built[name]
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await browser.get(path)
    over = True
    await beside
    return most


@pytest.mark.parametrize(
    ("path", "row", "rows"),
    [
        ("/people?export=covered.json", "person_row", PEOPLE),
        ("/dead-letters?export=letters.json", "letter_row", LETTERS),
        ("/grants?export=grants.json", "grant_row", GRANTS),
    ],
)
async def test_others_get_their_turn_between_the_pieces_of_an_export(
    world: World, built: Counter[str], path: str, row: str, rows: int
) -> None:
    async with console(world.pages) as browser:
        assert 0 < await most_at_once(browser, path, built, row) <= PIECE_ROWS
        assert built[row] == rows
        async with browser.client.get(path) as answer:
            assert len(orjson.loads(await answer.read())) == rows
            assert answer.headers["Transfer-Encoding"] == "chunked"
            assert answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/dead-letters", "/dead-letters/discard"])
async def test_others_get_their_turn_while_dead_letters_are_filtered(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    looked_at = Counter[str]()
    real = LetterFilter.takes

    def counting(wanted: LetterFilter, letter: OpenLetter) -> bool:
        looked_at["letter"] += 1
        return real(wanted, letter)

    monkeypatch.setattr(LetterFilter, "takes", counting)
    async with console(world.pages) as browser:
        assert 0 < await most_at_once(browser, path, looked_at, "letter") <= ROUND_ITEMS
        assert looked_at["letter"] == LETTERS


async def test_owners_are_revealed_page_by_page_and_the_audit_says_how_many(world: World) -> None:
    async with console(world.pages) as browser:
        fields = {"status": "expired", "grants_page": "5"}
        async with browser.client.post(
            "/grants/reveal", data=fields, headers=browser.origin
        ) as answer:
            text = await answer.text()
        assert "owner0800@acme.example" in text
        assert "owner0799@acme.example" not in text
        assert "@acme" not in await browser.get(link(text, "prev"))
        entry = world.audit.entries[-1]
        assert (entry.action, entry.count) == ("grants reveal", GRANTS - 4 * PAGE_ROWS)
