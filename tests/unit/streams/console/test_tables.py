"""Exports of tables: what a spreadsheet and a program read is what the page shows."""

import csv
import io
import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.commands.tables import FORMULA_STARTS
from streams.console.tables import (
    PIECE_ROWS,
    Cell,
    Column,
    Row,
    RowsOnDemand,
    Table,
    csv_pieces,
    json_pieces,
)

COLUMNS = (Column("name", "Name"), Column("count", "Count", number=True))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


def table(rows: list[tuple[str, str]]) -> Table:
    return Table("people", "People", COLUMNS, [[Cell(a), Cell(b)] for a, b in rows], "nobody")


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_every_cell_comes_back_and_none_is_a_formula(rows: list[tuple[str, str]]) -> None:
    text = b"".join(csv_pieces(table(rows))).decode()
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read[0] == ["name", "count"]
    assert len(read) == len(rows) + 1
    for cells, row in zip(read[1:], rows, strict=True):
        for cell, text in zip(cells, row, strict=True):
            assert not cell.startswith(FORMULA_STARTS)
            assert cell in (text, f"'{text}")
    exported = json.loads(b"".join(json_pieces(table(rows))))
    assert exported == [{"name": a, "count": b} for a, b in rows]


@pytest.mark.parametrize("pieces", [csv_pieces, json_pieces])
@pytest.mark.parametrize("rows", [0, 1, PIECE_ROWS, PIECE_ROWS + 1])
def test_an_export_has_every_row_once_and_builds_few_at_a_time(
    pieces: Callable[[Table], Iterator[bytes]], rows: int
) -> None:
    built: list[int] = []

    def row(item: int) -> Row:
        built.append(item)
        return [Cell(f"n{item}"), Cell(f"{item}", export=f"exported {item}")]

    before, text = 0, b""
    for piece in pieces(Table("t", "T", COLUMNS, RowsOnDemand(range(rows), row), "nobody")):
        assert len(built) - before <= PIECE_ROWS
        before, text = len(built), text + piece
    assert built == list(range(rows))
    assert text.count(b"exported ") == rows
    if pieces is json_pieces:
        assert [each["name"] for each in json.loads(text)] == [f"n{item}" for item in range(rows)]
