"""Begins and ends pauses for the console, by the functions of the commands pause and resume."""

import time
from typing import Protocol

from streams.commands.pauses import begin_pause, begun, end_pause
from streams.control import RELEASE_OBEYED_SECONDS, PausedPart
from streams.settings import KafkaSettings


class Pausing(Protocol):
    """Begins and ends pauses. Every method blocks and raises click.ClickException."""

    def pause(self, part: PausedPart, until: str, why: str, who: str) -> str:
        """Begins a pause, with its audit; returns what it says."""

    def resume(self, part: PausedPart, who: str) -> str:
        """Ends a pause, with its audit; returns what it says."""


class KafkaPausing:
    """Pauses as the commands pause and resume do."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def pause(self, part: PausedPart, until: str, why: str, who: str) -> str:
        """Begins a pause. Blocks. Raises click.ClickException."""
        asked, _ = begin_pause(self._kafka, part, until, why, who, time.time())
        return f"{begun(asked)}."

    def resume(self, part: PausedPart, who: str) -> str:
        """Ends a pause. Blocks. Raises click.ClickException."""
        end_pause(self._kafka, part, who, time.time())
        return f"{part.value} goes on within {RELEASE_OBEYED_SECONDS} seconds."
