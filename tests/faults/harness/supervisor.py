"""Keeps the stages of a storm running, as a cluster would: a process that ends, however it ends, is
started again at once.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from deploy.local.broker import dying_with_parent, free_ports
from tests.support.paths import ROOT

GRACE_SECONDS = (
    30.0  # Kubernetes' default grace period: who is not gone by then is killed, and that is counted
)
RESTART_SECONDS = 0.2  # a cluster takes longer; shorter makes the storm harder
READY_LOOK_SECONDS = 0.3


@dataclass
class Replica:
    """One process of a stage, and how its runs ended."""

    stage: str
    number: int
    command: list[str]
    env: Mapping[str, str]
    log: Path
    clock: Path
    ops_port: int
    exits: Counter[int] = field(default_factory=Counter)
    overstayed: int = 0
    peak_rss: int = 0
    frozen: bool = False
    process: asyncio.subprocess.Process | None = None
    _task: asyncio.Task[None] | None = None
    _wanted: bool = True
    _leaving: asyncio.subprocess.Process | None = None
    _grace: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self) -> None:
        """Starts the process and its guard."""
        self._wanted = True
        self._task = asyncio.create_task(self._keep_running())

    async def _keep_running(self) -> None:
        while self._wanted:
            with self.log.open("ab") as output:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    env=self.env,
                    cwd=ROOT,
                )
            self.frozen = False
            if not self._wanted:  # `end` came while the process was made, and found none to signal
                self.terminate()
            self.exits[await self.process.wait()] += 1
            await asyncio.sleep(RESTART_SECONDS)

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal, if the process runs."""
        if self.process is None or self.process.returncode is not None:
            return False
        self.process.send_signal(number)
        return True

    def terminate(self) -> bool:
        """SIGTERM, and SIGKILL after the grace period. False where that has no meaning: it stands
        still, or is ending already.
        """
        process = self.process
        if (
            self.frozen
            or self._leaving is process
            or not self.signal(signal.SIGTERM)
            or process is None
        ):
            return False
        self._leaving = process
        task = asyncio.create_task(self._end_in_time(process))
        self._grace.add(task)
        task.add_done_callback(self._grace.discard)
        return True

    async def _end_in_time(self, process: asyncio.subprocess.Process) -> None:
        try:
            await asyncio.wait_for(process.wait(), GRACE_SECONDS)
        except TimeoutError:
            self.overstayed += 1
            process.kill()

    def freeze(self) -> bool:
        """SIGSTOP; not to one that is about to end, whose grace period would go on."""
        self.frozen = self._leaving is not self.process and self.signal(signal.SIGSTOP)
        return self.frozen

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        self.signal(signal.SIGCONT)

    def set_clock(self, ahead: float) -> None:
        """Its wall clock is so many seconds ahead from now on."""
        self.clock.write_text(str(ahead))

    async def ready(self, seconds: float) -> bool:
        """Returns once it says that it is ready, False when it has not within so many seconds."""
        ends = asyncio.get_running_loop().time() + seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            while asyncio.get_running_loop().time() < ends:
                try:
                    async with http.get(f"http://127.0.0.1:{self.ops_port}/readyz") as answer:
                        if answer.status == 200:
                            return True
                except (aiohttp.ClientError, TimeoutError, OSError):
                    pass
                await asyncio.sleep(READY_LOOK_SECONDS)
        return False

    def measure(self) -> int:
        """The resident size now, in bytes; the largest one seen is kept."""
        if self.process is None or self.process.returncode is not None:
            return 0
        try:
            now = int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0
        self.peak_rss = max(self.peak_rss, now)
        return now

    async def end(self) -> float:
        """SIGTERM, then SIGKILL after the grace period. Returns the seconds that it took."""
        self._wanted = False
        began = asyncio.get_running_loop().time()
        if self._task is None:
            return 0.0
        self.thaw()
        self.terminate()
        await self._task
        return asyncio.get_running_loop().time() - began


class Supervisor:
    """Every replica of every stage of a storm. `ahead` is by how many seconds a stage's clock is
    ahead from the start.
    """

    def __init__(
        self, folder: Path, env: Mapping[str, str], ahead: Mapping[str, float] | None = None
    ) -> None:
        self._folder = folder
        self._ahead = ahead or {}
        self._started = 0
        self.env = {**os.environ, **env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.replicas: list[Replica] = []

    def start(
        self, stage: str, *, env: Mapping[str, str] | None = None, variant: str | None = None
    ) -> Replica:
        """Starts a replica of a stage; of a broken one when `variant` names what is left out."""
        number, self._started = self._started, self._started + 1
        clock = self._folder / f"{stage}-{number}.clock"
        module = (
            ["tests.faults.harness.shifted", str(clock)]
            if variant is None
            else ["tests.faults.harness.variants", variant]
        )
        (port,) = free_ports(1)
        replica = Replica(
            stage,
            number,
            dying_with_parent([sys.executable, "-m", *module, stage]),
            {**self.env, "OPS_LISTEN": f"127.0.0.1:{port}", **(env or {})},
            self._folder / f"{stage}-{number}.log",
            clock,
            port,
        )
        replica.set_clock(self.ahead(stage))
        self.replicas.append(replica)
        replica.begin()
        return replica

    def ahead(self, stage: str) -> float:
        """By how many seconds the stage's clock is ahead when it does not jump."""
        return self._ahead.get(stage, 0.0)

    def of(self, stage: str) -> list[Replica]:
        """The replicas of a stage."""
        return [replica for replica in self.replicas if replica.stage == stage]

    async def end(self) -> None:
        """Ends everything."""
        await asyncio.gather(*(replica.end() for replica in self.replicas))
