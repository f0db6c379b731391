"""Whether the sink may still write: a fence for each batch, raised when its partition may be
somebody else's.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from connectors.salesforce.api.errors import WriterFenced
from streams.runtime.watchdog import elapsed


@dataclass(slots=True)
class Batch:
    """A batch at work: the term in which it was taken, and how many requests were sent for it."""

    term: int
    sent: int = 0


# Of the task that works at a batch, and so of every task that it starts.
_BATCH: ContextVar[Batch | None] = ContextVar("batch", default=None)


class WriteFence:
    """Whether this process can still believe that it has the partition: it polled within half of
    the session time-out.

    Checked before whatever is sent to the org. A process that stood still (SIGSTOP, a frozen
    machine) has lost its partition without knowing; the org's own version rule does not help where
    the successor has released the record meanwhile.

    A batch belongs to the term in which it was taken. The term ends when the partition goes, and
    with a standstill: what such a batch read in the org may be a successor's by now, however late
    its answer comes.
    """

    def __init__(self, session_timeout: float, clock: Callable[[], float] = elapsed) -> None:
        self._bound = session_timeout / 2
        self._clock = clock
        self._polled = clock()
        self._in_doubt_until = self._polled
        self.term = 0

    def polled(self) -> None:
        """The consumer was polled."""
        now = self._clock()
        if now - self._polled > self._bound:
            # The first poll after a standstill returns before the coordinator has said that the
            # partition is gone.
            self._in_doubt_until = now + self._bound
            self.end_term()
        self._polled = now

    def end_term(self) -> None:
        """The partition goes: no batch that was taken until now sends anything more."""
        self.term += 1

    def begin(self, term: int) -> Batch:
        """The task that calls this, with all that it starts, works at a batch that was taken in
        `term`.
        """
        batch = Batch(term)
        _BATCH.set(batch)
        return batch

    @property
    def in_doubt(self) -> bool:
        """Whether somebody else may have the partition."""
        now = self._clock()
        return now < self._in_doubt_until or now - self._polled > self._bound

    def check(self) -> None:
        """Something is about to be sent. Raises WriterFenced."""
        batch = _BATCH.get()
        if batch is not None and batch.term != self.term:
            raise WriterFenced(
                "the partition went away, or this process stood still, since the batch was taken"
            )
        if self.in_doubt:
            raise WriterFenced(f"this process stood still for more than {self._bound:.1f} s")
        if batch is not None:
            batch.sent += 1
