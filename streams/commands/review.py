"""The command review: lists the contacts about which a person has to decide."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from textwrap import fill

import click

from connectors.salesforce.outcome import OutcomeStatus
from streams.commands.topic_records import topic_records
from streams.kafka.records import KafkaRecord
from streams.reader.outcome_records import OutcomeRecord, parse_outcome
from streams.settings import KafkaSettings
from streams.topics import topics

# Of a terminal that nobody made wider.
COLUMNS = 80

# Salesforce's prefixes of record IDs.
_SOBJECTS = {"003": "Contact", "00Q": "Lead"}
_REASONS = {
    OutcomeStatus.COVERED.value: "another_name",
    OutcomeStatus.AMBIGUOUS.value: "several_people",
}
_ADVICE = {
    OutcomeStatus.COVERED.value: (
        "The primary address of a covered contact is on another person's record. If the two are "
        "one person, correct the name in Salesforce or in the address book. Otherwise nothing has "
        "to be done: activity capture finds that record."
    ),
    OutcomeStatus.AMBIGUOUS.value: (
        "The name of an ambiguous contact fits the records of several people. Complete the name in "
        "the address book, or merge the records in Salesforce if they are one person."
    ),
}
_THEN = "Then have them looked up again: contactstream reconcile --all"


@dataclass(frozen=True, slots=True)
class ReviewedRecord:
    """A record that the contact may be, or that covers it; the one in use comes first."""

    sobject: str
    id: str


@dataclass(frozen=True, slots=True)
class ReviewEntry:
    """A contact about which a person has to decide.

    `reason` is `another_name` or `several_people`. `since` is the time of the first outcome of this
    kind without another one after it, as far as the compacted topic still holds it.
    """

    key: str
    outcome: str
    reason: str
    since: str
    records: tuple[ReviewedRecord, ...]


def run(kafka: KafkaSettings, *, as_json: bool) -> None:
    """Prints the contacts. Blocks until contacts.outcomes is read. Raises click.ClickException."""
    outcomes = topic_records(
        kafka, topics(kafka).outcomes.name, waiting=lambda reason: click.echo(reason, err=True)
    )
    entries = review_entries(outcomes)
    (print_json if as_json else print_text)(entries)


def review_entries(outcomes: Iterable[KafkaRecord]) -> list[ReviewEntry]:
    """The contacts whose last outcome is covered or ambiguous, by outcome and then by key.

    `outcomes` is contacts.outcomes from its start.
    """
    waiting: dict[str, tuple[int, OutcomeRecord]] = {}
    for record in outcomes:
        outcome = parse_outcome(record)
        key = outcome.contact_key
        if outcome.outcome not in _REASONS:
            waiting.pop(key, None)
            continue
        since, before = waiting.get(key, (outcome.at_ms, outcome))
        if before.outcome != outcome.outcome:
            since = outcome.at_ms
        waiting[key] = since, outcome
    entries = [_entry(outcome, since) for since, outcome in waiting.values()]
    return sorted(entries, key=lambda entry: (entry.outcome, entry.key))


def _entry(outcome: OutcomeRecord, since_ms: int) -> ReviewEntry:
    ids = dict.fromkeys(filter(None, (outcome.salesforce_id, *outcome.candidates)))
    return ReviewEntry(
        outcome.contact_key,
        outcome.outcome,
        _REASONS[outcome.outcome],
        datetime.fromtimestamp(since_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ"),
        tuple(ReviewedRecord(_SOBJECTS.get(each[:3], ""), each) for each in ids),
    )


def print_json(entries: Sequence[ReviewEntry]) -> None:
    """Prints one JSON object with the contacts and the number of each outcome."""
    summary = dict.fromkeys(_REASONS, 0) | Counter(entry.outcome for entry in entries)
    body = {"contacts": [asdict(entry) for entry in entries], "summary": summary}
    click.echo(json.dumps(body, indent=2, ensure_ascii=False))


def print_text(entries: Sequence[ReviewEntry]) -> None:
    """Prints each contact with its records below it, then the numbers and what can be done."""
    for entry in entries:
        click.echo(f"{entry.outcome:<11}{entry.key}")
        click.echo(f"    since {entry.since}")
        for record in entry.records:
            click.echo(f"    {record.sobject} {record.id}".rstrip())
    counted = Counter(entry.outcome for entry in entries)
    if not counted:
        click.echo("no contact waits for a decision")
        return
    click.echo(", ".join(f"{number} {outcome}" for outcome, number in counted.items()))
    for outcome in counted:
        click.echo(fill(_ADVICE[outcome], COLUMNS, break_on_hyphens=False))
    click.echo(_THEN)
