"""The command status: prints the page once, or again and again."""

import asyncio
import json
import time

import click

from streams.commands.status.collect import SAMPLE_SECONDS, StatusCollector
from streams.commands.status.figures import needs_a_person
from streams.commands.status.org import ask_org
from streams.commands.status.report import as_json, text
from streams.mailboxes import MailboxRule
from streams.settings import KafkaSettings, SalesforceSettings, SinkSettings

# Between two pages of --watch. Each reads the dead letters and the newest outcomes.
WATCH_SECONDS = 5.0

# Between two questions to the org, because each is two calls of the day's limit.
ORG_SECONDS = 60.0


def run(
    kafka: KafkaSettings,
    org: SalesforceSettings,
    mailboxes: MailboxRule,
    sink: SinkSettings,
    *,
    watch: bool,
    json_lines: bool,
) -> int:
    """Prints the status; returns 1 when something needs a person.

    Blocks; with `watch` until Ctrl-C. Raises click.ClickException.
    """
    collector = StatusCollector(
        kafka, org.mode, mailboxes, sink=sink, max_calls=org.max_calls_per_day
    )
    before = collector.sample()
    said, asked = asyncio.run(ask_org(org)), time.monotonic()
    time.sleep(max(0.0, before.at + SAMPLE_SECONDS - time.monotonic()))
    try:
        while True:
            if time.monotonic() - asked > ORG_SECONDS:
                said, asked = asyncio.run(ask_org(org)), time.monotonic()
            now = collector.sample()
            status = collector.status(before, now, said)
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
