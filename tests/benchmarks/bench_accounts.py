"""What 500,000 Accounts cost a start of the sink: calls, memory, and the event loop's time.

    make bench ARGS=tests/benchmarks/bench_accounts.py

The org and the start of the sink are processes of their own. The first start finds an empty topic
and reads the org; the second one finds on the topic what the first one knew.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from deploy.local.broker import free_ports
from tests.benchmarks.conftest import MeasuredSheet
from tests.benchmarks.sheets import Sheet
from tests.support.kafka import Kafka
from tests.support.paths import ROOT

ACCOUNTS = int(os.environ.get("BENCH_ACCOUNTS", "500000"))
START_SECONDS = 900.0
MAX_MB = 150.0
MAX_BLOCK_MS = 50.0
MAX_RESTART_CALLS = 3
SHOWN = {
    "processor seconds": "processor seconds",
    "calls": "calls",
    "peak above idle MB": "MB above the idle process at most",
    "kept above idle MB": "MB that stay",
    "longest block ms of processor": "ms that the event loop was kept at most",
}
"""The figures that are shown, with their names."""

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(2 * START_SECONDS)]


@pytest.fixture
def org() -> Iterator[str]:
    """The URL of an org with many Accounts."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.benchmarks.accounts_org", str(port), str(ACCOUNTS)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline() == "ready\n"
        yield f"http://127.0.0.1:{port}"
        serving.kill()


def start_of_sink(org: str, kafka: Kafka) -> dict[str, float]:
    """The figures of one start, which ends once the Accounts are known."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.accounts_sink", org],
        cwd=ROOT,
        env=os.environ | kafka.environ,
        stdout=subprocess.PIPE,
        timeout=START_SECONDS,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def test_many_accounts(org: str, kafka: Kafka, measured_sheet: MeasuredSheet) -> None:
    """A start stays within the bars for memory, calls and the event loop."""
    kafka.create("sink.accounts", 1, {"cleanup.policy": "compact"})
    first, again = start_of_sink(org, kafka), start_of_sink(org, kafka)
    measured_sheet(
        Sheet(
            "start of the sink with Accounts",
            f"{ACCOUNTS:,} Accounts of an org that answers at once. The first start reads the org, "
            "the next one a topic and what changed since.",
            list(SHOWN.values()),
            {
                "first start": [first[name] for name in SHOWN],
                "next start": [again[name] for name in SHOWN],
            },
        )
    )
    for figures in (first, again):
        assert figures["found"] == 1
        assert figures["peak above idle MB"] <= MAX_MB
        assert figures["longest block ms of processor"] <= MAX_BLOCK_MS
    assert again["calls"] <= MAX_RESTART_CALLS
