"""The speed of the bridge, compared with a bare aiohttp handler (bare_bridge.py).

    make bench ARGS=tests/benchmarks/bench_bridge.py

Both get the same load on the same broker, in alternating rounds. The load comes from wrk, which is
no Python and takes little of the processor (`apt-get install wrk`).
"""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.broker import free_ports
from tests.benchmarks.comparison import Comparison, Figures, median
from tests.benchmarks.conftest import Measured, MeasuredSheet
from tests.benchmarks.profiles import profile_sheet, sample, shares
from tests.benchmarks.wrk import Load, load, write_requests
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, contact_body, request

ROUND_SECONDS = int(os.environ.get("BENCH_SECONDS", "8"))
WARM_UP_SECONDS = 2
ROUNDS = 3
CONNECTIONS = 64
CONTACTS = 5000

GOAL = 0.75  # of the bare handler's processor time
LEAST_RATIO = 0.6  # below it the test fails, whatever is committed
LONGEST_P99_MS = 100.0

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]


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


def _bridge(processes: Processes, kafka: Kafka, port: int, folder: Path) -> Process:
    secrets = folder / "secrets"
    secrets.write_text(SECRET)
    given = {"BRIDGE_LISTEN": f"127.0.0.1:{port}", "NYLAS_WEBHOOK_SECRETS_FILE": str(secrets)}
    return processes.start("bridge", environ=kafka.environ | given).wait_ready()


def _create_topics(kafka: Kafka) -> None:
    for topic in ("contacts.events", "bare"):
        kafka.create(topic, 4)
    for topic in ("grants.events", "contacts.dead-letter", "reader.runs"):
        kafka.create(topic)


def test_the_bridge_beside_a_bare_handler(
    kafka: Kafka, processes: Processes, tmp_path: Path, measured: Measured
) -> None:
    _create_topics(kafka)
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
    prepared = tmp_path / "requests"
    write_requests(prepared, requests)
    wait_until(lambda: _answers(bare_port), "the bare handler answers")
    published = 0

    def one_round(port: int, process: Process, seconds: int) -> Load:
        return load(port, process.pid, prepared, seconds, CONNECTIONS)

    one_round(bare_port, bare, WARM_UP_SECONDS)
    published += one_round(bridge_port, bridge, WARM_UP_SECONDS).requests
    bare_rounds, bridge_rounds = [], []
    for _ in range(ROUNDS):
        bare_rounds.append(one_round(bare_port, bare, ROUND_SECONDS))
        bridge_rounds.append(one_round(bridge_port, bridge, ROUND_SECONDS))
    published += sum(each.requests for each in bridge_rounds)
    stored = len(kafka.read("contacts.events"))
    # At the end of a round wrk leaves what it has sent on each connection without an answer.
    assert published <= stored <= published + (ROUNDS + 1) * CONNECTIONS

    size = sum(map(len, requests)) / len(requests)
    comparison = Comparison(
        "bridge",
        "notifications",
        f"{ROUNDS} rounds of {ROUND_SECONDS} s each in turn, signed requests of {size:.0f} bytes "
        f"over {CONNECTIONS} connections, 4 partitions. The broker, the load and the server share "
        "the machine.",
        _figures("bridge", bridge_rounds),
        [_figures("bare aiohttp handler", bare_rounds)],
        GOAL,
    )
    measured(comparison)
    slow = 2 * median(comparison.baselines[0].p99_ms)  # where others use the machine as well
    assert median(comparison.stage.p99_ms) < max(LONGEST_P99_MS, slow)
    assert comparison.processor_ratio >= LEAST_RATIO


PARTS = {
    "HTTP (aiohttp)": ["aiohttp/", "multidict/", "yarl/"],
    "metrics (prometheus-client)": ["prometheus_client/"],
    "signatures": ["connectors/nylas/webhook.py"],
    "parsing and deciding": [
        "connectors/nylas/", "streams/bridge/decision.py", "streams/events.py",
    ],
    "publishing": ["streams/kafka/"],
    "bounds and deadlines": [
        "streams/bridge/bodies.py", "streams/bridge/deadlines.py", "streams/runtime/connections.py",
        "streams/runtime/unfinished.py",
    ],
    "answering": ["streams/bridge/intake.py", "streams/bridge/server.py", "streams/bridge/plain"],
    "event loop (uvloop)": ["streams/bridge/process.py", "streams/cli/"],
}  # fmt: skip
"""The first part whose path fits counts."""
NEXT_CHANGE = (
    "The bare handler has the time in HTTP, the event loop and the producer as well. The smallest "
    "next change: count requests in plain numbers, and read these when Prometheus asks."
)


def test_where_the_processors_time_goes(
    kafka: Kafka, processes: Processes, tmp_path: Path, measured_sheet: MeasuredSheet
) -> None:
    """So that whoever wants it faster knows where to begin."""
    _create_topics(kafka)
    (port,) = free_ports(1)
    bridge = _bridge(processes, kafka, port, tmp_path)
    prepared = tmp_path / "requests"
    write_requests(prepared, notifications())
    load(port, bridge.pid, prepared, WARM_UP_SECONDS, CONNECTIONS)
    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(load, port, bridge.pid, prepared, ROUND_SECONDS, CONNECTIONS)
        stacks = sample(bridge.pid, ROUND_SECONDS, tmp_path)
        loading.result()
    work = f"the bridge, which answers signed requests over {CONNECTIONS} connections"
    found = shares(stacks, PARTS)
    measured_sheet(profile_sheet("bridge", work, found, NEXT_CHANGE))
    assert {*found} >= {*PARTS}


def _figures(name: str, rounds: list[Load]) -> Figures:
    return Figures(
        name,
        [each.rate for each in rounds],
        [each.processor_us for each in rounds],
        [each.p50 * 1000 for each in rounds],
        [each.p99 * 1000 for each in rounds],
    )


def _answers(port: int) -> bool:
    async def connects() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    return asyncio.run(connects())
