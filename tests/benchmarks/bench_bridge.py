"""The speed of the bridge, compared with a bare aiohttp handler (bare_bridge.py).

    make bench ARGS=tests/benchmarks/bench_bridge.py

Both get the same load on the same broker, in alternating rounds. Broker, load and server share the
machine. Prints for both the notifications a second, the percentiles of the answers' latency, and
the processor microseconds of a notification; then the ratio of the rates.
"""

import asyncio
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil
import pytest
import uvloop

from deploy.local.broker import free_ports
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, contact_body, request

ROUND = int(os.environ.get("BENCH_NOTIFICATIONS", "30000"))
ROUNDS = 3
CONNECTIONS = 64
ROUND_SECONDS = 120.0  # a round takes seconds; the machine may be shared
CONTACTS = 5000

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True)
class Round:
    """The measurements of one round. Latencies are in seconds."""

    rate: float
    p50: float
    p99: float
    cpu_us: float
    """Processor microseconds of a notification."""
    statuses: frozenset[int]


def notifications() -> list[bytes]:
    """Signed requests with a contact of about 1 KB each."""
    requests = []
    for number in range(CONTACTS):
        grant, identity = f"5967ca40-a2d8-4ee0-a0e0-6f18ace39a{number % 3:02}", f"{number:012}"
        raw = contact_body(
            grant,
            identity,
            given_name="Ada",
            surname="Example",
            company_name="Example Industries",
            job_title="Head of Examples",
            emails=[{"email": f"person{number}@example-{number % 50}.com", "type": "work"}],
            phone_numbers=[
                {"number": "+1 555 0100", "type": "work"},
                {"number": "+1 555 0101", "type": "mobile"},
            ],
            physical_addresses=[
                {"type": "work", "street_address": "1 Main St", "city": "Springfield"}
            ],
            notes="met at the conference, wants a call back next quarter " * 6,
        )
        requests.append(request(raw, {"X-Key": f"{grant}/{identity}"}))
    return requests


class Sender(asyncio.Protocol):
    """A connection that sends the next request after each answer.

    It is small, so that the load costs less than the server that it measures.
    """

    def __init__(
        self, requests: list[bytes], left: list[int], latencies: list[float], statuses: set[int]
    ) -> None:
        self._requests, self._left, self._latencies, self._statuses = (
            requests,
            left,
            latencies,
            statuses,
        )
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        """An answer without a body comes in one piece."""
        self._latencies.append(time.perf_counter() - self._sent)
        self._statuses.add(int(data[9:12]))
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        assert self._transport is not None
        self._left[0] -= 1
        if self._left[0] < 0:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._left[0] % len(self._requests)])


async def _load(
    port: int, requests: list[bytes], count: int
) -> tuple[float, list[float], set[int]]:
    left, latencies, statuses = [count], list[float](), set[int]()
    began = time.perf_counter()
    senders = []
    for _ in range(CONNECTIONS):
        _, sender = await asyncio.get_running_loop().create_connection(
            lambda: Sender(requests, left, latencies, statuses), "127.0.0.1", port
        )
        senders.append(sender.done)
    async with asyncio.timeout(ROUND_SECONDS):
        await asyncio.gather(*senders)
    return time.perf_counter() - began, latencies, statuses


def measure(port: int, pid: int, requests: list[bytes], count: int) -> Round:
    """One round of load on a port."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    seconds, latencies, statuses = uvloop.run(_load(port, requests, count))
    after = process.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    assert len(latencies) == count
    latencies.sort()
    return Round(
        count / seconds,
        latencies[count // 2],
        latencies[count * 99 // 100],
        cpu / count * 1e6,
        frozenset(statuses),
    )


def _bridge(processes: Processes, kafka: Kafka, port: int, folder: Path) -> Process:
    secrets = folder / "secrets"
    secrets.write_text(SECRET)
    given = {"BRIDGE_LISTEN": f"127.0.0.1:{port}", "NYLAS_WEBHOOK_SECRETS_FILE": str(secrets)}
    return processes.start("bridge", environ=kafka.environ | given).wait_ready()


def test_the_bridge_beside_a_bare_handler(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    for topic in ("contacts.events", "bare"):
        kafka.create(topic, 4)
    for topic in ("grants.events", "contacts.dead-letter", "reader.runs"):
        kafka.create(topic)
    bare_port, bridge_port = free_ports(2)
    bridge = _bridge(processes, kafka, bridge_port, tmp_path)
    command = (
        sys.executable,
        "-m",
        "tests.benchmarks.bare_bridge",
        kafka.bootstrap,
        kafka.name("bare"),
    )
    bare = processes.start(str(bare_port), command=command)
    requests = notifications()
    wait_until(lambda: _answers(bare_port), "the bare handler answers")
    found: dict[str, list[Round]] = {"bare handler": [], "bridge": []}
    for port, process in ((bare_port, bare), (bridge_port, bridge)):
        measure(port, process.pid, requests, ROUND // 5)  # to warm up
    for _ in range(ROUNDS):
        found["bare handler"].append(measure(bare_port, bare.pid, requests, ROUND))
        found["bridge"].append(measure(bridge_port, bridge.pid, requests, ROUND))
    size = statistics.mean(len(each) for each in requests)
    print(
        f"\n{ROUND:,} requests of {size:.0f} bytes, "
        f"{ROUNDS} alternating rounds each, {CONNECTIONS} connections"
    )
    for name, rounds in found.items():
        print(
            f"{name:13} {_median(rounds, 'rate'):8,.0f}/s   "
            f"p50 {_median(rounds, 'p50') * 1e3:6.1f} ms   "
            f"p99 {_median(rounds, 'p99') * 1e3:6.1f} ms   "
            f"{_median(rounds, 'cpu_us'):6.0f} µs of processor each"
        )
    ratio = _median(found["bridge"], "rate") / _median(found["bare handler"], "rate")
    print(f"ratio {ratio:.2f}")
    assert {status for rounds in found.values() for each in rounds for status in each.statuses} == {
        200
    }
    assert len(kafka.read("contacts.events")) == ROUNDS * ROUND + ROUND // 5
    assert ratio >= 0.5
    assert _median(found["bridge"], "rate") >= 6000
    assert _median(found["bridge"], "p99") < 0.1


def _median(rounds: list[Round], name: str) -> float:
    return float(statistics.median(getattr(each, name) for each in rounds))


def _answers(port: int) -> bool:
    async def connects() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    return asyncio.run(connects())
