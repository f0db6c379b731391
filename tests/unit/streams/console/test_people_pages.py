"""The pages People, Grants, Dead letters and One person over plain data, in a browser's words."""

import time
from pathlib import Path

import orjson
import pytest

from streams.commands.explain.answer import Answer
from streams.commands.explain.question import Question, parse_question
from streams.console.letter_actions import Acting
from streams.console.person_search import FoundPerson, PersonSearch
from streams.console.reading import NotReadable
from streams.contact_groups import GroupRule
from streams.control_grants import held_record
from streams.control_selection import (
    GroupNames,
    group_names_record,
    groups_record,
    rule_record,
)
from streams.mailboxes import MailboxRule
from streams.settings import NylasSettings, load
from tests.support.console import Browser, console
from tests.support.people_story import BASE, HOSTILE, ORG, TOPICS, StillReading, World


@pytest.fixture
def world() -> World:
    return World()


async def send(browser: Browser, path: str, status: int = 200, **fields: str) -> str:
    """The body of the answer to a form, of which a field may have any name."""
    async with browser.client.post(path, data=fields, headers=browser.origin) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text


async def exported(browser: Browser, path: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = orjson.loads(await browser.get(path))
    return found


async def test_people_shows_coverage_in_total_and_by_grant_and_links_to_the_records(
    world: World,
) -> None:
    for number in range(3):
        world.outcome(f"g1/{number}", "created", first=True, at_ms=BASE * 1000)
    world.outcome("g2/1", "ambiguous", candidates=["003X", "00QY"], at_ms=BASE * 1000)
    world.outcome("g2/2", "skipped", reason="role_address")
    async with console(world.pages) as browser:
        page = await browser.get("/people")
        assert "75.0%" in page
        assert "3 of 4 people have a record" in page
        assert f'href="{ORG}/003X"' in page
        assert 'href="/person?subject=g2%2F1"' in page
        rows = await exported(browser, "/people?export=coverage.json")
        assert [(row["grant"], row["eligible"], row["coverage"]) for row in rows] == [
            ("g1", "3", "100.0%"),
            ("g2", "1", "0.0%"),
        ]
        assert await exported(browser, "/people?export=skipped.json") == [
            {"reason": "role_address", "contacts": "1"}
        ]
        (day,) = await exported(browser, "/people?export=days.json")
        assert (day["found"], day["created"]) == ("0", "3")
        assert "The people of g2" in await browser.get("/people?grant=g2")


async def test_people_shows_who_is_held_or_only_planned_and_only_if_there_are_any(
    world: World,
) -> None:
    world.outcome("g1/1", "created")
    async with console(world.pages) as browser:
        page = await browser.get("/people")
        assert "beyond a limit" not in page
        assert "nothing is written in report-only" not in page
        world.outcome("g1/2", "held", reason="creations_per_day")
        world.outcome("g1/3", "planned", reason="create")
        page = await browser.get("/people")
        assert "beyond a limit, until a person decides" in page
        assert "nothing is written in report-only" in page
        (row,) = await exported(browser, "/people?export=coverage.json")
        assert (row["eligible"], row["held"], row["coverage"]) == ("3", "1", "33.3%")
        (held,) = await exported(browser, "/people?export=held.json")
        assert (held["contact"], held["limit"]) == ("g1/2", "creations_per_day")
        world.outcome("g1/2", "created")
        assert await exported(browser, "/people?export=held.json") == []
        assert "g2/1" not in await browser.get("/people?grant=g1")


async def test_held_people_are_released_after_a_question_with_a_reason(world: World) -> None:
    world.outcome("g1/2", "held", reason="creations_per_day")
    async with console(world.pages) as browser:
        page = await browser.get("/people")
        assert 'href="/people/release">Release all 1 …</a>' in page
        asked = await browser.get("/people/release")
        assert "Release 1 person?" in asked
        assert "1 creations_per_day" in asked
        for lacking in ({"expect": "1"}, {"why": "checked"}, {"expect": "x", "why": "checked"}):
            await browser.post("/people/release", 400, **lacking)
        assert world.releases.done == []
        said = await browser.post("/people/release", expect="1", why=" checked ")
        assert "1 person is released; run 20261130T120000Z-replay-1" in said
        assert world.releases.done == [("ada@desk", "checked", 1)]
        assert "Release all" not in await browser.get("/people"), "nobody is held any more"
        assert "nobody of these is held" in await browser.get("/people/release", 409)


async def test_a_release_is_of_one_grant_or_one_limit_and_of_no_more_people_than_were_shown(
    world: World,
) -> None:
    world.outcome("g1/1", "held", reason="creations_per_day")
    world.outcome("g2/1", "held", reason="data_storage")
    async with console(world.pages) as browser:
        page = await browser.get("/people")
        assert 'href="/people/release?limit=data_storage"' in page
        assert 'href="/people/release?grant=g1"' in await browser.get("/people?grant=g1")
        assert "Only the people of g1" in await browser.get("/people/release?grant=g1")
        assert "no such" not in await browser.get("/people/release?limit=data_storage")
        unknown = await browser.get("/people/release?limit=data_storrage", 400)
        assert "data_storage" in unknown, "the closest one"
        for number in range(40):
            world.outcome(f"g1/more{number}", "held", reason="creations_per_day")
        grew = await browser.post("/people/release", 409, expect="2", why="checked")
        assert "there were 2 held people and now there are 42" in grew
        failed = await browser.post("/people/release", 409, expect="42", why="the broker is away")
        assert "repeat the command" in failed
        assert world.releases.done == []


async def test_people_says_that_the_topic_is_still_being_read(world: World) -> None:
    world.topic = StillReading()
    async with console(world.pages) as browser:
        for path in ("/people", "/grants", "/dead-letters"):
            assert "7 records so far" in await browser.get(path, 503)


async def test_nothing_from_outside_becomes_markup(world: World) -> None:
    world.outcome(f"g/{HOSTILE}", "covered", id=HOSTILE)
    world.grant(HOSTILE, "grant.created", provider=HOSTILE)
    world.letters.add(f"g/{HOSTILE}", reason=HOSTILE)
    (letter_id,) = world.letters.whole_letters
    async with console(world.pages) as browser:
        for path in ("/people", "/grants", "/dead-letters", f"/people?grant={HOSTILE}"):
            assert HOSTILE not in await browser.get(path)
        assert HOSTILE not in await send(browser, "/dead-letters/reveal", id=letter_id)
        assert HOSTILE not in await send(browser, "/person", subject=HOSTILE)


async def test_grants_shows_who_needs_a_sign_in_and_an_owner_only_with_an_audit(
    world: World,
) -> None:
    world.grant("g1", "grant.listed", email="ada@acme.example", provider="google")
    world.grant("g2", "grant.expired")
    world.outcome("g1/1", "created")
    async with console(world.pages) as browser:
        page = await browser.get("/grants")
        assert "ada@acme.example" not in page
        assert "a***@a***" in page
        assert "The owner has to sign in again" in page
        rows = await exported(browser, "/grants?status=expired&export=grants.json")
        assert [row["grant"] for row in rows] == ["g2"]
        assert world.audit.entries == []
        revealed = await send(browser, "/grants/reveal")
        assert "ada@acme.example" in revealed
        (entry,) = world.audit.entries
        assert (entry.actor, entry.action, entry.count) == ("ada@desk", "grants reveal", 2)


async def test_grants_says_whether_a_mailbox_is_selected_and_filters_by_it(world: World) -> None:
    world.grant("g1", "grant.listed", email="ada@acme.example", provider="google")
    world.grant("g2", "grant.listed", email="bob@else.example", provider="google")
    world.grant("g3", "grant.listed", email="eve@sales.example", provider="google")
    world.grant("g4", "grant.deleted")
    world.mailboxes = MailboxRule(("ada@acme.example", "*@sales.example"))
    async with console(world.pages) as browser:
        rows = await exported(browser, "/grants?export=grants.json")
        assert {row["grant"]: row["mailbox"] for row in rows} == {
            "g1": "selected by a***@a***",
            "g2": "not selected",
            "g3": "selected by ****@s***",
            "g4": "–",
        }
        found = await exported(browser, "/grants?mailbox=selected&export=grants.json")
        assert [row["grant"] for row in found] == ["g1", "g3"]
        found = await exported(browser, "/grants?mailbox=not+selected&export=grants.json")
        assert [row["grant"] for row in found] == ["g2"]
        revealed = await send(browser, "/grants/reveal", mailbox="selected")
        assert "selected by ada@acme.example" in revealed
        assert "bob@else.example" not in revealed
        (entry,) = world.audit.entries
        assert (entry.selection, entry.count) == ({"mailbox": "selected"}, 2)


async def test_grants_says_which_contact_groups_a_mailbox_has(world: World) -> None:
    world.grant("g1", "grant.listed", email="ada@acme.example", provider="google")
    world.grant("g2", "grant.listed", email="bob@acme.example", provider="ews")
    world.decide(groups_record(TOPICS, GroupRule(("Cust*",)), 1_000))
    world.decide(group_names_record(TOPICS, GroupNames("g1", {"1": "Customers", "2": "VIP"}, 9)))
    async with console(world.pages) as browser:
        rows = await exported(browser, "/grants?export=grants.json")
        assert {row["grant"]: row["mailbox"] for row in rows} == {
            "g1": "selected; groups: Customers",
            "g2": "selected; groups: none: ews has no contact groups",
        }


async def test_grants_obeys_the_rule_in_force_and_names_deletions_that_wait(world: World) -> None:
    world.grant("g1", "grant.listed", email="ada@acme.example", provider="google")
    async with console(world.pages) as browser:
        (row,) = await exported(browser, "/grants?export=grants.json")
        assert row["mailbox"] == "selected"
        assert "contactstream grants confirm" not in await browser.get("/grants")
        world.decide(rule_record(TOPICS, MailboxRule(("bob@acme.example",)), 1_000))
        world.decide(held_record(TOPICS, ["g7", "g8", "g9"]))
        (row,) = await exported(browser, "/grants?export=grants.json")
        assert row["mailbox"] == "not selected"
        page = await browser.get("/grants")
        assert "3 grants were deleted" in page
        assert "contactstream grants confirm" in page
        world.decide(held_record(TOPICS, []))
        assert "contactstream grants confirm" not in await browser.get("/grants")


async def test_a_grant_that_needs_a_sign_in_has_the_link_and_an_address_in_it_only_when_revealed(
    world: World,
) -> None:
    world.grant("g1", "grant.listed", email="ada@acme.example", provider="google")
    world.grant("g2", "grant.expired", email="bob@acme.example", provider="microsoft")
    async with console(world.pages) as browser:
        expired, valid = await exported(browser, "/grants?export=grants.json")
        assert (valid["grant"], valid["sign_in_link"]) == ("g1", "")
        link = expired["sign_in_link"]
        assert link.startswith("https://api.us.nylas.com/v3/connect/auth?client_id=acme-app&")
        assert "provider=microsoft" in link
        assert "login_hint" not in link
        assert link.replace("&", "&amp;") in await browser.get("/grants")
        assert "login_hint=bob%40acme.example" in await send(browser, "/grants/reveal")
    world.nylas = load(NylasSettings, {})
    async with console(world.pages) as browser:
        page = await browser.get("/grants")
        assert "set NYLAS_CLIENT_ID and NYLAS_REDIRECT_URI" in page
        (found,) = await exported(browser, "/grants?status=expired&export=grants.json")
        assert found["sign_in_link"] == ""


async def test_dead_letters_are_grouped_with_their_remedy_and_listed_by_the_filter(
    world: World,
) -> None:
    world.letters.add("g1/1")
    world.letters.add("g1/2")
    world.letters.add("g2/1", reason="apex_error")
    async with console(world.pages) as browser:
        page = await browser.get("/dead-letters")
        assert "3 open letters" in page
        assert "Lengthen the field in Salesforce" in page
        assert "ada@x.example" not in page
        for query, count in (
            ("reason=apex_error", 1),
            ("grant=g1", 2),
            ("key=g2/1", 1),
            ("kind=deleted", 0),
            ("since=1h", 3),
            ("until=2026-01-01T00:00Z", 0),
            ("state=superseded", 0),
        ):
            found = await exported(browser, f"/dead-letters?{query}&export=letters.json")
            assert len(found) == count, query
        assert "no contact key" in await browser.get("/dead-letters?key=nobody", 400)
        assert "state other" in await browser.get("/dead-letters?state=other", 400)


async def test_dead_letters_are_filtered_by_the_stage(world: World) -> None:
    world.letters.add("g1/1")
    world.letters.add("g1/2", stage="dedupe")
    async with console(world.pages) as browser:
        found = await exported(browser, "/dead-letters?stage=dedupe&export=letters.json")
        assert [each["stage"] for each in found] == ["dedupe"]
        await send(browser, "/dead-letters/discard", stage="dedupe", expect="1", why="tidy")
        assert world.letters.done[0][1].selection == {"stage": "dedupe"}
        assert "did you mean sink?" in await browser.get("/dead-letters?stage=sinks", 400)


async def test_dead_letters_are_filtered_by_an_address_that_no_address_line_holds(
    world: World,
) -> None:
    world.letters.add("g1/1", email="ada@acme.example")
    world.letters.add("g1/2", email="bob@acme.example")
    world.letters.add("g1/3", email="ada@acme.example", reason="apex_error")
    async with console(world.pages) as browser:
        asked = {"email": "Ada@ACME.example", "reason": "apex_error"}
        async with browser.client.post(
            "/dead-letters", data=asked, headers=browser.origin
        ) as answer:
            address, text = str(answer.url), await answer.text()
        assert "1 open letter<" in text
        assert "acme" not in address.lower()
        assert "acme.example" not in text.lower()
        async with browser.client.get(
            "/dead-letters?email=ada@acme.example", allow_redirects=False
        ) as answer:
            assert answer.status == 303, "typed into the address line, it is replaced there"
            chosen = answer.headers["Location"]
        assert "ada" not in chosen
        found = await exported(browser, f"{chosen}&export=letters.json")
        assert len(found) == 2
        hashed = chosen.partition("email_hash=")[2]
        await send(browser, "/dead-letters/discard", email_hash=hashed, expect="2", why="she left")
        ((_, acting, keys),) = world.letters.done
        assert keys == ["g1/1", "g1/3"]
        assert acting.selection == {"email_hash": hashed}
        assert "no email address" in await send(browser, "/dead-letters", 400, email="ada")
        assert "email_hash" in await browser.get("/dead-letters?email_hash=ada", 400)


async def test_a_redrive_says_the_number_first_and_takes_all_that_the_filter_takes(
    world: World,
) -> None:
    world.letters.add("g1/1")
    world.letters.add("g1/2")
    world.letters.add("g2/1", reason="apex_error")
    world.letters.add("g1/3", reason="no_contact_id")
    world.outcome("g1/2", "created", version=BASE + 1)  # newer than the letter
    async with console(world.pages) as browser:
        asked = await browser.get("/dead-letters/redrive?grant=g1")
        assert "Redrive 1 letter?" in asked
        assert "1 letter cannot be redriven" in asked
        assert "superseded" in asked
        assert world.letters.done == []
        done = await send(
            browser, "/dead-letters/redrive", grant="g1", expect="1", why="the field is longer"
        )
        assert "1 letter was redriven." in done
        ((action, acting, keys),) = world.letters.done
        assert (action, keys) == ("redrive", ["g1/1"])
        assert acting == Acting("ada@desk", "the field is longer", {"grants": ("g1",)})
        again = await browser.get("/dead-letters/redrive?grant=g1", 409)
        assert "No letter would be redriven" in again


async def test_a_selection_that_has_grown_since_the_preview_is_refused(world: World) -> None:
    world.letters.add("g1/1")
    world.letters.add("g1/2")
    async with console(world.pages) as browser:
        page = await send(browser, "/dead-letters/discard", 409, expect="1", why="tidy")
        assert "there were 1 letters and now there are 2" in page
        await send(browser, "/dead-letters/discard", 400, expect="2")
        assert world.letters.done == []
        assert "2 letters were discarded." in await send(
            browser, "/dead-letters/discard", expect="2", why="tidy"
        )


async def test_one_letter_can_be_taken_alone(world: World) -> None:
    world.letters.add("g1/1")
    world.letters.add("g1/2")
    first, _ = world.letters.whole_letters
    async with console(world.pages) as browser:
        await send(browser, "/dead-letters/discard", id=first, expect="1", why="tidy")
        ((_, acting, keys),) = world.letters.done
        assert keys == ["g1/1"]
        assert acting.selection == {"id": first}
        assert "no open letter has this ID" in await browser.get(
            f"/dead-letters/letter?id={first}", 404
        )


async def test_an_action_that_fails_says_so(world: World) -> None:
    world.letters.add("g1/1")
    async with console(world.pages) as browser:
        page = await send(
            browser, "/dead-letters/redrive", 503, expect="1", why="the broker is away"
        )
        assert "it was not written" in page


async def test_one_letter_is_masked_until_it_is_revealed(world: World) -> None:
    world.letters.add("g1/1")
    (letter_id,) = world.letters.whole_letters
    async with console(world.pages) as browser:
        page = await browser.get(f"/dead-letters/letter?id={letter_id}")
        assert "ada@x.example" not in page
        assert "a***@x***" in page
        assert world.letters.revealed == []
        revealed = await send(browser, "/dead-letters/reveal", id=letter_id)
        assert "quotes ada@x.example" in revealed
        assert world.letters.revealed == [("ada@desk", letter_id)]


async def test_who_may_only_read_neither_acts_nor_reveals(world: World) -> None:
    world.letters.add("g1/1")
    (letter_id,) = world.letters.whole_letters
    token, header = "a token of the test", {"X-User": "bob@acme.example"}
    settings = {"CONSOLE_IDENTITY_HEADER": "X-User", "CONSOLE_TRUSTED_PROXIES": "127.0.0.1"}
    async with console(world.pages, token, **settings) as browser:
        page = await browser.get("/dead-letters", headers=header)
        assert "Redrive" not in page
        assert "may read" in await browser.get("/dead-letters/redrive", 403, headers=header)
        browser.origin |= header
        for path in ("/dead-letters/redrive", "/dead-letters/discard"):
            await send(browser, path, 403, expect="1", why="x")
        for path in ("/dead-letters/reveal", "/person/reveal", "/grants/reveal"):
            await send(browser, path, 403, id=letter_id, subject="g1/ada")
        assert "g1/ada" in await send(browser, "/person", subject="ada@acme.example")
    assert world.letters.done == []
    assert world.letters.revealed == []
    assert world.audit.entries == []


async def test_one_person_is_masked_until_it_is_revealed(world: World) -> None:
    async with console(world.pages) as browser:
        assert "up to 15 seconds" in await browser.get("/person")
        page = await browser.get("/person?subject=g1/ada")
        assert "Lovelace" not in page
        assert "L*** a***@a***" in page
        assert "created" in page
        assert f'href="{ORG}/003A"' in page
        rows = await exported(browser, "/person?subject=g1/ada&export=timeline_1.json")
        assert rows[0]["details"] == "version 7, id 003A"
        revealed = await send(browser, "/person/reveal", subject="g1/ada")
        assert "Lovelace" in revealed
        (entry,) = world.audit.entries
        assert (entry.action, entry.selection) == ("person reveal", {"keys": ["g1/ada"]})
        assert len(world.asked) == 1  # kept for a minute


async def test_an_address_stays_out_of_the_address_line(world: World) -> None:
    async with console(world.pages) as browser:
        page = await send(browser, "/person", subject="Ada@Acme.example")
        assert "g1/ada" in page
        assert "?subject=ada" not in page
        assert "export=" not in page
        assert "neither a contact key" in await send(browser, "/person", 400, subject="ada")


async def test_a_search_that_takes_long_says_so_and_goes_on() -> None:
    def slow(question: Question) -> FoundPerson:
        time.sleep(0.2)
        return FoundPerson(Answer(question), {})

    search = PersonSearch(slow, within=0.01)
    asked = parse_question("g1/ada")
    with pytest.raises(NotReadable, match="goes on"):
        await search.ask(asked)
    patient = PersonSearch(slow, within=5.0)
    assert (await patient.ask(asked)).answer.question == asked


def test_the_templates_hold_no_inline_style_and_no_inline_script() -> None:
    folder = Path(__file__).parents[4] / "streams" / "console" / "templates"
    for name in ("people", "grants", "dead_letters", "dead_letter", "person"):
        text = (folder / f"{name}.html").read_text()
        assert "style=" not in text
        assert "<script" not in text
        assert "onclick" not in text
