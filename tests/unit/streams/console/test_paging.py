"""Pages of long tables: every row is on one page, and a page that does not exist is no error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.console.paging import PAGE_ROWS, UnusablePage, page_of
from streams.console.tables import Cell, Column, Row, RowsOnDemand, Table


def table(rows: int) -> Table:
    def row(item: int) -> Row:
        return [Cell(str(item))]

    return Table("t", "T", [Column("n", "N")], RowsOnDemand(range(rows), row), "none")


@given(st.integers(0, 3 * PAGE_ROWS))
def test_every_row_is_on_one_page(rows: int) -> None:
    long = table(rows)
    pages = page_of(long, "").pages
    shown = [
        cell.text for number in range(1, pages + 1) for (cell,) in page_of(long, str(number)).rows
    ]
    assert shown == [str(item) for item in range(rows)]


def test_the_place_is_said_in_numbers() -> None:
    assert page_of(table(20_000), "2").place == "201-400 of 20,000"
    assert page_of(table(20_001), "101").place == "20,001-20,001 of 20,001"


def test_a_page_behind_the_end_is_the_last_one_and_one_before_the_start_the_first() -> None:
    assert page_of(table(450), "999999999").number == 3
    assert page_of(table(450), "0").number == 1
    assert page_of(table(0), "7").number == 1


@pytest.mark.parametrize("asked", ["x", "-1", "1.5", "²", "1" * 5_000])
def test_what_is_no_number_is_refused_with_its_name(asked: str) -> None:
    with pytest.raises(UnusablePage, match="t_page="):
        page_of(table(1), asked)
