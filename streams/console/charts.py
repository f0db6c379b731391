"""Small charts of the pages: a drawing of the last hours, and its numbers in words."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streams.commands.status.figures import duration
from streams.console.sparkline import Point, Sparkline, sparkline


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its label, and what it says in words."""

    label: str
    drawn: Sparkline
    newest: str
    highest: str
    span: str
    tone: str = ""


def chart(
    label: str,
    points: Iterable[Point],
    words: Callable[[float], str],
    is_bad: Callable[[float], bool] = lambda _: False,
) -> Chart:
    """The chart of these points. `words` says a value with its unit."""
    drawn = sparkline(points)
    newest = "–" if drawn.newest is None else words(drawn.newest)
    highest = "–" if drawn.highest is None else words(drawn.highest)
    bad = drawn.newest is not None and is_bad(drawn.newest)
    return Chart(label, drawn, newest, highest, duration(drawn.seconds), "bad" if bad else "")


def per_second(value: float) -> str:
    """A rate in words: a minute where less than one comes in ten seconds."""
    if 0 < value < 0.1:
        return f"{value * 60:.1f}/min"
    return f"{value:,.1f}/s"
