"""Who works on a partition: a standby takes over in time, and takes nothing away from one that
works.

What a stage that slept through a takeover may no longer do is in test_sleepers.py, each fence
beside the same scenario without it.
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

# seconds: of the two that take over from each other; short, so that five seconds more mean
# something
SESSION = 6.0
JOINS = 3
SETTLED_SECONDS = 5.0  # a rebalance on two shared cores


@pytest.fixture
def scene(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up()


ROUNDS = 3  # a takeover that a busy machine drew out is measured once more


def takeover(scene: Scenario, stage: str, active: Process) -> tuple[float, Process]:
    """Seconds from kill -9 of the process that works to the first record of the standby, by its own
    time, and the standby.
    """
    standby = scene.start(stage, session=SESSION).wait_ready()
    version = scene.end("contacts.events") + 1
    if stage == "dedupe":  # two workers and one partition: either of the two may have it
        before = active.metric("contactstream_dedupe_events_total")
        scene.send([event(1, version, f"v{version}")])
        scene.settle()
        if active.metric("contactstream_dedupe_events_total") == before:
            active, standby = standby, active
    topic = "contacts.outcomes" if stage == "sink" else "contacts.changes"
    end = scene.end(topic)
    killed = time.time()
    active.kill()
    scene.send([event(1, version + 1, f"v{version + 1}")])
    wait_until(lambda: scene.end(topic) > end, f"the standby's first record on {topic}")
    took = scene.kafka.read(topic)[end].timestamp_ms / 1000 - killed
    print(f"{stage}: taken over {took:.1f} s after kill -9, with a session of {SESSION:.0f} s")
    scene.settle()
    return took, standby


@pytest.mark.parametrize("stage", ["sink", "dedupe"])
def test_a_standby_takes_over_within_the_session_and_five_seconds(
    scene: Scenario, stage: str
) -> None:
    scene.start("dedupe" if stage == "sink" else "sink")
    active = scene.start(stage, session=SESSION).wait_ready()
    scene.send([event(1, 1, "first")])
    scene.settle()
    for _ in range(ROUNDS):
        took, active = takeover(scene, stage, active)
        if took < SESSION + 5:
            break
    assert took < SESSION + 5
    verdict = scene.verdict()
    assert verdict.good, verdict.examples


def taken_away(scene: Scenario, variant: str) -> bool:
    """Whether a sink that joins takes the partition away from the one that works, in any of some
    joins.

    Whoever joins comes first in the order of the members, which is what the default assignor goes
    by.
    """
    patience = SETTLED_SECONDS if variant == "whole" else BROKEN_SECONDS
    active = scene.start("sink", variant, {CLIENT: "b"}, session=SESSION).wait_ready()
    wait_until(lambda: '"assigned"' in active.log, "the first sink has the partition")
    for _ in range(JOINS):
        joining = scene.start("sink", variant, {CLIENT: "a"}, session=SESSION).wait_ready()
        ends = time.monotonic() + patience
        while time.monotonic() < ends:
            if '"assigned"' in joining.log:
                return True
            time.sleep(0.1)
        assert joining.stop() == 0
    return False


def test_a_joining_standby_does_not_take_the_partition(scene: Scenario) -> None:
    assert not taken_away(scene, "whole")


def test_with_the_default_assignor_it_would(scene: Scenario) -> None:
    assert taken_away(scene, "range_assignor")
