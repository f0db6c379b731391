"""Which process owns a partition: a standby takes over in time, and not from an active process.

test_paused_processes.py shows what a process that was paused during a takeover may no longer do.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness.scenario import BROKEN_SECONDS, Scenario, event
from tests.faults.harness.variants import CLIENT
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

# Of the two processes that take over from each other. Short, so that a takeover that is five
# seconds late shows.
SESSION_SECONDS = 6.0
JOINS = 3
REBALANCE_SECONDS = 5.0  # a rebalance on two shared cores
ROUNDS = 3  # a takeover that took long on a busy machine is measured again


@pytest.fixture
def scenario(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up()


def takeover(scenario: Scenario, stage: str, active: Process) -> tuple[float, Process]:
    """Kills the active process; returns how long the takeover took in seconds, and the standby.

    The takeover ends with the standby's first record, by the record's own time.
    """
    standby = scenario.start(stage, session=SESSION_SECONDS).wait_ready()
    version = scenario.end("contacts.events") + 1
    if stage == "dedupe":  # two workers and one partition: either of the two may have it
        before = active.metric("contactstream_dedupe_events_total")
        scenario.send([event(1, version, f"v{version}")])
        scenario.wait_until_idle()
        if active.metric("contactstream_dedupe_events_total") == before:
            active, standby = standby, active
    topic = "contacts.outcomes" if stage == "sink" else "contacts.changes"
    before = scenario.records(topic)
    killed = time.time()
    active.kill()
    scenario.send([event(1, version + 1, f"v{version + 1}")])
    wait_until(lambda: scenario.records(topic) > before, f"the standby's first record on {topic}")
    took = scenario.kafka.read(topic)[before].timestamp_ms / 1000 - killed
    print(
        f"{stage}: taken over {took:.1f} s after kill -9, with a session of {SESSION_SECONDS:.0f} s"
    )
    scenario.wait_until_idle()
    return took, standby


@pytest.mark.parametrize("stage", ["sink", "dedupe"])
def test_a_standby_takes_over_within_the_session_and_five_seconds(
    scenario: Scenario, stage: str
) -> None:
    scenario.start("dedupe" if stage == "sink" else "sink")
    active = scenario.start(stage, session=SESSION_SECONDS).wait_ready()
    scenario.send([event(1, 1, "first")])
    scenario.wait_until_idle()
    for _ in range(ROUNDS):
        took, active = takeover(scenario, stage, active)
        if took < SESSION_SECONDS + 5:
            break
    assert took < SESSION_SECONDS + 5
    verdict = scenario.verdict()
    assert verdict.good, verdict.examples


def taken_away(scenario: Scenario, variant: str) -> bool:
    """Whether a sink that joins takes the partition from the active one, in any of some joins.

    The joining sink comes first in the order of the members, which the default assignor follows.
    """
    patience = REBALANCE_SECONDS if variant == "whole" else BROKEN_SECONDS
    active = scenario.start("sink", variant, {CLIENT: "b"}, session=SESSION_SECONDS).wait_ready()
    wait_until(lambda: '"assigned"' in active.log, "the first sink has the partition")
    for _ in range(JOINS):
        joining = scenario.start(
            "sink", variant, {CLIENT: "a"}, session=SESSION_SECONDS
        ).wait_ready()
        ends = time.monotonic() + patience
        while time.monotonic() < ends:
            if '"assigned"' in joining.log:
                return True
            time.sleep(0.1)
        assert joining.stop() == 0
    return False


def test_a_joining_standby_does_not_take_the_partition(scenario: Scenario) -> None:
    assert not taken_away(scenario, "whole")


def test_with_the_default_assignor_a_joining_standby_takes_the_partition(
    scenario: Scenario,
) -> None:
    assert taken_away(scenario, "range_assignor")
