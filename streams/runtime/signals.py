"""SIGTERM and SIGINT, by which an operator or Kubernetes requests an orderly stop."""

import asyncio
import signal


class Stop(asyncio.Event):
    """Is set when the process has to stop in good order."""

    def __init__(self) -> None:
        super().__init__()
        self.code = 0
        """With which exit status the process ends then."""

    def end(self, code: int) -> None:
        """Asks for the stop, with this exit status. After a signal that of the signal counts: 0."""
        if not self.is_set():
            self.code = code
            self.set()


def stop_asked() -> Stop:
    """Returns an event that is set at SIGTERM or SIGINT.

    To be called once, in the process's event loop.
    """
    asked, loop = Stop(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    return asked
