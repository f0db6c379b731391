"""Poison in the one topic that a storm leaves out: an entry of its own changelog that dedupe cannot
read ends it, loudly.
"""

from pathlib import Path

import pytest

from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.load import GRANT
from tests.faults.harness.scenario import REACH_SECONDS, Scenario, event
from tests.support.kafka import Kafka
from tests.support.processes import Processes

pytestmark = pytest.mark.kafka

CHANGELOG = "contactstream-dedupe-seen-changelog"


def test_an_entry_of_a_contact_that_cannot_be_read_ends_dedupe(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    scene = Scenario(kafka, processes, tmp_path).set_up(org=False)
    kafka.produce(CHANGELOG, [(f"{GRANT}/c1".encode(), b"\xff" * 50)])
    scene.send([event(1, 1, "first")])
    worker = scene.start("dedupe")
    assert worker.popen.wait(REACH_SECONDS) == ExitCode.UNREADABLE_STATE, worker.log[-3000:]
    assert scene.end("contacts.changes") == 0
    assert not sum(scene.committed("dedupe", "contacts.events").values()), (
        "the event waits for who can read the table"
    )


def test_an_entry_of_nobody_is_passed_over(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    scene = Scenario(kafka, processes, tmp_path).set_up(org=False)
    kafka.produce(CHANGELOG, [(b"poison", b"\xff"), (b"\xff", b"[" * 50)])
    scene.send([event(1, 1, "first")])
    worker = scene.start("dedupe")
    scene.wait_committed("dedupe", "contacts.events", 1)
    assert scene.end("contacts.changes") == 1
    assert worker.exit_code is None
