"""Sends prepared HTTP requests with wrk, which takes far less of the processor than the server."""

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.waiting import wait_until

SCRIPT = Path(__file__).with_name("signed_requests.lua")
ONCE_SCRIPT = Path(__file__).with_name("requests_once.lua")

# Until an answer. The machine may be shared.
ANSWER_SECONDS = 30

# For wrk to start and to read its requests.
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one load on a server measured. Latencies are in seconds."""

    requests: int
    rate: float
    """Answers a second."""
    p50: float
    p99: float
    processor_us: float
    """Processor microseconds of the server for each answer, user and system together."""


def write_requests(path: Path, requests: Sequence[bytes]) -> None:
    """Writes whole HTTP requests as `signed_requests.lua` reads them."""
    path.write_bytes(b"".join(b"%010d" % len(each) + each for each in requests))


def load(port: int, server_pid: int, requests: Path, seconds: int, connections: int) -> Load:
    """Sends requests to a server of this machine for so many seconds. Blocks.

    Raises AssertionError when an answer is no 2xx or 3xx, or missing, and when wrk is missing.
    """
    program = _program()
    server = psutil.Process(server_pid)
    before = server.cpu_times()
    ran = subprocess.run(
        [
            *(program, "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds}s", "--timeout", f"{ANSWER_SECONDS}s"),
            *("--script", str(SCRIPT), f"http://127.0.0.1:{port}", "--", str(requests)),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + ANSWER_SECONDS + START_SECONDS,
    )
    after = server.cpu_times()
    (line,) = (line for line in ran.stdout.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    assert found["refused"] == found["lost"] == 0, (
        f"not every request was answered with 2xx: {line}"
    )
    answered = found["requests"]
    used = after.user + after.system - before.user - before.system
    return Load(
        answered,
        answered / found["microseconds"] * 1e6,
        found["p50"] / 1e6,
        found["p99"] / 1e6,
        used / answered * 1e6,
    )


def _program() -> str:
    program = shutil.which("wrk")
    assert program is not None, "wrk sends the load and is missing: run apt-get install wrk"
    return program


@dataclass(frozen=True, slots=True)
class Sending:
    """Requests that are sent once each, in the order of their file."""

    count: int
    rate: float
    """Requests a second; 0 for as many as the connections take."""
    output: Path

    def wait_answered(self, seconds: float) -> tuple[float, float]:
        """When the first request was sent and the last answer came, in seconds since the epoch.

        Blocks. Raises AssertionError when not every request was answered with 2xx or 3xx within
        `seconds`.
        """
        line = wait_until(self._result, f"{self.count} requests answered", seconds)
        found = json.loads(line.removeprefix("RESULT "))
        assert found["sent"] == found["answered"] == self.count, line
        assert found["refused"] == 0, line
        return found["began_us"] / 1e6, found["ended_us"] / 1e6

    def _result(self) -> str:
        lines = self.output.read_text().splitlines()
        return next((line for line in lines if line.startswith("RESULT ")), "")


@contextlib.contextmanager
def sending(
    port: int, requests: Path, count: int, *, rate: float, connections: int, seconds: float
) -> Iterator[Sending]:
    """Sends the requests of a file once each, at a rate, while the block runs.

    `seconds` is more than all of it takes. wrk is ended with the block.
    """
    output = requests.with_suffix(".sent")
    command = [
        *(_program(), "--threads", "1", "--connections", str(connections)),
        *("--duration", f"{seconds:.0f}s", "--timeout", f"{ANSWER_SECONDS}s"),
        *("--script", str(ONCE_SCRIPT), f"http://127.0.0.1:{port}", "--"),
        *(str(requests), f"{rate:g}"),
    ]
    with output.open("wb") as written, subprocess.Popen(command, stdout=written) as wrk:
        try:
            yield Sending(count, rate, output)
        finally:
            wrk.send_signal(signal.SIGTERM)
            wrk.wait(START_SECONDS)
