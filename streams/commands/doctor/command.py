"""Runs every check of `contactstream doctor` and prints the findings. Changes nothing."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.salesforce import checkup
from connectors.salesforce.checkup.findings import CheckupFinding, CheckupStatus, fail
from streams.commands.doctor.deployment import Deployment
from streams.commands.doctor.kafka import examine_kafka
from streams.commands.doctor.nylas import examine_nylas
from streams.commands.doctor.org import examine_org
from streams.commands.doctor.pinned_org import examine_pin
from streams.contact_groups import GroupRule
from streams.mailboxes import EVERY_MAILBOX, MailboxRule
from streams.org import exclusions

# All checks of one system. More than the bounds of its own requests add up to, which are a login
# and three rounds of questions to the org, or two groups at the broker.
SYSTEM_SECONDS = 180.0

_MARKS = {
    CheckupStatus.OK: ("ok", "green"),
    CheckupStatus.WARN: ("warn", "yellow"),
    CheckupStatus.FAIL: ("fail", "red"),
}


def run(deployment: Deployment, *, as_json: bool) -> int:
    """Prints the findings; returns the exit code, which is 1 when one of them is a failure."""
    findings = asyncio.run(examine(deployment))
    if as_json:
        rows = [asdict(finding) for finding in findings]
        click.echo(json.dumps({"ok": not checkup.failed(findings), "findings": rows}, indent=2))
    else:
        print_findings(findings)
    return 1 if checkup.failed(findings) else 0


async def examine(deployment: Deployment) -> list[CheckupFinding]:
    """All findings. The systems are examined at the same time.

    A failed check never prevents another one.
    """
    kafka, people = deployment.kafka, deployment.people
    mailboxes = MailboxRule(people.mailboxes) if people else EVERY_MAILBOX
    groups = GroupRule(people.groups, people.excluded_groups) if people else None
    sources = deployment.nylas.sources if deployment.nylas else ()
    out = exclusions(people).digest(sources) if people and sources else ""
    mode = deployment.salesforce.mode if deployment.salesforce else ""
    findings = await asyncio.gather(
        _bounded("salesforce", examine_org(deployment)),
        _bounded(
            "kafka",
            _in_daemon_thread(
                lambda: examine_kafka(kafka, mailboxes, mode, groups, out) if kafka else []
            ),
        ),
        _bounded("nylas", examine_nylas(deployment.nylas)),
        _bounded("pinned org", _in_daemon_thread(lambda: examine_pin(deployment))),
    )
    return [*deployment.unusable, *(finding for system in findings for finding in system)]


async def _bounded(system: str, checks: Awaitable[list[CheckupFinding]]) -> list[CheckupFinding]:
    try:
        async with asyncio.timeout(SYSTEM_SECONDS):
            return await checks
    except TimeoutError:
        return [
            fail(
                system,
                f"the checks did not finish within {SYSTEM_SECONDS:.0f} s",
                "check the network, and run doctor again",
            )
        ]


async def _in_daemon_thread(work: Callable[[], list[CheckupFinding]]) -> list[CheckupFinding]:
    """The findings of blocking work; an error in it becomes one more finding.

    The thread is a daemon, so that the process can end while the work still blocks after a
    time-out. A thread of an executor would be joined first.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[list[CheckupFinding]] = loop.create_future()

    def settle(findings: list[CheckupFinding]) -> None:
        if not result.done():
            result.set_result(findings)

    def target() -> None:
        findings = [fail("kafka", "the checks ended with the error printed above", "report it")]
        try:
            findings = work()
        finally:  # the thread prints the error
            with suppress(RuntimeError):  # the loop is closed: the caller has stopped waiting
                loop.call_soon_threadsafe(settle, findings)

    threading.Thread(target=target, name="doctor kafka", daemon=True).start()
    return await result


def print_findings(findings: Iterable[CheckupFinding]) -> None:
    """Prints a table on a terminal; elsewhere a line for each finding with its remedy below it."""
    findings = list(findings)
    console = Console()
    if console.is_terminal:
        table = Table("", "check", "finding", "remedy")
        for one in findings:
            word, colour = _MARKS[one.status]
            table.add_row(Text(word, colour), Text(one.check), Text(one.finding), Text(one.remedy))
        console.print(table)
    else:
        for one in findings:
            click.echo(f"{one.status:<5}{one.check}: {one.finding}")
            if one.remedy:
                click.echo(f"     {one.remedy}")
    failed = sum(one.status is CheckupStatus.FAIL for one in findings)
    warned = sum(one.status is CheckupStatus.WARN for one in findings)
    if failed or warned:
        click.echo(f"{len(findings)} checks: {failed} failed, {warned} warnings")
    else:
        click.echo("every check passed")
