"""Failure breakers on the page Flow, over plain data."""

import pytest

from tests.support.console import console
from tests.support.console_story import Deployment

REASON = "apex_error"
GIVEN = {"reason": REASON, "for": "2h", "why": "the trigger is mended"}


async def test_an_open_breaker_is_shown_asked_about_and_released() -> None:
    story = Deployment(reason=REASON)
    async with console(story.pages) as browser:
        flow = await browser.get("/")
        assert "bulk runs, for apex_error, since" in flow
        assert 'href="/dead-letters?reason=apex_error"' in flow
        assert 'href="/release?reason=apex_error"' in flow
        asked = await browser.get("/release?reason=apex_error")
        assert "12 of the last 400 contacts of bulk runs failed for it" in asked
        assert 'name="for" value="1h"' in asked
        shown = await browser.post("/release", **GIVEN)
        assert "released apex_error, which stopped bulk runs" in shown, "the note"
        assert "Nothing is paused." in shown
    (found,) = story.breakers.breakers.values()
    assert found.released_by == "ada@desk"
    assert story.breakers.why == ["the trigger is mended"]


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"reason": "too_long"}, 503, "no failure breaker has the reason"),
        ({"for": "for good"}, 400, "for for good"),
    ],
)
async def test_what_cannot_be_released_is_refused(
    fields: dict[str, str], status: int, said: str
) -> None:
    story = Deployment(reason=REASON)
    async with console(story.pages) as browser:
        assert said in await browser.post("/release", status, **(GIVEN | fields))
    assert story.breakers.breakers[REASON].is_open


async def test_nobody_is_asked_about_a_breaker_that_is_not_open() -> None:
    async with console(Deployment(empty=True).pages) as browser:
        said = await browser.get("/release?reason=apex_error", 409)
        assert "no failure breaker is open for apex_error" in said


async def test_a_reason_of_somebody_else_is_no_markup() -> None:
    async with console(Deployment().pages) as browser:
        assert "<img" not in await browser.get("/")
