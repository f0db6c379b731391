"""The page Dead letters: grouped by reason with the remedy, listed, one by one; and what to do."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from aiohttp import web

from streams.commands.dead_letters.actions import grown
from streams.commands.dead_letters.open_letters import OpenLetter, masked_contact, supersedes
from streams.commands.dead_letters.remedies import remedy
from streams.commands.dead_letters.report import Grouping, ReasonGroup, letter_facts, moment
from streams.console.letter_actions import Acting, AtWork, LetterActions, PlannedAction
from streams.console.letter_filter import (
    FORM_FIELDS,
    STAGES,
    STATES,
    LetterFilter,
    UnusableFilter,
    parse_filter,
)
from streams.console.pages.revealed import back_to
from streams.console.reading import in_thread
from streams.console.rounds import in_rounds
from streams.console.shell import Confirmation, MenuEntry, Shell, require_act
from streams.console.state.known import Followed
from streams.console.state.letters import LetterState
from streams.console.state.people import PeopleState
from streams.console.tables import Cell, Column, Row, RowsOnDemand, Table
from streams.topics import Topics

ResultT = TypeVar("ResultT")

PATH = "/dead-letters"

# What a person types as the reason of an action.
MAX_WHY = 200

GROUP_COLUMNS = (
    Column("letters", "Letters", number=True),
    Column("reason", "Reason"),
    Column("stages", "Stage"),
    Column("superseded", "Superseded", number=True),
    Column("first_failed", "First failed"),
    Column("last_failed", "Last failed"),
    Column("most_attempts", "Attempts", number=True),
    Column("sample", "For example"),
    Column("remedy", "What to do"),
)
LETTER_COLUMNS = (
    Column("id", "Letter"),
    Column("reason", "Reason"),
    Column("stage", "Stage"),
    Column("kind", "Kind"),
    Column("attempts", "Attempts", number=True),
    Column("first_failed", "First failed"),
    Column("last_failed", "Last failed"),
    Column("state", "State"),
)


@dataclass(frozen=True, slots=True)
class SelectedLetters:
    """The letters that a filter takes, by the offsets of their records."""

    letters: list[OpenLetter]
    superseded: set[str]
    """IDs of the letters whose contact has a newer outcome."""
    grouping: Grouping

    def add(self, letter: OpenLetter, *, superseded: bool) -> None:
        """Takes the next letter in."""
        self.letters.append(letter)
        if superseded:
            self.superseded.add(letter.letter_id)
        self.grouping.add(letter, superseded=superseded)

    @property
    def current(self) -> list[OpenLetter]:
        """Those that are not superseded."""
        return [each for each in self.letters if each.letter_id not in self.superseded]


class DeadLettersPage:
    """Shows open dead letters, and redrives or discards all that the filter takes."""

    entry = MenuEntry("dead_letters", "Dead letters", PATH)

    def __init__(
        self,
        shell: Shell,
        letters: LetterState,
        people: PeopleState,
        followed: Sequence[Followed],
        actions: LetterActions,
        topics: Topics,
    ) -> None:
        self._shell, self._letters, self._people = shell, letters, people
        self._followed, self._actions, self._topics = followed, actions, topics
        self._at_work = AtWork()

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The list, one letter, its reveal, and for each action a preview and the act."""
        return [
            web.get(PATH, self._list),
            web.post(PATH, self._asked),
            web.get(f"{PATH}/letter", self._letter),
            web.post(f"{PATH}/reveal", self._reveal),
            web.get(f"{PATH}/reveal", back_to(PATH)),
            web.get(f"{PATH}/{{action:redrive|discard}}", self._preview),
            web.post(f"{PATH}/{{action:redrive|discard}}", self._act),
        ]

    def _superseded(self, letter: OpenLetter) -> bool:
        last = self._people.last(letter.contact_key)
        return last is not None and supersedes(letter, last[1], last[0].status)

    async def _selected(self, wanted: LetterFilter) -> SelectedLetters:
        """The letters of a filter. Other requests run meanwhile: there may be 100,000 letters."""
        found = SelectedLetters([], set(), Grouping(self._letters.samples))
        async for letters in in_rounds(self._letters.all()):
            for letter in letters:
                if not wanted.takes(letter):
                    continue
                superseded = self._superseded(letter)
                if wanted.takes_state(superseded=superseded):
                    found.add(letter, superseded=superseded)
        return found

    async def _asked(self, request: web.Request) -> web.Response:
        """Leads from the form to the list.

        So no address line and no history holds an email address.
        """
        raise web.HTTPSeeOther(list_address(asked_filter(await request.post())))

    async def _list(self, request: web.Request) -> web.Response:
        if "email" in request.query:
            raise web.HTTPSeeOther(list_address(asked_filter(request.query)))
        for topic in self._followed:
            await topic.ready()
        wanted = asked_filter(request.query)
        selected = await self._selected(wanted)
        return self._shell.page(
            request,
            "dead_letters.html",
            "Dead letters",
            page="dead_letters",
            tables=[
                groups_table(selected.grouping.groups, wanted),
                letters_table(selected.letters, selected.superseded),
            ],
            fields={name: wanted.fields.get(name, "") for name in FORM_FIELDS},
            reasons=sorted(self._letters.backlog().by_reason),
            states=STATES,
            stages=STAGES,
            count=len(selected.letters),
            superseded=len(selected.superseded),
            query=urlencode(wanted.fields),
            filtered=not wanted.takes_everything,
            at_work=self._at_work.line,
            not_held=self._letters.not_held,
            unreadable=self._letters.unreadable,
        )

    async def _letter(self, request: web.Request) -> web.Response:
        opened = await self._opened(request.query.get("id", ""))
        return await self._facts(request, opened, reveal=False)

    async def _reveal(self, request: web.Request) -> web.Response:
        person = require_act(request)
        opened = await self._opened(str((await request.post()).get("id", "")))
        await in_thread(lambda: self._actions.note_reveal(person.name, opened.letter_id))
        return await self._facts(request, opened, reveal=True)

    async def _opened(self, letter_id: str) -> OpenLetter:
        for topic in self._followed:
            await topic.catch_up()
        opened = self._letters.get(letter_id)
        if opened is None:
            raise web.HTTPNotFound(
                text=f"{letter_id or 'without an ID'}: no open letter has this ID; it was "
                "redriven, discarded, or it expired"
            )
        return opened

    async def _facts(
        self, request: web.Request, opened: OpenLetter, *, reveal: bool
    ) -> web.Response:
        letter = await in_thread(lambda: self._actions.whole(opened))
        facts = letter_facts(
            letter,
            contact=masked_contact(letter, self._topics),
            superseded=self._superseded(opened),
            reveal=reveal,
        )
        return self._shell.page(
            request,
            "dead_letter.html",
            "One dead letter",
            page="dead_letters",
            letter_id=opened.letter_id,
            contact_key=opened.contact_key,
            facts=[(name.replace("_", " "), value) for name, value in facts.items() if value],
            revealed=reveal,
            query=urlencode({"id": opened.letter_id}),
        )

    async def _preview(self, request: web.Request) -> web.Response:
        require_act(request)
        action, wanted = request.match_info["action"], asked_filter(request.query)
        planned, superseded = await self._plan(action, wanted)
        if not planned.chosen:
            raise web.HTTPConflict(text=" ".join(nothing(action, planned, superseded)))
        return self._shell.confirm(
            request, confirmation(action, planned, superseded, wanted), page="dead_letters"
        )

    async def _act(self, request: web.Request) -> web.Response:
        person, form = require_act(request), await request.post()
        action, wanted = request.match_info["action"], asked_filter(form)
        expected = str(form.get("expect", ""))
        why = str(form.get("why", "")).strip()[:MAX_WHY]
        if not expected.isdecimal() or not why:
            raise web.HTTPBadRequest(text="the number of letters and the reason why are missing")
        if self._at_work.busy:
            raise web.HTTPConflict(text=f"{self._at_work.line}. Wait until it has ended.")
        planned, superseded = await self._plan(action, wanted)
        count = len(planned.chosen)
        if not count:
            raise web.HTTPConflict(text=" ".join(nothing(action, planned, superseded)))
        if grown(count, int(expected)):
            raise web.HTTPConflict(
                text=f"there were {int(expected):,} letters and now there are {count:,}; nothing "
                "was done. Look at them again."
            )
        acting = Acting(person.name, why, wanted.for_audit())
        done = await self._at_work.run(
            action, count, lambda say: self._actions.carry_out(action, planned, acting, say)
        )
        raise self._shell.note(outcome(action, done, count, planned.refused), PATH)

    async def _plan(self, action: str, wanted: LetterFilter) -> tuple[PlannedAction, int]:
        """What the action would do now, and how many letters stay because they are superseded."""
        for topic in self._followed:
            await topic.catch_up()
        selected = await self._selected(wanted)
        letters, left = selected.letters, 0
        if action == "redrive":
            letters, left = selected.current, len(selected.superseded)
        planned = await in_thread(lambda: self._actions.plan(action, letters))
        return planned, left


def asked_filter(given: Mapping[str, Any]) -> LetterFilter:
    """The filter of an address or a form. Raises web.HTTPBadRequest."""
    try:
        return parse_filter(given, time.time())
    except UnusableFilter as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def list_address(wanted: LetterFilter) -> str:
    """The address of the list of what a filter takes."""
    return f"{PATH}?{urlencode(wanted.fields)}" if wanted.fields else PATH


def letters(count: int) -> str:
    """`1 letter`, `12 letters`."""
    return f"{count:,} {'letter' if count == 1 else 'letters'}"


DONE = {"redrive": "redriven", "discard": "discarded"}


def confirmation(
    action: str, planned: PlannedAction, superseded: int, wanted: LetterFilter
) -> Confirmation:
    """What a person is asked, with the number."""
    count = len(planned.chosen)
    what = {
        "redrive": f"{letters(count)} will be published to contacts.events again, and closed. "
        "Dedupe decides about each as about any other event, so that nothing becomes older.",
        "discard": f"{letters(count)} will be closed for good, without being processed.",
    }[action]
    everything = ["Nothing limits the selection: these are all of them."]
    return Confirmation(
        f"{action.capitalize()} {letters(count)}?",
        [
            what,
            *(everything if wanted.takes_everything else []),
            *stays_open(planned.refused, superseded),
        ],
        f"{PATH}/{action}",
        f"{action.capitalize()} {letters(count)}",
        {**wanted.fields, "expect": str(count)},
        list_address(wanted),
        asks_why=True,
        dangerous=action == "discard",
    )


def stays_open(refused: Mapping[str, int], superseded: int) -> list[str]:
    """A sentence for each reason why letters of the filter stay open."""
    sentences = [
        f"{letters(count)} cannot be redriven and stay open: {why}."
        for why, count in refused.items()
    ]
    if superseded:
        sentences.append(
            f"{letters(superseded)} are superseded by something newer and stay open; discard them."
        )
    return sentences


def nothing(action: str, planned: PlannedAction, superseded: int) -> list[str]:
    """Why nothing would be done."""
    return [f"No letter would be {DONE[action]}.", *stays_open(planned.refused, superseded)]


def outcome(action: str, done: int | None, count: int, refused: Mapping[str, int]) -> str:
    """What became of an action, in a sentence or two."""
    if done is None:
        return f"{letters(count)} are being {DONE[action]}; this page says how far it is."
    were = "was" if done == 1 else "were"
    return " ".join([f"{letters(done)} {were} {DONE[action]}.", *stays_open(refused, 0)])


def groups_table(found: Sequence[ReasonGroup], wanted: LetterFilter) -> Table:
    """The letters by reason, the most frequent first."""
    rows = [
        [
            Cell(f"{group.count:,}"),
            Cell(group.reason, f"{PATH}?{urlencode({**wanted.fields, 'reason': group.reason})}"),
            Cell(", ".join(sorted(group.stages))),
            Cell(f"{group.superseded:,}"),
            Cell(moment(group.first_failed_ms)),
            Cell(moment(group.last_failed_ms)),
            Cell(f"{group.most_attempts:,}"),
            Cell(group.sample),
            Cell(
                " ".join(
                    dict.fromkeys(remedy(group.reason, stage) for stage in sorted(group.stages))
                )
            ),
        ]
        for group in found
    ]
    return Table("reasons", "By reason", GROUP_COLUMNS, rows, "no dead letter is open")


def letter_row(letter: OpenLetter, *, superseded: bool) -> Row:
    """A letter in the list."""
    return [
        Cell(letter.letter_id, f"{PATH}/letter?id={quote(letter.letter_id, safe='')}"),
        Cell(letter.reason),
        Cell(letter.stage),
        Cell(letter.kind.value),
        Cell(f"{letter.attempts:,}"),
        Cell(moment(letter.first_failed_ms)),
        Cell(moment(letter.last_failed_ms)),
        Cell("superseded" if superseded else "open"),
    ]


def letters_table(selected: Sequence[OpenLetter], superseded: set[str]) -> Table:
    """The letters one by one, the newest first."""

    def row(letter: OpenLetter) -> Row:
        return letter_row(letter, superseded=letter.letter_id in superseded)

    rows = RowsOnDemand(selected[::-1], row)
    return Table("letters", "One by one", LETTER_COLUMNS, rows, "the filter takes no letter")
