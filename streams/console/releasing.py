"""Releases held people for the console, by the functions of the command held release."""

import time
from typing import Protocol

from streams.commands.held import (
    PlannedRelease,
    carry_out_release,
    plan_release,
    release_selection,
)
from streams.settings import KafkaSettings


class Releasing(Protocol):
    """Releases held people. Every method blocks and raises click.ClickException."""

    def plan(self, grant: str, limit: str) -> PlannedRelease:
        """Whom a release would have written; of every grant, or held by any limit, where empty."""

    def carry_out(self, planned: PlannedRelease, why: str, who: str) -> str:
        """Releases them, with its audit; returns the ID of the run that has them written."""


class KafkaReleasing:
    """Releases as the command held release does."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def plan(self, grant: str, limit: str) -> PlannedRelease:
        """Whom a release would have written. Blocks. Raises click.ClickException."""
        grants, limits = [grant] if grant else [], [limit] if limit else []
        selection = release_selection(grants, limits, everybody=not grants and not limits)
        return plan_release(self._kafka, selection, time.time())

    def carry_out(self, planned: PlannedRelease, why: str, who: str) -> str:
        """Releases them. Blocks. Raises click.ClickException."""
        return carry_out_release(self._kafka, planned, why, who, time.time())
