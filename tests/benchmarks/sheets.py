"""Figures without a baseline, as a sheet of rows and columns. Plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Sheet:
    """What one benchmark measured."""

    name: str
    conditions: str
    columns: Sequence[str]
    """What the figures are of, with their units."""
    rows: Mapping[str, Sequence[float]]
    """The figures of each row, in the order of the columns."""
    compared: Mapping[str, float] = field(default_factory=dict)
    """Ratios that mean the same on every machine, by what they are about; more is better."""

    def ratios(self) -> dict[str, float]:
        """Those that are compared with the committed ones."""
        return {f"{self.name}: {about}": ratio for about, ratio in self.compared.items()}


def sheet_from_data(data: Mapping[str, Any]) -> Sheet:
    """From JSON's types."""
    return Sheet(**data)
