"""Exports of tables: what a spreadsheet and a program read is what the page shows."""

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from streams.console.tables import FORMULA_STARTS, Cell, Column, Table, as_csv, as_json

COLUMNS = (Column("name", "Name"), Column("count", "Count", number=True))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


def table(rows: list[tuple[str, str]]) -> Table:
    return Table("people", "People", COLUMNS, [[Cell(a), Cell(b)] for a, b in rows], "nobody")


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_every_cell_comes_back_and_none_is_a_formula(rows: list[tuple[str, str]]) -> None:
    read = list(csv.reader(io.StringIO(as_csv(table(rows)), newline="")))
    assert read[0] == ["name", "count"]
    assert len(read) == len(rows) + 1
    for cells, row in zip(read[1:], rows, strict=True):
        for cell, text in zip(cells, row, strict=True):
            assert not cell.startswith(FORMULA_STARTS)
            assert cell in (text, f"'{text}")
    assert json.loads(as_json(table(rows))) == [{"name": a, "count": b} for a, b in rows]
