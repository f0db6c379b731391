"""Whether the sink may still write to the org: checked right before every request of a batch."""

from collections.abc import Callable

from connectors.salesforce.api.errors import WriterFenced
from streams.runtime.watchdog import elapsed
from streams.sink.assignment import Assignment


class WriteFence:
    """Whether this process can still believe that it owns its partition.

    It can if it polled within the last half of the session time-out. A process that was paused
    (SIGSTOP, a frozen machine) has lost its partition without knowing. The org's own version rule
    does not help where the successor has released the record meanwhile.

    Every pause that is noticed starts a new generation. A batch belongs to the generation in which
    it was taken and sends nothing in a later one: a successor may have changed since what such a
    batch read in the org, however late the answer comes.
    """

    def __init__(self, session_timeout: float, clock: Callable[[], float] = elapsed) -> None:
        self.longest_pause = session_timeout / 2
        """Seconds without a poll after which the partition may have a new owner."""
        self.generation = 0
        self._clock = clock
        self._polled_at = clock()
        self._in_doubt_until = self._polled_at

    def polled(self) -> None:
        """The consumer was polled."""
        now = self._clock()
        if now - self._polled_at > self.longest_pause:
            # The first poll after a pause returns before the coordinator has said that the
            # partition is gone.
            self._in_doubt_until = now + self.longest_pause
            self.generation += 1
        self._polled_at = now

    @property
    def in_doubt(self) -> bool:
        """Whether another process may own the partition."""
        now = self._clock()
        return now < self._in_doubt_until or now - self._polled_at > self.longest_pause

    def for_batch(self, assignment: Assignment) -> "BatchFence":
        """The fence of a batch that is taken now out of `assignment`."""
        return BatchFence(self, assignment)


class BatchFence:
    """The fence of one batch, to be called right before every request that is sent for it."""

    __slots__ = ("_assignment", "_generation", "_write_fence", "requests_sent")

    def __init__(self, write_fence: WriteFence, assignment: Assignment) -> None:
        self._write_fence = write_fence
        self._generation = write_fence.generation
        self._assignment = assignment
        self.requests_sent = 0

    def __call__(self) -> None:
        """Counts a request that is about to be sent. Raises WriterFenced if it must not be sent."""
        if not self._assignment.active:
            raise WriterFenced("the partition was revoked or lost since the batch was taken")
        if self._generation != self._write_fence.generation:
            raise WriterFenced("this process was paused since the batch was taken")
        if self._write_fence.in_doubt:
            longest = self._write_fence.longest_pause
            raise WriterFenced(f"this process did not poll Kafka for more than {longest:.1f} s")
        self.requests_sent += 1
