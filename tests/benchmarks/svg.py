"""Plots in SVG: bars, and lines. The background is white, for dark pages as well."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from tests.benchmarks.comparison import median

BAR_HEIGHT, GAP, LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH = 22, 8, 210, 420, 130
OWN_COLOUR, BASELINE_COLOUR = "#1f6feb", "#8c959f"
LINE_COLOURS = (OWN_COLOUR, "#bc4c00", "#1a7f37")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar as long as the median of its values; a line shows the lowest and the highest."""

    label: str
    values: Sequence[float]
    colour: str = BASELINE_COLOUR


def bars(heading: str, shown: Sequence[Bar], digits: int = 1) -> str:
    """Horizontal bars from the top to the bottom, on one scale; medians have so many digits."""
    scale = BAR_WIDTH / max(max(bar.values) for bar in shown)
    width = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH
    parts = [*_start(heading, width, 40 + len(shown) * (BAR_HEIGHT + GAP))]
    for number, bar in enumerate(shown):
        top = 36 + number * (BAR_HEIGHT + GAP)
        middle = top + BAR_HEIGHT / 2
        low, high = (LABEL_WIDTH + value * scale for value in (min(bar.values), max(bar.values)))
        value = f"{median(bar.values):,.{digits}f}"
        parts += [
            f'<text x="{LABEL_WIDTH - 8}" y="{middle + 5:.0f}" text-anchor="end">'
            f"{escape(bar.label)}</text>",
            f'<rect x="{LABEL_WIDTH}" y="{top}" width="{median(bar.values) * scale:.1f}" '
            f'height="{BAR_HEIGHT}" fill="{bar.colour}"/>',
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}" stroke="#24292f" stroke-width="2"/>',
            f'<text x="{high + 6:.1f}" y="{middle + 5:.0f}">{value}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class Series:
    """Points that a line connects, from the left to the right. All numbers are above 0."""

    label: str
    points: Sequence[tuple[float, float]]


def lines(heading: str, x_label: str, shown: Sequence[Series]) -> str:
    """Lines over two logarithmic axes, on which what grows in proportion is a straight line."""
    xs = [x for series in shown for x, _ in series.points]
    ys = [y for series in shown for _, y in series.points]
    left, right, top, bottom = 80, 620, 40, 300
    across, up = _Axis(xs, left, right), _Axis(ys, bottom, top)
    parts = [*_start(heading, LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, 350)]
    for x in across.ticks:
        place = across.place(x)
        parts += [
            f'<path d="M{place:.1f} {top}V{bottom}" stroke="#d0d7de"/>',
            f'<text x="{place:.1f}" y="{bottom + 18}" text-anchor="middle">{x:,.0f}</text>',
        ]
    for y in up.ticks:
        place = up.place(y)
        parts += [
            f'<path d="M{left} {place:.1f}H{right}" stroke="#d0d7de"/>',
            f'<text x="{left - 8}" y="{place + 5:.1f}" text-anchor="end">{y:,g}</text>',
        ]
    parts.append(
        f'<text x="{(left + right) / 2:.0f}" y="{bottom + 40}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    for number, series in enumerate(shown):
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        places = [(across.place(x), up.place(y)) for x, y in series.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]
        # The names stand in a list of their own: two lines may end at the same height.
        height = top + 8 + number * 22
        parts += [
            f'<path d="M{right + 24} {height}h24" stroke="{colour}" stroke-width="3"/>',
            f'<text x="{right + 56}" y="{height + 5}">{escape(series.label)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis:
    """Where numbers lie on a logarithmic axis, which begins and ends at a power of ten."""

    def __init__(self, numbers: Sequence[float], begin: float, end: float) -> None:
        self._low, self._high = floor(log10(min(numbers))), ceil(log10(max(numbers)))
        self._high = max(self._high, self._low + 1)
        self._begin, self._end = begin, end
        self.ticks = [10.0**power for power in range(self._low, self._high + 1)]

    def place(self, number: float) -> float:
        share = (log10(number) - self._low) / (self._high - self._low)
        return self._begin + share * (self._end - self._begin)


def _start(heading: str, width: int, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="22" font-weight="bold">{escape(heading)}</text>',
    ]
