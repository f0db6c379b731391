"""The command status: prints the page once, or again and again."""

import asyncio
import json
import time
from dataclasses import replace

import click

from streams.commands.org.command import logged_in_org
from streams.commands.replay.estimates import ask_calls_left
from streams.commands.status.collect import SAMPLE_SECONDS, StatusCollector
from streams.commands.status.figures import CallFigures, needs_a_person
from streams.commands.status.report import as_json, text
from streams.mailboxes import MailboxRule
from streams.settings import KafkaSettings, SalesforceSettings

# Between two pages of --watch. Each reads the dead letters and the newest outcomes.
WATCH_SECONDS = 5.0

# Between two questions to the org, because each is a call of the day's limit.
CALLS_SECONDS = 60.0


def run(
    kafka: KafkaSettings,
    org: SalesforceSettings,
    mailboxes: MailboxRule,
    *,
    watch: bool,
    json_lines: bool,
) -> int:
    """Prints the status; returns 1 when something needs a person.

    Blocks; with `watch` until Ctrl-C. Raises click.ClickException.
    """
    collector = StatusCollector(kafka, org.mode, mailboxes)
    before = collector.sample()
    calls, asked = _calls(org), time.monotonic()
    here = None if calls is None else _org_of_login(org)
    time.sleep(max(0.0, before.at + SAMPLE_SECONDS - time.monotonic()))
    try:
        while True:
            if time.monotonic() - asked > CALLS_SECONDS:
                calls, asked = _calls(org), time.monotonic()
            now = collector.sample()
            status = replace(collector.status(before, now, calls), org_of_login=here)
            if json_lines:
                click.echo(json.dumps(as_json(status)))
            else:
                if watch:
                    click.clear()
                click.echo(text(status))
            if not watch:
                return 1 if needs_a_person(status) else 0
            before = now
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return 130


def _org_of_login(org: SalesforceSettings) -> str | None:
    """The ID of the org that the settings log in to, without a counted call; None if unknown."""
    try:
        return logged_in_org(org)
    except click.ClickException:
        return None


def _calls(org: SalesforceSettings) -> CallFigures | None:
    """What the org has left, in a call or two; None without a login or an answer."""
    found = asyncio.run(ask_calls_left(org))
    return None if found is None else CallFigures(found.left, found.allowed)
