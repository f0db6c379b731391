"""The command explain: a timeline of what became of a contact, an address or a record."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from textwrap import fill
from typing import Any

import click

from connectors.salesforce.policy import Policy
from streams.commands.explain.answer import Answer, ContactAnswer, moment
from streams.commands.explain.investigate import investigate
from streams.commands.explain.question import UnusableQuestion, parse_question
from streams.commands.explain.timeline import Entry
from streams.settings import KafkaSettings

# Of a terminal that nobody made wider.
COLUMNS = 80

# Records from one line of progress to the next: about a second.
PROGRESS_RECORDS = 500_000


def run(kafka: KafkaSettings, policy: Policy, login_url: str, text: str, *, as_json: bool) -> int:
    """Prints the answer; returns the exit code, 1 when no topic holds anything of it.

    `login_url` is the org's, for links to records. Blocks until the topics are read. Raises
    click.UsageError for a question that names nothing, click.ClickException without a broker.
    """
    try:
        question = parse_question(text)
    except UnusableQuestion as error:
        raise click.UsageError(str(error)) from error
    began = time.monotonic()
    counter = _Counter(click.echo if sys.stderr.isatty() else lambda *_, **__: None)
    result = investigate(kafka, policy, question, counter.count).answer
    (print_json if as_json else print_text)(result, login_url)
    seconds = time.monotonic() - began
    click.echo(f"searched {counter.records:,} records in {seconds:.1f} s", err=True)
    return 0 if result.contacts else 1


class _Counter:
    """Counts the records that are read, and says so while a person waits."""

    def __init__(self, say: Callable[..., None]) -> None:
        self.records = 0
        self._say = say
        self._topic, self._of_topic = "", 0

    def count(self, topic: str, records: int) -> None:
        """So many more of a topic were read."""
        if topic != self._topic:
            self._topic, self._of_topic = topic, 0
        before, self._of_topic = self._of_topic, self._of_topic + records
        self.records += records
        if self._of_topic // PROGRESS_RECORDS > before // PROGRESS_RECORDS:
            self._say(f"{self._topic}: {self._of_topic:,} records", err=True)


def print_json(result: Answer, login_url: str) -> None:
    """Prints one JSON object."""
    body: dict[str, Any] = {
        "subject": result.question.subject.value,
        "value": result.question.value,
        "contacts": [
            asdict(contact) | {"link": link(contact, login_url)} for contact in result.contacts
        ],
        "more_contacts": result.more_contacts,
        "notes": result.notes,
    }
    click.echo(json.dumps(body, indent=2, ensure_ascii=False))


def print_text(result: Answer, login_url: str) -> None:
    """Prints each contact with its timeline, the oldest entry first, then the notes."""
    for contact in result.contacts:
        for line in _contact_lines(contact, login_url):
            click.echo(line)
        click.echo("")
    if result.more_contacts:
        click.echo(f"{result.more_contacts} further contacts are left out; ask for one by its key.")
    for note in result.notes:
        click.echo(fill(note, COLUMNS, break_long_words=False, break_on_hyphens=False))


def _contact_lines(contact: ContactAnswer, login_url: str) -> Iterator[str]:
    yield contact.key
    yield f"    grant   {contact.grant_status}"
    if contact.record_id:
        owner = "this contact's" if contact.owner else "not this contact's own"
        yield f"    record  {contact.sobject} {contact.record_id}, {owner}"
        yield f"            {link(contact, login_url)}"
    for each in contact.runs:
        yield f"    run     {each.run_id} {each.state}, this grant {each.grant_state}"
    if contact.left_out:
        yield f"    {contact.left_out:,} older entries are left out"
    for entry in contact.entries:
        yield f"  {moment(entry.at_ms)}  {entry.what:<11} {entry.result}"
        if text := details_text(entry):
            indent = " " * 24
            yield fill(
                text,
                COLUMNS,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )


def details_text(entry: Entry) -> str:
    """The version and the further facts of an entry, in one line."""
    parts = [] if entry.version is None else [f"version {entry.version}"]
    for name, value in entry.details.items():
        if value in (None, "", [], ()):
            continue
        shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        parts.append(f"{name} {shown}")
    return ", ".join(parts)


def link(contact: ContactAnswer, login_url: str) -> str:
    """Where a browser shows the record; empty without one."""
    return f"{login_url.rstrip('/')}/{contact.record_id}" if contact.record_id else ""
