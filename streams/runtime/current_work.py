"""Which piece of work the present task does, so that what it waits for on purpose does not count.

`doing` marks a piece of some `WorkInFlight`. `waiting_on_purpose` is used where a wait may be long
although nothing hangs: Nylas asked for a pause, the broker is away, live changes go first. Such a
place need not know whose work it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from streams.runtime.ops import WorkInFlight

_CURRENT: ContextVar[WorkInFlight | None] = ContextVar("current_work", default=None)


@contextmanager
def doing(work: WorkInFlight) -> Iterator[None]:
    """The block is one piece of `work`, done by the present task."""
    token = _CURRENT.set(work)
    try:
        with work:
            yield
    finally:
        _CURRENT.reset(token)


def step_current_work() -> None:
    """The piece of work of the present task, if any, went on to its next step."""
    work = _CURRENT.get()
    if work is not None:
        work.step()


@contextmanager
def waiting_on_purpose() -> Iterator[None]:
    """In the block the piece of work of the present task, if any, is not in flight."""
    work = _CURRENT.get()
    if work is None:
        yield
        return
    work.end()
    # What is done within the block is not a piece of this work, also where it waits itself.
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        work.begin()
