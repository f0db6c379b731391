"""The page Budget: how many calls of the org are left, who uses them, and how long they last."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from aiohttp import web

from streams.commands.status.figures import LOW_BUDGET_SHARE, CallFigures, duration
from streams.console.charts import Chart, chart, per_second
from streams.console.history import History, Lines
from streams.console.measures import ALL_CALLS, CALLS_BY_KIND, CALLS_USED
from streams.console.pages.flow import Figure
from streams.console.reading import NotReadable, Reading
from streams.console.shell import MenuEntry, Shell
from streams.console.sparkline import Point
from streams.console.tables import Cell, Column, Table

# The pace of so long says what comes next: longer than a batch, shorter than a day's rhythm.
PACE_SECONDS = 3600.0
DAY_SECONDS = 86_400

COLUMNS = (
    Column("kind", "Kind of call"),
    Column("calls", "Calls", number=True),
    Column("share", "Share", number=True),
)

NO_LOGIN = (
    "The org was not asked: it did not answer, or the console has no login. It takes the same "
    "SALESFORCE_ settings as the sink; see contactstream doctor."
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long the calls last."""

    text: str
    runs_out: bool = False


def forecast(calls: CallFigures | None, per_second: float | None, now: float) -> Forecast:
    """What the pace of the last hour means for the rest of the day (UTC); `now` in epoch seconds.

    The org's limit is of the last 24 hours, so that calls come back all the time: those of
    yesterday at this hour. The forecast counts none of these, and is the worst case.
    """
    if calls is None or per_second is None:
        return Forecast("No forecast: what is left, or how many calls are made, is not known.")
    until_end = DAY_SECONDS - now % DAY_SECONDS
    more = per_second * until_end
    pace = f"At the pace of the last hour, {per_second * 3600:,.0f} calls an hour,"
    if more <= calls.left:
        return Forecast(
            f"{pace} {calls.left - more:,.0f} of {calls.left:,} are left when the day ends "
            f"(UTC, in {duration(until_end)})."
        )
    lasts = duration(calls.left / per_second) if calls.left else "no time at all"
    return Forecast(
        f"{pace} the {calls.left:,} calls last {lasts}, and the day (UTC) ends in "
        f"{duration(until_end)}. End bulk runs on the page Runs, or raise the org's limit.",
        runs_out=True,
    )


def pace(points: Sequence[Point], seconds: float = PACE_SECONDS) -> float | None:
    """The mean of the newest points; None where nothing is known."""
    since = points[-1][0] - seconds if points else 0.0
    known = [
        value for at, value in points if at >= since and value is not None and math.isfinite(value)
    ]
    return sum(known) / len(known) if known else None


def counted(points: Sequence[Point]) -> float:
    """How many there were: the rate of each interval times its length."""
    return sum(
        value * (at - before)
        for (before, _), (at, value) in pairwise(points)
        if value is not None and math.isfinite(value)
    )


def kind_table(lines: Lines) -> Table:
    """Calls of contactstream by their kind, the most first."""
    counts: Mapping[str, float] = {
        kind: counted(lines.points.get(measure, ())) for kind, measure in CALLS_BY_KIND.items()
    }
    total = sum(counts.values())
    rows = [
        [Cell(kind), Cell(f"{count:,.0f}"), Cell(f"{count / total:.1%}")]
        for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if round(count) > 0
    ]
    span = max((each[-1][0] - each[0][0] for each in lines.points.values() if each), default=0.0)
    return Table(
        "calls",
        f"Our calls in the last {duration(span)}, by kind",
        COLUMNS,
        rows,
        "no calls are known",
    )


def figures(calls: CallFigures | None, hourly: float | None) -> list[Figure]:
    """What is left, in numbers."""
    if calls is None:
        left = Figure("Calls left", "unknown", "the org was not asked")
    else:
        low = calls.left < calls.allowed * LOW_BUDGET_SHARE
        left = Figure(
            "Calls left",
            f"{calls.left:,}" + " (low)" * low,
            "without the reserve for others",
            "bad" if low else "",
        )
    return [
        left,
        Figure(
            "Allowed",
            "unknown" if calls is None else f"{calls.allowed:,}",
            "by the org, in 24 hours",
        ),
        Figure(
            "Calls an hour",
            "unknown" if hourly is None else f"{hourly * 3600:,.0f}",
            "of contactstream, in the last hour",
        ),
    ]


def charts(lines: Lines) -> list[Chart]:
    """The last hours."""
    return [
        chart("Calls of contactstream", lines.points.get(ALL_CALLS, ()), per_second),
        chart(
            "Used of the org's limit",
            lines.points.get(CALLS_USED, ()),
            lambda value: f"{value:,.0f}",
        ),
    ]


class BudgetPage:
    """Shows what is left of the day's calls."""

    entry = MenuEntry("budget", "Budget", "/budget")

    def __init__(
        self, shell: Shell, calls: Reading[tuple[float, CallFigures | None]], history: History
    ) -> None:
        self._shell, self._calls, self._history = shell, calls, history

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Its one address."""
        return [web.get("/budget", self._show)]

    async def _show(self, request: web.Request) -> web.Response:
        try:
            at, calls = await self._calls.get()
        except NotReadable:
            at, calls = 0.0, None
        lines = await self._history.lines((*CALLS_BY_KIND.values(), ALL_CALLS, CALLS_USED))
        hourly = pace(lines.points.get(ALL_CALLS, ()))
        return self._shell.page(
            request,
            "budget.html",
            "Budget",
            page="budget",
            tables=[kind_table(lines)],
            figures=figures(calls, hourly),
            forecast=forecast(calls, hourly, at),
            charts=charts(lines),
            problem=lines.problem,
            no_login="" if calls else NO_LOGIN,
            at_ms=int(at * 1000),
        )
