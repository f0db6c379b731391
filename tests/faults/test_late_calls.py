"""Calls that Salesforce applies long after the sink that sent them was killed.

Nothing that they do may go back in time, whoever writes meanwhile.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness.evidence import Verdict
from tests.faults.harness.scenario import PAUSED_SESSION_SECONDS, REACH_SECONDS, Scenario, change
from tests.faults.harness.scenario import event as made
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

# Two takeovers, and a call that outlives both.
pytestmark = [pytest.mark.kafka, pytest.mark.storm, pytest.mark.timeout(600)]

# Two sessions and two group joins on shared cores. The org has ended every call a little later.
LATE_SECONDS = 30.0
# For the simulator to do the work of the call.
APPLIED_SECONDS = 1.0
ENVIRON = {"SALESFORCE_LONGEST_CALL": "33"}


@pytest.fixture
def scenario(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up()


def write(scenario: Scenario, version: int, title: str, *, deleted: bool = False) -> None:
    """A change of a contact, and the event that dedupe would have made it from."""
    kind = "contact.deleted" if deleted else "contact.updated"
    scenario.send([made(1, version, title, kind=kind)])
    record, headers = change(1, version, title)
    if deleted:
        headers = [("kind", b"deleted"), *headers[1:]]
    scenario.kafka.produce("contacts.changes", [record], headers)


def outlived(scenario: Scenario, variant: str) -> Verdict:
    """A contact's creation outlives two sinks, and comes after the contact was deleted."""
    late = {"effect": "delay", "kind": "composite_write", "seconds": LATE_SECONDS, "times": 1}
    scenario.control_org("/_sim/faults", {"faults": [late]})

    def start() -> Process:
        return scenario.start("sink", variant, ENVIRON, session=PAUSED_SESSION_SECONDS).wait_ready()

    writer, standby = start(), start()
    write(scenario, 1, "first")
    wait_until(lambda: scenario.org_state()["faults"].get("delay"), "the call is sent", 60.0)
    applied = time.monotonic() + LATE_SECONDS
    writer.kill()
    third = start()
    scenario.wait_committed("sink", "contacts.changes", 1)
    standby.kill()
    write(scenario, 9, "gone", deleted=True)
    wait_until(lambda: "assigned" in third.log, "the third sink has taken over", REACH_SECONDS)
    assert time.monotonic() < applied, "the call has outlived both"
    scenario.wait_committed("sink", "contacts.changes", 2)
    wait_until(lambda: time.monotonic() > applied + APPLIED_SECONDS, "it is applied", REACH_SECONDS)
    assert third.exit_code is None
    return scenario.verdict()


def test_a_creation_that_outlives_two_sinks_makes_no_second_record(scenario: Scenario) -> None:
    verdict = outlived(scenario, "whole")
    assert verdict.good, verdict.examples


def test_without_the_wait_the_deleted_contact_comes_back(scenario: Scenario) -> None:
    assert "org_differs" in outlived(scenario, "no_wait").violations
