"""The parts of a storm: its schedule, its supervisor, the shifted clock, and its report."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.runtime.exit_codes import ExitCode
from tests.faults.harness import nylas_faults, salesforce_faults, supervisor
from tests.faults.harness.evidence import Verdict
from tests.faults.harness.load import AddressBook, notifications
from tests.faults.harness.log_files import CONTROL, cut, find_end
from tests.faults.harness.process_faults import CLOCK_JUMPS, restart
from tests.faults.harness.report import EXPECTED_EXITS, MIN_KILLS, Report, unexpected_exits
from tests.faults.harness.schedule import (
    CLUSTER_FAULTS,
    EARLY_FAULTS,
    LAST_FAULTS,
    ONE_NODE_FAULTS,
    TARGETS,
    Fault,
    fault_name,
    first_pass,
    schedule,
)
from tests.faults.harness.settings import StormSettings
from tests.faults.harness.supervisor import Replica, Supervisor
from tests.faults.harness.topic_faults import GROWN, LIMITS
from tests.support.paths import ROOT
from tests.support.waiting import until

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
time.sleep(600)
"""


def replica(folder: Path, *command: str) -> Replica:
    return Replica("stage", 0, list(command), {}, folder / "log", folder / "clock", 0)


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_goes_through_every_fault_before_it_repeats_itself(seed: int) -> None:
    steps = schedule(seed, 300.0, 4.0)
    first = [step for step in steps if step.in_first_pass]
    wanted = [one for one in first_pass() if one[0] not in LAST_FAULTS]
    assert Counter((step.fault, step.target) for step in first) == Counter(wanted)
    assert [step.in_first_pass for step in steps] == sorted(
        (step.in_first_pass for step in steps), reverse=True
    )
    faults = [step.fault for step in first]
    assert faults.index(Fault.JOIN) < faults.index(Fault.LEAVE)
    assert steps == schedule(seed, 300.0, 4.0)


def test_every_fault_comes_in_a_storm_of_one_broker_or_of_three() -> None:
    one, three = ({fault for fault, _ in first_pass(nodes=nodes)} for nodes in (1, 3))
    assert one | three == set(Fault)
    assert one - three == set(ONE_NODE_FAULTS)
    assert three - one == set(CLUSTER_FAULTS)


@pytest.mark.parametrize("seed", range(20))
def test_what_the_load_makes_good_comes_early(seed: int) -> None:
    faults = [step.fault for step in schedule(seed, 300.0, 4.0) if step.in_first_pass]
    assert all(faults.index(fault) <= len(faults) / 4 for fault in EARLY_FAULTS)


def test_every_target_has_its_fault() -> None:
    several = {salesforce_faults.SEVERAL_AT_ONCE}
    assert set(TARGETS[Fault.ORG]) == salesforce_faults.FAULTS.keys() | several
    assert set(TARGETS[Fault.NYLAS]) == nylas_faults.FAULTS.keys()
    assert set(TARGETS[Fault.CLOCK]) == CLOCK_JUMPS.keys()
    assert set(TARGETS[Fault.LIMIT]) == LIMITS.keys()
    assert set(TARGETS[Fault.GROW]) == GROWN.keys()


def batch(base_offset: int, keys: Sequence[str], **options: Any) -> bytes:
    """A record batch as a broker stores it."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=options.get("transactional", 0),
        producer_id=options.get("producer", 1),
        producer_epoch=0,
        base_sequence=0,
        batch_size=10_000,
    )
    for number, key in enumerate(keys):
        builder.append(number, 1000, key.encode(), b"{}", [])
    made = bytearray(builder.build())
    made[:8] = base_offset.to_bytes(8, "big")
    if options.get("control"):
        made[22] |= CONTROL
    return bytes(made)


def keys_at_the_end(folder: Path, *written: bytes) -> list[str] | None:
    (folder / "0.log").write_bytes(b"".join(written))
    end = find_end(folder)
    return None if end is None else [record.key for record in end.records]


def test_the_end_of_a_log_is_its_last_batch_or_its_last_transactions(tmp_path: Path) -> None:
    plain = [batch(0, ["a"]), batch(1, ["b", "c"]), batch(3, ["d"])]
    assert keys_at_the_end(tmp_path, *plain) == ["d"]
    assert keys_at_the_end(tmp_path, *plain[:2], plain[2][:-1]) == ["b", "c"], "it is being written"
    assert keys_at_the_end(tmp_path, plain[0]) is None, "something stays"
    part, other = (batch(3, [key], transactional=1) for key in "ef")
    committed = batch(5, ["commit"], transactional=1, control=True)
    assert keys_at_the_end(tmp_path, *plain, part, other, committed) == ["e", "f"]
    assert keys_at_the_end(tmp_path, *plain, part, committed, other) == ["f"]


def test_a_log_is_cut_before_its_end(tmp_path: Path) -> None:
    keys_at_the_end(tmp_path, batch(0, ["a"]), batch(1, ["b"]))
    (tmp_path / "0.index").touch()
    end = find_end(tmp_path)
    assert end is not None
    assert [(record.offset, record.key) for record in end.records] == [(1, "b")]
    cut(end)
    assert (tmp_path / "0.log").read_bytes() == batch(0, ["a"])
    assert not (tmp_path / "0.index").exists(), "the broker makes it anew"


def good_report(settings: StormSettings) -> Report:
    faults = Counter(fault_name(*step) for step in first_pass())
    return Report(
        settings, Verdict(), faults, MIN_KILLS, {}, 1, 1, 1, 0, Counter(), Counter(), {}, {}, 1.0, 0
    )


def test_a_report_is_good_only_when_everything_was_done() -> None:
    good = good_report(StormSettings(1))
    assert good.good, good.text()
    few = replace(good, kills=MIN_KILLS - 1)
    never = replace(
        good, faults=Counter({name: 1 for name in good.faults if name != "connections delayed"})
    )
    assert not few.good
    assert not never.good
    assert "MISSING     connections delayed" in never.text()
    assert replace(never, settings=StormSettings(1, complete_first_pass=False)).good
    assert not replace(good, overdue=1).good
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
def test_an_exit_code_that_no_fault_explains_is_not_expected(code: int) -> None:
    assert code not in EXPECTED_EXITS


def test_a_fault_explains_only_its_own_exits() -> None:
    exits: dict[str, dict[int, int]] = {
        "sink": {0: 3, ExitCode.KAFKA_REFUSED: 1},
        "reader": {ExitCode.TOPIC_REPLACED: 2},
    }
    assert unexpected_exits(exits, {Fault.LOST_END, Fault.TOPIC_ANEW}) == []
    assert unexpected_exits(exits, {Fault.LOST_END}) == [
        "reader ended 2 times with 84 (topic_replaced)"
    ]
    assert unexpected_exits({"dedupe": {ExitCode.KAFKA_REFUSED: 1}}, {Fault.LOST_END}) != []


def test_the_same_seed_makes_the_same_load() -> None:
    load = notifications(3, 60, 30)
    assert load == notifications(3, 60, 30)
    assert load != notifications(4, 60, 30)
    one, other = AddressBook(3, 40), AddressBook(3, 40)
    assert [one.change() for _ in range(20)] == [other.change() for _ in range(20)]
    assert one.truth == other.truth
    assert 0 < len(one.truth) < 40, "some are gone"


async def test_a_process_that_is_being_started_is_ended_too(tmp_path: Path) -> None:
    one = replica(tmp_path, "sleep", "600")
    one.begin()
    await asyncio.sleep(0)
    assert one.process is None
    await one.end()
    assert one.exits == {-15: 1}
    assert one.overdue == 0


async def test_a_process_that_does_not_end_within_its_grace_period_is_killed_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.2)
    one = replica(tmp_path, sys.executable, "-c", IGNORES_SIGTERM)
    one.begin()
    await until(lambda: one.log.exists() and "up" in one.log.read_text(), "it is up")
    assert one.terminate()
    assert not one.terminate(), "it is ending already"
    await until(lambda: one.exits == {-9: 1}, "it is killed")
    assert one.overdue == 1
    await one.end()


async def test_a_frozen_process_gets_no_sigterm(tmp_path: Path) -> None:
    one = replica(tmp_path, "sleep", "600")
    one.begin()
    await until(lambda: one.process is not None, "it is up")
    assert one.freeze()
    assert not one.terminate()
    one.thaw()
    await one.end()
    assert one.exits == {-15: 1}


async def test_a_rolling_restart_does_not_wait_for_a_retired_worker(tmp_path: Path) -> None:
    stages = Supervisor(tmp_path, {})
    stays, leaves = replica(tmp_path, "sleep", "600"), replica(tmp_path, "sleep", "600")
    stages.replicas += [stays, leaves]
    for one in stages.replicas:
        one.begin()
    await until(lambda: stays.process and leaves.process, "they are up")
    await stages.retire(leaves)
    assert stages.retired == [leaves]
    kills: list[bool] = []

    def count_kill(sent: bool) -> bool:
        kills.append(sent)
        return sent

    await asyncio.wait_for(restart(leaves, stages, count_kill), 10)
    assert kills == []
    again = asyncio.create_task(restart(stays, stages, count_kill))
    await until(lambda: stays.exits == {-15: 1}, "the other one is restarted")
    again.cancel()
    assert kills == [True]
    await stays.end()


@pytest.mark.slow
def test_a_shifted_clock_is_ahead_by_what_the_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    file.write_text("-172800")
    script = (
        "import sys, time\n"
        "from tests.faults.harness import shifted_clock as clock\n"
        "sys.argv = ['shifted_clock', sys.argv[1], '--help']\n"
        "try: clock.main()\n"
        "except SystemExit: pass\n"
        "real = clock.real_time()\n"
        "print(time.time() - real, time.time_ns() // 10**9 - int(real))"
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
