"""Keeps the stages of a storm running, as a cluster would.

A process that ends, for whatever reason, is started again at once.
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

from deploy.local.broker import free_ports
from tests.support.children import child_command
from tests.support.paths import ROOT

# Kubernetes' default grace period. A process that has not ended by then is killed and counted.
GRACE_SECONDS = 30.0
RESTART_SECONDS = 0.2  # a cluster takes longer; a shorter pause makes the storm harder
READY_CHECK_SECONDS = 0.3
PROBE_SECONDS = 5.0


@dataclass
class Replica:
    """One process of a stage, which is started again when it ends, and how it ended each time."""

    stage: str
    number: int
    command: list[str]
    env: Mapping[str, str]
    log: Path
    clock: Path
    ops_port: int
    exits: Counter[int] = field(default_factory=Counter)
    """How often it ended with each exit code."""
    overdue: int = 0
    """How often it was killed because it had not ended within the grace period."""
    peak_rss: int = 0
    """The largest resident size seen, in bytes."""
    frozen: bool = False
    process: asyncio.subprocess.Process | None = None
    _task: asyncio.Task[None] | None = None
    _wanted: bool = True
    _terminated: asyncio.subprocess.Process | None = None
    _grace_periods: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self) -> None:
        """Starts the process and keeps it running."""
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
            # `end` may have come while the process was being made, and found none to signal.
            if not self._wanted:
                self.terminate()
            self.exits[await self.process.wait()] += 1
            await asyncio.sleep(RESTART_SECONDS)

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal if the process runs; returns whether it does."""
        if self.process is None or self.process.returncode is not None:
            return False
        self.process.send_signal(number)
        return True

    def terminate(self) -> bool:
        """Sends SIGTERM, and SIGKILL after the grace period.

        Returns False, and sends nothing, when the process is paused or is ending already.
        """
        process = self.process
        if (
            self.frozen
            or self._terminated is process
            or not self.signal(signal.SIGTERM)
            or process is None
        ):
            return False
        self._terminated = process
        task = asyncio.create_task(self._end_in_time(process))
        self._grace_periods.add(task)
        task.add_done_callback(self._grace_periods.discard)
        return True

    async def _end_in_time(self, process: asyncio.subprocess.Process) -> None:
        try:
            await asyncio.wait_for(process.wait(), GRACE_SECONDS)
        except TimeoutError:
            self.overdue += 1
            process.kill()

    def freeze(self) -> bool:
        """Sends SIGSTOP; not to a process that is about to end, whose grace period would go on."""
        self.frozen = self._terminated is not self.process and self.signal(signal.SIGSTOP)
        return self.frozen

    def thaw(self) -> None:
        """Sends SIGCONT."""
        self.frozen = False
        self.signal(signal.SIGCONT)

    def set_clock(self, ahead: float) -> None:
        """From now on the process's wall clock is so many seconds ahead."""
        self.clock.write_text(str(ahead))

    async def ready(self, seconds: float) -> bool:
        """Waits until `/readyz` answers 200; False when it does not within so many seconds."""
        ends = asyncio.get_running_loop().time() + seconds
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS)
        ) as http:
            while asyncio.get_running_loop().time() < ends:
                try:
                    async with http.get(f"http://127.0.0.1:{self.ops_port}/readyz") as answer:
                        if answer.status == 200:
                            return True
                except (aiohttp.ClientError, TimeoutError, OSError):
                    pass
                await asyncio.sleep(READY_CHECK_SECONDS)
        return False

    def measure(self) -> int:
        """The resident size now, in bytes; 0 when the process does not run."""
        if self.process is None or self.process.returncode is not None:
            return 0
        try:
            now = int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0
        self.peak_rss = max(self.peak_rss, now)
        return now

    async def end(self) -> float:
        """Ends the process for good: SIGTERM, then SIGKILL after the grace period.

        Returns the seconds that it took.
        """
        self._wanted = False
        began = asyncio.get_running_loop().time()
        if self._task is None:
            return 0.0
        self.thaw()
        self.terminate()
        await self._task
        return asyncio.get_running_loop().time() - began


class Supervisor:
    """Every replica of every stage of a storm.

    `clock_shifts` are the seconds by which a stage's clock is ahead from the start.
    """

    def __init__(
        self, folder: Path, env: Mapping[str, str], clock_shifts: Mapping[str, float] | None = None
    ) -> None:
        self._folder = folder
        self._clock_shifts = clock_shifts or {}
        self._started = 0
        self.env = {**os.environ, **env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.replicas: list[Replica] = []
        self.retired: list[Replica] = []
        """Replicas that left before the storm was over."""

    def start(
        self, stage: str, *, env: Mapping[str, str] | None = None, variant: str | None = None
    ) -> Replica:
        """Starts a replica of a stage, as a variant of variants.py when `variant` names one."""
        number, self._started = self._started, self._started + 1
        clock = self._folder / f"{stage}-{number}.clock"
        module = (
            ["tests.faults.harness.shifted_clock", str(clock)]
            if variant is None
            else ["tests.faults.harness.variants", variant]
        )
        (port,) = free_ports(1)
        replica = Replica(
            stage,
            number,
            child_command([sys.executable, "-m", *module, stage]),
            {**self.env, "OPS_LISTEN": f"127.0.0.1:{port}", **(env or {})},
            self._folder / f"{stage}-{number}.log",
            clock,
            port,
        )
        replica.set_clock(self.usual_shift(stage))
        self.replicas.append(replica)
        replica.begin()
        return replica

    async def retire(self, replica: Replica) -> None:
        """Ends a replica for good, if it was not retired before."""
        if replica in self.replicas:
            self.replicas.remove(replica)
            await replica.end()
            self.retired.append(replica)

    def usual_shift(self, stage: str) -> float:
        """The seconds by which the stage's clock is ahead when it does not jump."""
        return self._clock_shifts.get(stage, 0.0)

    def of(self, stage: str) -> list[Replica]:
        """The replicas of a stage."""
        return [replica for replica in self.replicas if replica.stage == stage]

    async def end(self) -> None:
        """Ends every replica that still runs."""
        await asyncio.gather(*(replica.end() for replica in self.replicas))
