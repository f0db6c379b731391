"""The page Grants: which address books are connected, whose they are, and which need a sign-in."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from aiohttp import web

from streams.commands.dead_letters.open_letters import masked_address
from streams.console.audit_trail import AuditTrail
from streams.console.pages.flow import Figure
from streams.console.pages.revealed import back_to
from streams.console.shell import MenuEntry, Shell, require_act
from streams.console.state.grants import GrantFacts, GrantState
from streams.console.state.known import Followed
from streams.console.state.people import PeopleState
from streams.console.tables import Cell, Column, Table

STATUSES = ("valid", "expired", "deleted")

COLUMNS = (
    Column("grant", "Grant"),
    Column("status", "State"),
    Column("since", "Since"),
    Column("owner", "Owner"),
    Column("provider", "Provider"),
    Column("people", "People", number=True),
    Column("coverage", "Coverage", number=True),
    Column("last_event", "Last event"),
    Column("to_do", "To do"),
)


class GrantsPage:
    """Shows the grants from grants.events, with the coverage of each."""

    entry = MenuEntry("grants", "Grants", "/grants")

    def __init__(
        self,
        shell: Shell,
        grants: GrantState,
        people: PeopleState,
        topics: Sequence[Followed],
        audit: AuditTrail,
    ) -> None:
        self._shell, self._grants, self._people = shell, grants, people
        self._topics, self._audit = topics, audit

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The list, and the list with the owners' addresses."""
        return [
            web.get(self.entry.path, self._show),
            web.post(f"{self.entry.path}/reveal", self._reveal),
            web.get(f"{self.entry.path}/reveal", back_to(self.entry.path)),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        return await self._page(request, request.query.get("status", ""), revealed=False)

    async def _reveal(self, request: web.Request) -> web.Response:
        person = require_act(request)
        status = str((await request.post()).get("status", ""))
        count = len(self._selected(status))
        selection = {"status": status} if status else {}
        entry = await self._audit.begin(person.name, "grants reveal", "", selection, count)
        await self._audit.end(entry, count)
        return await self._page(request, status, revealed=True)

    def _selected(self, status: str) -> list[GrantFacts]:
        return [each for each in self._grants.all() if status in ("", each.status)]

    async def _page(self, request: web.Request, status: str, *, revealed: bool) -> web.Response:
        for topic in self._topics:
            await topic.ready()
        counts = Counter(each.status for each in self._grants.all())
        return self._shell.page(
            request,
            "grants.html",
            "Grants",
            page="grants",
            tables=[grants_table(self._selected(status), self._people, revealed=revealed)],
            figures=figures(counts),
            chosen=status,
            statuses=STATUSES,
            revealed=revealed,
            not_held=self._grants.not_held,
        )


def figures(counts: Counter[str]) -> list[Figure]:
    """The numbers of grants by state."""
    expired = counts["expired"]
    return [
        Figure("Valid", f"{counts['valid']:,}", "address books are connected"),
        Figure("Expired", f"{expired:,}", "need a new sign-in", "bad" if expired else ""),
        Figure("Deleted", f"{counts['deleted']:,}", "their contacts are released"),
    ]


def grants_table(grants: Sequence[GrantFacts], people: PeopleState, *, revealed: bool) -> Table:
    """A row for each grant."""
    rows = []
    for each in grants:
        coverage = people.grant(each.grant)
        share = coverage.share if coverage else None
        expired = each.status == "expired"
        owner = each.address if revealed else masked_address(each.address)
        rows.append(
            [
                Cell(each.grant, f"/people?grant={quote(each.grant, safe='')}"),
                Cell(each.status or "unknown", tone="bad" if expired else ""),
                Cell(_time(each.since)),
                Cell(owner if each.address else "–"),
                Cell(each.provider or "–"),
                Cell(f"{coverage.eligible:,}" if coverage else "0"),
                Cell("–" if share is None else f"{share:.1%}"),
                Cell(f"{each.last_event}, {_time(each.last_event_at)}"),
                Cell("The owner has to sign in again" if expired else ""),
            ]
        )
    return Table("grants", "Address books", COLUMNS, rows, "no grant is known")


def _time(epoch: int) -> str:
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d %H:%M} UTC" if epoch else "–"
