"""The page Health: what doctor finds, which versions run, and which settings are in use."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiohttp import web

from connectors.salesforce.checkup.findings import CheckupFinding, CheckupStatus
from streams.console.history import History, ProcessSeen
from streams.console.reading import NotReadable, Reading
from streams.console.shell import MenuEntry, Shell, require_act
from streams.console.tables import Cell, Column, Table
from streams.settings import ShownSetting, shown_settings

TONES = {CheckupStatus.OK: "good", CheckupStatus.WARN: "warn", CheckupStatus.FAIL: "bad"}

# What needs a person first.
ORDER = (CheckupStatus.FAIL, CheckupStatus.WARN, CheckupStatus.OK)


@dataclass(frozen=True, slots=True)
class Examined:
    """What doctor found, and when."""

    at_ms: int
    findings: Sequence[CheckupFinding]


def headline(findings: Sequence[CheckupFinding]) -> str:
    """The result in a line."""
    counts = Counter(each.status for each in findings)
    failed, warned = counts[CheckupStatus.FAIL], counts[CheckupStatus.WARN]
    if not failed and not warned:
        return f"All {len(findings)} checks passed"
    return (
        f"{failed} of {len(findings)} checks failed, {warned} "
        f"{'warning' if warned == 1 else 'warnings'}"
    )


def finding_table(findings: Sequence[CheckupFinding]) -> Table:
    """A row for each finding, failures first."""
    in_order = sorted(findings, key=lambda each: ORDER.index(each.status))
    return Table(
        "findings",
        "What contactstream doctor finds",
        (
            Column("status", "Result"),
            Column("check", "Check"),
            Column("finding", "Finding"),
            Column("remedy", "What to do"),
        ),
        [
            [
                Cell(each.status.value, tone=TONES[each.status]),
                Cell(each.check),
                Cell(each.finding),
                Cell(each.remedy),
            ]
            for each in in_order
        ],
        "nothing was checked yet",
    )


def process_table(processes: Sequence[ProcessSeen], own_version: str) -> Table:
    """A row for each process. One of another version than the console is marked."""
    rows = []
    for each in processes:
        other = bool(each.version) and each.version != own_version
        state, tone = "ready", "good"
        if each.error:
            state, tone = f"no answer: {each.error}", "bad"
        elif each.ready is None:
            state, tone = "unknown", ""
        elif not each.ready:
            state, tone = "not ready", "warn"
        rows.append(
            [
                Cell(each.stage or "–"),
                Cell(each.address),
                Cell(
                    f"{each.version} (another than here)" if other else each.version or "–",
                    tone="warn" if other else "",
                ),
                Cell(state, tone=tone),
            ]
        )
    return Table(
        "processes",
        "Processes that answer for their metrics",
        (
            Column("stage", "Stage"),
            Column("address", "Address"),
            Column("version", "Version"),
            Column("state", "State"),
        ),
        rows,
        "none is known: name them in CONSOLE_STAGES, or set CONSOLE_PROMETHEUS_URL",
    )


def setting_table(settings: Sequence[ShownSetting], word: str, *, given_only: bool) -> Table:
    """A row for each setting whose name has the word."""
    return Table(
        "settings",
        "Settings of this process; a stage on another machine may have others",
        (Column("variable", "Setting"), Column("value", "Value"), Column("origin", "From")),
        [
            [Cell(each.variable), Cell(each.value or "–"), Cell(each.origin)]
            for each in settings
            if word.upper() in each.variable and not (given_only and each.origin == "default")
        ],
        "no setting matches",
    )


class HealthPage:
    """Shows what doctor says, again at the press of a button."""

    entry = MenuEntry("health", "Health", "/health")

    def __init__(
        self, shell: Shell, examined: Reading[Examined], history: History, version: str
    ) -> None:
        self._shell, self._examined = shell, examined
        self._history, self._version = history, version

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The page, and the check."""
        return [web.get("/health", self._show), web.post("/health/check", self._check)]

    async def _show(self, request: web.Request) -> web.Response:
        problem, examined = "", Examined(0, ())
        try:
            examined = await self._examined.get()
        except NotReadable as error:
            problem = str(error)
        word, given_only = request.query.get("setting", ""), request.query.get("given") == "yes"
        return self._shell.page(
            request,
            "health.html",
            "Health",
            page="health",
            tables=[
                finding_table(examined.findings),
                process_table(await self._history.processes(), self._version),
                setting_table(shown_settings(), word, given_only=given_only),
            ],
            headline=headline(examined.findings) if examined.at_ms else "The checks are running",
            problem=problem,
            at_ms=examined.at_ms,
            version=self._version,
            word=word,
            given_only=given_only,
        )

    async def _check(self, request: web.Request) -> web.Response:
        require_act(request)  # each check takes calls of the org
        self._examined.forget()
        raise self._shell.note("Everything is checked again.", "/health")
