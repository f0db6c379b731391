"""The dedupe stage is killed, joined, left and paused in the middle of its work; every event is accounted for."""

import sys
from pathlib import Path

import pytest

from streams.fences import Exit
from tests.support.dedupe_load import (
    Load,
    account,
    changes_end,
    committed,
    create_topics,
    environ,
    event,
    rounds,
    wait_changes,
    wait_done,
)
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

PARTITIONS = 4
SESSION = 4.0  # seconds: what a takeover after kill -9 waits for
WEBHOOK: list[tuple[str, str | bytes | None]] = [("origin", b"webhook")]


def start(processes: Processes, kafka: Kafka) -> Process:
    return processes.start("dedupe", environ=environ(kafka, PARTITIONS, SESSION))


def start_variant(processes: Processes, kafka: Kafka, variant: str, flag: Path) -> Process:
    """A variant of the stage; `flag` appears in the middle of its first batch."""
    command = (sys.executable, "-m", "tests.support.dedupe_variant")
    given = environ(kafka, PARTITIONS, SESSION)
    return processes.start(variant, str(flag), command=command, environ=given)


def in_the_middle(flag: Path) -> None:
    wait_until(flag.exists, "the stage is in the middle of a batch", 60.0)


def test_every_event_is_accounted_for_when_the_worker_is_killed_while_5000_flow(
    kafka: Kafka, processes: Processes
) -> None:
    contacts, versions = 500, 9
    create_topics(kafka, PARTITIONS)
    with Load(kafka, rounds(contacts, versions), rate=300) as load:
        assert load.sent > 5000
        for _ in range(3):
            worker = start(processes, kafka).wait_ready()
            wait_changes(kafka, changes_end(kafka) + 200)
            worker.kill()
        start(processes, kafka).wait_ready()
    wait_done(kafka, PARTITIONS, load.sent)
    found = account(kafka.read("contacts.changes"))
    assert found.missing(contacts, versions) == []
    assert found.not_last(versions) == []
    assert kafka.read("contacts.dead-letter") == []


def test_nothing_is_missing_after_workers_joined_and_left_under_load(kafka: Kafka, processes: Processes) -> None:
    contacts, versions = 2000, 12
    create_topics(kafka, PARTITIONS)
    first = start(processes, kafka).wait_ready()
    with Load(kafka, rounds(contacts, versions), rate=1000) as load:
        for how in ("stop", "kill", "stop"):
            other = start(processes, kafka).wait_ready()
            before = changes_end(kafka)
            wait_changes(kafka, before + 300)
            if how == "kill":
                other.kill()
            else:
                assert other.stop(25.0) == 0
        last = start(processes, kafka).wait_ready()
        assert first.stop(25.0) == 0
    wait_done(kafka, PARTITIONS, load.sent)
    assert last.exit_code is None, "no worker ended itself"
    found = account(kafka.read("contacts.changes"))
    assert found.missing(contacts, versions) == []
    assert found.not_last(versions) == []


def zombie(kafka: Kafka, processes: Processes, variant: str, flag: Path) -> tuple[Process, list[int]]:
    """A worker is stopped in the middle of a batch of version 4, another takes over and forwards 5, then the first wakes up.

    Returns the first worker, ended or not, and the contact's versions in contacts.changes in their order.
    """
    create_topics(kafka, PARTITIONS)
    paused = start_variant(processes, kafka, variant, flag).wait_ready()
    kafka.produce("contacts.events", [event(1, 4)], WEBHOOK)
    in_the_middle(flag)
    paused.pause()
    kafka.produce("contacts.events", [event(1, 5)], WEBHOOK)
    other = start(processes, kafka).wait_ready(90.0)
    wait_done(kafka, PARTITIONS, 2)
    paused.resume()
    wait_until(lambda: paused.exit_code is not None or changes_end(kafka) > 2, "the first worker wrote or died", 20.0)
    assert other.exit_code is None
    return paused, account(kafka.read("contacts.changes")).versions[b"g1/c1"]


def test_a_worker_that_wakes_up_after_a_takeover_writes_nothing(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    paused, versions = zombie(kafka, processes, "slow", tmp_path / "flag")
    assert versions == [4, 5]
    assert paused.exit_code in (Exit.STOOD_STILL, Exit.NO_HEARTBEAT)


def test_without_its_fences_a_worker_that_wakes_up_writes_an_older_version_last(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    _, versions = zombie(kafka, processes, "unfenced", tmp_path / "flag")
    assert versions == [4, 5, 4]


@pytest.mark.parametrize(("variant", "lost"), [("slow", []), ("table_first", [(1, 4)])])
def test_a_crash_in_the_middle_of_a_batch_loses_only_what_was_remembered_too_early(
    kafka: Kafka, processes: Processes, tmp_path: Path, variant: str, lost: list[tuple[int, int]]
) -> None:
    create_topics(kafka, PARTITIONS)
    worker = start_variant(processes, kafka, variant, tmp_path / "flag").wait_ready()
    kafka.produce("contacts.events", [event(1, 4)], WEBHOOK)
    in_the_middle(tmp_path / "flag")
    worker.kill()
    start(processes, kafka).wait_ready()
    wait_done(kafka, PARTITIONS, 1)
    found = account(kafka.read("contacts.changes")).versions[b"g1/c1"]
    assert [(1, version) for version in (4,) if version not in found] == lost


def test_a_batch_that_is_acknowledged_before_it_is_done_is_lost_with_the_process(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    create_topics(kafka, PARTITIONS)
    worker = start_variant(processes, kafka, "acknowledge_first", tmp_path / "flag").wait_ready()
    kafka.produce("contacts.events", [event(1, 4), event(1, 5)], WEBHOOK)
    in_the_middle(tmp_path / "flag")
    kafka.produce("contacts.events", [event(2, 4)], WEBHOOK)
    wait_until(lambda: sum(each for each in committed(kafka, PARTITIONS).values() if each > 0) > 0, "it commits", 30.0)
    worker.kill()
    start(processes, kafka).wait_ready()
    wait_done(kafka, PARTITIONS, 3)
    assert account(kafka.read("contacts.changes")).versions[b"g1/c1"] == []
