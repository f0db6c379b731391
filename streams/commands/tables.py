"""Prints rows for a person, or for the next program in a pipe."""

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on a terminal, and tab-separated lines without titles elsewhere."""
    console = Console()
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table(*titles)
    for row in rows:
        # Plain text, because an address or an error may contain what looks like rich's markup.
        table.add_row(*map(Text, row))
    console.print(table)
