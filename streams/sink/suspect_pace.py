"""When a batch of suspected contacts may start while a part of the org is at fault.

A contact that breaks its calls is tried alone, and dead-lettered after some failures. More than a
few such contacts are no bad contacts: a trigger fails every Lead, say. They all wait until it is
mended. Each of them tried once a minute would spend the org's daily calls.
"""

# 2,880 calls a day at two calls a batch. The first batch that is written ends the wait of all.
PROBE_SECONDS = 60.0


class SuspectPace:
    """Lets one batch of suspected contacts go each PROBE_SECONDS, from a failure to a success.

    Holds no clock: times are handed in, as seconds of any one clock.
    """

    def __init__(self) -> None:
        self._is_limited = False
        self._next_start = 0.0

    def may_start(self, now: float) -> bool:
        """Whether a batch of suspected contacts may start."""
        return not self._is_limited or now >= self._next_start

    def started(self, now: float) -> None:
        """A batch of suspected contacts starts."""
        self._next_start = now + PROBE_SECONDS

    def failed(self, now: float, *, part_of_org: bool) -> None:
        """A batch of suspected contacts failed.

        `part_of_org`: so many contacts have failed lately that none of them is the cause.
        """
        self._is_limited = part_of_org
        self._next_start = now + PROBE_SECONDS

    def passed(self) -> None:
        """A batch of suspected contacts was written: the others need not wait."""
        self._is_limited = False
