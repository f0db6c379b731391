"""The request to end the sink: every part of the stage can make it, the loop obeys it."""

import asyncio
from dataclasses import dataclass

import structlog

from streams.runtime.exit_codes import ExitCode

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the sink ended, and its exit status."""

    reason: str
    status: int
    """0, or a value of ExitCode."""


class StopRequest:
    """Whether the sink shall end, and why. May be used from any thread."""

    def __init__(self) -> None:
        self.stop: Stop | None = None

    @property
    def requested(self) -> bool:
        """Whether the sink shall end."""
        return self.stop is not None

    def request(self, reason: str, status: int = 0) -> None:
        """Asks the sink to end. The first reason counts."""
        if self.stop is None:
            self.stop = Stop(reason, status)

    def request_if_failed(self, task: asyncio.Task[None]) -> None:
        """Asks the sink to end if the task ended with an exception; a task's done callback."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "a task failed with an unexpected error", error=repr(type(error)), exc_info=error
            )
            self.request("unexpected error", ExitCode.UNEXPECTED_ERROR)
