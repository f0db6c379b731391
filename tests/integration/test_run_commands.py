"""The commands for runs: bars on a terminal, the list, following a run again, and cancelling."""

import json
import signal
import time
from pathlib import Path

import pytest

from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.reader_harness import ReaderHarness, Start, grant, keys, people
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def harness(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: ReaderHarness(kafka, processes, tmp_path, world)


def pausing_reader(harness: ReaderHarness) -> Process:
    """A reader that reads a few hundred contacts, then waits for the test to commit the events."""
    return harness.reader(
        READER_MAX_LAG="300", READER_CONCURRENT_GRANTS="1", READER_RECONCILE_EVERY="0"
    )


def commit_events(harness: ReaderHarness) -> None:
    harness.commit("dedupe", "contacts.events", harness.ends("contacts.events"))


def wait_for_pause(harness: ReaderHarness, reader: Process, above: int) -> None:
    """Waits until there are more than so many events and the reader waits for the later stages."""
    wait_until(lambda: len(harness.events()) > above, "it reads", 60)
    waited = reader.metric("contactstream_reader_waits_total", reason="sink_lag")
    wait_until(
        lambda: reader.metric("contactstream_reader_waits_total", reason="sink_lag") > waited,
        "it waits",
        60,
    )


def to_the_end(harness: ReaderHarness, terminal: Terminal) -> int:
    """Commits the events that are read until the command has ended; returns its exit code."""

    def ended() -> bool:
        commit_events(harness)
        _ = terminal.text
        return terminal.popen.poll() is not None

    wait_until(ended, "the run is over", 120)
    return terminal.wait()


def test_a_backfill_on_a_terminal_shows_bars_and_can_be_followed_again(
    harness: Start,
) -> None:
    mine = harness({"grants": [grant("g1", people(100)), grant("g2", people(1500))]})
    reader = pausing_reader(mine)
    with Terminal("backfill", "--all", environ=mine.processes.environ) as terminal:
        terminal.wait_for("all contacts")
        terminal.wait_for("━")
        terminal.wait_for("g2")
        terminal.wait_for("/?")  # nobody knows how many g2 holds
        wait_for_pause(mine, reader, 100)
        commit_events(mine)
        wait_for_pause(mine, reader, 500)
        terminal.wait_for("left (size of 1 grant estimated)")
        terminal.popen.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
        (run_id,) = [key for key in mine.runs() if "/" not in key]
        assert (
            f"stopped watching; the reader goes on. See: contactstream runs follow {run_id}"
            in terminal.text
        )
    listed = mine.command("runs")
    assert f"{run_id}\tbackfill of everything\tcommand\trunning\t1 of 2 grants, " in listed
    with Terminal("runs", "follow", run_id, environ=mine.processes.environ) as terminal:
        terminal.wait_for("all contacts")
        assert to_the_end(mine, terminal) == 0
        assert terminal.text.rstrip().endswith(
            "backfill done, 2 of 2 grants, 1600 contacts, 9 pages"
        )
    assert (
        f"{run_id}\tbackfill of everything\tcommand\tdone\t2 of 2 grants, 1600 contacts\t-"
        in mine.command("runs")
    )
    with Terminal("runs", environ=mine.processes.environ) as terminal:
        assert terminal.wait() == 0
        assert "asked by" in terminal.text
    assert len(keys(mine.events())) == 1600
    with Terminal("backfill", "--all", environ=mine.processes.environ) as terminal:
        assert to_the_end(mine, terminal) == 0
        assert "/1600" in terminal.text, "their sizes are known by now"
        assert "estimated" not in terminal.text
        assert terminal.text.rstrip().endswith(
            "backfill done, 2 of 2 grants, 1600 contacts, 9 pages"
        )


def test_a_cancelled_run_reads_nothing_more(harness: Start) -> None:
    mine = harness(
        {"grants": [grant("g1", people(100)), grant("g2", people(1500)), grant("g3", people(5))]}
    )
    reader = pausing_reader(mine)
    run_id = mine.command("backfill", "--all", "--no-wait").split()[-1]
    wait_for_pause(mine, reader, 100)
    assert "backfill cancelled, 3 of 3 grants" in mine.command("runs", "cancel", run_id)
    run, grants = mine.last_run()
    assert (run["state"], run["error"]) == (
        "cancelled",
        "cancelled; 2 of 3 grants were not finished",
    )
    assert {name: found["state"] for name, found in grants.items()} == {
        "g1": "done",
        "g2": "cancelled",
        "g3": "cancelled",
    }
    stood = len([key for key in keys(mine.events()) if key.startswith("g2/")])
    commit_events(mine)
    mine.command("backfill", "--grant", "g3")
    assert {f"g3/c{number}" for number in range(5)} <= keys(mine.events()), "the reader goes on"
    assert len([key for key in keys(mine.events()) if key.startswith("g2/")]) == stood
    assert "is over: cancelled" in mine.command("runs", "cancel", run_id)
    assert f"{run_id} cancelled: cancelled; 2 of 3 grants" in mine.command(
        "runs", "follow", run_id, expect=1
    )
    assert "there is no run nothing" in mine.command("runs", "cancel", "nothing", expect=2)
    reader.kill()
    mine.reader(READER_RECONCILE_EVERY="0", READER_SESSION_TIMEOUT="2")
    mine.command("backfill", "--grant", "g1")
    assert len([key for key in keys(mine.events()) if key.startswith("g2/")]) == stood, (
        "nor does its successor"
    )


def test_a_waiting_run_can_be_cancelled_before_any_call_to_nylas(harness: Start) -> None:
    mine = harness({"grants": [grant("g1", people(3))]})
    run_id = mine.command("backfill", "--all", "--no-wait").split()[-1]
    cancelling = mine.processes.start("runs", "cancel", run_id)
    wait_until(lambda: f"cancel/{run_id}" in mine.runs(), "it is asked for", 60)
    assert "waiting, being cancelled" in mine.command("runs")
    mine.reader(READER_RECONCILE_EVERY="0")
    assert cancelling.popen.wait(90) == 0, cancelling.log
    assert mine.runs()[run_id]["error"] == "cancelled before it started"
    assert mine.nylas.state()["calls"].get("contacts", 0) == 0
    assert mine.events() == []


def test_a_rotation_requests_a_reconcile_for_when_every_bridge_has_the_secret(
    harness: Start, tmp_path: Path
) -> None:
    world = {
        "grants": [grant("g1", people(3))],
        "webhook": {"id": "d1", "url": "http://127.0.0.1:9/"},
    }
    mine = harness(world)
    mine.reader(READER_RECONCILE_EVERY="0")
    before = int(time.time())
    printed = mine.command("webhooks", "rotate", "d1", "--secret-file", str(tmp_path / "secrets"))
    (run_id,) = [key for key in mine.runs() if "/" not in key]
    run = mine.runs()[run_id]
    assert f"({run_id})" in printed
    assert (run["kind"], run["grants"], run["by"], run["state"]) == (
        "reconcile",
        None,
        "webhooks rotate",
        "waiting",
    )
    assert before + 900 <= run["not_before"] <= time.time() + 900
    mine.command(
        "backfill", "--all"
    )  # asked for later, and done: the reader has seen the other one
    assert mine.runs()[run_id]["state"] == "waiting"
    assert "waiting until " in mine.command("runs")
    mine.kafka.produce(
        "reader.runs", [(run_id.encode(), json.dumps(run | {"not_before": before}).encode())]
    )
    wait_until(lambda: mine.runs()[run_id]["state"] == "done", "its moment has come", 60)
