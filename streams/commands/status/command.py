"""The command status: prints the page once, or again and again."""

import json
import time

import click

from streams.commands.status.collect import SAMPLE_SECONDS, Sample, StatusCollector
from streams.commands.status.figures import Status, needs_a_person
from streams.commands.status.report import as_json, text
from streams.settings import KafkaSettings

# Between two pages of --watch. Each reads the dead letters and the newest outcomes.
WATCH_SECONDS = 5.0


def run(kafka: KafkaSettings, *, watch: bool, json_lines: bool) -> int:
    """Prints the status; returns 1 when something needs a person.

    Blocks; with `watch` until Ctrl-C. Raises click.ClickException.
    """
    collector = StatusCollector(kafka)
    before = collector.sample()
    time.sleep(SAMPLE_SECONDS)
    try:
        while True:
            now, status = _next(collector, before)
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


def _next(collector: StatusCollector, before: Sample) -> tuple[Sample, Status]:
    now = collector.sample()
    return now, collector.status(before, now, None)
