"""What a storm is made of: the schedule, the processes that are kept running, the clock that jumps,
the report that does not flatter.
"""

import asyncio
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from streams.runtime.exit_codes import ExitCode
from tests.faults.harness import supervisor
from tests.faults.harness.load import Book, notifications
from tests.faults.harness.schedule import Fault, first_pass, schedule
from tests.faults.harness.storm import EXPECTED_EXITS, LEAST_KILLS, Report, Storm, restart
from tests.faults.harness.supervisor import Replica, Supervisor
from tests.faults.harness.verifier import Verdict
from tests.support.paths import ROOT
from tests.support.waiting import until

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def replica(folder: Path, *command: str) -> Replica:
    return Replica("stage", 0, list(command), {}, folder / "log", folder / "clock", 0)


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_goes_through_every_fault_before_it_repeats_itself(seed: int) -> None:
    steps = schedule(seed, 300.0, 4.0)
    first = [step for step in steps if step.first]
    assert Counter((step.fault, step.target) for step in first) == Counter(first_pass())
    assert [step.first for step in steps] == sorted((step.first for step in steps), reverse=True)
    faults = [step.fault for step in first]
    assert faults.index(Fault.JOIN) < faults.index(Fault.LEAVE)
    assert steps == schedule(seed, 300.0, 4.0)


def test_a_cluster_is_spared_what_only_a_proxy_can_do() -> None:
    faults = {fault for fault, _ in first_pass(proxy=False)}
    assert faults == set(Fault) - {Fault.BLACK_HOLE, Fault.DELAY, Fault.RESET}


def good_report(storm: Storm) -> Report:
    faults = Counter(step.name for step in schedule(1, 0.0, 4.0) if step.first)
    return Report(storm, Verdict(), faults, LEAST_KILLS, {}, 1, 1, 1, 0, Counter(), {}, {}, 1.0, 0)


def test_a_report_is_good_only_when_everything_was_done() -> None:
    good = good_report(Storm(1))
    assert good.good, good.text()
    few = replace(good, kills=LEAST_KILLS - 1)
    never = replace(
        good, faults=Counter({name: 1 for name in good.faults if name != "connections delayed"})
    )
    assert not few.good
    assert not never.good
    assert "MISSING     connections delayed" in never.text()
    assert replace(never, storm=Storm(1, whole=False)).good
    assert not replace(good, overstayed=1).good
    assert not replace(good, unexpected=["sink ended 1 times with 1"]).good


@pytest.mark.parametrize(
    "code",
    [
        1,
        ExitCode.UNEXPECTED_ERROR,
        ExitCode.RECORDS_MISSING,
        ExitCode.OFFSET_OUT_OF_RANGE,
        ExitCode.STOP_OVERDUE,
        -11,
    ],
)
def test_an_end_that_says_that_something_is_missing_is_not_expected(code: int) -> None:
    assert code not in EXPECTED_EXITS


def test_the_same_seed_makes_the_same_load() -> None:
    load = notifications(3, 60, 30)
    assert load == notifications(3, 60, 30)
    assert load != notifications(4, 60, 30)
    one, other = Book(3, 40), Book(3, 40)
    assert [one.change() for _ in range(20)] == [other.change() for _ in range(20)]
    assert one.truth == other.truth
    assert 0 < len(one.truth) < 40, "some are gone"


async def test_a_process_that_is_being_made_when_the_end_comes_is_ended_too(tmp_path: Path) -> None:
    one = replica(tmp_path, "sleep", "600")
    one.begin()
    await asyncio.sleep(0)
    assert one.process is None
    await one.end()
    assert one.exits == {-15: 1}
    assert one.overstayed == 0


async def test_a_process_that_outlasts_its_grace_period_is_killed_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.2)
    one = replica(tmp_path, sys.executable, "-c", STUBBORN)
    one.begin()
    await until(lambda: one.log.exists() and "up" in one.log.read_text(), "it is up")
    assert one.terminate()
    assert not one.terminate(), "it is ending already"
    await until(lambda: one.exits == {-9: 1}, "it is killed")
    assert one.overstayed == 1
    await one.end()


async def test_a_frozen_process_is_not_asked_to_end(tmp_path: Path) -> None:
    one = replica(tmp_path, "sleep", "600")
    one.begin()
    await until(lambda: one.process is not None, "it is up")
    assert one.freeze()
    assert not one.terminate()
    one.thaw()
    await one.end()
    assert one.exits == {-15: 1}


async def test_a_rolling_restart_does_not_wait_for_a_worker_that_has_left(tmp_path: Path) -> None:
    stages = Supervisor(tmp_path, {})
    stays, left = replica(tmp_path, "sleep", "600"), replica(tmp_path, "sleep", "600")
    stages.replicas += [stays, left]
    for one in stages.replicas:
        one.begin()
    await until(lambda: stays.process and left.process, "they are up")
    stages.replicas.remove(left)
    await left.end()
    kills: list[bool] = []

    def noted(killed: bool) -> bool:
        kills.append(killed)
        return killed

    await asyncio.wait_for(restart(left, stages, noted), 10)
    assert kills == []
    again = asyncio.create_task(restart(stays, stages, noted))
    await until(lambda: stays.exits == {-15: 1}, "the other one is restarted")
    again.cancel()
    assert kills == [True]
    await stays.end()


def test_a_clock_is_as_wrong_as_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    file.write_text("-172800")
    script = (
        "import sys, time; from tests.faults import shifted; sys.argv = ['shifted', sys.argv[1], '--help']\n"
        "try: shifted.main()\n"
        "except SystemExit: pass\n"
        "print(time.time() - shifted._time(), time.time_ns() // 10**9 - int(shifted._time()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    seconds, nanoseconds = done.stdout.splitlines()[-1].split()
    assert float(seconds) == pytest.approx(-172_800, abs=60)
    assert int(nanoseconds) == pytest.approx(-172_800, abs=60)
