"""What an operator or Kubernetes says to a process: SIGTERM and SIGINT mean that it is to stop in
good order.
"""

import asyncio
import signal


def stop_asked() -> asyncio.Event:
    """An event that is set when the process is asked to stop. For the process's own loop, once."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    return asked
