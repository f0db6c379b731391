"""`contactstream demo --stay` as a user starts it, for tests that look at what stays up."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.children import child_command
from tests.support.kafka import Kafka
from tests.support.paths import ROOT
from tests.support.processes import MACHINE_VARIABLES

# The last line that the demo prints before it waits for a signal begins with this.
LAST_LINE = "  SALESFORCE_LOGIN_URL="
# The demo stops each of its processes within 30 s, several of them one after the other.
STOP_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class StayingDemo:
    """A demo that has printed its report and stays up. The addresses are without a path."""

    kafka: Kafka
    console: str
    prometheus: str
    nylas: str
    salesforce: str


@contextmanager
def staying_demo(folder: Path, bootstrap: str, people: int) -> Iterator[StayingDemo]:
    """Starts the demo on the given cluster, waits until it stays, and ends it. Blocks.

    It asserts that the numbers of the demo add up, and that SIGINT ends it with 0.
    """
    if shutil.which("prometheus") is None:
        pytest.fail("prometheus is missing; on Debian: apt-get install prometheus")
    given = {name: os.environ[name] for name in MACHINE_VARIABLES if name in os.environ}
    messages = folder / "messages"
    with messages.open("w") as errors:
        process = subprocess.Popen(
            child_command(
                [sys.executable, "-m", "streams.cli", "demo", "--stay", "--people", str(people)]
            ),
            env={**given, "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "TMPDIR": str(folder)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with process:
        try:
            printed = _printed(process)
            assert "every number adds up" in printed, printed + messages.read_text()
            yield _addresses(printed, bootstrap)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=STOP_SECONDS)
            assert process.returncode == 0, messages.read_text()
        finally:
            process.kill()


def _printed(process: "subprocess.Popen[str]") -> str:
    """What the demo prints until it stays, or until it ends; its own bounds end it."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if line.startswith(LAST_LINE):
            break
    return printed


def _addresses(printed: str, bootstrap: str) -> StayingDemo:
    seen = dict(re.findall(r"^  (console|prometheus) +(http\S+)/$", printed, re.MULTILINE))
    named = dict(re.findall(r"^  ([A-Z_]+)=(\S+)$", printed, re.MULTILINE))
    return StayingDemo(
        Kafka(bootstrap, named["KAFKA_TOPIC_PREFIX"]),
        seen["console"],
        seen["prometheus"],
        named["NYLAS_API_URL"],
        named["SALESFORCE_LOGIN_URL"],
    )
