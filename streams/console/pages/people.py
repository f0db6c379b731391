"""The page People: who is in Salesforce, how many were found, and about whom to decide.

Whom a limit holds is released here, after a question, with a reason for the audit.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote, urlencode

import click
from aiohttp import web

from streams.commands.dead_letters.actions import grown
from streams.commands.held import PlannedRelease
from streams.console.pages.flow import Figure
from streams.console.reading import NotReadable
from streams.console.releasing import Releasing
from streams.console.shell import Confirmation, MenuEntry, Shell, require_act, text_fields
from streams.console.sparkline import HEIGHT, WIDTH, sparkline
from streams.console.state.gauges import LARGEST_GRANTS
from streams.console.state.known import Followed
from streams.console.state.people import (
    OTHER,
    Coverage,
    GrantCoverage,
    ListedPerson,
    MatchDay,
    PeopleState,
    Standing,
)
from streams.console.tables import Cell, Column, Row, RowsOnDemand, Table

# Records of a person that the table shows. More make a decision no easier; `review` lists all.
SHOWN_RECORDS = 3
BLANKS = ("",) * SHOWN_RECORDS

RELEASE_PATH = "/people/release"

# Of a reason, as for the other actions of the console.
MAX_WHY = 200

ResultT = TypeVar("ResultT")

LISTS = {
    Standing.AMBIGUOUS: "ambiguous",
    Standing.COVERED: "covered",
    Standing.HELD: "held",
}


class PeoplePage:
    """Shows coverage, match rate, and the lists of `contactstream review`."""

    entry = MenuEntry("people", "People", "/people")

    def __init__(
        self,
        shell: Shell,
        people: PeopleState,
        topic: Followed,
        org_url: str,
        releasing: Releasing,
    ) -> None:
        self._shell, self._people, self._topic, self._org = shell, people, topic, org_url
        self._releasing = releasing

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The page, whose filter is the grant, and for a release what is asked first."""
        return [
            web.get(self.entry.path, self._show),
            web.get(RELEASE_PATH, self._ask_release),
            web.post(RELEASE_PATH, self._release),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        await self._topic.ready()
        people, grant = self._people, request.query.get("grant", "").strip()
        coverage = people.grant(grant) if grant else people.coverage()
        if coverage is None:
            coverage = Coverage(dict.fromkeys(Standing, 0))
        days = people.match_days()
        lists = {each: people.listed(each, grant) for each in LISTS}
        tables = [
            grants_table(people.grants(LARGEST_GRANTS)),
            skipped_table(people.skipped()),
            days_table(days),
            *(
                people_table(each, lists[each], self._org, missing(coverage, each, lists[each]))
                for each in LISTS
            ),
        ]
        return self._shell.page(
            request,
            "people.html",
            "People",
            page="people",
            tables=tables,
            grant=grant,
            figures=figures(coverage, None if grant else days),
            spark=sparkline([(day.day_ms / 1000, day.rate) for day in days]),
            spark_size=(WIDTH, HEIGHT),
            days=len(days),
            not_counted=people.not_counted,
            newest_ms=people.newest_ms,
            releases=releases(coverage.by_standing[Standing.HELD], lists[Standing.HELD], grant),
        )

    async def _ask_release(self, request: web.Request) -> web.Response:
        require_act(request)
        grant, limit = _selected(request.query)
        planned = await _answered(lambda: self._releasing.plan(grant, limit))
        return self._shell.confirm(request, confirmation(planned, grant, limit), page="people")

    async def _release(self, request: web.Request) -> web.Response:
        person = require_act(request)
        form = text_fields(await request.post())
        grant, limit = _selected(form)
        expected, why = form.get("expect", ""), form.get("why", "").strip()[:MAX_WHY]
        if not expected.isdecimal() or not why:
            raise web.HTTPBadRequest(text="the number of people and the reason why are missing")
        planned = await _answered(lambda: self._releasing.plan(grant, limit))
        if grown(planned.people, int(expected)):
            raise web.HTTPConflict(
                text=f"there were {int(expected):,} held people and now there are "
                f"{planned.people:,}; nobody was released. Look at them again."
            )
        run_id = await _answered(lambda: self._releasing.carry_out(planned, why, person.name))
        text = f"{people_count(planned.people)} released; run {run_id} has them written."
        raise self._shell.note(text, _list_address(grant))


def _selected(given: Mapping[str, str]) -> tuple[str, str]:
    """The grant and the limit of an address or a form; empty for all."""
    return given.get("grant", "").strip(), given.get("limit", "").strip()


def _list_address(grant: str) -> str:
    return f"/people?{urlencode({'grant': grant})}" if grant else "/people"


async def _answered(work: Callable[[], ResultT]) -> ResultT:
    """What a function of a command returns, as the console answers what it refuses."""
    try:
        return await asyncio.to_thread(work)
    except click.UsageError as error:
        raise web.HTTPBadRequest(text=error.format_message().removeprefix("--")) from error
    except NotReadable:
        raise
    except click.ClickException as error:
        raise web.HTTPConflict(text=error.format_message()) from error


def people_count(people: int) -> str:
    """`1 person is`, `12 people are`."""
    return "1 person is" if people == 1 else f"{people:,} people are"


def releases(held: int, listed: Sequence[ListedPerson], grant: str) -> list[tuple[str, str]]:
    """What can be released: words and the address of the question; nothing where nobody is held.

    `held` is how many are held, of whom `listed` are shown.
    """
    if not held:
        return []
    of_grant = {"grant": grant} if grant else {}
    found = [(f"Release all {held:,} …", of_grant)]
    limits = Counter(person.reason for person in listed if person.reason)
    if len(limits) > 1:
        found += [
            (f"Release those of {limit} …", {**of_grant, "limit": limit})
            for limit, _ in limits.most_common()
        ]
    return [
        (words, f"{RELEASE_PATH}?{urlencode(fields)}" if fields else RELEASE_PATH)
        for words, fields in found
    ]


def confirmation(planned: PlannedRelease, grant: str, limit: str) -> Confirmation:
    """What a person is asked, with the number."""
    people = planned.people
    everybody = ["Nothing limits the selection: these are all who are held."]
    return Confirmation(
        f"Release {people:,} {'person' if people == 1 else 'people'}?",
        [
            f"{people_count(people)} held: {planned}.",
            "They are written whatever the limits say, by a run of the reader that starts at once.",
            *([f"Only the people of {grant} are released."] if grant else []),
            *([] if grant or limit else everybody),
        ],
        RELEASE_PATH,
        f"Release {people:,} {'person' if people == 1 else 'people'}",
        {"grant": grant, "limit": limit, "expect": str(people)},
        _list_address(grant),
        asks_why=True,
        dangerous=True,
    )


def missing(coverage: Coverage, standing: Standing, listed: Sequence[ListedPerson]) -> int:
    """People who are counted, and no more listed because newer ones came."""
    return max(0, coverage.by_standing[standing] - len(listed))


def figures(coverage: Coverage, days: Sequence[MatchDay] | None) -> list[Figure]:
    """The most important numbers; the match rate is of all grants, and left out for one grant."""
    counts = coverage.by_standing
    share = coverage.share
    found = [
        Figure(
            "Coverage",
            "–" if share is None else f"{share:.1%}",
            f"{coverage.with_record:,} of {coverage.eligible:,} people have a record",
        ),
        Figure("Covered", f"{counts[Standing.COVERED]:,}", "another person has their address"),
        Figure(
            "Ambiguous",
            f"{counts[Standing.AMBIGUOUS]:,}",
            "fit the records of several people",
            "warn" if counts[Standing.AMBIGUOUS] else "",
        ),
        Figure(
            "Failed",
            f"{counts[Standing.FAILED]:,}",
            "see the dead letters",
            "bad" if counts[Standing.FAILED] else "",
        ),
        *_waiting(counts),
        Figure("Skipped", f"{counts[Standing.SKIPPED]:,}", "left out on purpose"),
    ]
    if days is not None:
        matched = sum(day.found for day in days)
        looked_up = matched + sum(day.created for day in days)
        rate = f"{matched / looked_up:.1%}" if looked_up else "–"
        found.insert(1, Figure("Match rate", rate, f"of {looked_up:,} first lookups"))
    return found


def _waiting(counts: Mapping[Standing, int]) -> list[Figure]:
    """People that a limit or the mode report-only keeps out; nothing while there are none."""
    found = []
    if held := counts[Standing.HELD]:
        found.append(Figure("Held", f"{held:,}", "beyond a limit, until a person decides", "warn"))
    if planned := counts[Standing.PLANNED]:
        found.append(Figure("Planned", f"{planned:,}", "nothing is written in report-only"))
    return found


def grants_table(grants: Sequence[GrantCoverage]) -> Table:
    """The coverage of the largest grants, and of the others together."""
    rows = []
    for each in grants:
        coverage, share = each.coverage, each.coverage.share
        if each.grant == OTHER and not any(coverage.by_standing.values()):
            continue
        link = "" if each.grant == OTHER else f"/people?grant={quote(each.grant, safe='')}"
        rows.append(
            [
                Cell("all others" if each.grant == OTHER else each.grant, link),
                Cell(f"{coverage.eligible:,}"),
                Cell(f"{coverage.with_record:,}"),
                Cell("–" if share is None else f"{share:.1%}"),
                Cell(f"{coverage.by_standing[Standing.COVERED]:,}"),
                Cell(f"{coverage.by_standing[Standing.AMBIGUOUS]:,}"),
                Cell(f"{coverage.by_standing[Standing.FAILED]:,}"),
                Cell(f"{coverage.by_standing[Standing.HELD]:,}"),
            ]
        )
    columns = (
        Column("grant", "Grant"),
        Column("eligible", "People", number=True),
        Column("with_record", "With a record", number=True),
        Column("coverage", "Coverage", number=True),
        Column("covered", "Covered", number=True),
        Column("ambiguous", "Ambiguous", number=True),
        Column("failed", "Failed", number=True),
        Column("held", "Held", number=True),
    )
    caption = f"Coverage of the {LARGEST_GRANTS} largest address books"
    return Table("coverage", caption, columns, rows, "no contact has an outcome yet")


def skipped_table(skipped: dict[str, int]) -> Table:
    """Why contacts are left out on purpose."""
    rows = [[Cell(reason), Cell(f"{contacts:,}")] for reason, contacts in skipped.items()]
    columns = (Column("reason", "Reason"), Column("contacts", "Contacts", number=True))
    return Table("skipped", "Contacts that are skipped on purpose", columns, rows, "none")


def days_table(days: Sequence[MatchDay]) -> Table:
    """First lookups by day, the newest first."""
    rows = [
        [
            Cell(web_date(day.day_ms)),
            Cell(f"{day.found:,}"),
            Cell(f"{day.created:,}"),
            Cell("–" if day.rate is None else f"{day.rate:.1%}"),
        ]
        for day in reversed(days)
    ]
    columns = (
        Column("day", "Day (UTC)"),
        Column("found", "Found", number=True),
        Column("created", "Created", number=True),
        Column("match_rate", "Match rate", number=True),
    )
    return Table("days", "First lookups by day", columns, rows, "no contact was looked up yet")


def people_table(
    standing: Standing, people: Sequence[ListedPerson], org_url: str, left_out: int
) -> Table:
    """People of one list, the newest first: with links to the records, or with their limit."""
    if standing is Standing.HELD:
        return _held_table(people, left_out)
    rows = RowsOnDemand(people, lambda person: person_row(person, org_url))
    columns = (
        Column("contact", "Contact"),
        Column("since", "Since"),
        Column("record_1", "Record"),
        Column("record_2", "Or"),
        Column("record_3", "Or"),
    )
    caption = {
        Standing.AMBIGUOUS: "Ambiguous: the name fits the records of several people",
        Standing.COVERED: "Covered: another person's record has the address",
    }[standing]
    return Table(LISTS[standing], caption, columns, rows, "none", left_out)


def _held_table(people: Sequence[ListedPerson], left_out: int) -> Table:
    rows = RowsOnDemand(people, held_row)
    columns = (Column("contact", "Contact"), Column("since", "Since"), Column("limit", "Limit"))
    caption = "Held: a limit keeps them out until a person releases them"
    return Table(LISTS[Standing.HELD], caption, columns, rows, "none", left_out)


def held_row(person: ListedPerson) -> Row:
    """A held person."""
    return [
        Cell(person.key, f"/person?subject={quote(person.key, safe='')}"),
        Cell(web_date(person.since_ms)),
        Cell(person.reason),
    ]


def person_row(person: ListedPerson, org_url: str) -> Row:
    """A covered or ambiguous person."""
    records = (*person.records, *BLANKS)[:SHOWN_RECORDS]
    return [
        Cell(person.key, f"/person?subject={quote(person.key, safe='')}"),
        Cell(web_date(person.since_ms)),
        *(_record_cell(record, org_url) for record in records),
    ]


def _record_cell(record: str, org_url: str) -> Cell:
    return Cell(record, f"{org_url.rstrip('/')}/{record}" if record else "")


def web_date(epoch_ms: int) -> str:
    """A date in UTC; a dash for none."""
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d}" if epoch_ms else "–"
