"""What a benchmark of the whole flow measured, from Nylas to Salesforce. Plain data.

Each flow has contactstream first, and then the programs that do the same without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.comparison import median

# The daily calls that the plan for an org is made with: deploy/docs/capacity.md.
DAILY_CALLS = 100_000


@dataclass(frozen=True, slots=True)
class Side:
    """A program that brought contacts into the org, with one value for each round."""

    name: str
    contacts: int
    """In each round."""
    seconds: Sequence[float]
    """From the first request, or the start of the command, until the last row is in the org."""
    calls: Sequence[int]
    """Of the org."""
    processor: Mapping[str, Sequence[float]]
    """Processor seconds of each process."""

    @property
    def contacts_a_second(self) -> float:
        """By the median."""
        return self.contacts / median(self.seconds)

    @property
    def contacts_a_call(self) -> float:
        """By the median."""
        return self.contacts / median(self.calls)

    @property
    def contacts_a_day(self) -> float:
        """How many contacts DAILY_CALLS carry like this, however long that takes."""
        return self.contacts_a_call * DAILY_CALLS

    @property
    def processor_us(self) -> float:
        """Processor microseconds of all processes for a contact, by the medians."""
        return sum(map(median, self.processor.values())) / self.contacts * 1e6


@dataclass(frozen=True, slots=True)
class Flow:
    """One way of contacts into the org."""

    name: str
    conditions: str
    """In one or two sentences: how many, how often, with which delays."""
    sides: Sequence[Side]

    def ratios(self) -> dict[str, float]:
        """Of contactstream to the first of the others; more is better for contactstream."""
        own, other = self.sides[:2]
        return {
            f"{self.name}: contacts for each call": own.contacts_a_call / other.contacts_a_call,
            f"{self.name}: processor": other.processor_us / own.processor_us,
        }


def flow_from_data(data: Mapping[str, Any]) -> Flow:
    """From JSON's types."""
    return Flow(data["name"], data["conditions"], [Side(**each) for each in data["sides"]])
