"""Who works on a partition: a standby takes over in time, and takes nothing away from one that works.

What a stage that slept through a takeover may no longer do is in test_variants.py, each fence beside the same scenario without it.
"""

import time
from pathlib import Path

import pytest

from tests.faults.scene import Scene, event
from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

JOINS = 6  # the default assignor takes the partition away in about half of them
SETTLED_SECONDS = 5.0  # a rebalance on two shared cores


@pytest.fixture
def scene(kafka: Kafka, processes: Processes, tmp_path: Path) -> Scene:
    return Scene(kafka, processes, tmp_path).set_up()


@pytest.mark.parametrize("stage", ["sink", "dedupe"])
def test_a_standby_takes_over_within_the_session_and_five_seconds(scene: Scene, stage: str) -> None:
    scene.session = 6.0
    other = "dedupe" if stage == "sink" else "sink"
    scene.start(other)
    active = scene.start(stage).wait_ready()
    scene.send([event(1, 1, "first")])
    scene.settle()
    standby = scene.start(stage).wait_ready()
    if stage == "dedupe":  # a group of two workers and one partition: whichever has none waits
        scene.send([event(1, 2, "second")])
        scene.settle()
        if active.metric("contactstream_dedupe_events_total") == 1:
            active, standby = standby, active
    topic = "contacts.outcomes" if stage == "sink" else "contacts.changes"
    before = scene.end(topic)
    killed = time.monotonic()
    active.kill()
    scene.send([event(1, 3, "third")])
    wait_until(lambda: scene.end(topic) > before, f"the standby's first record on {topic}", scene.session + 5)
    took = time.monotonic() - killed
    print(f"{stage}: taken over {took:.1f} s after kill -9, with a session of {scene.session:.0f} s")
    assert took < scene.session + 5
    assert standby.exit_code is None
    scene.settle()
    verdict = scene.verdict()
    assert verdict.good, verdict.examples


def taken_away(scene: Scene, variant: str) -> bool:
    """Whether a sink that joins takes the partition away from the one that works, in any of some joins."""
    active = scene.start("sink", variant).wait_ready()
    wait_until(lambda: '"assigned"' in active.log, "the first sink has the partition")
    for _ in range(JOINS):
        joining = scene.start("sink", variant).wait_ready()
        ends = time.monotonic() + SETTLED_SECONDS
        while time.monotonic() < ends:
            if '"assigned"' in joining.log:
                return True
            time.sleep(0.1)
        assert joining.stop() == 0
    return False


def test_a_joining_standby_does_not_take_the_partition(scene: Scene) -> None:
    assert not taken_away(scene, "whole")


def test_with_the_default_assignor_it_would(scene: Scene) -> None:
    assert taken_away(scene, "range_assignor")
