"""The processes that a fork server starts for the tests, used as those of `subprocess.Popen`."""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.broker import dying_with_parent
from tests.support.fork_server import Order
from tests.support.paths import ROOT

# Imports on two cores that other tests use as well.
START_SECONDS = 60.0
# A copy is made within milliseconds.
COPY_SECONDS = 30.0
END_SECONDS = 10.0


class ForkedProcess:
    """A process that the fork server started."""

    def __init__(self, connection: socket.socket, arguments: Sequence[str]) -> None:
        self.returncode: int | None = None
        """The exit code, negative for a signal; None while it is not known to have ended."""
        self._arguments = arguments
        self._lines = connection.makefile("rb")
        self._connection = connection
        self._lock = threading.Lock()  # tests ask from several threads
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._ask(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired after so many seconds."""
        code = self._ask(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(["contactstream", *self._arguments], timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def _ask(self, seconds: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._connection], [], [], seconds)[0]:
                self.returncode = int(self._lines.readline() or -signal.SIGKILL)
                self._lines.close()
                self._connection.close()
            return self.returncode


class ForkServer:
    """The server of one run of the tests, which starts with its first process."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        # Its name is short: the path of a socket has about a hundred bytes at most.
        self._folder = Path(tempfile.gettempdir(), f"contactstream-{os.getpid()}-{id(self):x}")

    def start(
        self, arguments: Sequence[str], environ: Mapping[str, str], log_file: Path
    ) -> ForkedProcess:
        """Starts `contactstream <arguments>` in the project's folder, with this environment."""
        log_file.touch()  # the process may write to it later than the test reads it
        connection = self._connect()
        connection.sendall(Order(arguments, environ, str(ROOT), str(log_file.resolve())).line())
        return ForkedProcess(connection, arguments)

    def stop(self) -> None:
        """Ends the server, and whatever it has started that still runs."""
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()
            try:
                self._server.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            (self._folder / "socket").unlink(missing_ok=True)
            self._folder.rmdir()

    def _connect(self) -> socket.socket:
        path = self._folder / "socket"
        if self._server is None:
            self._folder.mkdir(mode=0o700)
            self._server = subprocess.Popen(
                dying_with_parent([sys.executable, "-m", "tests.support.fork_server", str(path)]),
                cwd=ROOT,
                stdin=subprocess.PIPE,
            )
        ends = time.monotonic() + START_SECONDS
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(COPY_SECONDS)
            try:
                connection.connect(str(path))
            except OSError:
                connection.close()
                if self._server.poll() is not None or time.monotonic() > ends:
                    raise
                time.sleep(0.02)
            else:
                return connection
