"""SIGTERM and SIGINT, by which an operator or Kubernetes requests an orderly stop."""

import asyncio
import signal


def stop_asked() -> asyncio.Event:
    """Returns an event that is set at SIGTERM or SIGINT.

    To be called once, in the process's event loop.
    """
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    return asked
