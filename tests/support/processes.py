"""Runs the stages as processes, as in production; a test starts, asks, pauses and kills them."""

import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.broker import free_ports
from tests.support.children import child_command
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

# Imports and a first group join on two cores that the broker and other stages share.
START_SECONDS = 60.0
# The longest grace period that a stage needs, and a little more.
STOP_SECONDS = 40.0
# One request to a probe that answers from its own thread.
PROBE_SECONDS = 5.0
# Variables of the caller that a process gets.
MACHINE_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


def _thread_states(tasks: Path) -> Iterator[str]:
    """The state of each thread of a process, by its folder in /proc: T is a stopped one."""
    for task in tasks.iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            yield (task / "stat").read_text().rpartition(")")[2].split()[0]


class Child(Protocol):
    """A process as `subprocess.Popen` has it, as far as tests use it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def terminate(self) -> None: ...


def spawn(command: Sequence[str], environ: Mapping[str, str], log_file: Path) -> Child:
    """Starts a command in the project's folder; its output goes to the end of the log."""
    with log_file.open("ab") as log:
        return subprocess.Popen(
            child_command(command),
            env=environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def start_contactstream(
    arguments: Sequence[str], environ: Mapping[str, str], log_file: Path
) -> Child:
    """Starts `contactstream <arguments>`. tests/integration replaces it by something quicker."""
    return spawn([sys.executable, "-m", "streams.cli", *arguments], environ, log_file)


@dataclass(slots=True)
class Process:
    """A stage that was started. Its output is in `log_file`."""

    name: str
    log_file: Path
    ops_port: int
    popen: Child

    @property
    def pid(self) -> int:
        """The process's ID."""
        return self.popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self.popen.poll()

    @property
    def log(self) -> str:
        """The output so far."""
        return self.log_file.read_text(errors="replace")

    def ask(self, path: str) -> tuple[int, str]:
        """Status and text of `/metrics`, `/livez` or `/readyz`; status 0 without an answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.ops_port}{path}", timeout=PROBE_SECONDS
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, seconds: float = START_SECONDS) -> "Process":
        """Waits until `/readyz` answers 200; returns itself.

        Raises AssertionError, with the end of the log, when the process ended or is not in time.
        """

        def ready() -> bool:
            assert self.exit_code is None, (
                f"{self.name} ended with {self.exit_code}:\n{self.log[-3000:]}"
            )
            return self.ask("/readyz")[0] == 200

        try:
            wait_until(ready, f"{self.name} is ready", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.ask('/readyz')}\n{self.log[-3000:]}") from None
        return self

    def metric(self, sample: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels; 0.0 when there is none."""
        total = 0.0
        for family in text_string_to_metric_families(self.ask("/metrics")[1]):
            for each in family.samples:
                if each.name == sample and labels.items() <= each.labels.items():
                    total += each.value
        return total

    @property
    def rss(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, unless it has ended."""
        if self.exit_code is None:
            self.popen.send_signal(number)

    def kill(self) -> None:
        """Sends SIGKILL, and waits for the end."""
        self.send(signal.SIGKILL)
        self.popen.wait(PROBE_SECONDS)

    def pause(self) -> None:
        """Sends SIGSTOP, and returns once every thread has stopped, where /proc tells it."""
        self.send(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.popen.pid}/task")
        if tasks.exists():
            wait_until(lambda: set(_thread_states(tasks)) <= {"T"}, f"{self.name} has stopped", 5.0)

    def resume(self) -> None:
        """Sends SIGCONT."""
        self.send(signal.SIGCONT)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Sends SIGTERM; returns the exit code.

        Raises AssertionError, and kills the process, when it still runs after `seconds`.
        """
        self.send(signal.SIGTERM)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.name} did not stop within {seconds:.0f} s:\n{self.log[-3000:]}"
            ) from None


@dataclass(slots=True)
class Processes:
    """Starts processes for one test with the same environment; `end` kills all of them."""

    directory: Path
    environ: dict[str, str]
    started: list[Process] = field(default_factory=list)

    def start(
        self,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> Process:
        """Starts `contactstream <arguments>`, or another `command`, without waiting for it.

        Of the caller's environment it gets only MACHINE_VARIABLES. Each start has its own ops port.
        """
        name = "-".join([*(each for each in arguments if each.isalnum()), str(len(self.started))])
        (port,) = free_ports(1)
        log_file = self.directory / f"{name}.log"
        given = {
            variable: os.environ[variable]
            for variable in MACHINE_VARIABLES
            if variable in os.environ
        }
        given |= (
            {"PYTHONUNBUFFERED": "1", "OPS_LISTEN": f"127.0.0.1:{port}"}
            | self.environ
            | dict(environ or {})
        )
        if command is None:
            popen = start_contactstream(arguments, given, log_file)
        else:
            popen = spawn([*command, *arguments], given, log_file)
        process = Process(name, log_file, int(given["OPS_LISTEN"].rpartition(":")[2]), popen)
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kills what still runs; a test about an orderly stop has called `stop` before."""
        for process in self.started:
            process.send(signal.SIGKILL)
        for process in self.started:
            process.popen.wait(PROBE_SECONDS)

    def logs(self, characters: int = 3000) -> str:
        """The end of each process's output, for the report of a failed test."""
        return "\n".join(
            f"--- {each.name} (exit code {each.exit_code})\n{each.log[-characters:]}"
            for each in self.started
        )
