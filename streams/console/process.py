"""The console process: reads the settings, wires the pages, returns the exit status."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence
from importlib.metadata import version

import click
import structlog
from prometheus_client import CollectorRegistry

from streams.commands.actor import actor_name
from streams.commands.doctor.command import examine
from streams.commands.doctor.deployment import load_deployment
from streams.commands.replay.command import Looked, ReplayOptions, look
from streams.commands.replay.estimates import ask_calls_left
from streams.commands.status.collect import SAMPLE_SECONDS, Sample, StatusCollector
from streams.commands.status.figures import CallFigures, Status
from streams.console.access import GENERATE, gatekeeper, require_own_port
from streams.console.audit_trail import AuditTrail
from streams.console.breaker_release import KafkaBreakerRelease
from streams.console.history import MAX_TARGETS, History, PrometheusHistory, ScrapedHistory
from streams.console.measures import EVERY
from streams.console.pages.budget import BudgetPage
from streams.console.pages.flow import FlowPage
from streams.console.pages.health import Examined, HealthPage
from streams.console.pages.runs import (
    KafkaRuns,
    ReplayQuestion,
    RunsPage,
    RunsReader,
    kafka_runs,
    selection_of,
)
from streams.console.pausing import KafkaPausing
from streams.console.people_pages import PEOPLE_ENTRIES, people_pages
from streams.console.reading import Reading, ReadingByKey
from streams.console.server import ConsoleServer
from streams.console.shell import Page, Shell
from streams.console.state.gauges import ConsoleGauges
from streams.console.state.known import KnownState
from streams.mailboxes import MailboxRule
from streams.metrics import ConsoleMetrics, ProcessMetrics
from streams.org import mapping, policy
from streams.runs import ReplaySource
from streams.runtime.ops import Health, OpsServer
from streams.runtime.secret_files import watch_secret_files
from streams.runtime.signals import stop_asked
from streams.settings import (
    BridgeSettings,
    ConsoleSettings,
    KafkaSettings,
    NylasSettings,
    PeopleSettings,
    ProcessSettings,
    SalesforceSettings,
    SettingsError,
    SinkSettings,
    cannot_listen,
    load,
)

log = structlog.get_logger()

# What this process reads of secrets, and reads only when it starts.
SECRET_GROUPS = (KafkaSettings, ConsoleSettings, SalesforceSettings, NylasSettings)

# The event loop goes round every BEAT_SECONDS. After so long without it hangs.
BEAT_SECONDS = 5.0
STALLED_SECONDS = 60.0

# A status reads the dead letters and the newest outcomes; each open tab asks every 5 s.
STATUS_KEEP_SECONDS = 5.0

# Each question is a call of the org, or two; the same as in `contactstream status --watch`.
CALLS_KEEP_SECONDS = 60.0

# Doctor takes a few calls of the org. A person presses the button for a newer answer.
DOCTOR_KEEP_SECONDS = 3600.0

# What was confirmed is what is replayed, if it is confirmed within so long.
PREVIEW_KEEP_SECONDS = 600.0
MAX_PREVIEWS = 8

# For the audit, where neither a proxy nor the operating system says who a person is.
UNKNOWN_OPERATOR = "console"


def run(kafka: KafkaSettings, process: ProcessSettings, settings: ConsoleSettings) -> int:
    """Runs `contactstream console`. Returns its exit status.

    Raises SettingsError for a port that cannot be bound or is another server's, and for a page that
    anybody could open.
    """
    return asyncio.run(_serve(kafka, process, settings))


async def _serve(kafka: KafkaSettings, process: ProcessSettings, settings: ConsoleSettings) -> int:
    others = {"BRIDGE_LISTEN": load(BridgeSettings).listen, "OPS_LISTEN": process.listen}
    require_own_port(settings.listen, others)
    stopping = stop_asked()
    registry, health = CollectorRegistry(), Health(STALLED_SECONDS)
    process_metrics = ProcessMetrics(registry, "console", health)
    watching = watch_secret_files(
        stopping, SECRET_GROUPS, process_metrics.secret_reload_failures.inc
    )
    port = int(settings.listen.rpartition(":")[2])
    token = settings.token.get_secret_value().strip()
    generated = token == GENERATE
    token = secrets.token_hex(32) if generated else token
    keeper = gatekeeper(settings, token, operator(), port)
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    history = history_of(settings)
    known = KnownState(kafka)
    metrics = ConsoleMetrics(registry)
    server = ConsoleServer(keeper, *pages(kafka, history, known), metrics)
    try:
        await server.listen(settings.listen)
    except (OSError, OverflowError) as error:
        ops.stop()
        raise cannot_listen("CONSOLE_LISTEN", settings.listen, error) from error
    if generated:
        # The only time that it is shown: it is in no log.
        click.echo(f"token of this console: {token}", err=True)
    log.info("listening", url=f"http://{settings.listen}/")
    health.ready()
    following = asyncio.create_task(history.follow())
    knowing = asyncio.create_task(known.run(ConsoleGauges(metrics)))
    while not stopping.is_set() and not knowing.done():
        health.beat()
        server.cut_slow()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), BEAT_SECONDS)
    following.cancel()
    knowing.cancel()
    watching.cancel()
    await server.stop()
    ops.stop()
    with contextlib.suppress(asyncio.CancelledError):
        await knowing  # raises what ended it, if that was no signal
    return stopping.code


def pages(
    kafka: KafkaSettings, history: History, known: KnownState
) -> tuple[Shell, Sequence[Page]]:
    """The frame, and the pages in the order of the menu."""
    entries = (
        FlowPage.entry,
        *PEOPLE_ENTRIES,
        RunsPage.entry,
        BudgetPage.entry,
        HealthPage.entry,
    )
    shell = Shell(entries)
    calls = Reading(read_calls, CALLS_KEEP_SECONDS)
    runs = Reading(RunsReader(lambda: kafka_runs(kafka)).read, STATUS_KEEP_SECONDS)
    previews: ReadingByKey[ReplayQuestion, Looked] = ReadingByKey(
        lambda asked: look_at(kafka, asked), PREVIEW_KEEP_SECONDS, MAX_PREVIEWS
    )
    return shell, (
        FlowPage(
            shell,
            Reading(StatusReader(kafka).read, STATUS_KEEP_SECONDS),
            calls,
            history,
            KafkaPausing(kafka),
            KafkaBreakerRelease(kafka),
        ),
        *people_pages(shell, kafka, known),
        RunsPage(shell, runs, KafkaRuns(kafka), AuditTrail(kafka), previews),
        BudgetPage(shell, calls, history),
        HealthPage(
            shell, Reading(examined, DOCTOR_KEEP_SECONDS), history, version("contactstream")
        ),
    )


def history_of(settings: ConsoleSettings) -> PrometheusHistory | ScrapedHistory:
    """Where the history comes from. Raises SettingsError for more stages than can be asked."""
    if settings.prometheus_url:
        return PrometheusHistory(settings.prometheus_url)
    if len(settings.stages) > MAX_TARGETS:
        raise SettingsError(
            f"CONSOLE_STAGES names {len(settings.stages)} processes, and at most {MAX_TARGETS} are "
            "asked; set CONSOLE_PROMETHEUS_URL instead"
        )
    return ScrapedHistory(settings.stages, EVERY)


def read_calls() -> tuple[float, CallFigures | None]:
    """When it was asked (epoch seconds), and what the org has left. Blocks."""
    try:
        found = asyncio.run(ask_calls_left(load(SalesforceSettings)))
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    return time.time(), None if found is None else CallFigures(found.left, found.allowed)


def look_at(kafka: KafkaSettings, asked: ReplayQuestion) -> Looked:
    """Counts what a replay would publish. Blocks. Raises click.ClickException."""
    try:
        org = load(SalesforceSettings)
        rules = mapping(org)
        people, sources = load(PeopleSettings), load(NylasSettings).sources
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    options = ReplayOptions(ReplaySource(asked.source))
    selection = selection_of(asked, time.time())
    return look(kafka, org, rules, lambda: policy(org, people, sources), selection, options)


def examined() -> Examined:
    """What doctor finds now. Blocks for up to some minutes."""
    findings = asyncio.run(examine(load_deployment()))
    return Examined(int(time.time() * 1000), findings)


def operator() -> str:
    """Who acts where the request does not say it: the user of the operating system."""
    try:
        return actor_name(None)
    except click.UsageError:
        return UNKNOWN_OPERATOR


class StatusReader:
    """Reads the status again and again; the rates are those since the last time."""

    def __init__(self, kafka: KafkaSettings) -> None:
        mode, max_calls, sink = "", 0, None
        try:
            org = load(SalesforceSettings)
            mode, max_calls, sink = org.mode, org.max_calls_per_day, load(SinkSettings)
        except SettingsError:
            pass  # the page Health names the setting that cannot be used
        self._collector = StatusCollector(
            kafka,
            mode,
            MailboxRule(load(PeopleSettings).mailboxes),
            waiting=lambda _: None,  # the page says it
            sink=sink,
            max_calls=max_calls,
        )
        self._before: Sample | None = None

    def read(self) -> Status:
        """The status now. Blocks, the first time for SAMPLE_SECONDS longer.

        Raises click.ClickException when no broker answers.
        """
        if self._before is None:
            self._before = self._collector.sample()
            time.sleep(SAMPLE_SECONDS)
        now = self._collector.sample()
        status = self._collector.status(self._before, now)
        self._before = now
        return status
