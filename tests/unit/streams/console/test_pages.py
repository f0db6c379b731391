"""Runs, Budget and Health: what they show, and what they have done."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import pytest

from connectors.salesforce.checkup.findings import CheckupFinding, fail, ok
from streams.commands.replay.command import Cost, Looked, ReplayOptions
from streams.commands.replay.estimates import Pace
from streams.commands.replay.preview import Preview
from streams.commands.status.figures import CallFigures
from streams.console.history import Lines, Measure, ProcessSeen
from streams.console.measures import ALL_CALLS, CALLS_BY_KIND
from streams.console.pages.budget import BudgetPage, counted, forecast, pace
from streams.console.pages.health import Examined, HealthPage
from streams.console.pages.runs import (
    ReplayQuestion,
    RunsPage,
    RunsReader,
    selection_of,
)
from streams.console.reading import NotReadable, Reading, ReadingByKey
from streams.console.shell import Page, Shell
from streams.runs import Progress, Run, RunKind, RunLog, RunState
from streams.selection import Selection
from streams.settings import shown_settings
from tests.support.console import console
from tests.support.console_story import AuditList

NOW = 1_790_000_000
OPEN, OVER = "20261124T140000Z-backfill-1f2e3d", "20261123T140000Z-reconcile-aaaaaa"
PROXY = {
    "CONSOLE_IDENTITY_HEADER": "X-User",
    "CONSOLE_TRUSTED_PROXIES": "127.0.0.1",
    "CONSOLE_ACTORS": "ada@acme.example",
}


def run_log() -> tuple[RunLog, str]:
    log = RunLog()
    log.runs[OVER] = Run(RunKind.RECONCILE, None, NOW - 100, "schedule", state=RunState.DONE)
    log.runs[OPEN] = Run(RunKind.BACKFILL, ("g1",), NOW, "command", state=RunState.RUNNING)
    log.progress(OPEN)["g1"] = Progress(RunState.RUNNING, contacts=40, expected=100, pages=1)
    return log, ""


def looked(question: ReplayQuestion) -> Looked:
    found = Preview(question.source, (0,), (10,), contacts=3)
    found.by_partition[0] = 4
    return Looked(found, selection_of(question, time.time()), Cost(Pace()), None)


@dataclass
class Doing:
    """Notes what the page wants done."""

    asked: list[Run] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    replayed: list[tuple[int, str, str]] = field(default_factory=list)
    refuses: bool = False

    def request(self, run: Run) -> str:
        if self.refuses:
            raise click.ClickException("reader.runs was not written")
        self.asked.append(run)
        return "20261124T150000Z-new"

    def cancel(self, run_id: str) -> Run:
        self.cancelled.append(run_id)
        return run_log()[0].runs[run_id]

    def replay(self, looked: Looked, options: ReplayOptions, who: str) -> str:
        self.replayed.append((looked.found.records, options.why, who))
        return "20261124T150000Z-replay"


class Story:
    """A console with these pages, over plain data."""

    def __init__(self) -> None:
        self.doing, self.audit = Doing(), AuditList()
        self.findings: list[CheckupFinding] = [ok("kafka", "it answers")]
        self.checks = 0
        self.calls: CallFigures | None = CallFigures(500, 10_000)
        self.lines_now = Lines({})

    def pages(self, shell: Shell) -> Sequence[Page]:
        previews = ReadingByKey(looked, 60, 2)
        calls = Reading(lambda: (float(NOW), self.calls), 60)
        return [
            RunsPage(
                shell, Reading(RunsReader(run_log).read, 60), self.doing, self.audit, previews
            ),
            BudgetPage(shell, calls, self),
            HealthPage(shell, Reading(self._examine, 60), self, "0.1.0"),
        ]

    def _examine(self) -> Examined:
        self.checks += 1
        return Examined(NOW * 1000, self.findings)

    async def lines(self, _measures: Sequence[Measure]) -> Lines:
        return self.lines_now

    async def processes(self) -> Sequence[ProcessSeen]:
        return [
            ProcessSeen("a:9100", "sink", "0.0.9", True),
            ProcessSeen("b:9100", error="refused"),
        ]


async def test_runs_are_listed_filtered_and_exported() -> None:
    async with console(Story().pages) as browser:
        html = await browser.get("/runs")
        assert "1 at work" in html
        assert "0 of 1 grants, 40 contacts of about 100" in html
        assert html.index(OPEN) < html.index(OVER), "the newest first"
        assert f"/runs/cancel?run={OPEN}" in html
        assert f"/runs/cancel?run={OVER}" not in html
        only = await browser.get("/runs?state=over&kind=reconcile&export=runs.csv")
        assert OVER in only
        assert OPEN not in only


async def test_a_backfill_is_previewed_confirmed_and_audited() -> None:
    story = Story()
    async with console(story.pages) as browser:
        asked = await browser.get("/runs/start?kind=backfill&grants=g1,g2&dry_run=yes")
        assert "reads 2 address books" in asked
        assert "dry run" in asked
        assert not story.doing.asked
        await browser.post(
            "/runs/start", kind="backfill", grants="g1 g2", dry_run="yes", why="moved office"
        )
    (run,) = story.doing.asked
    assert (run.grants, run.dry_run, run.by) == (("g1", "g2"), True, "console")
    begun, ended = story.audit.entries
    assert (begun.actor, begun.action, begun.why) == (
        "ada@desk",
        "backfill started",
        "moved office",
    )
    assert ended.count == 2


async def test_what_kafka_does_not_take_is_said_and_not_noted_as_done() -> None:
    story = Story()
    story.doing.refuses = True
    async with console(story.pages) as browser:
        text = await browser.post("/runs/start", 503, kind="backfill", grants="")
        assert "reader.runs was not written" in text
    assert len(story.audit.entries) == 1, "begun and never ended"


async def test_a_replay_says_its_number_and_refuses_one_that_has_grown() -> None:
    story = Story()
    async with console(story.pages) as browser:
        asked = await browser.get("/runs/replay?source=events&since=36h")
        assert "publishes 4 records of 3 contacts" in asked
        assert 'name="expect" value="4"' in asked
        grown = await browser.post("/runs/replay", 409, source="events", since="36h", expect="2")
        assert "has grown from 2 to 4" in grown
        assert not story.doing.replayed
        await browser.post("/runs/replay", source="events", since="36h", expect="4", why="bug")
        assert "in the future" in await browser.get(
            "/runs/replay?source=events&since=2999-01-01", 503
        )
        await browser.get("/runs/replay?source=letters", 400)
    assert story.doing.replayed == [(4, "bug", "ada@desk")]


async def test_a_run_is_cancelled_after_a_question() -> None:
    story = Story()
    async with console(story.pages) as browser:
        assert "What it has published stays" in await browser.get(f"/runs/cancel?run={OPEN}")
        await browser.get(f"/runs/cancel?run={OVER}", 409)
        await browser.get("/runs/cancel?run=none", 404)
        assert "is being cancelled" in await browser.post("/runs/cancel", run=OPEN, why="")
    assert story.doing.cancelled == [OPEN]


async def test_who_only_reads_sees_no_form_and_starts_nothing() -> None:
    story = Story()
    async with console(story.pages, **PROXY) as browser:
        reader = {"X-User": "bob@acme.example"}
        html = await browser.get("/runs", headers=reader)
        assert "Preview" not in html
        assert "cancel" not in html
        await browser.get("/runs/start?kind=backfill", 403, headers=reader)
        for path in ("/runs/start", "/runs/replay", "/runs/cancel", "/health/check"):
            headers = browser.origin | reader
            async with browser.client.post(path, data={"kind": "backfill"}, headers=headers) as got:
                assert got.status == 403
    assert not story.doing.asked
    assert not story.audit.entries


async def test_budget_says_what_is_left_by_kind_and_how_long_it_lasts() -> None:
    story = Story()
    story.lines_now = Lines(
        {
            ALL_CALLS: [(0.0, 1.0), (60.0, 1.0)],
            CALLS_BY_KIND["query"]: [(0.0, None), (60.0, 0.75)],
            CALLS_BY_KIND["limits"]: [(0.0, None), (60.0, 0.25)],
        }
    )
    async with console(story.pages) as browser:
        html = await browser.get("/budget")
        assert "500 (low)" in html
        assert "3,600 calls an hour" in html
        assert await browser.get("/budget?export=calls.csv") == (
            "kind,calls,share\r\nquery,45,75.0%\r\nlimits,15,25.0%\r\n"
        )


async def test_budget_without_a_login_says_so() -> None:
    story = Story()
    story.calls = None
    async with console(story.pages) as browser:
        html = await browser.get("/budget")
        assert "The org was not asked" in html
        assert "No forecast" in html


@pytest.mark.parametrize(
    ("left", "per_second", "runs_out", "text"),
    [
        (100_000, 1.0, False, "13,600 of 100,000 are left when the day ends"),
        (3_600, 1.0, True, "the 3,600 calls last 1 h"),
        (0, 1.0, True, "last no time at all"),
        (0, 0.0, False, "0 of 0 are left"),
    ],
)
def test_the_forecast_compares_the_pace_with_the_rest_of_the_day(
    left: int, per_second: float, runs_out: bool, text: str
) -> None:
    found = forecast(CallFigures(left, 100_000), per_second, 86_400.0 * 20_000)
    assert found.runs_out is runs_out
    assert text in found.text


def test_a_pace_is_of_the_last_hour_and_a_count_of_all() -> None:
    points = [(0.0, 5.0), (7_000.0, 1.0), (7_060.0, None), (7_120.0, 3.0)]
    assert pace(points) == 2.0
    assert counted(points) == 7_000.0 + 180.0
    assert pace([]) is None


async def test_health_puts_failures_first_marks_versions_and_checks_again() -> None:
    story = Story()
    story.findings.append(fail("org", "the login fails", "look at the key"))
    async with console(story.pages) as browser:
        html = await browser.get("/health")
        assert "1 of 2 checks failed" in html
        assert html.index("the login fails") < html.index("it answers")
        assert "0.0.9 (another than here)" in html
        assert "no answer: refused" in html
        await browser.get("/health")
        assert story.checks == 1
        assert "checked again" in await browser.post("/health/check")
        assert story.checks == 2


async def test_the_settings_are_filtered_and_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NYLAS_API_KEY", "very-secret")
    monkeypatch.setenv("CONSOLE_PROMETHEUS_URL", "http://user:hidden@prometheus:9090")
    async with console(Story().pages) as browser:
        html = await browser.get("/health?given=yes")
        assert "NYLAS_API_KEY" in html
        assert "very-secret" not in html
        assert "hidden@" not in html
        assert "http://user:…@prometheus:9090" in html
        assert "KAFKA_REPLICATION_FACTOR" not in html
        only = await browser.get("/health?setting=kafka_&export=settings.json")
        assert "KAFKA_REPLICATION_FACTOR" in only
        assert "NYLAS" not in only


def test_a_setting_names_its_origin(tmp_path: Any) -> None:
    config = tmp_path / "contactstream.toml"
    config.write_text("[sink]\nlinger = 2.0\n")
    key = tmp_path / "key"
    key.write_text("secret")
    shown = {
        each.variable: each
        for each in shown_settings(
            {
                "CONTACTSTREAM_CONFIG": str(config),
                "NYLAS_API_KEY_FILE": str(key),
                "KAFKA_TOPIC_PREFIX": "eu.",
            }
        )
    }
    assert shown["SINK_LINGER"].origin == f"file {config}"
    assert (shown["NYLAS_API_KEY"].value, shown["NYLAS_API_KEY"].origin) == (
        "set (hidden)",
        f"file {key}",
    )
    assert (shown["KAFKA_TOPIC_PREFIX"].value, shown["KAFKA_TOPIC_PREFIX"].origin) == (
        "eu.",
        "environment",
    )
    assert shown["OPS_LISTEN"].origin == "default"


async def test_previews_are_kept_within_a_bound() -> None:
    def read(key: str) -> str:
        time.sleep(0.2)
        return key

    readings = ReadingByKey(read, 60, most=2, within=0.01)
    for key in ("a", "b"):
        with pytest.raises(NotReadable, match="still being read"):
            await readings.get(key)
    with pytest.raises(NotReadable, match="too much is being read"):
        await readings.get("c")


def test_what_a_form_selects_is_what_the_command_selects() -> None:
    found = selection_of(ReplayQuestion("events", "1d", "", "g1", "acme.example"), NOW)
    assert found == Selection(
        since_ms=(NOW - 86_400) * 1000, grants=("g1",), domains=("acme.example",)
    )
    with pytest.raises(click.UsageError, match="Since 1 fortnight"):
        selection_of(ReplayQuestion("events", "1 fortnight"), NOW)
