"""Plots in SVG: bars beside each other. The background is white, for dark pages as well."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tests.benchmarks.comparison import median

BAR_HEIGHT, GAP, LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH = 22, 8, 210, 420, 130
OWN_COLOUR, BASELINE_COLOUR = "#1f6feb", "#8c959f"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar as long as the median of its values; a line shows the lowest and the highest."""

    label: str
    values: Sequence[float]
    colour: str = BASELINE_COLOUR


def bars(heading: str, shown: Sequence[Bar]) -> str:
    """Horizontal bars from the top to the bottom, on one scale."""
    scale = BAR_WIDTH / max(max(bar.values) for bar in shown)
    width = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH
    parts = [*_start(heading, width, 40 + len(shown) * (BAR_HEIGHT + GAP))]
    for number, bar in enumerate(shown):
        top = 36 + number * (BAR_HEIGHT + GAP)
        middle = top + BAR_HEIGHT / 2
        low, high = (LABEL_WIDTH + value * scale for value in (min(bar.values), max(bar.values)))
        parts += [
            f'<text x="{LABEL_WIDTH - 8}" y="{middle + 5:.0f}" text-anchor="end">'
            f"{escape(bar.label)}</text>",
            f'<rect x="{LABEL_WIDTH}" y="{top}" width="{median(bar.values) * scale:.1f}" '
            f'height="{BAR_HEIGHT}" fill="{bar.colour}"/>',
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}" stroke="#24292f" stroke-width="2"/>',
            f'<text x="{high + 6:.1f}" y="{middle + 5:.0f}">{median(bar.values):,.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _start(heading: str, width: int, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="22" font-weight="bold">{escape(heading)}</text>',
    ]
