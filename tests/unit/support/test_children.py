"""A child of the tests ends on SIGINT, even when the tests themselves ignore it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.children import child_command
from tests.support.processes import Processes
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

END_SECONDS = 10.0
SLEEP = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")


@pytest.fixture(autouse=True)
def ignored_sigint() -> Iterator[None]:
    """This process ignores SIGINT, as a background job of a shell without job control does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_process_ends_on_sigint(tmp_path: Path) -> None:
    processes = Processes(tmp_path, {})
    try:
        child = processes.start("sleep", command=SLEEP)
        wait_until(lambda: "up" in child.log, "it runs")
        child.send(signal.SIGINT)
        # Python raises KeyboardInterrupt, prints it, and then ends by the signal.
        assert child.popen.wait(END_SECONDS) == -signal.SIGINT
        assert "KeyboardInterrupt" in child.log
    finally:
        processes.end()


def test_a_command_on_a_terminal_ends_on_sigint() -> None:
    with Terminal("simulate", "nylas", "--listen", "127.0.0.1:0", environ={}) as terminal:
        terminal.wait_for("listening on")
        terminal.popen.send_signal(signal.SIGINT)
        terminal.wait(END_SECONDS)


def test_the_command_keeps_its_process_id_arguments_and_environment() -> None:
    script = "import os, sys; print(os.getpid(), sys.argv[1], os.environ['GIVEN'])"
    with subprocess.Popen(
        child_command([sys.executable, "-c", script, "an argument"]),
        env={"GIVEN": "a value"},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        output, _ = child.communicate(timeout=END_SECONDS)
    assert output.split(maxsplit=1) == [str(child.pid), "an argument a value\n"]
