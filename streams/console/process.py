"""The console process: reads the settings, wires the pages, returns the exit status."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click
import structlog
from prometheus_client import CollectorRegistry

from connectors.salesforce.policy import Policy
from streams.commands.actor import actor_name
from streams.commands.status.collect import SAMPLE_SECONDS, Sample, StatusCollector
from streams.commands.status.figures import Status
from streams.console.access import GENERATE, gatekeeper
from streams.console.pages.flow import FlowPage
from streams.console.people_pages import PEOPLE_ENTRIES, people_pages
from streams.console.reading import Reading
from streams.console.server import ConsoleServer
from streams.console.shell import Page, Shell
from streams.console.state.gauges import ConsoleGauges
from streams.console.state.known import KnownState
from streams.metrics import ConsoleMetrics, ProcessMetrics
from streams.runtime.ops import Health, OpsServer
from streams.runtime.signals import stop_asked
from streams.settings import ConsoleSettings, KafkaSettings, ProcessSettings, cannot_listen

log = structlog.get_logger()

# The event loop goes round every BEAT_SECONDS. After so long without it hangs.
BEAT_SECONDS = 5.0
STALLED_SECONDS = 60.0

# A status reads the dead letters and the newest outcomes; each open tab asks every 5 s.
STATUS_KEEP_SECONDS = 5.0

# For the audit, where neither a proxy nor the operating system says who a person is.
UNKNOWN_OPERATOR = "console"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the pages need of the settings of the stages."""

    kafka: KafkaSettings
    org_url: str
    """Salesforce's, for links to records."""
    policy: Callable[[], Policy]
    """About whom is left out, for the page One person."""
    body_limit: int
    """Of the bridge, for the inflated body of a webhook, in bytes."""


def run(deployment: Deployment, process: ProcessSettings, settings: ConsoleSettings) -> int:
    """Runs `contactstream console`. Returns its exit status.

    Raises SettingsError for a port that cannot be bound, and for a page that anybody could open.
    """
    return asyncio.run(_serve(deployment, process, settings))


async def _serve(
    deployment: Deployment, process: ProcessSettings, settings: ConsoleSettings
) -> int:
    stopping = stop_asked()
    registry, health = CollectorRegistry(), Health(STALLED_SECONDS)
    ProcessMetrics(registry, "console", health)
    host, _, port = settings.listen.rpartition(":")
    token = settings.token.get_secret_value().strip()
    generated = token == GENERATE
    token = secrets.token_hex(32) if generated else token
    keeper = gatekeeper(settings, token, operator(), int(port))
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    known = KnownState(deployment.kafka)
    server = ConsoleServer(keeper, *pages(deployment, known))
    try:
        await server.listen(host, int(port))
    except (OSError, OverflowError) as error:
        ops.stop()
        raise cannot_listen("CONSOLE_LISTEN", settings.listen, error) from error
    if generated:
        # The only time that it is shown: it is in no log.
        click.echo(f"token of this console: {token}", err=True)
    log.info("listening", address=f"http://{settings.listen}/")
    following = asyncio.create_task(known.run(ConsoleGauges(ConsoleMetrics(registry))))
    health.ready()
    while not stopping.is_set() and not following.done():
        health.beat()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), BEAT_SECONDS)
    following.cancel()
    await server.stop()
    ops.stop()
    with contextlib.suppress(asyncio.CancelledError):
        await following  # raises what ended it, if that was no signal
    return 0


def pages(deployment: Deployment, known: KnownState) -> tuple[Shell, Sequence[Page]]:
    """The frame, and the pages in the order of the menu."""
    kafka = deployment.kafka
    shell = Shell((FlowPage.entry, *PEOPLE_ENTRIES))
    return shell, (
        FlowPage(shell, Reading(StatusReader(kafka).read, STATUS_KEEP_SECONDS)),
        *people_pages(
            shell, kafka, known, deployment.policy, deployment.org_url, deployment.body_limit
        ),
    )


def operator() -> str:
    """Who acts where the request does not say it: the user of the operating system."""
    try:
        return actor_name(None)
    except click.UsageError:
        return UNKNOWN_OPERATOR


class StatusReader:
    """Reads the status again and again; the rates are those since the last time."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._collector = StatusCollector(kafka)
        self._before: Sample | None = None

    def read(self) -> Status:
        """The status now. Blocks, the first time for SAMPLE_SECONDS longer.

        Raises click.ClickException when no broker answers.
        """
        if self._before is None:
            self._before = self._collector.sample()
            time.sleep(SAMPLE_SECONDS)
        now = self._collector.sample()
        status = self._collector.status(self._before, now, None)
        self._before = now
        return status
