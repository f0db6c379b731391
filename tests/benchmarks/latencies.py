"""How long contacts take from a webhook into the org, at steady rates. Plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PERCENTILES = (50, 99)


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """One system at one rate."""

    system: str
    rate: float
    """Webhooks a second."""
    contacts: int
    p50_ms: float
    p99_ms: float
    calls: int
    """Of the org."""


@dataclass(frozen=True, slots=True)
class Latency:
    """The systems at several rates; the first point is contactstream's at the lowest rate."""

    name: str
    conditions: str
    points: Sequence[LatencyPoint]

    def ratios(self) -> dict[str, float]:
        """Of the first other system's median to contactstream's, at the lowest rate."""
        own, other = (point for point in self.points[:2])
        return {f"{self.name}: p50 at {own.rate:g} a second": other.p50_ms / own.p50_ms}


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    position = max(0, -(-len(ordered) * share // 100) - 1)
    return ordered[int(position)]


def latency_from_data(data: Mapping[str, Any]) -> Latency:
    """From JSON's types."""
    points = [LatencyPoint(**each) for each in data["points"]]
    return Latency(data["name"], data["conditions"], points)
