"""Latencies at steady rates: lines for a terminal, a section of the page, and a plot."""

from tests.benchmarks.comparison_rendering import COLUMNS
from tests.benchmarks.latencies import Latency, LatencyPoint
from tests.benchmarks.svg import BASELINE_COLOUR, OWN_COLOUR, Bar, bars
from tests.benchmarks.text import picture, plot_file, titled, wrapped

PLOT, HEADING = "waits", "seconds at p50, with a line to p99 (less is better)"


def table(latency: Latency) -> list[str]:
    """Lines for a terminal."""
    lines = wrapped(f"{latency.name}: {latency.conditions}", COLUMNS)
    return lines + [
        f"  {point.system:17} {point.rate:6,.0f}/s {point.contacts:6,} contacts "
        f"{point.calls:5,} calls  p50 {_wait(point.p50_ms)}, p99 {_wait(point.p99_ms)}"
        for point in latency.points
    ]


def section(latency: Latency) -> list[str]:
    """A section of the page."""
    return [
        *(f"## {titled(latency.name)}", "", *wrapped(latency.conditions), ""),
        "| | webhooks/s | contacts | calls | p50 | p99 |",
        "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {point.system} | {point.rate:,.0f} | {point.contacts:,} | {point.calls:,} "
            f"| {_wait(point.p50_ms)} | {_wait(point.p99_ms)} |"
            for point in latency.points
        ),
        *("", picture(HEADING, latency.name, PLOT)),
    ]


def _wait(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s"


def plots(latency: Latency) -> dict[str, str]:
    """The plot by the name of its file."""
    own = latency.points[0].system

    def bar(point: LatencyPoint) -> Bar:
        seconds = point.p50_ms / 1000, point.p50_ms / 1000, point.p99_ms / 1000
        colour = OWN_COLOUR if point.system == own else BASELINE_COLOUR
        return Bar(f"{point.system}, {point.rate:,.0f}/s", seconds, colour)

    shown = [bar(point) for point in latency.points]
    return {plot_file(latency.name, PLOT): bars(f"{latency.name}: {HEADING}", shown, digits=2)}
