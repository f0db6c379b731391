"""Runs a command on a pseudo-terminal, as a person does, and keeps what it shows."""

import errno
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from typing import Self

from tests.support.children import child_command
from tests.support.paths import ROOT
from tests.support.processes import MACHINE_VARIABLES
from tests.support.waiting import wait_until

ROWS, COLUMNS = 40, 140
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`contactstream <arguments>` on a pseudo-terminal."""

    def __init__(self, *arguments: str, environ: Mapping[str, str]) -> None:
        self._raw = b""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        given = {
            variable: os.environ[variable]
            for variable in MACHINE_VARIABLES
            if variable in os.environ
        }
        try:
            self.popen = subprocess.Popen(
                child_command([sys.executable, "-m", "streams.cli", *arguments]),
                env=given | {"TERM": "xterm-256color"} | dict(environ),
                cwd=ROOT,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
            )
        finally:
            os.close(slave)

    @property
    def text(self) -> str:
        """Everything that was shown so far, without control sequences."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                more = os.read(self._master, 65_536)
            except OSError as error:
                if error.errno != errno.EIO:  # Linux reports a closed other end like this
                    raise
                break
            if not more:
                break
            self._raw += more
        return CONTROL.sub("", self._raw.decode(errors="replace"))

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        """Waits until a text was shown. Raises AssertionError, with the end of the output."""
        try:
            wait_until(lambda: text in self.text, f"the terminal shows {text!r}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text[-2000:]}") from None

    def wait(self, seconds: float = 60.0) -> int:
        """Waits for the end; returns the exit code. Raises AssertionError."""
        ends = time.monotonic() + seconds
        while self.popen.poll() is None:
            _ = self.text  # the command blocks when the terminal's buffer is full
            assert time.monotonic() < ends, (
                f"still running after {seconds:.0f} s\n{self.text[-2000:]}"
            )
            time.sleep(0.05)
        return self.popen.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(10)
        os.close(self._master)
