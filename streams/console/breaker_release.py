"""Releases failure breakers for the console, by the functions of the command breakers release."""

import time
from typing import Protocol

from streams.commands.breakers import carry_out_release, released_lines
from streams.settings import KafkaSettings


class BreakerRelease(Protocol):
    """Releases failure breakers."""

    def release(self, reason: str, accepted_for: str, why: str, who: str) -> str:
        """Releases a breaker, with its audit; returns what it says.

        Blocks. Raises click.UsageError and click.ClickException.
        """


class KafkaBreakerRelease:
    """Releases as the command breakers release does."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def release(self, reason: str, accepted_for: str, why: str, who: str) -> str:
        """Releases a breaker. Blocks. Raises click.UsageError and click.ClickException."""
        let_go = carry_out_release(self._kafka, reason, accepted_for, why, who, time.time())
        return f"{'; '.join(released_lines(let_go))}."
