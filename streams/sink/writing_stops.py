"""Why the sink writes nothing to Salesforce, although it is the writer and the org answers."""

import time
from collections.abc import Callable

import structlog

from streams.control import Pause, PausedPart
from streams.sink.failure_breakers import FailureBreakers

log = structlog.get_logger()


class WritingStops:
    """What stops all writing: a failure breaker, or a pause that a person asked for.

    `clock` in epoch seconds: a pause ends by itself.
    """

    def __init__(self, failures: FailureBreakers, clock: Callable[[], float] = time.time) -> None:
        self.failures = failures
        self._clock = clock
        self._logged: Pause | None = None

    @property
    def pause(self) -> Pause | None:
        """The pause of all writing; None if nobody asked for one, or it is over."""
        return self.pause_of(PausedPart.WRITES)

    def pause_of(self, part: PausedPart) -> Pause | None:
        """The pause of a part of the flow that lasts now; None without one."""
        return self.failures.table.pause_of(part, int(self._clock() * 1000))

    @property
    def nothing_is_written(self) -> bool:
        """Whether no batch may start now. Batches in flight end."""
        return self.failures.stops_all is not None or self.pause is not None

    def log_changes(self) -> None:
        """Logs that a pause began or ended since the last call."""
        pause = self.pause
        if pause == self._logged:
            return
        if pause is not None:
            log.warning(
                "writing is paused",
                by=pause.by,
                why=pause.why,
                remedy="contactstream resume writes",
            )
        else:
            log.info("writing goes on: the pause is over")
        self._logged = pause
