"""The command audit: lists who did what by a command, when and why."""

import json
from collections.abc import Iterable
from dataclasses import asdict

import click

from streams.audit import AuditEntry, AuditState, parse_audit
from streams.commands.dead_letters.report import moment
from streams.commands.topic_records import topic_records
from streams.events import UnreadableRecord
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings
from streams.topics import topics


def run(kafka: KafkaSettings, *, as_json: bool) -> None:
    """Prints every action, the newest last. Blocks. Raises click.ClickException."""
    entries, unreadable = actions(topic_records(kafka, topics(kafka).audit.name))
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
    else:
        for entry in entries:
            print_entry(entry)
    if unreadable:
        click.echo(f"{unreadable} records are of another version", err=True)


def actions(records: Iterable[KafkaRecord]) -> tuple[list[AuditEntry], int]:
    """Each action in its last state, and the number of unreadable records."""
    found: dict[str, AuditEntry] = {}
    unreadable = 0
    for record in records:
        try:
            entry = parse_audit(record)
        except UnreadableRecord:
            unreadable += 1
            continue
        found[entry.action_id] = entry
    return list(found.values()), unreadable


def print_entry(entry: AuditEntry) -> None:
    """Prints two or three lines, which fit into 80 columns where the reason does."""
    state = "" if entry.state is AuditState.ENDED else "  NOT ENDED"
    click.echo(f"{moment(entry.at_ms)}  {entry.action}  {entry.count:,}{state}")
    click.echo(f"    by {entry.actor}" + (f": {entry.why}" if entry.why else ""))
    if entry.selection:
        click.echo(f"    {json.dumps(dict(entry.selection))}")
