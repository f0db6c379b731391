"""The whole product on one machine, in a story: a broker, stand-ins for Nylas and Salesforce, and every stage in a process of its own."""

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka.admin import AdminClient
from rich.console import Console

from connectors.nylas.simulator.people import address_books
from streams.demo_report import Evidence, problems, report, table
from streams.inspection import end_offsets, group_lag, read_topic
from streams.kafka import client_config
from streams.settings import KafkaSettings
from streams.topics import create, group, topics

START_SECONDS = 60.0  # one process to its readiness, on a slow machine: Faust needs a few seconds, the broker may have to be fetched
BROKER_SECONDS = 300.0  # the first start fetches Kafka
SYNC_SECONDS = 120.0  # the address books into Salesforce; takes seconds
QUIET_SECONDS = 60.0  # until nothing is under way any more
ORG_LATENCY_MS = 150  # what a call of a real org takes

REPOSITORY = Path(__file__).parent.parent
BROKER = REPOSITORY / "deploy" / "local" / "broker.py"


class DemoFailed(RuntimeError):
    """The demo could not run. The text says why and where to look."""


class Process:
    """A child process whose output goes to a file, or is waited for."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self.child, self.log = name, child, log

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after the grace period that Kubernetes would give."""
        if self.child.returncode is not None:
            return
        self.child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.child.wait(), 30)
        except TimeoutError:
            self.child.kill()
            await self.child.wait()


class Machine:
    """Starts the demo's processes and knows where each answers."""

    def __init__(self, folder: Path, stack: AsyncExitStack, say: Callable[[str], None]) -> None:
        self._folder, self._stack, self._say = folder, stack, say
        self.env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OPS_LOG_FORMAT": "json"}
        self.ops: dict[str, str] = {}
        self.http = httpx.AsyncClient(timeout=30)

    async def start(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> Process:
        """Starts a process; its output goes to `<folder>/<name>.log`. It is stopped when the demo ends."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            child = await asyncio.create_subprocess_exec(
                *command, stdout=output, stderr=asyncio.subprocess.STDOUT, env={**self.env, **(env or {})}, cwd=REPOSITORY
            )
        process = Process(name, child, log)
        self._stack.push_async_callback(process.stop)
        return process

    async def stage(self, name: str, env: Mapping[str, str] | None = None) -> None:
        """Starts a stage and notes where its ops port is; `ready` waits for it."""
        port = free_port()
        self.ops[name] = f"http://127.0.0.1:{port}"
        process = await self.start(
            name, sys.executable, "-m", "streams.cli", name, env={"OPS_LISTEN": f"127.0.0.1:{port}", **(env or {})}
        )
        self._stack.callback(self.ops.pop, name, None)
        self._processes = {**getattr(self, "_processes", {}), name: process}

    async def ready(self) -> None:
        """Waits until every stage says that it can work. Raises DemoFailed."""
        for name, url in self.ops.items():
            await self.until(lambda name=name, url=url: self._is_ready(name, url), START_SECONDS, f"{name} is not ready")

    async def _is_ready(self, name: str, url: str) -> bool:
        process = self._processes[name]
        if process.child.returncode is not None:
            raise DemoFailed(f"{name} ended with {process.child.returncode}; see {process.log}")
        try:
            return (await self.http.get(f"{url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def line(self, process: Process, seconds: float) -> str:
        """The first line that a process prints. Raises DemoFailed."""

        async def printed() -> bool:
            if process.child.returncode is not None:
                raise DemoFailed(f"{process.name} ended at once; see {process.log}:\n{process.log.read_text()[-2000:]}")
            return b"\n" in process.log.read_bytes()

        await self.until(printed, seconds, f"{process.name} does not say where it listens")
        return process.log.read_text().splitlines()[0]

    async def until(self, true: Callable[[], Awaitable[bool]], seconds: float, otherwise: str) -> None:
        """Waits until something holds. Raises DemoFailed after so many seconds."""
        deadline = time.monotonic() + seconds
        while not await true():
            if time.monotonic() > deadline:
                raise DemoFailed(f"{otherwise} after {seconds:.0f} s; the logs are in {self._folder}")
            await asyncio.sleep(0.05)

    async def get(self, url: str) -> Any:
        """The JSON of a GET."""
        answer = await self.http.get(url)
        answer.raise_for_status()
        return answer.json()

    async def send(self, method: str, url: str, body: Any) -> Any:
        """The JSON that a stand-in answers."""
        answer = await self.http.request(method, url, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None
