"""Prints rows for a person, or for the next program in a pipe."""

import csv
import json
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

# A spreadsheet takes a cell that begins like this for a formula, and a formula can send data away.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def harmless(text: str) -> str:
    """The text of a cell of CSV, which no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def print_csv(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints CSV with a line of names."""
    writer = csv.writer(sys.stdout)
    writer.writerow(names)
    writer.writerows([[harmless(value) for value in row] for row in rows])


def print_json_rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a JSON array of objects; an empty value is null."""
    objects = [dict(zip(names, [value or None for value in row], strict=True)) for row in rows]
    click.echo(json.dumps(objects, indent=2, ensure_ascii=False))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on a terminal, and tab-separated lines without titles elsewhere.

    A value that is too long for its column goes on in the next line: a key has to be copied whole.
    """
    console = Console()
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table()
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        # Plain text, because an address or an error may contain what looks like rich's markup.
        table.add_row(*map(Text, row))
    console.print(table)
