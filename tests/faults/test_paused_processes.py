"""A process is paused in the middle of a batch for longer than its session, and then goes on.

Shows each fence that stops it, and the damage without any fence.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.evidence import Verdict
from tests.faults.harness.scenario import (
    BROKEN_SECONDS,
    PAUSED_SESSION_SECONDS,
    Scenario,
    event,
    wait_for_violation,
)
from tests.faults.harness.variants import LINGER
from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system]

CONTACTS = 10
# Records wait in the producer for almost its delivery time-out, which is half of the session: a
# busy machine may take so long to pause the worker.
UNSENT_SESSION, UNSENT_LINGER_MS = 14.0, "6900"
LINGER_MS = "2900"


@pytest.fixture
def scenario(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one


def dedupe_is_paused(scenario: Scenario, variant: str, moment: str) -> tuple[Verdict, int | None]:
    """A worker is paused in the middle of a batch until another has taken over, and then goes on.

    Without fences it would write its output, and overwrite the table's newer entry. That shows when
    the contact becomes again as it was in that batch: the event then counts as a duplicate of the
    wrong entry. Returns the verdict, and the worker's exit code (None if it did not end).
    """
    scenario.set_up()
    scenario.start("sink")
    session, linger = (
        (UNSENT_SESSION, UNSENT_LINGER_MS)
        if moment == "unsent"
        else (PAUSED_SESSION_SECONDS, LINGER_MS)
    )
    paused = scenario.start("dedupe", variant, {LINGER: linger}, session=session)
    scenario.send([event(number, 1, "first") for number in range(CONTACTS)])
    scenario.wait_committed("dedupe", "contacts.events", CONTACTS)
    scenario.hold(moment)
    scenario.send([event(number, 2, "second") for number in range(CONTACTS)])
    scenario.wait_reached(moment)
    paused.pause()
    scenario.release(moment)
    successor = scenario.start("dedupe", variant)
    scenario.send([event(number, 3, "third") for number in range(CONTACTS)])
    scenario.wait_committed("dedupe", "contacts.events", 3 * CONTACTS)
    assert scenario.end("contacts.changes") == 3 * CONTACTS, (
        "the paused worker had sent its outputs before it was paused"
    )
    written = scenario.end("contactstream-dedupe-seen-changelog")
    # Otherwise it goes on with the events of the successor, and mends the table again.
    scenario.hold("done")
    paused.resume()
    wait_until(
        lambda: (
            paused.exit_code is not None
            or scenario.end("contactstream-dedupe-seen-changelog") > written
        ),
        "the paused worker ends itself, or writes what it must not",
        BROKEN_SECONDS,
    )
    ended = paused.exit_code
    paused.kill()
    successor.stop()
    scenario.release("done")
    scenario.start("dedupe", variant)
    scenario.send([event(number, 4, "second") for number in range(CONTACTS)])
    scenario.wait_until_idle()
    return scenario.verdict(), ended


def sink_is_paused(scenario: Scenario, variant: str) -> Verdict:
    """A sink is paused between its query and its write.

    It goes on when the standby has taken over.
    """
    scenario.set_up()
    scenario.start("dedupe")
    paused = scenario.start("sink", variant, session=PAUSED_SESSION_SECONDS)
    scenario.send([event(number, 1, "first") for number in range(CONTACTS)])
    scenario.wait_until_idle()
    scenario.hold("before_write")
    scenario.send([event(number, 2, "second") for number in range(CONTACTS)])
    scenario.wait_reached("before_write")
    paused.pause()
    scenario.release("before_write")
    scenario.start("sink", variant)
    scenario.send([event(number, 3, "third") for number in range(CONTACTS)])
    scenario.wait_until_idle()
    written = scenario.org_state()["rows"]
    paused.resume()
    wait_until(
        lambda: "lost" in paused.log or "revoked" in paused.log,
        "the paused sink learns that it lost the partition",
        30.0,
    )
    wait_for_violation(lambda: scenario.org_state()["rows"] != written, variant)
    return scenario.verdict()


@pytest.mark.storm
def test_a_paused_dedupe_worker_without_fences_is_noticed(scenario: Scenario) -> None:
    verdict, ended = dedupe_is_paused(scenario, "no_fences", "before_outputs")
    assert ended is None
    assert "change_differs" in verdict.violations


def test_a_paused_dedupe_worker_ends_itself(scenario: Scenario) -> None:
    verdict, ended = dedupe_is_paused(scenario, "whole", "before_outputs")
    assert ended in (ExitCode.PAUSED_TOO_LONG, ExitCode.NO_HEARTBEAT)
    assert verdict.good, verdict.examples


@pytest.mark.storm
def test_late_records_of_a_producer_without_fences_are_noticed(scenario: Scenario) -> None:
    verdict, ended = dedupe_is_paused(scenario, "no_fences", "unsent")
    assert ended is None
    assert "change_differs" in verdict.violations


def test_the_delivery_timeout_alone_stops_late_records_of_a_producer(
    scenario: Scenario,
) -> None:
    verdict, ended = dedupe_is_paused(scenario, "no_watchdog", "unsent")
    assert ended == ExitCode.NOT_ACKNOWLEDGED
    assert verdict.good, verdict.examples


@pytest.mark.storm
def test_a_paused_sink_without_fences_is_noticed(scenario: Scenario) -> None:
    scenario.version_rule = False
    assert "went_backwards" in sink_is_paused(scenario, "no_fences").violations


def test_a_paused_sink_writes_nothing_after_a_takeover(
    scenario: Scenario,
) -> None:
    scenario.version_rule = False
    verdict = sink_is_paused(scenario, "whole")
    assert verdict.good, verdict.examples


def test_the_orgs_rule_refuses_the_writes_of_a_paused_sink_without_fences(
    scenario: Scenario,
) -> None:
    verdict = sink_is_paused(scenario, "no_fences")
    assert verdict.good, verdict.examples
