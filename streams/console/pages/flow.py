"""The page Flow: whether contacts reach Salesforce now, and what is in the way."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import click
from aiohttp import web

from streams.commands.breakers import open_lines
from streams.commands.pauses import WHAT_STOPS, pause_line
from streams.commands.status.figures import (
    HIGH_ERROR_SHARE,
    LATE_SECONDS,
    LOW_BUDGET_SHARE,
    CallFigures,
    StageFigures,
    Status,
    duration,
    needs_a_person,
    stopped,
)
from streams.console.breaker_release import BreakerRelease
from streams.console.charts import Chart, chart, per_second
from streams.console.history import History, Lines
from streams.console.measures import FAILED, LAGS, RATES, STAGES
from streams.console.pausing import Pausing
from streams.console.reading import NotReadable, Reading, in_thread
from streams.console.shell import Confirmation, Input, MenuEntry, Shell, require_act, text_fields
from streams.console.tables import Cell, Column, Table
from streams.control import RELEASE_OBEYED_SECONDS, FailureBreaker, Pause, PausedPart
from streams.control_mode import ModeInForce

COLUMNS = (
    Column("stage", "Stage"),
    Column("workers", "Workers", number=True),
    Column("lag_records", "Lag, records", number=True),
    Column("lag_seconds", "Lag, time", number=True),
    Column("records_per_second", "Records/s", number=True),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its name."""

    label: str
    value: str
    detail: str = ""
    tone: str = ""


class FlowPage:
    """Shows the same as `contactstream status`."""

    entry = MenuEntry("flow", "Flow", "/")

    def __init__(
        self,
        shell: Shell,
        status: Reading[Status],
        calls: Reading[tuple[float, CallFigures | None]],
        history: History,
        pausing: Pausing,
        breaker_release: BreakerRelease,
    ) -> None:
        self._shell, self._status = shell, status
        self._calls, self._history = calls, history
        self._pausing, self._breaker_release = pausing, breaker_release

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The page, and for pause, resume and release what is asked first."""
        return [
            web.get("/", self._show),
            web.get("/pause", self._ask_pause),
            web.post("/pause", self._pause),
            web.get("/resume", self._ask_resume),
            web.post("/resume", self._resume),
            web.get("/release", self._ask_release),
            web.post("/release", self._release),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        _, calls = self._calls.known() or (0.0, None)
        status = replace(await self._status.get(), calls=calls)
        lines = await self._history.lines((*RATES.values(), *LAGS.values(), FAILED))
        problems = needs_a_person(status)
        return self._shell.page(
            request,
            "flow.html",
            "Flow",
            page="flow",
            tables=[stage_table(status.stages, status.now_ms)],
            headline=headline(problems),
            problems=problems,
            figures=figures(status),
            breakers=[(one.reason, stopped(one)) for one in status.breakers],
            pauses=status.pauses,
            parts_to_pause=_not_paused(status.pauses),
            charts=charts(lines),
            problem=lines.problem,
            at_ms=status.now_ms,
        )

    async def _ask_pause(self, request: web.Request) -> web.Response:
        require_act(request)
        part = _part(request.query)
        return self._shell.confirm(
            request,
            Confirmation(
                f"Pause {part.value}?",
                [
                    f"Within {RELEASE_OBEYED_SECONDS} seconds {WHAT_STOPS[part]}.",
                    "The pause survives restarts, and ends by itself. Nothing is lost.",
                ],
                "/pause",
                f"Pause {part.value}",
                {"part": part.value},
                "/",
                inputs=[Input("until", "Until when? 2h, 1d or 2026-01-31T18:00Z", "1h")],
                asks_why=True,
                dangerous=True,
            ),
            page="flow",
        )

    async def _pause(self, request: web.Request) -> web.Response:
        person = require_act(request)
        form = text_fields(await request.post())
        part, until, why = _part(form), form.get("until", ""), form.get("why", "")
        text = await _done(lambda: self._pausing.pause(part, until, why, person.name))
        self._status.forget()
        raise self._shell.note(text, "/")

    async def _ask_resume(self, request: web.Request) -> web.Response:
        require_act(request)
        part = _part(request.query)
        found = [one for one in (await self._status.get()).pauses if one.part is part]
        if not found:
            raise web.HTTPConflict(text=f"{part.value} is not paused")
        return self._shell.confirm(
            request,
            Confirmation(
                f"Resume {part.value}?",
                [f"{pause_line(one)}." for one in found],
                "/resume",
                f"Resume {part.value}",
                {"part": part.value},
                "/",
            ),
            page="flow",
        )

    async def _resume(self, request: web.Request) -> web.Response:
        person = require_act(request)
        part = _part(text_fields(await request.post()))
        text = await in_thread(lambda: self._pausing.resume(part, person.name))
        self._status.forget()
        raise self._shell.note(text, "/")

    async def _ask_release(self, request: web.Request) -> web.Response:
        require_act(request)
        reason = request.query.get("reason", "")
        breaker = _open_breaker((await self._status.get()).breakers, reason)
        return self._shell.confirm(
            request,
            Confirmation(
                f"Release {reason}?",
                [
                    "; ".join(line.strip() for line in open_lines(breaker)[:-1]) + ".",
                    "Correct the cause first: the dead letters of this reason name it.",
                    f"The sink and the reader go on within {RELEASE_OBEYED_SECONDS} seconds. "
                    "Counting starts anew; the limit for bulk runs counts after the time below.",
                ],
                "/release",
                "Release",
                {"reason": reason},
                "/",
                inputs=[Input("for", "How long may bulk runs fail for it? 30m, 6h or 2d", "1h")],
                asks_why=True,
                dangerous=True,
            ),
            page="flow",
        )

    async def _release(self, request: web.Request) -> web.Response:
        person = require_act(request)
        form = text_fields(await request.post())
        reason, accepted_for, why = form.get("reason", ""), form.get("for", ""), form.get("why", "")
        text = await _done(
            lambda: self._breaker_release.release(reason, accepted_for, why, person.name)
        )
        self._status.forget()
        raise self._shell.note(text, "/")


async def _done(action: Callable[[], str]) -> str:
    """What an action in a thread says. Raises web.HTTPBadRequest and NotReadable."""
    try:
        return await asyncio.to_thread(action)
    except click.UsageError as error:
        raise web.HTTPBadRequest(text=error.format_message().removeprefix("--")) from error
    except click.ClickException as error:
        raise NotReadable(error.format_message()) from error


def _open_breaker(breakers: Sequence[FailureBreaker], reason: str) -> FailureBreaker:
    """Raises web.HTTPConflict when no open breaker has the reason."""
    for breaker in breakers:
        if breaker.reason == reason:
            return breaker
    raise web.HTTPConflict(text=f"no failure breaker is open for {reason or 'nothing'}")


def _not_paused(pauses: Sequence[Pause]) -> list[str]:
    paused = {pause.part for pause in pauses}
    return [part.value for part in PausedPart if part not in paused]


def _part(fields: Mapping[str, str]) -> PausedPart:
    """Raises web.HTTPBadRequest for a part that cannot be paused."""
    name = fields.get("part", "")
    for part in PausedPart:
        if part.value == name:
            return part
    raise web.HTTPBadRequest(text=f"{name or 'nothing'} cannot be paused")


def headline(problems: Sequence[str]) -> str:
    """The answer of the first second."""
    if not problems:
        return "Contacts reach Salesforce; nothing needs a person"
    return f"{len(problems)} {'thing needs' if len(problems) == 1 else 'things need'} a person"


def figures(status: Status) -> list[Figure]:
    """The most important numbers, the worst news first in each."""
    outcomes, letters = status.outcomes, sum(status.letters.by_reason.values())
    lags = [lag for one in status.stages if (lag := one.lag_seconds(status.now_ms)) is not None]
    lag = max(lags, default=None)
    error_rate, match_rate = outcomes.error_rate, outcomes.match_rate
    looked_up = outcomes.found + outcomes.created
    return [
        Figure(
            "Lag",
            "unknown" if lag is None else duration(lag),
            "of the oldest unfinished record",
            "bad" if lag is not None and lag > LATE_SECONDS else "",
        ),
        Figure(
            "Match rate",
            "–" if match_rate is None else f"{match_rate:.1%}",
            f"of {looked_up:,} first lookups",
        ),
        Figure(
            "Failed",
            "–" if error_rate is None else f"{error_rate:.1%}",
            f"of the newest {outcomes.contacts:,} contacts",
            "bad" if error_rate is not None and error_rate > HIGH_ERROR_SHARE else "",
        ),
        Figure("Open dead letters", f"{letters:,}", "wait for a person", "warn" if letters else ""),
        calls_left(status.calls),
        Figure("Runs at work", f"{len(status.runs):,}", "backfills, reconciles, replays"),
        _mode(status.mode),
    ]


def _mode(mode: ModeInForce | None) -> Figure:
    """What may be written, and who said so."""
    if mode is None:
        return Figure("Mode", "none", "nobody has chosen one; see contactstream mode", "warn")
    return Figure("Mode", mode.mode.value, mode.origin)


def calls_left(calls: CallFigures | None) -> Figure:
    """What is left of the day's calls."""
    if calls is None:
        return Figure("Calls left", "–", "see Budget")
    low = calls.left < calls.allowed * LOW_BUDGET_SHARE
    return Figure(
        "Calls left", f"{calls.left:,}", f"of {calls.allowed:,} in 24 hours", "bad" if low else ""
    )


def charts(lines: Lines) -> list[Chart]:
    """The last hours of each stage."""
    found = [chart("Failed contacts", lines.points.get(FAILED, ()), per_second)]
    for stage in STAGES:
        found += [
            chart(f"{stage}: done", lines.points.get(RATES[stage], ()), per_second),
            chart(
                f"{stage}: lag",
                lines.points.get(LAGS[stage], ()),
                duration,
                lambda seconds: seconds > LATE_SECONDS,
            ),
        ]
    return [*found[1:], found[0]]


def stage_table(stages: Sequence[StageFigures], now_ms: int) -> Table:
    """A row for each stage."""
    rows = []
    for stage in stages:
        lag = stage.lag_seconds(now_ms)
        late = lag is not None and lag > LATE_SECONDS
        missing = stage.workers == 0
        rows.append(
            [
                Cell(stage.stage),
                Cell(
                    "–"
                    if stage.workers is None
                    else f"{stage.workers} (missing)" * missing or f"{stage.workers}",
                    tone="bad" if missing else "",
                ),
                Cell("–" if stage.lag_records is None else f"{stage.lag_records:,}"),
                Cell(
                    "–" if lag is None else f"{duration(lag)} (late)" * late or duration(lag),
                    tone="bad" if late else "",
                ),
                Cell("–" if stage.rate is None else f"{stage.rate:,.1f}"),
            ]
        )
    return Table("stages", "Each stage of the flow, in its order", COLUMNS, rows, "no stage")
