"""Work that goes on in a thread beside a test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# One step of any such work, on a busy machine.
STOP_SECONDS = 60.0


@contextmanager
def in_thread(work: Callable[[], None]) -> Iterator[None]:
    """Runs `work` while it is entered; whoever uses it makes the work end before it is left."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(STOP_SECONDS)
        assert not thread.is_alive(), f"{work} has not ended"


@contextmanager
def repeated(step: Callable[[], None], seconds: float) -> Iterator[None]:
    """Calls `step` again and again while it is entered, `seconds` after the last call has ended."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            step()

    with in_thread(repeat):
        try:
            yield
        finally:
            ended.set()
