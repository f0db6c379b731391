"""Draws a series of numbers as the two paths of a small SVG: a line, and the area under it.

The paths hold digits and letters only, so that a template can show them as they are.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float | None]
"""A moment in epoch seconds, and the value then; None where none is known."""

# The size of the drawing in its own units. The page stretches it to the width that it has.
WIDTH = 300
HEIGHT = 60

# Above the highest value, so that the line is not cut in half.
MARGIN = 2

# A pixel holds one point: more would only make the page larger.
MAX_POINTS = WIDTH

# Before and after a longer gap the line ends, because nobody knows what was in between.
GAP_INTERVALS = 3.0


@dataclass(frozen=True, slots=True)
class Sparkline:
    """The paths of a drawing of WIDTH by HEIGHT, and what a reader has to know besides."""

    line: str = ""
    """Empty without a value."""
    area: str = ""
    newest: float | None = None
    highest: float | None = None
    seconds: float = 0.0
    """From the first moment to the last."""


def sparkline(points: Iterable[Point]) -> Sparkline:
    """The drawing of these points, in the order of their moments. The vertical axis begins at 0."""
    series = thin([(at, _finite(value)) for at, value in points], MAX_POINTS)
    values = [value for _, value in series if value is not None]
    if not values:
        return Sparkline()
    first, last = series[0][0], series[-1][0]
    highest, lowest = max(0.0, *values), min(0.0, *values)
    # Divided first: a span of 1e-308 has no reciprocal.
    wide, high = last - first or 1.0, highest - lowest or 1.0
    tall = HEIGHT - 2 * MARGIN
    floor = HEIGHT - MARGIN + lowest / high * tall
    parts = [
        [((at - first) / wide * WIDTH, floor - value / high * tall) for at, value in part]
        for part in _parts(series)
    ]
    return Sparkline(
        " ".join(_line(part) for part in parts),
        " ".join(_area(part, floor) for part in parts),
        values[-1],
        max(values),
        last - first,
    )


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most so many points: the highest of each group, because a peak must stay visible."""
    size = math.ceil(len(points) / most) if points else 1
    if size == 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [max(group, key=_height) for group in groups]


def _height(point: Point) -> float:
    value = _finite(point[1])
    return -math.inf if value is None else value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _parts(series: Sequence[Point]) -> Iterable[list[tuple[float, float]]]:
    """The stretches without a gap."""
    steps = sorted(after[0] - before[0] for before, after in pairwise(series))
    longest = GAP_INTERVALS * steps[len(steps) // 2] if steps else 0.0
    part: list[tuple[float, float]] = []
    for at, value in series:
        if part and (value is None or at - part[-1][0] > longest):
            yield part
            part = []
        if value is not None:
            part.append((at, value))
    if part:
        yield part


def _line(part: Sequence[tuple[float, float]]) -> str:
    if len(part) == 1:  # a dot: a line without a length shows nothing
        x, y = part[0]
        return f"M{x:.1f} {y:.1f}h.5"
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in part)


def _area(part: Sequence[tuple[float, float]], floor: float) -> str:
    return f"{_line(part)}L{part[-1][0]:.1f} {floor:.1f}L{part[0][0]:.1f} {floor:.1f}Z"
