"""Rows for a person, or for the next program in a pipe."""

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on a terminal, and elsewhere a line for each row, without titles and separated
    by tabs.
    """
    console = Console()
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        return
    shown = Table(*titles)
    for row in rows:
        shown.add_row(
            *map(Text, row)
        )  # plain: an address or an error may hold what looks like markup
    console.print(shown)
