"""The page Runs: backfills, reconciles and replays, how far they are; starts and cancels them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import click
from aiohttp import web

from streams.commands.breakers import read_control
from streams.commands.follow import why_runs_wait
from streams.commands.plan_input import PlanError, parse_moment
from streams.commands.publishing import ACKNOWLEDGE_SECONDS, NotAcknowledged
from streams.commands.replay.command import Looked, ReplayOptions, start
from streams.commands.replay.preview import losses
from streams.commands.run_progress import Pace, time_left, totals
from streams.commands.run_requests import request_run
from streams.commands.runs import new_run, read_run_log, request_cancel, run_row, what_it_reads
from streams.console.audit_trail import Audit
from streams.console.reading import Reading, ReadingByKey, in_thread
from streams.console.shell import (
    PERSON,
    Confirmation,
    MenuEntry,
    Shell,
    require_act,
    text_fields,
)
from streams.console.tables import Cell, Column, Table
from streams.events import now_ms
from streams.runs import FINAL, ReplaySource, Run, RunKind, RunLog, RunState
from streams.selection import Selection, UnusableSelection, make_selection
from streams.settings import KafkaSettings

ResultT = TypeVar("ResultT")

# What a run that the console started says about who asked for it; the audit names the person.
BY = "console"

# Grants that one form can name. A longer list is `--all`, or the command's.
MAX_GRANTS = 100

# Since its preview a selection may have grown by so much, as in the command.
GROWTH = 0.05

COLUMNS = (
    Column("run", "Run"),
    Column("what", "What"),
    Column("asked_by", "Asked by"),
    Column("state", "State"),
    Column("progress", "Progress"),
    Column("left", "Time left"),
    Column("error", "Error"),
)

TONES = {RunState.DONE: "good", RunState.FAILED: "bad", RunState.CANCELLED: "warn"}


@dataclass(frozen=True, slots=True)
class RunFigures:
    """A run as the page shows it."""

    run_id: str
    run: Run
    row: tuple[str, ...]
    """As `contactstream runs` prints it."""
    left: str
    """The time left, in words."""
    cancel_requested: bool

    @property
    def is_over(self) -> bool:
        """Whether it needs no more work."""
        return self.run.state in FINAL


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of two weeks, the newest first, and what is known of the address books."""

    runs: Sequence[RunFigures]
    grants: Mapping[str, int]
    """Contacts of each grant when a run last read it to its end."""


@dataclass(frozen=True, slots=True)
class ReplayQuestion:
    """A replay as the form asks for it. Empty where nothing was said."""

    source: str
    since: str = ""
    until: str = ""
    grant: str = ""
    domain: str = ""
    outcome: str = ""
    reason: str = ""


class RunDoing(Protocol):
    """What the page has done: in Kafka, or in a test."""

    def request(self, run: Run) -> str:
        """Asks the reader for a run; returns its ID. Blocks. Raises click.ClickException."""

    def cancel(self, run_id: str) -> Run:
        """Asks the reader to end a run. Blocks. Raises click.ClickException."""

    def replay(self, looked: Looked, options: ReplayOptions, who: str) -> str:
        """Asks for the replay; the audit is written. Blocks. Raises click.ClickException."""


class RunsReader:
    """Reads the runs again and again, and estimates from that how long they still take."""

    def __init__(
        self,
        read: Callable[[], tuple[RunLog, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._clock = read, clock
        self._paces: dict[str, Pace] = {}

    def read(self) -> Runs:
        """The runs now. Blocks. Raises click.ClickException."""
        run_log, paused_by = self._read()
        now = time.time()
        self._paces = {
            run_id: self._paces.get(run_id) or Pace()
            for run_id, run in run_log.runs.items()
            if run.state not in FINAL
        }
        figures = [
            RunFigures(
                run_id,
                run,
                run_row(
                    run_id,
                    run,
                    run_log.progress(run_id),
                    cancel_requested=run_id in run_log.cancelled,
                    now=now,
                    paused_by=paused_by,
                    continued=run_log.continued.get(run_id, 0),
                ),
                self._left(run_id, run_log),
                run_id in run_log.cancelled,
            )
            for run_id, run in run_log.runs.items()
        ]
        figures.sort(key=lambda each: (each.run.requested_at, each.run_id), reverse=True)
        grants = {grant for progress in run_log.grants.values() for grant in progress}
        known = {grant: run_log.expected(grant) for grant in grants}
        return Runs(figures, {grant: size for grant, size in known.items() if size is not None})

    def _left(self, run_id: str, run_log: RunLog) -> str:
        pace = self._paces.get(run_id)
        if pace is None:
            return ""
        sums = totals(run_log.progress(run_id))
        return time_left(sums, pace.seconds_left(sums, self._clock()))


def kafka_runs(kafka: KafkaSettings) -> tuple[RunLog, str]:
    """The runs, and the reason of the breaker that pauses them. Raises click.ClickException."""
    return read_run_log(kafka), why_runs_wait(read_control(kafka), now_ms())


class KafkaRuns:
    """Does it in Kafka, by the functions of the commands."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def request(self, run: Run) -> str:
        """Asks the reader for a run; returns its ID. Blocks. Raises click.ClickException."""
        try:
            return request_run(self._kafka, run, ACKNOWLEDGE_SECONDS)
        except NotAcknowledged as error:
            raise click.ClickException(str(error)) from error

    def cancel(self, run_id: str) -> Run:
        """Asks the reader to end a run. Blocks. Raises click.ClickException."""
        return request_cancel(self._kafka, run_id)

    def replay(self, looked: Looked, options: ReplayOptions, who: str) -> str:
        """Asks for the replay. Blocks. Raises click.ClickException."""
        return start(self._kafka, looked, options, who)


def run_table(runs: Sequence[RunFigures], kind: str, state: str, *, may_act: bool) -> Table:
    """A row for each run that the filter takes; `state` is `open`, `over`, or empty for all."""
    rows = []
    for each in runs:
        if kind and each.run.kind.value != kind:
            continue
        if state and (state == "over") != each.is_over:
            continue
        run_id, what, by, words, progress, error = ("–" if one == "-" else one for one in each.row)
        cells = [
            Cell(run_id),
            Cell(what),
            Cell(by),
            Cell(words, tone=TONES.get(each.run.state, "")),
            Cell(progress),
            Cell(each.left or "–"),
            Cell(error),
        ]
        if may_act:
            ends = not each.is_over and not each.cancel_requested
            link = f"/runs/cancel?run={run_id}" if ends else ""
            cells.append(Cell("cancel …" if ends else "–", link))
        rows.append(cells)
    columns = (*COLUMNS, Column("action", "Do")) if may_act else COLUMNS
    return Table("runs", "Runs of the last two weeks, the newest first", columns, rows, "no run")


def asked_grants(text: str) -> tuple[str, ...]:
    """The grants in a text field, by commas, spaces or lines. Raises web.HTTPBadRequest."""
    grants = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if len(grants) > MAX_GRANTS:
        raise web.HTTPBadRequest(
            text=f"{len(grants)} grants are named, and at most {MAX_GRANTS} can be: leave the "
            "field empty for all, or ask for several runs"
        )
    return grants


def scope(run: Run, known: Mapping[str, int]) -> list[str]:
    """What a run of address books will do, with the numbers that are known."""
    chosen = known if run.grants is None else {each: known.get(each) for each in run.grants}
    sizes = [size for size in chosen.values() if size is not None]
    contacts = f"{sum(sizes):,} contacts"
    if run.grants is None:
        books = f"every address book of the application; {len(known):,} were read before"
        new = ", and address books that are new since then"
    else:
        books = f"{len(run.grants):,} address book{'' if len(run.grants) == 1 else 's'}"
        unread = len(run.grants) - len(sizes)
        new = f"; {unread:,} of them were never read" if unread else ""
    sentences = [f"It reads {books}, with {contacts} when they were last read{new}."]
    if run.kind is RunKind.RECONCILE:
        sentences.append(
            "It also looks for contacts that are gone at Nylas, and deletes them here; "
            "READER_MAX_DELETE_SHARE bounds how many."
        )
    if run.dry_run:
        sentences.append("It is a dry run: it reads and counts, and publishes nothing.")
    return sentences


def selection_of(question: ReplayQuestion, now: float) -> Selection:
    """What a question selects; `now` is in epoch seconds. Raises click.UsageError."""
    try:
        moments = [
            int(parse_moment(text, now, name) * 1000) if text else None
            for name, text in (("Since", question.since), ("Until", question.until))
        ]
        return make_selection(
            now_ms=int(now * 1000),
            since_ms=moments[0],
            until_ms=moments[1],
            grants=question.grant.split(),
            domains=question.domain.split(),
            outcomes=question.outcome.split(),
            reasons=question.reason.split(),
        )
    except (UnusableSelection, PlanError) as error:
        raise click.UsageError(str(error)) from error


def replay_sentences(looked: Looked) -> list[str]:
    """What a replay will do, with the numbers."""
    found, cost = looked.found, looked.cost
    more = "" if found.all_counted else "over "
    sentences = [
        f"It publishes {found.records:,} records of {more}{found.contacts:,} contacts to "
        "contacts.events again. Dedupe drops what is older than the newest that it knows.",
        f"It takes about {found.minutes(cost.pace)} min, at {cost.pace}.",
        f"It takes at most {found.calls:,} Salesforce calls, none for what stands there already.",
    ]
    if cost.calls_left is not None:
        sentences.append(f"That is {cost.calls_left.share(found.calls)}.")
    return [
        *sentences,
        *(f"{line[0].upper()}{line[1:]}." for line in losses(found, looked.selection)),
    ]


class RunsPage:
    """Shows runs, starts and cancels them."""

    entry = MenuEntry("runs", "Runs", "/runs")

    def __init__(
        self,
        shell: Shell,
        runs: Reading[Runs],
        doing: RunDoing,
        audit: Audit,
        previews: ReadingByKey[ReplayQuestion, Looked],
    ) -> None:
        self._shell, self._runs, self._doing = shell, runs, doing
        self._audit, self._previews = audit, previews

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The list, and for each action what is asked first."""
        return [
            web.get("/runs", self._show),
            web.get("/runs/start", self._ask_start),
            web.post("/runs/start", self._start),
            web.get("/runs/replay", self._ask_replay),
            web.post("/runs/replay", self._replay),
            web.get("/runs/cancel", self._ask_cancel),
            web.post("/runs/cancel", self._cancel),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        kind, state = request.query.get("kind", ""), request.query.get("state", "")
        runs = await self._runs.get()
        may_act = request[PERSON].may_act
        return self._shell.page(
            request,
            "runs.html",
            "Runs",
            page="runs",
            tables=[run_table(runs.runs, kind, state, may_act=may_act)],
            kind=kind,
            state=state,
            kinds=[each.value for each in RunKind],
            sources=[each.value for each in ReplaySource],
            at_work=sum(not each.is_over for each in runs.runs),
        )

    async def _ask_start(self, request: web.Request) -> web.Response:
        require_act(request)
        run = _asked_run(request.query)
        known = (await self._runs.get()).grants
        return self._shell.confirm(
            request,
            Confirmation(
                f"Start a {run.kind.value}?",
                scope(run, known),
                "/runs/start",
                f"Start the {run.kind.value}",
                {
                    "kind": run.kind.value,
                    "grants": " ".join(run.grants or ()),
                    "dry_run": "yes" if run.dry_run else "",
                },
                "/runs",
                asks_why=True,
            ),
            page="runs",
        )

    async def _start(self, request: web.Request) -> web.Response:
        person = require_act(request)
        form = text_fields(await request.post())
        run = _asked_run(form)
        action = f"{run.kind.value} started"
        selection = {"grants": list(run.grants)} if run.grants else {}
        count = len(run.grants) if run.grants else len((await self._runs.get()).grants)
        entry = await self._audit.begin(person.name, action, form.get("why", ""), selection, count)
        run_id = await in_thread(lambda: self._doing.request(run))
        await self._audit.end(entry, count)
        self._runs.forget()
        raise self._shell.note(
            f"{run_id} was asked for. The reader starts it within seconds.", "/runs"
        )

    async def _ask_replay(self, request: web.Request) -> web.Response:
        require_act(request)
        question = _asked_replay(request.query)
        looked = await self._previews.get(question)
        reasons = looked.objections(_options(question, "", agreed=True))
        if reasons:
            raise web.HTTPConflict(text="; ".join(reasons))
        fields = {name: getattr(question, name) for name in ReplayQuestion.__slots__}
        everything = looked.selection.takes_everything
        return self._shell.confirm(
            request,
            Confirmation(
                f"Replay {looked.found.records:,} records of contacts.{question.source}?",
                replay_sentences(looked),
                "/runs/replay",
                "Replay everything" if everything else f"Replay {looked.found.records:,} records",
                fields | {"expect": str(looked.found.records)},
                "/runs",
                asks_why=True,
                dangerous=everything,
            ),
            page="runs",
        )

    async def _replay(self, request: web.Request) -> web.Response:
        person = require_act(request)
        form = text_fields(await request.post())
        question = _asked_replay(form)
        looked = await self._previews.get(question)
        options = _options(question, form.get("why", ""), agreed=True, expected=_number(form))
        if reasons := looked.objections(options):
            raise web.HTTPConflict(text="; ".join(reasons))
        self._previews.forget(question)
        run_id = await in_thread(lambda: self._doing.replay(looked, options, person.name))
        self._runs.forget()
        raise self._shell.note(
            f"{run_id} replays {looked.found.records:,} records. The reader starts it within "
            "seconds.",
            "/runs",
        )

    async def _ask_cancel(self, request: web.Request) -> web.Response:
        require_act(request)
        run_id = request.query.get("run", "")
        found = next((one for one in (await self._runs.get()).runs if one.run_id == run_id), None)
        if found is None:
            raise web.HTTPNotFound(text=f"there is no run {run_id}")
        if found.is_over:
            raise web.HTTPConflict(text=f"{run_id} is over: {found.run.state.value}")
        return self._shell.confirm(
            request,
            Confirmation(
                f"Cancel the {what_it_reads(found.run)}?",
                [
                    f"{run_id}: {found.row[4]}. What it has published stays.",
                    "A cancelled run does not go on; start another one instead.",
                ],
                "/runs/cancel",
                "Cancel the run",
                {"run": run_id},
                "/runs",
                asks_why=True,
                dangerous=True,
            ),
            page="runs",
        )

    async def _cancel(self, request: web.Request) -> web.Response:
        person = require_act(request)
        form = text_fields(await request.post())
        run_id = form.get("run", "")
        entry = await self._audit.begin(
            person.name, "runs cancel", form.get("why", ""), {"run": run_id}, 1
        )
        run = await in_thread(lambda: self._doing.cancel(run_id))
        done = run.state not in FINAL
        await self._audit.end(entry, int(done))
        self._runs.forget()
        text = f"{run_id} is being cancelled." if done else f"{run_id} was over: {run.state.value}."
        raise self._shell.note(text, "/runs")


def _asked_run(fields: Mapping[str, str]) -> Run:
    """Raises web.HTTPBadRequest for a kind that is none of address books."""
    kind = fields.get("kind", "")
    if kind not in (RunKind.BACKFILL.value, RunKind.RECONCILE.value):
        raise web.HTTPBadRequest(text=f"{kind or 'nothing'} cannot be started like this")
    grants = asked_grants(fields.get("grants", ""))
    return new_run(
        RunKind(kind),
        everything=not grants,
        grants=grants,
        dry_run=fields.get("dry_run") == "yes",
        by=BY,
    )


def _asked_replay(fields: Mapping[str, str]) -> ReplayQuestion:
    names = ReplayQuestion.__slots__
    question = ReplayQuestion(**{name: fields.get(name, "").strip() for name in names})
    if question.source not in [each.value for each in ReplaySource]:
        raise web.HTTPBadRequest(text=f"there is no topic {question.source} to replay")
    return question


def _options(
    question: ReplayQuestion, why: str, *, agreed: bool, expected: int | None = None
) -> ReplayOptions:
    return ReplayOptions(
        ReplaySource(question.source), agreed=agreed, expected=expected, growth=GROWTH, why=why
    )


def _number(form: Mapping[str, str]) -> int:
    try:
        return int(form.get("expect", ""))
    except ValueError as error:
        raise web.HTTPBadRequest(text="the number that was confirmed is missing") from error
