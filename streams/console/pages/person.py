"""The page One person: the timeline of a contact, an address or a record."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web

from streams.commands.dead_letters.open_letters import masked
from streams.commands.explain.answer import ContactAnswer, moment
from streams.commands.explain.command import details_text, link
from streams.commands.explain.question import Question, Subject, UnusableQuestion, parse_question
from streams.console.audit_trail import AuditTrail
from streams.console.pages.revealed import back_to
from streams.console.person_search import FoundPerson, PersonSearch
from streams.console.shell import MenuEntry, Shell, require_act
from streams.console.tables import Cell, Column, Table

PATH = "/person"

COLUMNS = (
    Column("time", "Time"),
    Column("what", "What"),
    Column("result", "Result"),
    Column("details", "Details"),
    Column("where", "Where"),
)


class PersonPage:
    """Shows what became of somebody; names and addresses only when they are revealed."""

    entry = MenuEntry("person", "One person", PATH)

    def __init__(self, shell: Shell, search: PersonSearch, audit: AuditTrail, org_url: str) -> None:
        self._shell, self._search = shell, search
        self._audit, self._org = audit, org_url

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The form and the answer, and the answer with what contacts.changes holds."""
        return [
            web.get(PATH, self._show),
            web.post(PATH, self._asked),
            web.post(f"{PATH}/reveal", self._reveal),
            web.get(f"{PATH}/reveal", back_to(PATH)),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        text = request.query.get("subject", "").strip()
        if not text:
            return self._page(request, None, None)
        question = asked_question(text)
        return self._page(request, question, await self._search.ask(question))

    async def _asked(self, request: web.Request) -> web.Response:
        """An address is asked by POST, so that no address line and no history holds it."""
        question = asked_question(str((await request.post()).get("subject", "")))
        if question.subject is not Subject.ADDRESS:
            raise web.HTTPSeeOther(f"{PATH}?subject={quote(question.value, safe='')}")
        return self._page(request, question, await self._search.ask(question))

    async def _reveal(self, request: web.Request) -> web.Response:
        person = require_act(request)
        question = asked_question(str((await request.post()).get("subject", "")))
        found = await self._search.ask(question)
        keys = sorted(found.contents)
        # The keys name nobody; an address would.
        entry = await self._audit.begin(person.name, "person reveal", "", {"keys": keys}, len(keys))
        await self._audit.end(entry, len(keys))
        return self._page(request, question, found, revealed=True)

    def _page(
        self,
        request: web.Request,
        question: Question | None,
        found: FoundPerson | None,
        *,
        revealed: bool = False,
    ) -> web.Response:
        contacts = found.answer.contacts if found else ()
        return self._shell.page(
            request,
            "person.html",
            "One person",
            page="person",
            tables=[timeline_table(place, each) for place, each in enumerate(contacts, 1)],
            subject=question.value if question else "",
            contacts=[contact_facts(each, found, self._org, revealed=revealed) for each in contacts]
            if found
            else [],
            notes=found.answer.notes if found else (),
            more=found.answer.more_contacts if found else 0,
            revealed=revealed,
            revealable=bool(found and found.contents),
        )


def asked_question(text: str) -> Question:
    """What is asked about. Raises web.HTTPBadRequest."""
    try:
        return parse_question(text)
    except UnusableQuestion as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def contact_facts(
    contact: ContactAnswer, found: FoundPerson, org_url: str, *, revealed: bool
) -> Mapping[str, Any]:
    """What the template shows of a contact above its timeline."""
    content = found.contents.get(contact.key)
    shown = ""
    if content is not None:
        shown = masked(content) if not revealed else ""
    return {
        "key": contact.key,
        "grant_status": contact.grant_status,
        "last": contact.last,
        "record": f"{contact.sobject} {contact.record_id}".strip(),
        "record_link": link(contact, org_url),
        "owner": contact.owner,
        "left_out": contact.left_out,
        "runs": runs(contact),
        "masked": shown,
        "content": pretty(content) if revealed and content is not None else "",
    }


def runs(contact: ContactAnswer) -> Sequence[str]:
    """The runs of the contact's grant, a line each."""
    return [
        f"{each.run_id} is {each.state}; this grant is {each.grant_state}" for each in contact.runs
    ]


def pretty(content: Mapping[str, Any]) -> str:
    """The contact as indented JSON."""
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()


def timeline_table(place: int, contact: ContactAnswer) -> Table:
    """The timeline of a contact, the oldest entry first."""
    rows = [
        [
            Cell(moment(entry.at_ms)),
            Cell(entry.what.replace("_", " ")),
            Cell(entry.result),
            Cell(details_text(entry)),
            Cell(entry.where),
        ]
        for entry in contact.entries
    ]
    caption = f"Timeline of {contact.key}"
    return Table(f"timeline_{place}", caption, COLUMNS, rows, "nothing", contact.left_out)
