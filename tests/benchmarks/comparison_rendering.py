"""A stage beside its baselines: lines for a terminal, a section of the page, and plots."""

from collections.abc import Callable, Sequence

from tests.benchmarks.comparison import Comparison, Figures, median
from tests.benchmarks.svg import BASELINE_COLOUR, OWN_COLOUR, Bar, bars
from tests.benchmarks.text import picture, plot_file, titled, wrapped

# Of a terminal.
COLUMNS = 80

PLOTS: dict[str, tuple[str, Callable[[Figures], Sequence[float]]]] = {
    "rate": ("{piece} a second (more is better)", lambda figures: figures.rate),
    "processor": (
        "µs of processor for each of the {piece} (less is better)",
        lambda figures: figures.processor_us,
    ),
}
"""By the end of a plot's file name: its heading, and the values that it shows."""


def table(each: Comparison) -> list[str]:
    """Lines for a terminal."""
    lines = wrapped(f"{each.name}: {each.conditions}", COLUMNS)
    lines += [_line(figures) for figures in (each.stage, *each.baselines)]
    ratios = (
        f"{each.processor_ratio:.2f} of {each.baselines[0].name} by processor time "
        f"(goal {each.goal:.2f}), {each.rate_ratio:.2f} by rate"
    )
    return lines + [f"  {line}" for line in wrapped(ratios, COLUMNS - 2)]


def _line(figures: Figures) -> str:
    line = (
        f"  {figures.name:24} {median(figures.rate):9,.0f}/s {median(figures.processor_us):7.1f} µs"
    )
    if figures.p50_ms:
        line += f"  p50 {median(figures.p50_ms):.1f} ms, p99 {median(figures.p99_ms):.1f} ms"
    return line


def section(each: Comparison) -> list[str]:
    """A section of the page."""
    verdict = "reached" if each.processor_ratio >= each.goal else "not reached"
    ratios = (
        f"Beside {each.baselines[0].name}: {each.processor_ratio:.2f} by processor time (the goal "
        f"of {each.goal:.2f} is {verdict}), {each.rate_ratio:.2f} by rate."
    )
    return [
        *(f"## {titled(each.name)}", "", *wrapped(each.conditions), ""),
        *_figures(each),
        *("", *wrapped(ratios), ""),
        *(picture(_heading(each, plot), each.name, plot) for plot in PLOTS),
    ]


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


def _spread(values: Sequence[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


def _latency(values: Sequence[float]) -> str:
    return f"{median(values):.1f} ms" if values else "–"


def _heading(each: Comparison, plot: str) -> str:
    return PLOTS[plot][0].format(piece=each.piece)


def plots(each: Comparison) -> dict[str, str]:
    """The plots by the names of their files."""
    return {
        plot_file(each.name, plot): bars(
            f"{each.name}: {_heading(each, plot)}",
            [
                Bar(figures.name, values_of(figures), BASELINE_COLOUR if number else OWN_COLOUR)
                for number, figures in enumerate((each.stage, *each.baselines))
            ],
        )
        for plot, (_, values_of) in PLOTS.items()
    }
