"""A flow beside the recipes: lines for a terminal, a section of the page, and plots."""

from collections.abc import Callable, Sequence

from tests.benchmarks.comparison import median
from tests.benchmarks.comparison_rendering import COLUMNS
from tests.benchmarks.flows import DAILY_CALLS, Flow, Side
from tests.benchmarks.svg import BASELINE_COLOUR, OWN_COLOUR, Bar, bars
from tests.benchmarks.text import picture, plot_file, titled, wrapped

PLOTS: dict[str, tuple[str, Callable[[Side], Sequence[float]]]] = {
    "rate": (
        "contacts a second (more is better)",
        lambda side: [side.contacts / seconds for seconds in side.seconds],
    ),
    "calls": (
        "calls of Salesforce for 1,000 contacts (less is better)",
        lambda side: [calls / side.contacts * 1000 for calls in side.calls],
    ),
}
"""By the end of a plot's file name: its heading, and the values that it shows."""


RECIPES = (
    "Beside contactstream stand two small programs (`tests/benchmarks/recipe.py`). *GET and PATCH* "
    "gets each contact's record by its key and writes it, with 25 calls at once. *Composites of "
    "25* does the same for 25 contacts with each call. Both answer a webhook before its contact is "
    "written, and a crash loses what they hold. They match nobody, compare nothing and keep no "
    "order, so they also do far less."
)


def table(flow: Flow) -> list[str]:
    """Lines for a terminal."""
    lines = wrapped(f"{flow.name}: {flow.conditions}", COLUMNS)
    for side in flow.sides:
        lines.append(
            f"  {side.name:17} {side.contacts:7,} contacts {median(side.calls):7,.0f} calls "
            f"{median(side.seconds):6.1f} s {side.contacts_a_second:8,.0f}/s"
        )
        lines += [f"    {line}" for line in wrapped(f"processor: {_processor(side)}", COLUMNS - 4)]
    return lines + [f"  {line}" for line in wrapped(_budget(flow), COLUMNS - 2)]


def _processor(side: Side) -> str:
    parts = [f"{name} {median(used):.2f} s" for name, used in side.processor.items()]
    return f"{', '.join(parts)}; {side.processor_us:,.0f} µs a contact"


def _budget(flow: Flow) -> str:
    days = ", ".join(f"{side.contacts_a_day:,.0f} ({side.name})" for side in flow.sides)
    return f"contacts that {DAILY_CALLS:,} calls carry: {days}"


def section(flow: Flow) -> list[str]:
    """A section of the page."""
    lines = [
        *(f"## {titled(flow.name)}", "", *wrapped(flow.conditions), ""),
        "| | contacts | calls | seconds | spread | contacts/s | "
        f"contacts for {DAILY_CALLS:,} calls |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {side.name} | {side.contacts:,} | {median(side.calls):,.0f} "
        f"| {median(side.seconds):.1f} | {min(side.seconds):.1f} to {max(side.seconds):.1f} "
        f"| {side.contacts_a_second:,.0f} | {side.contacts_a_day:,.0f} |"
        for side in flow.sides
    ]
    lines += ["", "Processor seconds of each process:", ""]
    lines += [f"- {side.name}: {_processor(side)}" for side in flow.sides]
    return [*lines, "", *(picture(PLOTS[each][0], flow.name, each) for each in PLOTS)]


def plots(flow: Flow) -> dict[str, str]:
    """The plots by the names of their files."""
    return {
        plot_file(flow.name, plot): bars(
            f"{flow.name}: {heading}",
            [
                Bar(side.name, values_of(side), BASELINE_COLOUR if number else OWN_COLOUR)
                for number, side in enumerate(flow.sides)
            ],
        )
        for plot, (heading, values_of) in PLOTS.items()
    }
