"""Shows dead letters: grouped by reason, one by one, and what an action would do."""

import csv
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from textwrap import fill
from typing import Any

import click

from streams.commands.dead_letters.open_letters import LetterScan, OpenLetter
from streams.commands.dead_letters.remedies import remedy
from streams.dead_letters import DeadLetter

# Of a terminal that nobody made wider.
COLUMNS = 80


@dataclass(slots=True)
class ReasonGroup:
    """The open letters of one reason."""

    reason: str
    sample: str
    """One contact, masked."""
    count: int = 0
    superseded: int = 0
    stages: set[str] = field(default_factory=set)
    first_failed_ms: int = 0
    last_failed_ms: int = 0
    most_attempts: int = 0


class Grouping:
    """Groups letters by reason, one after the other. `samples` are masked contacts by reason."""

    def __init__(self, samples: Mapping[str, str]) -> None:
        self._samples = samples
        self._by_reason: dict[str, ReasonGroup] = {}

    def add(self, letter: OpenLetter, *, superseded: bool) -> None:
        """Takes a letter in."""
        reason = letter.reason
        group = self._by_reason.get(reason)
        if group is None:
            group = ReasonGroup(reason, self._samples.get(reason, ""))
            self._by_reason[reason] = group
        group.count += 1
        group.superseded += superseded
        group.stages.add(letter.stage)
        first, last = letter.first_failed_ms, letter.last_failed_ms
        group.first_failed_ms = min(first, group.first_failed_ms or first)
        group.last_failed_ms = max(last, group.last_failed_ms)
        group.most_attempts = max(letter.attempts, group.most_attempts)

    @property
    def groups(self) -> list[ReasonGroup]:
        """The groups, the most frequent first."""
        return sorted(self._by_reason.values(), key=lambda group: (-group.count, group.reason))


def groups(found: LetterScan, superseded: Collection[str]) -> list[ReasonGroup]:
    """The letters by reason, the most frequent first. `superseded` are IDs of letters."""
    grouping = Grouping(found.samples)
    for letter in found.letters.values():
        grouping.add(letter, superseded=letter.letter_id in superseded)
    return grouping.groups


def moment(epoch_ms: int) -> str:
    """A time for people, in UTC."""
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M}Z"


def print_groups(found: Sequence[ReasonGroup]) -> None:
    """Prints each reason with its count, times, a sample and the remedy."""
    if not found:
        click.echo("no dead letter is open")
        return
    for group in found:
        click.echo(f"{group.count:>8,}  {group.reason}  ({', '.join(sorted(group.stages))})")
        lines = [
            f"failed from {moment(group.first_failed_ms)} to {moment(group.last_failed_ms)}, "
            f"attempts {group.most_attempts}",
            f"for example {group.sample}",
            *dict.fromkeys(remedy(group.reason, stage) for stage in sorted(group.stages)),
        ]
        if group.superseded:
            lines.insert(0, f"{group.superseded:,} superseded by something newer")
        for line in lines:
            click.echo(_indented(line))
    click.echo(f"{sum(group.count for group in found):,} open dead letters")


def _indented(line: str) -> str:
    indent = " " * 10
    return fill(
        line,
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def groups_json(found: Sequence[ReasonGroup]) -> list[dict[str, Any]]:
    """The groups as JSON takes them."""
    return [
        {
            **asdict(group),
            "stages": sorted(group.stages),
            "remedies": {stage: remedy(group.reason, stage) for stage in sorted(group.stages)},
        }
        for group in found
    ]


def letter_row(letter: OpenLetter, *, superseded: bool) -> dict[str, Any]:
    """A letter as JSON and CSV show it, without personal data."""
    return {
        "id": letter.letter_id,
        "contact": letter.contact_key,
        "reason": letter.reason,
        "stage": letter.stage,
        "kind": letter.kind.value,
        "version": letter.version,
        "attempts": letter.attempts,
        "first_failed_ms": letter.first_failed_ms,
        "last_failed_ms": letter.last_failed_ms,
        "run_id": letter.run_id,
        "state": "superseded" if superseded else "open",
    }


def print_letters(letters: Sequence[OpenLetter], superseded: Collection[str]) -> None:
    """Prints two lines for each letter: what happened, and its ID."""
    for letter in letters:
        state = "superseded" if letter.letter_id in superseded else "open"
        click.echo(
            f"{moment(letter.last_failed_ms)}  {state:<10}  {letter.reason}"
            f"  attempts {letter.attempts}"
        )
        click.echo(f"    {letter.letter_id}")


def print_csv(letters: Sequence[OpenLetter], superseded: Collection[str]) -> None:
    """Prints the letters as CSV with a header line."""
    rows = [letter_row(each, superseded=each.letter_id in superseded) for each in letters]
    names = list(rows[0]) if rows else ["id"]
    writer = csv.DictWriter(sys.stdout, names)
    writer.writeheader()
    writer.writerows(rows)


def print_json(body: object) -> None:
    """Prints one JSON document."""
    click.echo(json.dumps(body, indent=2, ensure_ascii=False))


def letter_facts(
    letter: DeadLetter, *, contact: str, superseded: bool, reveal: bool
) -> Mapping[str, Any]:
    """Everything about one letter; the error's text and the record only with `reveal`."""
    failed = letter.failed
    facts: dict[str, Any] = {
        "id": letter.letter_id,
        "state": "superseded" if superseded else "open",
        "reason": letter.reason,
        "remedy": remedy(letter.reason, letter.stage),
        "stage": letter.stage,
        "attempts": letter.attempts,
        "first_failed": moment(letter.first_failed_ms),
        "last_failed": moment(letter.last_failed_ms),
        "failed_record": f"{failed.topic}[{failed.partition}]@{failed.offset}",
        "contact_key": letter.contact_key,
        "run_id": letter.run_id,
        "contact": contact,
        "schema": letter.schema,
    }
    if reveal:
        facts["error"] = letter.detail
        facts["headers"] = {
            name: value.decode(errors="replace") if isinstance(value, bytes) else value
            for name, value in failed.headers
        }
        facts["value"] = (failed.value or b"").decode(errors="replace")
    return facts


def print_facts(facts: Mapping[str, Any]) -> None:
    """Prints the facts of one letter, a line each."""
    for name, value in facts.items():
        if value not in ("", None):
            click.echo(f"{name.replace('_', ' '):<14}{value}")
