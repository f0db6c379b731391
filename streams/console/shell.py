"""What all pages of the console share: the frame, tables with exports, confirmations, notes."""

import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import jinja2
import structlog
from aiohttp import web

from streams.console.access import Person
from streams.console.paging import (
    TablePage,
    UnusablePage,
    page_of,
    page_parameter,
    parameter_of,
    with_parameters,
)
from streams.console.rounds import with_pauses
from streams.console.tables import Table, csv_pieces, json_pieces
from streams.runtime.logs import where

log = structlog.get_logger()

PERSON = web.RequestKey("person", Person)
"""Who sent the request. Set before a page is asked."""

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "contactstream-theme"

# Notes that nobody has seen yet. One is shown right after the action that it tells of.
MAX_NOTES = 100


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """A page in the menu."""

    name: str
    title: str
    path: str


class Page(Protocol):
    """A page of the console."""

    entry: MenuEntry

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Its addresses. Those that change something are POST, and ask `Shell.require_act`."""


@dataclass(frozen=True, slots=True)
class Input:
    """A line of text that a person gives."""

    name: str
    label: str
    value: str
    """What stands in it at first."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a person is asked before something is done."""

    title: str
    sentences: Sequence[str]
    """What will happen, with the number."""
    action: str
    """The address that does it, by POST."""
    button: str
    fields: Mapping[str, str]
    """Sent along, among them the number as `expect`."""
    back: str
    """The address for who changes their mind."""
    inputs: Sequence[Input] = ()
    """What else a person is asked for."""
    asks_why: bool = False
    """Whether a reason has to be given, for the audit."""
    dangerous: bool = False


@dataclass(frozen=True, slots=True)
class LinkedPage:
    """A page of a table, and the addresses around it; an empty one leads nowhere."""

    shown: TablePage
    before: str = ""
    after: str = ""
    csv: str = ""
    json: str = ""


def linked_page(table: Table, address: str | None) -> LinkedPage:
    """The page of a table that an address asks for. Raises UnusablePage.

    None is an answer to a form, which has no address: the first page, without links.
    """
    if address is None:
        return LinkedPage(page_of(table, ""))
    parameter = page_parameter(table.name)
    shown = page_of(table, parameter_of(address, parameter))

    def beside(number: int) -> str:
        if not 1 <= number <= shown.pages:
            return ""
        # A note is shown once.
        link = with_parameters(address, **{parameter: str(number), "note": ""})
        return f"{link}#table-{table.name}"

    def export(kind: str) -> str:
        return with_parameters(address, export=f"{table.name}.{kind}", note="")

    return LinkedPage(
        shown, beside(shown.number - 1), beside(shown.number + 1), export("csv"), export("json")
    )


class Shell:
    """Renders pages into the frame. Holds the notes, and no state of the product."""

    def __init__(self, pages: Sequence[MenuEntry]) -> None:
        self._menu = pages
        self._notes: OrderedDict[str, str] = OrderedDict()
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("streams.console"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"count": _count, "share": _share, "moment": _moment}

    def page(
        self,
        request: web.Request,
        template: str,
        title: str,
        *,
        page: str = "",
        status: int = 200,
        tables: Sequence[Table] = (),
        address: str | None = None,
        **context: Any,
    ) -> web.Response:
        """The page as HTML, or one of its tables where the address asks for an export.

        `page` is the name of the menu entry. `tables` are found in the template by their names; the
        address says which page of each is shown. `address` is where the page is found by GET; the
        request's own, unless it answers a form. Raises web.HTTPBadRequest for a page of a table
        that is no number.
        """
        if (export := request.query.get("export")) and status == 200:
            return _export(export, tables)
        if address is None and request.method == "GET":
            address = str(request.rel_url)
        try:
            pages = {table.name: linked_page(table, address) for table in tables}
        except UnusablePage as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        theme = request.cookies.get(THEME_COOKIE, "auto")
        html = self._templates.get_template(template).render(
            title=title,
            page=page,
            menu=self._menu,
            person=request[PERSON],
            theme=theme if theme in THEMES else "auto",
            themes=THEMES,
            here=request.rel_url.path,
            note=self._notes.pop(request.query.get("note", ""), ""),
            tables={table.name: table for table in tables},
            pages=pages,
            **context,
        )
        return web.Response(text=html, content_type="text/html", status=status)

    def confirm(self, request: web.Request, asked: Confirmation, page: str = "") -> web.Response:
        """Asks a person before something is done."""
        return self.page(request, "confirm.html", asked.title, page=page, asked=asked)

    def problem(
        self, request: web.Request, title: str, text: str, status: int, page: str = ""
    ) -> web.Response:
        """Says why there is nothing to show, or why something was not done."""
        return self.page(request, "problem.html", title, page=page, status=status, text=text)

    def note(self, text: str, path: str) -> web.HTTPSeeOther:
        """After an action: leads to another page, which shows the text once. To be raised."""
        key = secrets.token_urlsafe(8)
        self._notes[key] = text
        while len(self._notes) > MAX_NOTES:
            self._notes.popitem(last=False)
        return web.HTTPSeeOther(f"{path}{'&' if '?' in path else '?'}note={key}")


def text_fields(form: Mapping[str, object]) -> dict[str, str]:
    """The fields of a form that are text."""
    return {name: value for name, value in form.items() if isinstance(value, str)}


def require_act(request: web.Request) -> Person:
    """Who acts. Raises web.HTTPForbidden, whose text says what is missing."""
    person = request[PERSON]
    if not person.may_act:
        raise web.HTTPForbidden(
            text=f"{person.name or 'you'} may read and not act: CONSOLE_ACTORS names who may act, "
            "by the identity that the proxy gives"
        )
    return person


def _export(asked: str, tables: Sequence[Table]) -> web.Response:
    name, _, kind = asked.rpartition(".")
    table = next((each for each in tables if each.name == name), None)
    if table is None or kind not in ("csv", "json"):
        names = ", ".join(f"{each.name}.csv, {each.name}.json" for each in tables) or "none"
        raise web.HTTPNotFound(text=f"there is no export {asked}; of this page there are: {names}")
    headers = {"Content-Disposition": f'attachment; filename="contactstream-{name}.{kind}"'}
    pieces, content_type = {
        "csv": (csv_pieces, "text/csv"),
        "json": (json_pieces, "application/json"),
    }[kind]
    body = _noted(with_pauses(pieces(table)), asked)
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)


async def _noted(pieces: AsyncIterator[bytes], export: str) -> AsyncIterator[bytes]:
    """The pieces. An error is logged here: the answer has begun, and its end will be missing."""
    try:
        async for piece in pieces:
            yield piece
    except Exception as error:
        log.exception("an export failed", export=export, error=where(error))
        raise


def _count(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"


def _share(number: float | None) -> str:
    return "–" if number is None else f"{number:.1%}"


def _moment(epoch_ms: int | None) -> str:
    if not epoch_ms:
        return "–"
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
