"""The drawing of a series: inside of its frame, with its peaks, and with gaps as gaps."""

import math
import re

from hypothesis import example, given
from hypothesis import strategies as st

from streams.console.sparkline import HEIGHT, MAX_POINTS, WIDTH, Sparkline, sparkline, thin

NUMBER = re.compile(r"-?\d*\.?\d+")
VALUES = st.one_of(st.none(), st.floats(-1e12, 1e12), st.sampled_from([math.nan, math.inf]))


def coordinates(path: str) -> list[tuple[float, float]]:
    numbers = [float(each) for each in NUMBER.findall(re.sub(r"h\.5", "", path))]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_a_rise_goes_from_the_lower_left_to_the_upper_right() -> None:
    drawn = sparkline([(0, 0), (60, 5), (120, 10)])
    (left, lower), *_, (right, upper) = coordinates(drawn.line)
    assert (left, right) == (0, WIDTH)
    assert lower > HEIGHT * 0.9
    assert upper < HEIGHT * 0.1
    assert (drawn.newest, drawn.highest, drawn.seconds) == (10, 10, 120)


def test_nothing_known_draws_nothing() -> None:
    assert sparkline([]) == sparkline([(0, None), (60, math.nan)]) == Sparkline()


def test_a_gap_ends_the_line() -> None:
    assert sparkline([(0, 1), (1, None), (2, 1), (3, 2)]).line.count("M") == 2
    # Nothing was measured for a while: the process that kept the history did not run.
    assert sparkline([(0, 1), (1, 2), (2, 1), (60, 2), (61, 1)]).line.count("M") == 2


def test_one_value_is_a_dot() -> None:
    assert sparkline([(5, 3.0)]).line == "M0.0 2.0h.5"


def test_values_that_are_all_the_same_lie_on_a_line() -> None:
    heights = {y for _, y in coordinates(sparkline([(0, 0.0), (1, 0.0)]).line)}
    assert heights == {HEIGHT - 2}


@example([1e-308])
@given(st.lists(VALUES, max_size=40))
def test_every_drawing_stays_in_its_frame_and_holds_only_path_letters(
    values: list[float | None],
) -> None:
    drawn = sparkline([(float(at), value) for at, value in enumerate(values)])
    assert re.fullmatch(r"[MLZh0-9. -]*", drawn.line + drawn.area)
    for x, y in coordinates(drawn.line) + coordinates(drawn.area.replace("Z", " ")):
        assert -0.1 <= x <= WIDTH + 0.6
        assert -0.1 <= y <= HEIGHT + 0.1


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=2000))
def test_the_highest_value_survives_the_thinning(values: list[float]) -> None:
    points = [(float(at), value) for at, value in enumerate(values)]
    thinned = thin(points, MAX_POINTS)
    assert len(thinned) <= MAX_POINTS
    assert max(value or 0 for _, value in thinned) == max(values)
    assert [at for at, _ in thinned] == sorted(at for at, _ in thinned)
