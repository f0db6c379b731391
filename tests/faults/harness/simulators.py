"""The simulators of Salesforce and Nylas as processes, and their control planes."""

import asyncio
import contextlib
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.faults.harness.load import (
    ACCOUNTS,
    GRANTS,
    Load,
    account_domain,
    address_of,
)
from tests.support.children import child_command
from tests.support.paths import ROOT
from tests.support.waiting import until

LISTENING_SECONDS = 60.0  # a start on a machine that a broker starts on too

NYLAS_API_KEY = "nyk_storm"


@dataclass(frozen=True)
class Simulator:
    """A running simulator: its address, and requests to its control plane."""

    url: str
    http: aiohttp.ClientSession

    async def get(self, path: str) -> Any:
        """The JSON answer of GET."""
        async with self.http.get(self.url + path) as answer:
            return await answer.json()

    async def send(self, path: str, body: object, method: str = "POST") -> Any:
        """The JSON answer to a JSON body. Raises RuntimeError when the simulator refuses it."""
        async with self.http.request(method, self.url + path, json=body) as answer:
            if answer.status >= 400:
                raise RuntimeError(await answer.text())
            return await answer.json()


async def start_salesforce(
    stack: AsyncExitStack, folder: Path, http: aiohttp.ClientSession, *, version_rule: bool
) -> Simulator:
    """An org with the Accounts of the load. It ends with `stack`."""
    accounts = [
        {"Name": f"Account {number}", "Website": f"https://www.{account_domain(number)}"}
        for number in range(ACCOUNTS)
    ]
    settings = {"latency_ms_call": 20, "version_rule": version_rule}
    world = {"accounts": accounts, "settings": settings}
    return Simulator(await _start(stack, folder, "salesforce", world), http)


async def start_nylas(
    stack: AsyncExitStack, folder: Path, http: aiohttp.ClientSession, load: Load
) -> Simulator:
    """A Nylas with the three grants, and the newest state of the load's contacts."""
    grants = [
        {
            "id": grant,
            "email": address_of(grant),
            "provider": "google",
            "contacts": [contact for contact in load.newest if contact["grant_id"] == grant],
        }
        for grant in GRANTS
    ]
    # Limits come as random faults, not from Google's own limit: that would make a storm last for
    # hours.
    settings = {"google_per_minute": 0, "contacts_per_second": 0}
    world = {"api_key": NYLAS_API_KEY, "grants": grants, "settings": settings}
    return Simulator(await _start(stack, folder, "nylas", world), http)


async def _start(stack: AsyncExitStack, folder: Path, name: str, world: dict[str, Any]) -> str:
    """Starts a simulator; returns its URL once it listens."""
    file, log = folder / f"{name}-world.json", folder / f"{name}.log"
    file.write_text(json.dumps(world))
    command = [sys.executable, "-m", "streams.cli", "simulate", name]
    options = ["--listen", "127.0.0.1:0", "--world", str(file)]
    # Output to a file: a pipe would have to be emptied all the time.
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(
            *child_command([*command, *options]), stdout=output, stderr=output, cwd=ROOT
        )
    stack.push_async_callback(child.wait)
    stack.callback(_terminate, child)

    def listening() -> str:
        lines = log.read_text(errors="replace").splitlines()
        return next((line for line in lines if " listening on " in line), "")

    line = await until(listening, f"{name} listens", LISTENING_SECONDS)
    return str(line).rpartition(" ")[2]


def _terminate(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
