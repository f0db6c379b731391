"""The page Grants: which address books are connected, whose they are, and which need a sign-in."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from aiohttp import web

from streams.commands.dead_letters.open_letters import masked_address
from streams.commands.nylas_application import missing_for_links, sign_in_links
from streams.console.audit_trail import AuditTrail
from streams.console.pages.flow import Figure
from streams.console.pages.revealed import back_to
from streams.console.paging import UnusablePage, page_of, page_parameter, with_parameters
from streams.console.shell import MenuEntry, Shell, require_act
from streams.console.state.grants import GrantFacts, GrantState
from streams.console.state.known import Followed
from streams.console.state.people import Coverage, PeopleState
from streams.console.tables import Cell, Column, Row, RowsOnDemand, Table
from streams.settings import NylasSettings

STATUSES = ("valid", "expired", "deleted")
TABLE = "grants"
PAGE = page_parameter(TABLE)

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
    Column("sign_in_link", "Link for it"),
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
        nylas: NylasSettings,
    ) -> None:
        """`nylas` has what the links for a new sign-in need."""
        self._shell, self._grants, self._people = shell, grants, people
        self._topics, self._audit = topics, audit
        self._link, self._missing = sign_in_links(nylas), missing_for_links(nylas)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The list, and the list with the owners' addresses."""
        return [
            web.get(self.entry.path, self._show),
            web.post(f"{self.entry.path}/reveal", self._reveal),
            web.get(f"{self.entry.path}/reveal", back_to(self.entry.path)),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        await self._ready()
        status = request.query.get("status", "")
        return self._page(request, status, str(request.rel_url), revealed=False)

    async def _reveal(self, request: web.Request) -> web.Response:
        person, form = require_act(request), await request.post()
        await self._ready()
        status, number = str(form.get("status", "")), str(form.get(PAGE, ""))
        count = self._shown_on(status, number)
        selection = {"status": status} if status else {}
        entry = await self._audit.begin(person.name, "grants reveal", "", selection, count)
        await self._audit.end(entry, count)
        masked = with_parameters(self.entry.path, status=status, **{PAGE: number})
        return self._page(request, status, masked, revealed=True)

    async def _ready(self) -> None:
        for topic in self._topics:
            await topic.ready()

    def _shown_on(self, status: str, number: str) -> int:
        """How many grants a page of the list shows. Raises web.HTTPBadRequest."""
        try:
            return len(page_of(self._table(status, revealed=False), number).rows)
        except UnusablePage as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    def _table(self, status: str, *, revealed: bool) -> Table:
        found = self._grants.by_status()
        grants = (
            found.get(status, []) if status else [each for some in found.values() for each in some]
        )

        def row(grant: str) -> Row:
            facts = self._grants.facts(grant)
            # The address of its owner is in the link only where it is shown beside it.
            link = self._link(facts.provider, facts.address if revealed else "")
            return grant_row(facts, self._people.grant(grant), link, revealed=revealed)

        rows = RowsOnDemand(grants, row)
        return Table(TABLE, "Address books", COLUMNS, rows, "no grant is known")

    def _page(
        self, request: web.Request, status: str, address: str, *, revealed: bool
    ) -> web.Response:
        """`address` is that of the masked page."""
        by_status = self._grants.by_status()
        return self._shell.page(
            request,
            "grants.html",
            "Grants",
            page="grants",
            tables=[self._table(status, revealed=revealed)],
            address=address,
            figures=figures({each: len(grants) for each, grants in by_status.items()}),
            chosen=status,
            statuses=STATUSES,
            revealed=revealed,
            masked=address,
            not_held=self._grants.not_held,
            missing=self._missing,
        )


def figures(counts: Mapping[str, int]) -> list[Figure]:
    """The numbers of grants by state."""
    expired = counts["expired"]
    return [
        Figure("Valid", f"{counts['valid']:,}", "address books are connected"),
        Figure("Expired", f"{expired:,}", "need a new sign-in", "bad" if expired else ""),
        Figure("Deleted", f"{counts['deleted']:,}", "their contacts are released"),
    ]


def grant_row(facts: GrantFacts, coverage: Coverage | None, link: str, *, revealed: bool) -> Row:
    """A grant, with the coverage of its people if any has an outcome.

    `link` is where its owner signs in again; empty without one.
    """
    share = coverage.share if coverage else None
    expired = facts.status == "expired"
    owner = facts.address if revealed else masked_address(facts.address)
    return [
        Cell(facts.grant, f"/people?grant={quote(facts.grant, safe='')}"),
        Cell(facts.status or "unknown", tone="bad" if expired else ""),
        Cell(_time(facts.since)),
        Cell(owner if facts.address else "–"),
        Cell(facts.provider or "–"),
        Cell(f"{coverage.eligible:,}" if coverage else "0"),
        Cell("–" if share is None else f"{share:.1%}"),
        Cell(f"{facts.last_event}, {_time(facts.last_event_at)}"),
        Cell("The owner has to sign in again" if expired else ""),
        Cell("Sign-in link", link, export=link) if expired and link else Cell(""),
    ]


def _time(epoch: int) -> str:
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d %H:%M} UTC" if epoch else "–"
