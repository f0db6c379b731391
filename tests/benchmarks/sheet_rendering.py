"""A sheet of figures: lines for a terminal, a section of the page, and a plot."""

from tests.benchmarks.comparison_rendering import COLUMNS
from tests.benchmarks.sheets import Sheet
from tests.benchmarks.svg import OWN_COLOUR, Bar, bars
from tests.benchmarks.text import picture, plot_file, titled, wrapped

PLOT = "figures"


def table(sheet: Sheet) -> list[str]:
    """Lines for a terminal: each figure beside its name."""
    lines = wrapped(f"{sheet.name}: {sheet.conditions}", COLUMNS)
    for row, figures in sheet.rows.items():
        parts = [
            f"{_figure(figure)} {column}"
            for column, figure in zip(sheet.columns, figures, strict=True)
        ]
        first, *others = wrapped(f"{row}: {', '.join(parts)}", COLUMNS - 4)
        lines += [f"  {first}", *(f"    {line}" for line in others)]
    return lines


def section(sheet: Sheet) -> list[str]:
    """A section of the page."""
    return [
        *(f"## {titled(sheet.name)}", "", *wrapped(sheet.conditions), ""),
        f"| | {' | '.join(sheet.columns)} |",
        f"|---|{'---:|' * len(sheet.columns)}",
        *(f"| {row} | {' | '.join(map(_figure, each))} |" for row, each in sheet.rows.items()),
        *("", picture(sheet.columns[0], sheet.name, PLOT)),
    ]


def _figure(figure: float) -> str:
    return f"{figure:,.0f}" if figure == int(figure) or figure >= 100 else f"{figure:,.1f}"


def plots(sheet: Sheet) -> dict[str, str]:
    """The first column by the name of its file."""
    shown = [Bar(row, [figures[0]], OWN_COLOUR) for row, figures in sheet.rows.items()]
    return {plot_file(sheet.name, PLOT): bars(f"{sheet.name}: {sheet.columns[0]}", shown)}
