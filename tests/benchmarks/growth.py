"""How the time and the memory of a stage grow with contacts, workers and partitions. Plain data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression
from typing import Any


@dataclass(frozen=True, slots=True)
class GrowthPoint:
    """A stage that has worked off new contacts, starting with nothing."""

    stage: str
    contacts: int
    workers: int
    partitions: int
    seconds: float
    """From the first record that is there for it until the last one is worked off."""
    processor_seconds: float
    """Of all workers."""
    peak_mb: float
    """The most memory that one worker held."""
    restart_seconds: float
    """From the start of the processes until all are ready, when they knew these contacts."""
    kept_mb: float
    """The most memory that one worker held then: without what it buffers while it works."""
    calls: int
    """Of Salesforce, for these contacts."""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through measured points, for 1,000 contacts."""

    each: float
    """By how much 1,000 contacts more add."""
    fixed: float
    """Without any contact."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What was measured of the stages."""

    name: str
    conditions: str
    measured: str
    """When, and with which version."""
    on_demand: bool
    """Whether it takes longer than a usual run has time for."""
    points: Sequence[GrowthPoint]

    def by_contacts(self, stage: str) -> list[GrowthPoint]:
        """The points of a stage that differ in nothing but the contacts, in their order."""
        own = [point for point in self.points if point.stage == stage]
        same = [
            point
            for point in own
            if (point.workers, point.partitions) == (own[0].workers, own[0].partitions)
        ]
        return sorted(same, key=lambda point: point.contacts)

    @property
    def stages(self) -> list[str]:
        """The stages, each once, as they were measured."""
        return list(dict.fromkeys(point.stage for point in self.points))

    def line(self, stage: str, value: Callable[[GrowthPoint], float]) -> Line:
        """The line of a value over the contacts, by least squares."""
        points = self.by_contacts(stage)
        slope, fixed = linear_regression(
            [point.contacts / 1000 for point in points], [value(point) for point in points]
        )
        return Line(slope, fixed)

    def ratios(self) -> dict[str, float]:
        """How many contacts the memory of dedupe takes up for a MB more; more is better.

        None of them when the memory has not grown, as with few contacts on a busy machine.
        """
        line = self.line("dedupe", lambda point: point.kept_mb)
        if line.each <= 0:
            return {}
        return {f"{self.name}: contacts for each MB of dedupe": 1000 / line.each}


def growth_from_data(data: Mapping[str, Any]) -> Growth:
    """From JSON's types."""
    points = [GrowthPoint(**each) for each in data["points"]]
    return Growth(**dict(data) | {"points": points})
