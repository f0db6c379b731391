"""The processes that tests start answer, pause and end as the tests expect."""

import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.processes import Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

STAGE = """
import os, sys, time
from prometheus_client import CollectorRegistry, Counter
from streams.runtime.ops import Health, OpsServer
registry, health = CollectorRegistry(), Health(stalled_after=60)
rows = Counter("rows", "", ["outcome", "stage"], registry=registry)
rows.labels("created", "sink").inc(3); rows.labels("updated", "sink").inc(4)
OpsServer(os.environ["OPS_LISTEN"], registry, health).start()
health.ready()
print("up", os.environ.get("SECRET_OF_THE_CALLER"), sys.argv[1:], flush=True)
time.sleep(60)
"""
COMMAND = (sys.executable, "-c", STAGE)


def test_a_process_is_ready_counts_and_ends_on_sigterm(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "hidden")
    stage = processes.start("sink", "--option", command=COMMAND).wait_ready()
    assert stage.metric("rows_total") == 7
    assert stage.metric("rows_total", outcome="created") == 3
    assert stage.metric("no_such_metric") == 0
    assert "up None ['sink', '--option']" in stage.log
    assert stage.rss > 1_000_000
    assert stage.stop() == -signal.SIGTERM


def test_a_paused_process_answers_nothing_until_it_is_resumed(processes: Processes) -> None:
    stage = processes.start("sink", command=COMMAND).wait_ready()
    stage.pause()
    wait_until(lambda: psutil.Process(stage.pid).status() == psutil.STATUS_STOPPED, "it is paused")
    stage.resume()
    wait_until(lambda: stage.ask("/livez")[0] == 200, "it answers again")
    stage.kill()
    assert stage.exit_code == -signal.SIGKILL


def test_a_process_that_ends_at_once_is_reported_with_its_output(processes: Processes) -> None:
    stage = processes.start("sink", command=(sys.executable, "-c", "raise SystemExit('no broker')"))
    with pytest.raises(AssertionError, match="no broker"):
        stage.wait_ready()


def test_no_process_outlives_its_test(tmp_path: Path) -> None:
    own = Processes(tmp_path, {})
    stopped, running = (own.start(name, command=COMMAND).wait_ready() for name in ("one", "two"))
    stopped.pause()
    own.end()
    assert not psutil.pid_exists(stopped.pid)
    assert not psutil.pid_exists(running.pid)
