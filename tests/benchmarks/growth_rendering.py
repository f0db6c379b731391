"""How stages grow: lines for a terminal, a section of the page, and plots."""

from collections.abc import Callable

from tests.benchmarks.comparison_rendering import COLUMNS
from tests.benchmarks.growth import Growth, GrowthPoint
from tests.benchmarks.svg import BASELINE_COLOUR, OWN_COLOUR, Bar, Series, bars, lines
from tests.benchmarks.text import picture, plot_file, titled, wrapped

PLOTS: dict[str, tuple[str, Callable[[GrowthPoint], float]]] = {
    "time": ("seconds", lambda point: point.seconds),
    "memory": ("MB of memory at most", lambda point: point.peak_mb),
    "kept": ("MB of memory after a restart", lambda point: point.kept_mb),
}
"""By the end of a plot's file name: its heading, and the value over the contacts."""
SPREAD = "workers"


def table(growth: Growth) -> list[str]:
    """Lines for a terminal."""
    found = wrapped(f"{growth.name}: {growth.conditions}", COLUMNS)
    found += [
        f"  {point.stage:7}{point.contacts:10,} contacts {point.workers:2} of {point.partitions:2} "
        f"{point.seconds:8.1f} s {_rate(point):8,.0f}/s {point.peak_mb:6,.0f} MB"
        for point in growth.points
    ]
    for sentence in slopes(growth):
        found += [f"  {line}" for line in wrapped(sentence, COLUMNS - 2)]
    return found


def slopes(growth: Growth) -> list[str]:
    """One sentence for each stage: what 1,000 contacts more add."""
    found = []
    for stage in growth.stages:
        seconds = growth.line(stage, lambda point: point.seconds)
        memory = growth.line(stage, lambda point: point.kept_mb)
        restart = growth.line(stage, lambda point: point.restart_seconds)
        found.append(
            f"{stage}: 1,000 contacts more add {seconds.each:.3f} s of work, {memory.each:.2f} MB "
            f"to the {memory.fixed:.0f} MB of a process that has restarted, and "
            f"{restart.each * 1000:.0f} ms to a restart of {restart.fixed:.1f} s."
        )
    return found


def _rate(point: GrowthPoint) -> float:
    return point.contacts / point.seconds


def section(growth: Growth) -> list[str]:
    """A section of the page."""
    return [
        *(f"## {titled(growth.name)}", "", *wrapped(growth.conditions)),
        *wrapped(f"Measured on {growth.measured}. Slopes are those of least squares."),
        *("", *(line for each in slopes(growth) for line in _item(each)), ""),
        "| | contacts | workers | partitions | seconds | contacts/s | µs of processor | "
        "most MB of one | seconds of a restart | MB then | calls |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {point.stage} | {point.contacts:,} | {point.workers} | {point.partitions} "
            f"| {point.seconds:.1f} | {_rate(point):,.0f} "
            f"| {point.processor_seconds / point.contacts * 1e6:,.0f} | {point.peak_mb:,.0f} "
            f"| {point.restart_seconds:.1f} | {point.kept_mb:,.0f} | {point.calls:,} |"
            for point in growth.points
        ),
        "",
        *(
            picture(f"{heading} by contacts", growth.name, plot)
            for plot, (heading, _) in PLOTS.items()
        ),
        picture("contacts a second by workers and partitions", growth.name, SPREAD),
    ]


def _item(text: str) -> list[str]:
    first, *others = wrapped(text, 98)
    return [f"- {first}", *(f"  {line}" for line in others)]


def plots(growth: Growth) -> dict[str, str]:
    """The plots by the names of their files."""
    found = {
        plot_file(growth.name, plot): lines(
            f"{growth.name}: {heading}",
            "contacts",
            [
                Series(
                    stage,
                    [(point.contacts, value(point)) for point in growth.by_contacts(stage)],
                )
                for stage in growth.stages
            ],
        )
        for plot, (heading, value) in PLOTS.items()
    }
    first = growth.by_contacts("dedupe")[-1]
    spread = [point for point in growth.points if point.stage == "dedupe"]
    shown = [
        Bar(
            f"{point.workers} of dedupe, {point.partitions} partitions",
            [_rate(point)],
            OWN_COLOUR if point == first else BASELINE_COLOUR,
        )
        for point in spread
        if point.contacts == spread[-1].contacts
    ]
    heading = f"{growth.name}: {spread[-1].contacts:,} contacts, contacts a second"
    return found | {plot_file(growth.name, SPREAD): bars(heading, shown)}
