"""What a benchmark measured: a stage beside a baseline in the same run. Plain data."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# By how much a ratio may fall below the committed one. Two runs on one machine, which nobody else
# uses, differ by up to a tenth; two machines differ by more.
ALLOWED_FALL = 0.25


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one side, each with one value for each round."""

    name: str
    rate: Sequence[float]
    """Pieces of work a second."""
    processor_us: Sequence[float]
    """Processor microseconds of a piece."""
    p50_ms: Sequence[float] = ()
    p99_ms: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A stage beside its baselines; ratios are to the first of them.

    Above 1 the stage is the faster one, or takes less of the processor.
    """

    name: str
    piece: str
    """What is counted, in the plural."""
    conditions: str
    """In one sentence: how many, how large, how often."""
    stage: Figures
    baselines: Sequence[Figures]
    goal: float
    """The least ratio of the processor times that the design asks for."""

    @property
    def rate_ratio(self) -> float:
        """Of the stage's rate to that of the first baseline, by the medians."""
        return median(self.stage.rate) / median(self.baselines[0].rate)

    @property
    def processor_ratio(self) -> float:
        """Of the first baseline's processor time for a piece to the stage's, by the medians."""
        return median(self.baselines[0].processor_us) / median(self.stage.processor_us)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the benchmarks on a machine."""

    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    comparisons: list[Comparison] = field(default_factory=list)


def median(values: Sequence[float]) -> float:
    """The median, as a float."""
    return float(statistics.median(values))


def to_data(run: Run) -> dict[str, Any]:
    """As JSON's types, with the ratios."""
    data = asdict(run)
    for each, comparison in zip(data["comparisons"], run.comparisons, strict=True):
        each["rate_ratio"] = round(comparison.rate_ratio, 3)
        each["processor_ratio"] = round(comparison.processor_ratio, 3)
    return data


def from_data(data: Mapping[str, Any]) -> Run:
    """The opposite of `to_data`."""
    return Run(
        data["date"],
        data["machine"],
        data["versions"],
        [
            Comparison(
                each["name"],
                each["piece"],
                each["conditions"],
                Figures(**each["stage"]),
                [Figures(**figures) for figures in each["baselines"]],
                each["goal"],
            )
            for each in data["comparisons"]
        ],
    )


def regressions(before: Run, now: Run) -> list[str]:
    """Which processor ratios of `now` are lower than those of `before` by more than ALLOWED_FALL.

    By the processor time, because the rate depends more on what else the machine does.
    """
    known = {each.name: each.processor_ratio for each in before.comparisons}
    return [
        f"{each.name}: {each.processor_ratio:.2f} of its baseline, where {known[each.name]:.2f} is "
        f"committed ({before.date}); more than {ALLOWED_FALL:.0%} lower"
        for each in now.comparisons
        if each.name in known and each.processor_ratio < known[each.name] * (1 - ALLOWED_FALL)
    ]
