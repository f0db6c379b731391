"""Follows the commands of a runbook literally, and compares their output with what it shows.

A code block of a runbook has commands behind `$ `, each followed by its output, in which `...`
stands for anything. `kubectl` is answered by `Cluster`, which has processes for pods.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.docs import FENCE
from tests.support.paths import ROOT
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

# One command of contactstream, on cores that workers and a broker use. A switch alone waits for up
# to 90 s until workers that ended count as members no more.
COMMAND_SECONDS = 240.0

HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a runbook, and the lines that it prints."""

    command: str
    shown: tuple[str, ...]


def steps(document: str, section: str) -> list[Step]:
    """The commands under a heading of a document, in their order."""
    text = (ROOT / document).read_text()
    parts = HEADING.split(text)
    body = parts[parts.index(section) + 1]
    found: list[Step] = []
    for fence in FENCE.findall(body):
        text = fence.replace("\\\n", " ")  # a command of several lines
        for line in text.splitlines()[1:-1]:
            if line.startswith("$ "):
                found.append(Step(" ".join(line[2:].split()), ()))
            else:
                found[-1] = Step(found[-1].command, (*found[-1].shown, line))
    return found


def not_printed(shown: tuple[str, ...], printed: str) -> list[str]:
    """The shown lines that the output has not, in this order; blanks count as one."""
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    missing = []
    for line in shown:
        wanted = ".*".join(re.escape(part.strip()) for part in line.split("..."))
        if not any(re.fullmatch(wanted, found) for found in lines):
            missing.append(line)
    return missing


@dataclass(slots=True)
class Cluster:
    """Workloads whose pods are processes on this machine; `kubectl` changes them.

    Their names are those of the manifests: a pod of `contactstream-sink` runs the sink, and one of
    `contactstream-dedupe-2` runs dedupe.
    """

    processes: Processes
    workloads: Mapping[str, Mapping[str, str]]
    """The environment of the pods of each workload."""
    pods: dict[str, list[Process]] = field(default_factory=dict)
    set_environ: dict[str, dict[str, str]] = field(default_factory=dict)
    """What `set env` set, by workload; no pods are made anew for it."""

    def kubectl(self, *words: str) -> str:
        """Does what the command would; returns its output. Raises AssertionError for others."""
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        plain = [word for word in words if not word.startswith("--")]
        name = plain[-1].partition("/")[2]
        match plain:
            case ["scale", _]:
                self._scale(name, int(options["replicas"]))
            case ["rollout", "status", _]:
                for pod in self.pods[name]:
                    pod.wait_ready(_seconds(options["timeout"]))
            case ["wait", "pod"] if options["for"] == "delete":
                label, _, component = options["selector"].partition("=")
                assert label == "app.kubernetes.io/component"
                self._wait_deleted(f"contactstream-{component}", _seconds(options["timeout"]))
            case ["set", "env", target, setting]:
                name, value = setting.split("=")
                self.set_environ.setdefault(target.partition("/")[2], {})[name] = value
            case _:
                raise AssertionError(f"kubectl {shlex.join(words)} is not known here")
        return ""

    def _scale(self, name: str, replicas: int) -> None:
        pods = self.pods.setdefault(name, [])
        running = [pod for pod in pods if pod.exit_code is None]
        for pod in running[replicas:]:
            pod.popen.terminate()
        for _ in range(replicas - len(running)):
            stage = name.split("-")[1]
            pods.append(self.processes.start(stage, environ=self.workloads[name]))

    def _wait_deleted(self, name: str, seconds: float) -> None:
        wait_until(
            lambda: all(pod.exit_code is not None for pod in self.pods[name]),
            f"the pods of {name} ended",
            seconds,
        )
        self.pods[name].clear()


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@dataclass(frozen=True, slots=True)
class Operator:
    """Who follows a runbook: types each command, and compares the output."""

    cluster: Cluster
    environ: Mapping[str, str]
    prefix: str
    """Of the topics, which the runbook does not show."""
    bin_folder: Path
    """Gets a `contactstream` that runs this code."""
    programs: Mapping[str, Callable[[Sequence[str]], None]] = field(default_factory=dict)
    """What carries out other programs of the page, by their names; it gets their arguments."""

    def follow(self, followed: list[Step]) -> Iterator[Step]:
        """Carries out one step after the other, and yields each once it is done."""
        for step in followed:
            program, *words = shlex.split(step.command)
            if program == "kubectl":
                printed = self.cluster.kubectl(*words)
            elif program in self.programs:
                self.programs[program](words)
                printed = ""
            else:
                printed = self._type(step.command).replace(self.prefix, "")
            missing = not_printed(step.shown, printed)
            assert not missing, f"$ {step.command}\n{printed}\nlacks {missing}"
            yield step

    def _type(self, command: str) -> str:
        script = self.bin_folder / "contactstream"
        if not script.exists():
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -m streams.cli "$@"\n')
            script.chmod(0o755)
        path = f"{self.bin_folder}:{os.environ['PATH']}"
        ended = subprocess.run(
            ["/bin/sh", "-c", command],
            env={**self.environ, "PATH": path, "HOME": os.environ.get("HOME", "/")},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"$ {command}\n{ended.stdout}"
        return ended.stdout
