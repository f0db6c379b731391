"""The small charts: their numbers in words."""

import pytest

from streams.console.charts import chart, per_second


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0.0/s"), (0.02, "1.2/min"), (0.1, "0.1/s"), (1234.5, "1,234.5/s")]
)
def test_a_rate_is_said_in_a_unit_that_shows_it(value: float, words: str) -> None:
    assert per_second(value) == words


def test_a_chart_says_its_numbers_and_marks_a_bad_one() -> None:
    found = chart("Lag", [(0, 1.0), (600, 5.0), (1200, 4.0)], per_second, lambda value: value > 3)
    assert (found.newest, found.highest, found.span) == ("4.0/s", "5.0/s", "20 min")
    assert found.tone == "bad"


def test_a_chart_of_nothing_is_no_good_news() -> None:
    assert chart("Lag", [], per_second).newest == "–"
