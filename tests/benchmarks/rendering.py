"""What is made of a run of the benchmarks: a table, a Markdown page, and plots in SVG."""

from collections.abc import Callable, Sequence
from html import escape

from tests.benchmarks.comparison import Comparison, Figures, Run, median

BAR_HEIGHT, GAP, LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH = 22, 8, 210, 420, 130
STAGE_COLOUR, BASELINE_COLOUR = "#1f6feb", "#8c959f"

PLOTS: dict[str, tuple[str, Callable[[Figures], Sequence[float]]]] = {
    "rate": ("{piece} a second (more is better)", lambda figures: figures.rate),
    "processor": (
        "µs of processor for each of the {piece} (less is better)",
        lambda figures: figures.processor_us,
    ),
}
"""By the end of a plot's file name: its heading, and the values that it shows."""


def table(run: Run) -> str:
    """The figures of a run for a terminal."""
    lines = []
    for each in run.comparisons:
        lines.append(f"{each.name}: {each.conditions}")
        lines += [_line(figures) for figures in (each.stage, *each.baselines)]
        lines.append(
            f"  {each.processor_ratio:.2f} of {each.baselines[0].name} by processor time "
            f"(goal {each.goal:.2f}), {each.rate_ratio:.2f} by rate"
        )
    return "\n".join(lines)


def _line(figures: Figures) -> str:
    line = (
        f"  {figures.name:24} {median(figures.rate):9,.0f}/s {median(figures.processor_us):7.1f} µs"
    )
    if figures.p50_ms:
        line += f"   p50 {median(figures.p50_ms):.1f} ms, p99 {median(figures.p99_ms):.1f} ms"
    return line


def page(run: Run) -> str:
    """`performance.md`."""
    lines = [
        "# Performance",
        "",
        "<!-- Made by `make bench ARGS=--record`. Do not edit. -->",
        "",
        "Each stage beside a baseline in the same run, on the same broker and under the same load.",
        "The ratios hold on other machines, the figures do not. `make bench` compares its ratios",
        "with these. A ratio above 1 is in favour of the stage.",
        "",
        f"Measured on {run.date}.",
        "",
        "| machine | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in run.machine.items()),
        *(f"| {name} | {value} |" for name, value in run.versions.items()),
    ]
    for each in run.comparisons:
        lines += ["", f"## {each.name.capitalize()}", "", *_wrapped(each.conditions), ""]
        lines += _figures(each)
        lines += ["", *_ratios(each), ""]
        lines += [f"![{_heading(each, plot)}]({plot_name(each, plot)})" for plot in PLOTS]
    return "\n".join(lines) + "\n"


def _figures(each: Comparison) -> list[str]:
    return [
        f"| | {each.piece}/s | spread | µs of processor | spread | p50 | p99 |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {figures.name} | {median(figures.rate):,.0f} | {_spread(figures.rate, ',.0f')} "
            f"| {median(figures.processor_us):.1f} | {_spread(figures.processor_us, '.1f')} "
            f"| {_latency(figures.p50_ms)} | {_latency(figures.p99_ms)} |"
            for figures in (each.stage, *each.baselines)
        ),
    ]


def _ratios(each: Comparison) -> list[str]:
    verdict = "reached" if each.processor_ratio >= each.goal else "not reached"
    return _wrapped(
        f"Beside {each.baselines[0].name}: {each.processor_ratio:.2f} by processor time (the goal "
        f"of {each.goal:.2f} is {verdict}), {each.rate_ratio:.2f} by rate."
    )


def _spread(values: Sequence[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


def _latency(values: Sequence[float]) -> str:
    return f"{median(values):.1f} ms" if values else "–"


def _wrapped(text: str, width: int = 100) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def plot_name(each: Comparison, plot: str) -> str:
    """The name of a plot's file."""
    return f"performance-{each.name.replace(' ', '-')}-{plot}.svg"


def _heading(each: Comparison, plot: str) -> str:
    return PLOTS[plot][0].format(piece=each.piece)


def svg(each: Comparison, plot: str) -> str:
    """Horizontal bars, one for each side, with the medians; lines show the lowest and the highest.

    The background is white, so that the plot can be read on a dark page as well.
    """
    heading, values_of = _heading(each, plot), PLOTS[plot][1]
    sides = (each.stage, *each.baselines)
    most = max(max(values_of(figures)) for figures in sides)
    width = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH
    height = 40 + len(sides) * (BAR_HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="22" font-weight="bold">{escape(each.name)}: {escape(heading)}</text>',
    ]
    for number, figures in enumerate(sides):
        values = values_of(figures)
        top = 36 + number * (BAR_HEIGHT + GAP)
        middle, scale = top + BAR_HEIGHT / 2, BAR_WIDTH / most
        low, high = (LABEL_WIDTH + value * scale for value in (min(values), max(values)))
        colour = STAGE_COLOUR if number == 0 else BASELINE_COLOUR
        parts += [
            f'<text x="{LABEL_WIDTH - 8}" y="{middle + 5:.0f}" text-anchor="end">'
            f"{escape(figures.name)}</text>",
            f'<rect x="{LABEL_WIDTH}" y="{top}" width="{median(values) * scale:.1f}" '
            f'height="{BAR_HEIGHT}" fill="{colour}"/>',
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}" stroke="#24292f" stroke-width="2"/>',
            f'<text x="{high + 6:.1f}" y="{middle + 5:.0f}">{median(values):,.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
