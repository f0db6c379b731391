"""Keeps the stages of a storm running, as a cluster would: a process that ends, however it ends, is started again at once."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deploy.local.broker import dying_with_parent

REPOSITORY = Path(__file__).parents[2]
GRACE_SECONDS = 30.0  # Kubernetes' default grace period: who is not gone by then is killed, and that is counted
RESTART_SECONDS = 0.2  # a cluster takes longer; shorter makes the storm harder


@dataclass
class Replica:
    """One process of a stage, and how its runs ended."""

    stage: str
    number: int
    command: list[str]
    env: Mapping[str, str]
    log: Path
    exits: Counter[int] = field(default_factory=Counter)
    overstayed: int = 0
    peak_rss: int = 0
    process: asyncio.subprocess.Process | None = None
    _task: asyncio.Task[None] | None = None
    _wanted: bool = True

    def begin(self) -> None:
        """Starts the process and its guard."""
        self._wanted = True
        self._task = asyncio.create_task(self._keep_running())

    async def _keep_running(self) -> None:
        while self._wanted:
            with self.log.open("ab") as output:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command, stdout=output, stderr=asyncio.subprocess.STDOUT, env=self.env, cwd=REPOSITORY
                )
            self.exits[await self.process.wait()] += 1
            await asyncio.sleep(RESTART_SECONDS)

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal, if the process runs."""
        if self.process is None or self.process.returncode is not None:
            return False
        self.process.send_signal(number)
        return True

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
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._task), GRACE_SECONDS)
        except TimeoutError:
            self.overstayed += 1
            self.signal(signal.SIGKILL)
            await self._task
        return asyncio.get_running_loop().time() - began


class Supervisor:
    """Every replica of every stage of a storm."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self.env = {**os.environ, **env, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        self.replicas: list[Replica] = []

    def start(self, stage: str, *, env: Mapping[str, str] | None = None, variant: str | None = None) -> Replica:
        """Starts a replica of a stage; of a broken one when `variant` names what is left out."""
        number = sum(replica.stage == stage for replica in self.replicas)
        module = ["streams.cli"] if variant is None else ["tests.faults.variants", variant]
        replica = Replica(
            stage,
            number,
            dying_with_parent([sys.executable, "-m", *module, stage]),
            {**self.env, "OPS_LISTEN": "127.0.0.1:0", **(env or {})},
            self._folder / f"{stage}-{number}.log",
        )
        self.replicas.append(replica)
        replica.begin()
        return replica

    def of(self, stage: str) -> list[Replica]:
        """The replicas of a stage."""
        return [replica for replica in self.replicas if replica.stage == stage]

    async def end(self) -> None:
        """Ends everything."""
        await asyncio.gather(*(replica.end() for replica in self.replicas))
