"""Starts commands of contactstream in copies of one process that has imported everything already.

A start takes some milliseconds of the processor instead of most of a second, which Python spends on
imports. Each command is a process of its own, as in production: with its own session, environment,
log and exit code, and with nothing of the process that it is a copy of but its modules.

    python -m tests.support.fork_server SOCKET

Each connection starts one process: see `Order`. The server answers with the process's ID, and with
its exit code once it has ended, a line each. It ends, and with it all that it has started, when its
standard input does.
"""

import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

# What the commands import when they run, and what that needs.
MODULES = (
    "connectors.nylas.simulator.app",
    "connectors.salesforce.simulator.server",
    "streams.bridge.process",
    "streams.cli",
    "streams.dedupe.process",
    "streams.org",
    "streams.reader.process",
    "streams.sink.process",
)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Order:
    """A process to start: the first line of a connection, as JSON."""

    arguments: Sequence[str]
    """Those of `contactstream`."""
    environ: Mapping[str, str]
    """The whole environment."""
    directory: str
    log_file: str
    """Standard output and errors are appended to it."""

    def line(self) -> bytes:
        """As the server reads it."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Server:
    """Forks one process for each connection, and tells it how the process ended."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, socket.socket] = {}  # by the process's ID

    def serve(self) -> Order | None:
        """Returns in each copy, with its order; None at the end of standard input."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is self._listener:
                    order = self._start()
                    if order is not None:
                        return order
                else:
                    self._ended(cast(int, key.fileobj), cast(int, key.data))

    def _start(self) -> Order | None:
        """Returns the order in the copy, and None in the server."""
        connection, _ = self._listener.accept()
        with connection.makefile("rb") as lines:
            order = Order(**json.loads(lines.readline()))
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._close()
            return order
        self._connections[pid] = connection
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
        connection.sendall(b"%d\n" % pid)
        return None

    def _ended(self, pidfd: int, pid: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        # Suppressed: nobody asks any more.
        with self._connections.pop(pid) as connection, contextlib.suppress(BrokenPipeError):
            connection.sendall(b"%d\n" % code)

    def _close(self) -> None:
        """Closes everything of the server's in a copy."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
        self._selector.close()
        self._listener.close()
        for connection in self._connections.values():
            connection.close()


def become(order: Order, server: int) -> None:
    """Makes a copy of the server the process that was ordered, up to its arguments."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)  # the server ended before
    os.setsid()
    # Whoever starts the tests may ignore it, and Python would then not raise KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order.directory)
    os.environ.clear()
    os.environ.update(order.environ)
    with open(order.log_file, "ab") as log, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        cast(io.TextIOWrapper, stream).reconfigure(line_buffering=True, write_through=True)
    sys.argv = ["contactstream", *order.arguments]
    sys.modules["__main__"].__package__ = None  # click takes the name from the arguments then


def main(path: str) -> None:
    """Serves until standard input ends; in a copy it is the command."""
    for name in MODULES:
        importlib.import_module(name)
    if threading.active_count() > 1:
        raise RuntimeError("an import has started a thread, which copies would not have")
    gc.collect()
    gc.freeze()  # so that a collection in a copy does not write to the pages that it shares
    server = os.getpid()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        order = Server(listener).serve()
    if order is not None:
        become(order, server)
        from streams.cli import main as contactstream

        contactstream()


if __name__ == "__main__":
    main(sys.argv[1])
