"""Tables of the console: rows with titles, shown as HTML, and exported as CSV and JSON."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

import orjson

from streams.commands.tables import harmless

ItemT = TypeVar("ItemT")

# Rows of an export that are built at once: other requests wait for some milliseconds.
PIECE_ROWS = 200


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, and where its link leads; empty without one."""

    text: str
    link: str = ""
    tone: str = ""
    """`good`, `warn` or `bad`, always beside a word that says the same."""
    export: str = ""
    """What an export holds instead of the text."""


Row = Sequence[Cell]


class RowsOnDemand(Sequence[Row], Generic[ItemT]):
    """The rows of items, each built when it is asked for: a page shows a few of many."""

    def __init__(self, items: Sequence[ItemT], build: Callable[[ItemT], Row]) -> None:
        self._items, self._build = items, build

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        if isinstance(place, slice):
            return [self._build(item) for item in self._items[place]]
        return self._build(self._items[place])


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
    rows: Sequence[Row]
    empty: str
    """What is said instead of no rows."""
    left_out: int = 0
    """Rows that nobody holds, because they are too many."""


def csv_pieces(table: Table) -> Iterator[bytes]:
    """The table as CSV, with a line of names, in pieces. No cell can be taken for a formula."""
    yield _csv_lines([[column.name for column in table.columns]])
    for rows in _pieces(table):
        yield _csv_lines([[harmless(_exported(cell)) for cell in row] for row in rows])


def _csv_lines(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode(errors="replace")


def _exported(cell: Cell) -> str:
    return cell.export or cell.text


def json_pieces(table: Table) -> Iterator[bytes]:
    """The table as a JSON array of objects, each value as it is shown, in pieces."""
    names = [column.name for column in table.columns]
    before = b"["
    for rows in _pieces(table):
        objects = [dict(zip(names, map(_exported, row), strict=True)) for row in rows]
        yield before + b",".join(orjson.dumps(each, option=orjson.OPT_INDENT_2) for each in objects)
        before = b","
    yield b"]" if table.rows else b"[]"


def _pieces(table: Table) -> Iterator[Sequence[Row]]:
    for start in range(0, len(table.rows), PIECE_ROWS):
        yield table.rows[start : start + PIECE_ROWS]
