"""Prints outcomes: counts, or rows one after the other as they are found."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

import click

from streams.commands.dead_letters.report import moment
from streams.commands.outcomes.rows import OutcomeRow
from streams.commands.tables import harmless

NAMES = (
    "contact",
    "outcome",
    "reason",
    "object",
    "record",
    "candidates",
    "matched",
    "origin",
    "time",
    "address",
)


def cells(row: OutcomeRow) -> tuple[str, ...]:
    """The row in the order of NAMES."""
    return (
        row.key,
        row.outcome,
        row.reason,
        row.sobject,
        row.record_id,
        " ".join(row.candidates),
        row.matched,
        row.origin,
        moment(row.at_ms),
        row.address,
    )


def print_rows(rows: Iterable[OutcomeRow]) -> int:
    """Prints two lines for each row, of 80 columns for keys of 70 characters; returns how many."""
    count = 0
    for row in rows:
        count += 1
        what = f"{row.outcome} {row.reason}".strip()
        click.echo(f"{what:<46}  {moment(row.at_ms)}  {row.origin}".rstrip())
        record = f"{row.sobject} {row.record_id}".strip()
        for line in (row.key, "  ".join(filter(None, (record, row.address)))):
            if line:
                click.echo(f"    {line}")
        others = [each for each in row.candidates if each != row.record_id]
        for each in others:
            click.echo(f"    or {each}")
    return count


def print_csv(rows: Iterable[OutcomeRow]) -> int:
    """Prints CSV with a line of names; returns how many rows there were."""
    writer = csv.writer(sys.stdout)
    writer.writerow(NAMES)
    count = 0
    for row in rows:
        count += 1
        writer.writerow([harmless(cell) for cell in cells(row)])
    return count


def print_json(rows: Iterable[OutcomeRow]) -> int:
    """Prints a JSON array, a line for each row, as they come; returns how many there were."""
    count = 0
    for count, row in enumerate(rows, 1):
        found = {name: cell or None for name, cell in zip(NAMES, cells(row), strict=True)} | {
            "candidates": list(row.candidates)
        }
        click.echo(("[" if count == 1 else ",") + json.dumps(found, ensure_ascii=False))
    click.echo("]" if count else "[]")
    return count


def print_counts(counts: Counter[tuple[str, str, str]], *, as_json: bool, as_csv: bool) -> None:
    """Prints how many contacts have each outcome, reason and object, the most first."""
    lines = list(_count_lines(counts))
    if as_json:
        names = ("outcome", "reason", "object", "contacts")
        click.echo(json.dumps([dict(zip(names, line, strict=True)) for line in lines], indent=2))
        return
    if as_csv:
        csv.writer(sys.stdout).writerows([("outcome", "reason", "object", "contacts"), *lines])
        return
    for outcome, reason, sobject, contacts in lines:
        click.echo(f"{outcome:<12}{reason:<38}{sobject:<10}{contacts:>12,}".rstrip())


def _count_lines(counts: Counter[tuple[str, str, str]]) -> Iterator[tuple[str, str, str, int]]:
    for (outcome, reason, sobject), contacts in sorted(
        counts.items(), key=lambda one: (-one[1], one[0])
    ):
        yield outcome, reason, sobject, contacts
