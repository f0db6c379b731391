"""A run of the benchmarks: everything that it measured, as plain data and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tests.benchmarks.comparison import Comparison, comparison_from_data
from tests.benchmarks.flows import Flow, flow_from_data
from tests.benchmarks.growth import Growth, growth_from_data
from tests.benchmarks.latencies import Latency, latency_from_data
from tests.benchmarks.sheets import Sheet, sheet_from_data

# By how much a ratio may fall below the committed one. Two runs on one machine, which nobody else
# uses, differ by up to a tenth; two machines differ by more.
ALLOWED_FALL = 0.25
# The same for flows, latencies and growth. What else the machine does decides how full the batches
# of a flow are, and so the calls and the wait. The memory of some thousand contacts is little
# beside that of the process.
NOISY_ALLOWED_FALL = 0.5


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the benchmarks on a machine."""

    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    comparisons: list[Comparison] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)

    @property
    def parts(self) -> list[Comparison | Flow | Latency | Growth | Sheet]:
        """Everything that was measured."""
        return [*self.comparisons, *self.flows, *self.latencies, *self.growths, *self.sheets]

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
        [latency_from_data(each) for each in data["latencies"]],
        [growth_from_data(each) for each in data["growths"]],
        [sheet_from_data(each) for each in data["sheets"]],
    )


def regressions(before: Run, now: Run) -> list[str]:
    """Which ratios of `now` are lower than those of `before` by more than is allowed."""
    known = before.ratios
    found = []
    for part in now.parts:
        allowed = NOISY_ALLOWED_FALL if isinstance(part, Flow | Latency | Growth) else ALLOWED_FALL
        found += [
            f"{name}: {ratio:.2f}, where {known[name]:.2f} is committed ({before.date}); more than "
            f"{allowed:.0%} lower"
            for name, ratio in part.ratios().items()
            if name in known and ratio < known[name] * (1 - allowed)
        ]
    return found


def completed(run: Run, before: Run) -> Run:
    """The run with what is measured only on demand, from the committed run `before`.

    A run of nothing but such parts replaces them in `before`. Raises AssertionError when any other
    part of `before` is missing.
    """
    kept = [each for each in before.growths if each.on_demand and each.name not in run.names]
    if all(isinstance(part, Growth) and part.on_demand for part in run.parts):
        usual = [each for each in before.growths if not each.on_demand]
        return replace(before, growths=[*usual, *kept, *run.growths])
    left_out = before.names - run.names - {each.name for each in kept}
    assert not left_out, f"a page is made of a whole run; not measured: {sorted(left_out)}"
    return replace(run, growths=[*run.growths, *kept])
