"""Keeps the stages of a running product up, as Kubernetes would, and deploys others."""

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.processes import Process
from tests.support.product import Product
from tests.support.scaled_time import scaled
from tests.support.threads import repeated

# Kubernetes starts a container again at once, then after waits that double from 10 s to 5 min.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 10.0, 300.0
# Between two looks at whether a process has ended.
LOOK_SECONDS = 0.1


@dataclass(slots=True)
class Kept:
    """A stage that is started again whenever it ends."""

    process: Process
    command: Sequence[str] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    """What the present deployment sets beside the usual."""
    ends: int = 0
    """How often it has ended since the last deployment."""
    due: float = 0.0
    """When it is started again, once it has ended; 0 while it runs."""


class Keeper:
    """The stages of a product. A method may be called while `kept_running` is at work."""

    def __init__(self, running: Product) -> None:
        self._running = running
        self._lock = threading.Lock()
        self._kept = {name: Kept(process) for name, process in running.stages.items()}

    @property
    def targets(self) -> list[str]:
        """Where the stages show their metrics, as host:port. A restart keeps it."""
        return [f"127.0.0.1:{kept.process.ops_port}" for kept in self._kept.values()]

    def deploy(self, stage: str, command: Sequence[str] | None = None, **environ: str) -> None:
        """Ends a stage in an orderly way; what starts again has this command and these settings.

        Without either it is the usual one. Blocks until the old process has ended.
        """
        with self._lock:
            kept = self._kept[stage]
            kept.process.stop()
            kept.command, kept.environ, kept.ends = command, environ, 0
            self._start(stage, kept)

    def look(self) -> None:
        """Starts what has ended and is due."""
        with self._lock:
            for stage, kept in self._kept.items():
                if kept.process.exit_code is None:
                    continue
                if not kept.due:
                    kept.due = time.monotonic() + _wait(kept.ends)
                    kept.ends += 1
                elif time.monotonic() >= kept.due:
                    self._start(stage, kept)

    def _start(self, stage: str, kept: Kept) -> None:
        kept.due = 0.0
        listen = {"OPS_LISTEN": f"127.0.0.1:{kept.process.ops_port}"}
        kept.process = self._running.processes.start(
            stage, environ={**listen, **kept.environ}, command=kept.command
        )
        self._running.stages[stage] = kept.process


def _wait(ends: int) -> float:
    if ends == 0:
        return 0.0
    return scaled(min(FIRST_WAIT_SECONDS * 2 ** (ends - 1), LONGEST_WAIT_SECONDS))


@contextmanager
def kept_running(running: Product) -> Iterator[Keeper]:
    """Starts stages again while it is entered."""
    keeper = Keeper(running)
    with repeated(keeper.look, LOOK_SECONDS):
        yield keeper


def version_command(version: str) -> list[str]:
    """The command of a stage that says of itself that it is this version."""
    return [sys.executable, "-m", "tests.support.version_run", version]
