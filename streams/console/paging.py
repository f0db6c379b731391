"""Pages of a long table: which of its rows a page shows. Plain functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from streams.console.tables import Row, Table

# Rows of a table on a page: some screens of them. An export has all rows.
PAGE_ROWS = 200

# Digits of the number of a page. A table of so many pages fits into no memory.
_MAX_DIGITS = 9


class UnusablePage(ValueError):
    """The address asks for a page that is no number; the text says which one."""


@dataclass(frozen=True, slots=True)
class TablePage:
    """The rows of a table that one page shows."""

    rows: Sequence[Row]
    number: int
    """From 1."""
    pages: int
    """How many pages the table has, at least one."""
    total: int
    """Rows of the table."""

    @property
    def place(self) -> str:
        """Which rows these are, such as `201-400 of 20,000`."""
        first = (self.number - 1) * PAGE_ROWS + 1
        return f"{first:,}-{first + len(self.rows) - 1:,} of {self.total:,}"


def with_parameters(address: str, **changed: str) -> str:
    """An address with other parameters; an empty one is left out."""
    path, _, query = address.partition("?")
    kept = {name: value for name, value in parse_qsl(query) if name not in changed}
    given = kept | {name: value for name, value in changed.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def parameter_of(address: str, name: str) -> str:
    """The value of a parameter of an address; empty without one."""
    return dict(parse_qsl(address.partition("?")[2])).get(name, "")


def page_parameter(table_name: str) -> str:
    """The name of the parameter that says in an address which page of a table is shown."""
    return f"{table_name}_page"


def page_of(table: Table, asked: str) -> TablePage:
    """The page of a table that the address asks for; empty is the first one.

    A page behind the end is the last one, because the table may have become shorter. Raises
    UnusablePage for what is no number.
    """
    number = asked or "1"
    if not (number.isascii() and number.isdecimal() and len(number) <= _MAX_DIGITS):
        raise UnusablePage(f"{page_parameter(table.name)}={asked}: the number of a page, from 1")
    pages = max(1, -(-len(table.rows) // PAGE_ROWS))
    shown = min(max(1, int(number)), pages)
    start = (shown - 1) * PAGE_ROWS
    rows = table.rows[start : start + PAGE_ROWS]
    return TablePage(rows, shown, pages, len(table.rows))
