"""Poison in dedupe's changelog, the one topic into which a storm writes none.

An entry of a contact that dedupe cannot read ends it, with an error.
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
    scenario = Scenario(kafka, processes, tmp_path).set_up(org=False)
    kafka.produce(CHANGELOG, [(f"{GRANT}/c1".encode(), b"\xff" * 50)])
    scenario.send([event(1, 1, "first")])
    worker = scenario.start("dedupe")
    assert worker.popen.wait(REACH_SECONDS) == ExitCode.UNREADABLE_STATE, worker.log[-3000:]
    assert scenario.end("contacts.changes") == 0
    assert not sum(scenario.committed("dedupe", "contacts.events").values()), (
        "the event stays for a worker that can read the table"
    )


def test_an_entry_without_a_contact_is_skipped(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    scenario = Scenario(kafka, processes, tmp_path).set_up(org=False)
    kafka.produce(CHANGELOG, [(b"poison", b"\xff"), (b"\xff", b"[" * 50)])
    scenario.send([event(1, 1, "first")])
    worker = scenario.start("dedupe")
    scenario.wait_committed("dedupe", "contacts.events", 1)
    assert scenario.end("contacts.changes") == 1
    assert worker.exit_code is None
