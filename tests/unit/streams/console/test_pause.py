"""Pause and resume on the page Flow, over plain data."""

import pytest

from streams.control import PausedPart
from tests.support.console import Browser, console
from tests.support.console_story import Deployment


async def pause(browser: Browser, expect: int = 200, **fields: str) -> str:
    asked = {"part": "writes", "until": "2h", "why": "a migration"} | fields
    return await browser.post("/pause", expect, **asked)


async def test_a_pause_is_asked_for_confirmed_shown_and_ended() -> None:
    story = Deployment(empty=True)
    async with console(story.pages) as browser:
        flow = await browser.get("/")
        assert "Nothing is paused." in flow
        assert 'href="/pause?part=writes"' in flow
        asked = await browser.get("/pause?part=writes")
        assert "Within 5 seconds nothing is written to Salesforce." in asked
        assert 'name="until" value="1h"' in asked
        shown = await pause(browser)
        assert "paused writes until" in shown, "the note"
        assert "writes, by ada@desk until" in shown
        assert "a migration" in shown
        assert 'href="/pause?part=writes"' not in shown
        assert 'href="/pause?part=reading"' in shown
        (found,) = story.pausing.pauses
        assert (found.part, found.by, found.why) == (PausedPart.WRITES, "ada@desk", "a migration")
        assert "paused by ada@desk" in await browser.get("/resume?part=writes")
        assert "goes on" in await browser.post("/resume", part="writes")
        assert story.pausing.pauses == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"part": "everything"}, "everything cannot be paused"),
        ({"part": ""}, "nothing cannot be paused"),
        ({"until": "soon"}, "until soon: neither a date and time"),
        ({"until": "2020-01-01T00:00Z"}, "is over"),
    ],
)
async def test_what_cannot_be_a_pause_is_refused(fields: dict[str, str], said: str) -> None:
    story = Deployment(empty=True)
    async with console(story.pages) as browser:
        assert said in await pause(browser, 400, **fields)
        assert story.pausing.pauses == []


async def test_what_is_not_paused_cannot_be_resumed() -> None:
    async with console(Deployment(empty=True).pages) as browser:
        assert "writes is not paused" in await browser.get("/resume?part=writes", 409)
