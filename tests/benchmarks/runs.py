"""A run of the benchmarks: everything that it measured, as plain data and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.benchmarks.comparison import Comparison, comparison_from_data
from tests.benchmarks.flows import Flow, flow_from_data

# By how much a ratio may fall below the committed one. Two runs on one machine, which nobody else
# uses, differ by up to a tenth; two machines differ by more.
ALLOWED_FALL = 0.25


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the benchmarks on a machine."""

    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    comparisons: list[Comparison] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)

    @property
    def parts(self) -> list[Comparison | Flow]:
        """Everything that was measured."""
        return [*self.comparisons, *self.flows]

    @property
    def names(self) -> set[str]:
        """Of everything that was measured."""
        return {each.name for each in self.parts}

    @property
    def ratios(self) -> dict[str, float]:
        """Those that are compared with the committed ones, by what they are about.

        More is better for contactstream.
        """
        found: dict[str, float] = {}
        for each in self.parts:
            found |= each.ratios()
        return found


def to_data(run: Run) -> dict[str, Any]:
    """As JSON's types, with the ratios."""
    data = asdict(run)
    for each, comparison in zip(data["comparisons"], run.comparisons, strict=True):
        each["rate_ratio"] = round(comparison.rate_ratio, 3)
        each["processor_ratio"] = round(comparison.processor_ratio, 3)
    data["ratios"] = {name: round(ratio, 3) for name, ratio in run.ratios.items()}
    return data


def from_data(data: Mapping[str, Any]) -> Run:
    """The opposite of `to_data`."""
    return Run(
        data["date"],
        data["machine"],
        data["versions"],
        [comparison_from_data(each) for each in data["comparisons"]],
        [flow_from_data(each) for each in data["flows"]],
    )


def regressions(before: Run, now: Run) -> list[str]:
    """Which ratios of `now` are lower than those of `before` by more than ALLOWED_FALL."""
    known = before.ratios
    return [
        f"{name}: {ratio:.2f} of its baseline, where {known[name]:.2f} is committed "
        f"({before.date}); more than {ALLOWED_FALL:.0%} lower"
        for name, ratio in now.ratios.items()
        if name in known and ratio < known[name] * (1 - ALLOWED_FALL)
    ]
