"""Prints rows for a person, or for the next program in a pipe."""

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


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
