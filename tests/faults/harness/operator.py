"""The operator of a storm: releases every failure breaker that opens, as a person would."""

import asyncio
import json
import sys

from confluent_kafka import KafkaException

from tests.faults.harness.environment import Environment
from tests.support.children import child_command
from tests.support.paths import ROOT

# Between two looks. A person is slower, but a storm has not the time.
LOOK_SECONDS = 5.0

# A command waits so long for a broker that is away.
COMMAND_SECONDS = 60.0


class Operator:
    """Releases breakers until it is cancelled."""

    def __init__(self, environment: Environment) -> None:
        self.released: list[str] = []
        """The reasons of the released breakers, one for each release."""
        self._environment = environment

    async def run(self) -> None:
        """Looks every LOOK_SECONDS."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                opened = await asyncio.to_thread(self._open)
            except (AssertionError, KafkaException):
                continue  # no broker answers
            for reason in opened:
                await self._release(reason)

    def _open(self) -> list[str]:
        """The reasons of the open breakers, by their last records."""
        state: dict[str, str] = {}
        for record in self._environment.kafka.read("contactstream.control"):
            kind, _, reason = (record.key or b"").decode().partition("/")
            if kind == "breaker" and record.value:
                state[reason] = json.loads(record.value)["state"]
        return [reason for reason, is_open in state.items() if is_open == "open"]

    async def _release(self, reason: str) -> None:
        words = ["breakers", "release", reason, "--actor", "storm", "--for", "1m"]
        child = await asyncio.create_subprocess_exec(
            *child_command([sys.executable, "-m", "streams.cli", *words]),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._environment.stages.env,
            cwd=ROOT,
        )
        try:
            if await asyncio.wait_for(child.wait(), COMMAND_SECONDS) == 0:
                self.released.append(reason)
                self._environment.log.note(f"the breaker of {reason} is released")
        except TimeoutError:
            child.kill()
            await child.wait()
