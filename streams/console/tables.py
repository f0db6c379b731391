"""Tables of the console: rows with titles, shown as HTML, and exported as CSV and JSON."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

# A spreadsheet takes a cell that begins like this for a formula, and a formula can send data away.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, and where its link leads; empty without one."""

    text: str
    link: str = ""
    tone: str = ""
    """`good`, `warn` or `bad`, always beside a word that says the same."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    """For CSV and JSON: lower case, with underscores."""
    title: str
    number: bool = False
    """Whether it is aligned to the right."""


@dataclass(frozen=True, slots=True)
class Table:
    """What one table of a page shows."""

    name: str
    """In the address of its export, and in the name of the file."""
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    empty: str
    """What is said instead of no rows."""
    left_out: int = 0
    """Rows that are not shown, because they are too many."""


def as_csv(table: Table) -> str:
    """The table as CSV with a line of names. No cell can be taken for a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([column.name for column in table.columns])
    for row in table.rows:
        writer.writerow([_harmless(cell.text) for cell in row])
    return out.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def as_json(table: Table) -> bytes:
    """The table as a JSON array of objects, each value as it is shown."""
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, (cell.text for cell in row), strict=True)) for row in table.rows]
    return orjson.dumps(rows, option=orjson.OPT_INDENT_2)
