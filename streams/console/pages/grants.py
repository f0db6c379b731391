"""The page Grants: which address books are connected, whose they are, and which need a sign-in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

from aiohttp import web

from streams.commands.contact_groups import groups_read
from streams.commands.dead_letters.open_letters import masked_address
from streams.commands.mailboxes import deletion_problems
from streams.commands.nylas_application import missing_for_links, sign_in_links
from streams.console.audit_trail import AuditTrail
from streams.console.pages.flow import Figure
from streams.console.pages.revealed import back_to
from streams.console.paging import UnusablePage, page_of, page_parameter, with_parameters
from streams.console.shell import MenuEntry, Shell, require_act, text_fields
from streams.console.state.control import ControlState
from streams.console.state.grants import GrantFacts, GrantState
from streams.console.state.known import Followed
from streams.console.state.people import Coverage, PeopleState
from streams.console.tables import Cell, Column, Row, RowsOnDemand, Table
from streams.mailboxes import Choice, MailboxRule, Why
from streams.settings import NylasSettings

STATUSES = ("valid", "expired", "deleted")
SELECTED, NOT_SELECTED = "selected", "not selected"
MAILBOXES = (SELECTED, NOT_SELECTED)
TABLE = "grants"
PAGE = page_parameter(TABLE)

COLUMNS = (
    Column("grant", "Grant"),
    Column("status", "State"),
    Column("since", "Since"),
    Column("owner", "Owner"),
    Column("mailbox", "Mailbox"),
    Column("provider", "Provider"),
    Column("people", "People", number=True),
    Column("coverage", "Coverage", number=True),
    Column("last_event", "Last event"),
    Column("to_do", "To do"),
    Column("sign_in_link", "Link for it"),
)


@dataclass(frozen=True, slots=True)
class GrantFilter:
    """Which grants the page shows; empty for all."""

    status: str
    """One of STATUSES."""
    mailbox: str
    """One of MAILBOXES."""

    def selection(self) -> dict[str, str]:
        """The filter as an address and the audit take it."""
        given = {"status": self.status, "mailbox": self.mailbox}
        return {name: value for name, value in given.items() if value}


class GrantsPage:
    """Shows the grants from grants.events, with the coverage of each."""

    entry = MenuEntry("grants", "Grants", "/grants")

    def __init__(
        self,
        shell: Shell,
        grants: GrantState,
        people: PeopleState,
        control: ControlState,
        topics: Sequence[Followed],
        audit: AuditTrail,
        nylas: NylasSettings,
        setting: MailboxRule,
    ) -> None:
        """`nylas` has what the links for a new sign-in need; `setting` is PEOPLE_MAILBOXES."""
        self._shell, self._grants, self._people = shell, grants, people
        self._control, self._setting = control, setting
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
        return self._page(request, _filter(request.query), str(request.rel_url), revealed=False)

    async def _reveal(self, request: web.Request) -> web.Response:
        person, form = require_act(request), text_fields(await request.post())
        await self._ready()
        chosen, number = _filter(form), form.get(PAGE, "")
        count = self._shown_on(chosen, number)
        entry = await self._audit.begin(person.name, "grants reveal", "", chosen.selection(), count)
        await self._audit.end(entry, count)
        masked = with_parameters(self.entry.path, **chosen.selection(), **{PAGE: number})
        return self._page(request, chosen, masked, revealed=True)

    async def _ready(self) -> None:
        for topic in self._topics:
            await topic.ready()

    def _shown_on(self, chosen: GrantFilter, number: str) -> int:
        """How many grants a page of the list shows. Raises web.HTTPBadRequest."""
        try:
            return len(page_of(self._table(chosen, revealed=False), number).rows)
        except UnusablePage as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    def _choice(self, facts: GrantFacts) -> Choice | None:
        """Whether the mailbox is selected; None of a deleted grant, which nobody reads."""
        if facts.status == "deleted":
            return None
        return self._control.table.selection.choose(facts.address or None, self._setting)

    def _takes(self, grant: str, mailbox: str) -> bool:
        if not mailbox:
            return True
        choice = self._choice(self._grants.facts(grant))
        return choice is not None and choice.selected == (mailbox == SELECTED)

    def _table(self, chosen: GrantFilter, *, revealed: bool) -> Table:
        found = self._grants.by_status()
        of_status = (
            found.get(chosen.status, [])
            if chosen.status
            else [each for some in found.values() for each in some]
        )
        grants = [each for each in of_status if self._takes(each, chosen.mailbox)]

        def row(grant: str) -> Row:
            facts = self._grants.facts(grant)
            # The address of its owner is in the link only where it is shown beside it.
            link = self._link(facts.provider, facts.address if revealed else "")
            mailbox = mailbox_words(self._choice(facts), revealed=revealed)
            if groups := groups_read(self._control.table.selection, grant, facts.provider):
                mailbox = f"{mailbox}; groups: {groups}"
            return grant_row(facts, mailbox, self._people.grant(grant), link, revealed=revealed)

        rows = RowsOnDemand(grants, row)
        return Table(TABLE, "Address books", COLUMNS, rows, "no grant is known")

    def _page(
        self, request: web.Request, chosen: GrantFilter, address: str, *, revealed: bool
    ) -> web.Response:
        """`address` is that of the masked page."""
        by_status = self._grants.by_status()
        return self._shell.page(
            request,
            "grants.html",
            "Grants",
            page="grants",
            tables=[self._table(chosen, revealed=revealed)],
            address=address,
            figures=figures({each: len(grants) for each, grants in by_status.items()}),
            chosen=chosen.status,
            statuses=STATUSES,
            mailbox=chosen.mailbox,
            mailboxes=MAILBOXES,
            problems=list(deletion_problems(self._control.table)),
            revealed=revealed,
            masked=address,
            not_held=self._grants.not_held,
            missing=self._missing,
        )


def _filter(given: Mapping[str, str]) -> GrantFilter:
    return GrantFilter(given.get("status", ""), given.get("mailbox", ""))


def mailbox_words(choice: Choice | None, *, revealed: bool) -> str:
    """Whether a mailbox is selected and by which entry, which is masked if it is an address."""
    if choice is None:
        return "–"
    if choice.why is Why.EVERYTHING:
        return SELECTED  # as all are: the table has no room to say it for each
    if not revealed and choice.why is Why.ADDRESS:
        choice = replace(choice, entry=masked_address(choice.entry))
    return str(choice)


def figures(counts: Mapping[str, int]) -> list[Figure]:
    """The numbers of grants by state."""
    expired = counts["expired"]
    return [
        Figure("Valid", f"{counts['valid']:,}", "address books are connected"),
        Figure("Expired", f"{expired:,}", "need a new sign-in", "bad" if expired else ""),
        Figure("Deleted", f"{counts['deleted']:,}", "their contacts are released"),
    ]


def grant_row(
    facts: GrantFacts, mailbox: str, coverage: Coverage | None, link: str, *, revealed: bool
) -> Row:
    """A grant, with the coverage of its people if any has an outcome.

    `mailbox` says whether it is selected. `link` is where its owner signs in again; empty without
    one.
    """
    share = coverage.share if coverage else None
    expired = facts.status == "expired"
    owner = facts.address if revealed else masked_address(facts.address)
    return [
        Cell(facts.grant, f"/people?grant={quote(facts.grant, safe='')}"),
        Cell(facts.status or "unknown", tone="bad" if expired else ""),
        Cell(_time(facts.since)),
        Cell(owner if facts.address else "–"),
        Cell(mailbox),
        Cell(facts.provider or "–"),
        Cell(f"{coverage.eligible:,}" if coverage else "0"),
        Cell("–" if share is None else f"{share:.1%}"),
        Cell(f"{facts.last_event}, {_time(facts.last_event_at)}"),
        Cell("The owner has to sign in again" if expired else ""),
        Cell("Sign-in link", link, export=link) if expired and link else Cell(""),
    ]


def _time(epoch: int) -> str:
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d %H:%M} UTC" if epoch else "–"
