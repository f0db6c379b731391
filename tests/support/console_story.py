"""A console over a made-up deployment: for the tests in a browser, and for the pictures."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from connectors.salesforce.checkup.findings import CheckupFinding, fail, ok, warn
from connectors.salesforce.write_mode import WriteMode
from streams.audit import AuditEntry, AuditState
from streams.commands.breakers import find_open, released_lines
from streams.commands.pauses import begun, parse_end
from streams.commands.plan_input import parse_duration
from streams.commands.replay.command import Cost, Looked, ReplayOptions
from streams.commands.replay.estimates import CallsLeft, Pace
from streams.commands.replay.preview import Preview
from streams.commands.status.figures import (
    CallFigures,
    LetterFigures,
    OutcomeFigures,
    StageFigures,
    Status,
)
from streams.console.history import How, Lines, Measure, ProcessSeen
from streams.console.measures import ALL_CALLS, CALLS_USED
from streams.console.measures import FAILED as FAILED_CONTACTS
from streams.console.pages.budget import BudgetPage
from streams.console.pages.flow import FlowPage
from streams.console.pages.health import Examined, HealthPage
from streams.console.pages.runs import ReplayQuestion, RunsPage, RunsReader, selection_of
from streams.console.reading import Reading, ReadingByKey
from streams.console.shell import Page, Shell
from streams.control import (
    FailureBreaker,
    FailuresSeen,
    Pause,
    PausedPart,
    Stops,
    open_breakers,
    released,
)
from streams.control_mode import ModeInForce
from streams.runs import Progress, Run, RunKind, RunLog, RunState

OPEN, OVER = "20261124T140000Z-backfill-1f2e3d", "20261123T020000Z-reconcile-aa34cd"
FAILED = "20261122T093000Z-backfill-77aa01"

MODE = ModeInForce(WriteMode.MIRROR, "set by ada at 2026-11-23 09:00Z, the plan is right")
CALLS_METRIC = ALL_CALLS.metric

# Of all calls; the empty kind is all of them.
CALL_SHARES = {"": 1.0, "composite_query": 0.48, "composite_write": 0.44, "composite_start": 0.06}

# What a contact, or an operator, could be called.
HOSTILE = '"><img src=x onerror=alert(1)>'


@dataclass
class Doing:
    """Notes what a page wants done."""

    asked: list[Run] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    replayed: list[int] = field(default_factory=list)

    def request(self, run: Run) -> str:
        """Notes a run."""
        self.asked.append(run)
        return "20261124T150000Z-backfill-0000aa"

    def cancel(self, run_id: str) -> Run:
        """Notes which run is to end."""
        self.cancelled.append(run_id)
        return Run(RunKind.BACKFILL, None, 0, "console", state=RunState.RUNNING)

    def replay(self, looked: Looked, _options: ReplayOptions, _who: str) -> str:
        """Notes the number of records."""
        self.replayed.append(looked.found.records)
        return "20261124T150000Z-replay-0000bb"


@dataclass
class AuditList:
    """Keeps the entries."""

    entries: list[AuditEntry] = field(default_factory=list)

    async def begin(
        self, actor: str, action: str, why: str, selection: Mapping[str, Any], count: int
    ) -> AuditEntry:
        """Keeps it."""
        entry = AuditEntry("1", AuditState.BEGUN, 0, actor, action, why, selection, count)
        self.entries.append(entry)
        return entry

    async def end(self, entry: AuditEntry, count: int) -> None:
        """Keeps it."""
        self.entries.append(entry)


class PauseList:
    """The pauses that a person asked for."""

    def __init__(self) -> None:
        self.pauses: list[Pause] = []

    def pause(self, part: PausedPart, until: str, why: str, who: str) -> str:
        ends = parse_end(until, time.time())
        now = time.time()
        self.pauses.append(Pause(part, who, why, int(now * 1000), int(ends * 1000)))
        return f"{begun(self.pauses[-1])}."

    def resume(self, part: PausedPart, who: str) -> str:
        self.pauses = [one for one in self.pauses if one.part is not part]
        return f"{part.value} goes on, says {who}."


class BreakerList:
    """The failure breakers, and why each was released."""

    def __init__(self, *opened: FailureBreaker) -> None:
        self.breakers = {one.reason: one for one in opened}
        self.why: list[str] = []

    def release(self, reason: str, accepted_for: str, why: str, who: str) -> str:
        seconds = parse_duration(accepted_for)
        if seconds is None:
            raise click.UsageError(f"--for {accepted_for}: a time is expected")
        breaker = find_open(self.breakers, reason)
        self.breakers[reason] = released(breaker, who, int(time.time() * 1000), seconds)
        self.why.append(why)
        return f"{'; '.join(released_lines(self.breakers[reason]))}."


class Deployment:
    """A deployment at work with some trouble; with `empty`, one that has just been set up.

    `reason` is why its bulk runs are paused.
    """

    def __init__(
        self, *, empty: bool = False, now: float | None = None, reason: str = HOSTILE
    ) -> None:
        self._empty = empty
        self._now = time.time() if now is None else now
        self.doing, self.audit = Doing(), AuditList()
        self.pausing = PauseList()
        at_ms = int(self._now * 1000)
        seen = FailuresSeen(
            12, 400, first_ms=at_ms - 900_000, last_ms=at_ms - 660_000, example="g1/contact-17"
        )
        breaker = FailureBreaker(reason, Stops.BULK, at_ms - 600_000, seen)
        self.breakers = BreakerList(*([] if empty else [breaker]))
        self.status_reads = 0

    def pages(self, shell: Shell) -> Sequence[Page]:
        """All pages over this deployment."""
        calls = Reading(
            lambda: (self._now, None if self._empty else CallFigures(61_200, 100_000)), 60
        )
        return [
            FlowPage(shell, Reading(self._status, 0), calls, self, self.pausing, self.breakers),
            RunsPage(
                shell,
                Reading(RunsReader(self._runs).read, 60),
                self.doing,
                self.audit,
                ReadingByKey(self._look, 60, 2),
            ),
            BudgetPage(shell, calls, self),
            HealthPage(shell, Reading(self._examined, 60), self, "0.1.0"),
        ]

    def _status(self) -> Status:
        self.status_reads += 1
        now_ms = int(self._now * 1000)
        if self._empty:
            stages = [StageFigures(each, 0) for each in ("dedupe", "reader", "sink")]
            return Status(
                now_ms, [StageFigures("bridge"), *stages], OutcomeFigures(), None, [],
                LetterFigures({}), [], self.pausing.pauses, MODE,
            )  # fmt: skip
        return Status(
            now_ms,
            [
                StageFigures("bridge", rate=3.4),
                StageFigures("dedupe", 2, 12, now_ms - 2_000, None, 3.4),
                StageFigures("reader", 1, 0, None, None, 0.0),
                StageFigures("sink", 2, 1_840, now_ms - 1_260_000, None, 2.9),
            ],
            OutcomeFigures(
                now_ms - 3_600_000,
                Counter(updated=6_203, unchanged=2_113, created=902, covered=41, failed=118),
                found=3_120,
                created=902,
            ),
            None,
            open_breakers(self.breakers.breakers.values()),
            LetterFigures({"FIELD_CUSTOM_VALIDATION_EXCEPTION": 112, "TOO_LONG": 6}, now_ms),
            ["a backfill"],
            self.pausing.pauses,
            MODE,
        )

    def _runs(self) -> tuple[RunLog, str]:
        log = RunLog()
        if self._empty:
            return log, ""
        at = int(self._now)
        log.runs[OPEN] = Run(RunKind.BACKFILL, None, at - 300, "console", state=RunState.RUNNING)
        for number in range(8):
            log.progress(OPEN)[f"g{number}"] = Progress(
                RunState.DONE if number < 5 else RunState.RUNNING,
                contacts=1_800 + 37 * number,
                expected=2_400,
                pages=40,
            )
        log.runs[OVER] = Run(RunKind.RECONCILE, None, at - 40_000, "schedule", state=RunState.DONE)
        log.progress(OVER)["g1"] = Progress(RunState.DONE, contacts=2_214)
        log.runs[FAILED] = Run(
            RunKind.BACKFILL,
            ("g7",),
            at - 90_000,
            "grant.created",
            state=RunState.FAILED,
            error="1 of 1 grants failed",
        )
        log.progress(FAILED)["g7"] = Progress(RunState.FAILED)
        return log, ""

    def _look(self, question: ReplayQuestion) -> Looked:
        found = Preview(question.source, (0,), (20_000,), contacts=1_204)
        found.by_partition[0] = 1_377
        cost = Cost(Pace(), CallsLeft(61_200, 100_000))
        return Looked(found, selection_of(question, time.time()), cost, None)

    def _examined(self) -> Examined:
        findings: list[CheckupFinding] = [
            ok("salesforce login", "logged in as sync@acme.example"),
            fail(
                "salesforce rule Contact.Nylas_Newest",
                "the validation rule is not active",
                "deploy deploy/salesforce/force-app into the org",
            ),
            warn("kafka retention contacts.events", "7 days", "raise it to 14 days"),
            ok("kafka broker", "3 brokers answer"),
        ]
        return Examined(int(self._now * 1000), findings)

    async def lines(self, measures: Sequence[Measure]) -> Lines:
        """A day's rhythm with a gap."""
        if self._empty:
            return Lines({}, "There is no history: CONSOLE_STAGES names no stage.")
        return Lines({each: self._points(each) for each in measures})

    def _points(self, measure: Measure) -> list[tuple[float, float | None]]:
        size = {How.RATE: 3.0, How.AGE: 40.0, How.HIGHEST: 100.0}[measure.how]
        if measure.metric == CALLS_METRIC:
            size = 0.3 * CALL_SHARES.get(dict(measure.labels).get("kind", ""), 0.001)
        if measure == FAILED_CONTACTS:
            size = 0.04
        if measure == CALLS_USED:
            return [(self._now - 60 * (359 - at), 30_000.0 + 24 * at) for at in range(360)]
        shift = sum(map(ord, measure.metric)) % 7
        return [
            (
                self._now - 60 * (359 - at),
                None if 200 < at < 220 else size * (1.2 + math.sin(at / 40 + shift)) / 2,
            )
            for at in range(360)
        ]

    async def processes(self) -> Sequence[ProcessSeen]:
        """Four of the stages, one of them behind and one away."""
        if self._empty:
            return []
        return [
            ProcessSeen("10.1.4.10:9100", "bridge", "0.1.0", True),
            ProcessSeen("10.1.4.11:9100", "reader", "0.1.0", True),
            ProcessSeen("10.1.4.12:9100", "sink", "0.0.9", False),
            ProcessSeen("10.1.4.13:9100", error="Cannot connect to host 10.1.4.13:9100"),
        ]
