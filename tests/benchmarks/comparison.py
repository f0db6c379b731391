"""What a benchmark measured: a stage beside a baseline in the same run. Plain data."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


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

    def ratios(self) -> dict[str, float]:
        """The one that is compared with the committed one.

        The processor's, because the rate depends more on what else the machine does.
        """
        return {self.name: self.processor_ratio}


def median(values: Sequence[float]) -> float:
    """The median, as a float."""
    return float(statistics.median(values))


def comparison_from_data(data: Mapping[str, Any]) -> Comparison:
    """From JSON's types."""
    return Comparison(
        data["name"],
        data["piece"],
        data["conditions"],
        Figures(**data["stage"]),
        [Figures(**figures) for figures in data["baselines"]],
        data["goal"],
    )
