"""The demo's child processes: stages, simulators, the broker and commands."""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from streams.demo.scenario import API_KEY

# The bounds are for a machine that does other things as well: a slow demo still ends with a result.
# One process until it is ready, of which Faust needs a few seconds.
START_SECONDS = 120.0
# One call of a simulator. That of Nylas waits up to 60 s until its notifications are delivered.
CALL_SECONDS = 90.0
# The grace period that Kubernetes gives as well.
STOP_SECONDS = 30.0

REPOSITORY = Path(__file__).parents[2]

# The name of the process that the others need until they have ended.
BROKER = "broker"


class DemoFailed(RuntimeError):
    """The demo could not run. The text says why, and where to look."""


class ChildProcess:
    """A process whose log goes to `<name>.log`, and its standard output to `<name>.out`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self.process, self.log = name, process, log

    @property
    def output(self) -> Path:
        """The file that holds the standard output."""
        return self.log.with_suffix(".out")

    async def stop(self, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        """Sends the signal, and SIGKILL after the grace period. Does nothing if it has ended."""
        if self.process.returncode is not None:
            return
        self.process.send_signal(stop_signal)
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


def _stop_signal(name: str) -> signal.Signals:
    """How a process is stopped when everything was processed and checked.

    After SIGTERM the bridge answers for three seconds on, for load balancers that send it more. No
    one sends more here, and Kafka has acknowledged all that it took.
    """
    return signal.SIGKILL if name == "bridge" else signal.SIGTERM


class ProcessGroup:
    """Starts the demo's processes, waits for them, and talks to them over HTTP.

    `stack` stops the processes, all together; the broker after all others. `env` is their
    environment, and may be extended before a process is started.
    """

    def __init__(self, folder: Path, stack: AsyncExitStack, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = dict(env)
        self.ops_urls: dict[str, str] = {}
        """Where each stage serves its metrics and probes."""
        self.http = httpx.AsyncClient(timeout=CALL_SECONDS, trust_env=False)
        self._stages: dict[str, ChildProcess] = {}
        self._children: list[ChildProcess] = []
        self._before_broker: list[Callable[[], Awaitable[None]]] = []
        stack.push_async_callback(self._stop)

    async def _stop(self) -> None:
        others = [child for child in self._children if child.name != BROKER]
        try:
            await asyncio.gather(*(child.stop(_stop_signal(child.name)) for child in others))
            for call in self._before_broker:
                await call()
        finally:
            for child in self._children:
                await child.stop()

    async def start(
        self, name: str, *command: str, env: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Starts a process, which is stopped when the demo ends."""
        from deploy.local.broker import dying_with_parent

        log = self.folder / f"{name}.log"
        with log.open("wb") as errors, log.with_suffix(".out").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *dying_with_parent(list(command)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**self.env, **(env or {})},
                cwd=REPOSITORY,
                # Ctrl-C must reach only the demo, which stops the stages before the broker.
                start_new_session=True,
            )
        child = ChildProcess(name, process, log)
        self._children.append(child)
        return child

    async def start_command(
        self, name: str, *words: str, env: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Starts `contactstream <words>`, which is stopped when the demo ends."""
        return await self.start(name, sys.executable, "-m", "streams.cli", *words, env=env)

    async def start_stage(
        self, name: str, ops_port: int, env: Mapping[str, str] | None = None
    ) -> None:
        """Starts a stage that serves its probes at `ops_port`; `wait_ready` waits for it."""
        self.ops_urls[name] = f"http://127.0.0.1:{ops_port}"
        listen = {"OPS_LISTEN": f"127.0.0.1:{ops_port}"}
        self._stages[name] = await self.start_command(name, name, env={**listen, **(env or {})})

    def call_at_end(self, call: Callable[[], Awaitable[None]]) -> None:
        """Has `call` awaited after all processes but the broker have stopped."""
        self._before_broker.append(call)

    async def wait_ready(self) -> None:
        """Waits until every stage is ready. Raises DemoFailed."""
        for name, url in self.ops_urls.items():
            await self.wait_until(
                partial(self.answers, f"{url}/readyz"), START_SECONDS, f"{name} is not ready"
            )

    async def answers(self, url: str) -> bool:
        """Whether a GET is answered with 200."""
        try:
            return (await self.http.get(url)).status_code == 200
        except httpx.TransportError:
            return False

    async def first_line(self, child: ChildProcess, seconds: float) -> str:
        """The first line that a process prints.

        Raises DemoFailed when it ends before, or prints nothing for so many seconds.
        """

        async def has_printed() -> bool:
            if child.process.returncode is not None:
                log = child.log.read_text(errors="replace")
                raise DemoFailed(
                    f"{child.name} ended with {child.process.returncode}:\n{log[-2000:]}"
                )
            return b"\n" in child.output.read_bytes()

        await self.wait_until(has_printed, seconds, f"{child.name} has not printed its address")
        return child.output.read_text().splitlines()[0]

    async def wait_until(
        self, condition: Callable[[], Awaitable[bool]], seconds: float, failure: str
    ) -> None:
        """Waits until a condition holds.

        Raises DemoFailed with the text `failure` after so many seconds, or as soon as a stage has
        ended.
        """
        deadline = time.monotonic() + seconds
        while not await condition():
            for name, stage in self._stages.items():
                if stage.process.returncode is not None:
                    raise DemoFailed(
                        f"{name} ended with {stage.process.returncode}; see {stage.log.name}"
                    )
            if time.monotonic() > deadline:
                raise DemoFailed(f"{failure} after {seconds:.0f} s")
            await asyncio.sleep(0.05)

    async def get(self, url: str) -> Any:
        """The JSON of a GET. Raises httpx.HTTPError."""
        answer = await self.http.get(url)
        answer.raise_for_status()
        return answer.json()

    async def post(self, url: str, body: Any) -> Any:
        """The JSON that a simulator answers to a POST. Raises httpx.HTTPError."""
        # The Nylas simulator checks the key, as Nylas does.
        headers = {"Authorization": f"Bearer {API_KEY}"}
        answer = await self.http.post(url, json=body, headers=headers)
        answer.raise_for_status()
        return answer.json() if answer.content else None
