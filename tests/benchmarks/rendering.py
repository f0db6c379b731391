"""What is made of a run of the benchmarks: a table, a Markdown page, and plots in SVG."""

from tests.benchmarks import (
    comparison_rendering,
    flow_rendering,
    growth_rendering,
    latency_rendering,
    sheet_rendering,
)
from tests.benchmarks.runs import Run
from tests.benchmarks.text import wrapped


def table(run: Run) -> str:
    """The figures of a run for a terminal of 80 columns."""
    lines = []
    for comparison in run.comparisons:
        lines += comparison_rendering.table(comparison)
    for flow in run.flows:
        lines += flow_rendering.table(flow)
    for latency in run.latencies:
        lines += latency_rendering.table(latency)
    for growth in run.growths:
        lines += growth_rendering.table(growth)
    for sheet in run.sheets:
        lines += sheet_rendering.table(sheet)
    return "\n".join(lines)


def page(run: Run) -> str:
    """`performance.md`."""
    lines = [
        "# Performance",
        "",
        "<!-- Made by `make bench ARGS=--record`. Do not edit. -->",
        "",
        *wrapped(
            "Each part beside a baseline in the same run, on the same broker and under the same "
            "load. The ratios hold on other machines, the figures do not. `make bench` compares "
            "its ratios with these. A ratio above 1 is in favour of contactstream."
        ),
        "",
        f"Measured on {run.date}.",
        "",
        "| machine | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in run.machine.items()),
        *(f"| {name} | {value} |" for name, value in run.versions.items()),
    ]
    if run.flows or run.latencies:
        lines += ["", "## From Nylas to Salesforce", "", *wrapped(flow_rendering.RECIPES)]
    for flow in run.flows:
        lines += ["", *flow_rendering.section(flow)]
    for latency in run.latencies:
        lines += ["", *latency_rendering.section(latency)]
    for comparison in run.comparisons:
        lines += ["", *comparison_rendering.section(comparison)]
    for sheet in run.sheets:
        lines += ["", *sheet_rendering.section(sheet)]
    for growth in run.growths:
        lines += ["", *growth_rendering.section(growth)]
    return "\n".join(lines) + "\n"


def plots(run: Run) -> dict[str, str]:
    """The plots of the page, by the names of their files."""
    found: dict[str, str] = {}
    for comparison in run.comparisons:
        found |= comparison_rendering.plots(comparison)
    for flow in run.flows:
        found |= flow_rendering.plots(flow)
    for latency in run.latencies:
        found |= latency_rendering.plots(latency)
    for growth in run.growths:
        found |= growth_rendering.plots(growth)
    for sheet in run.sheets:
        found |= sheet_rendering.plots(sheet)
    return found
