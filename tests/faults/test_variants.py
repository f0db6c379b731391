"""Each promise broken on purpose is noticed by the verifier.

The verifier names the broken promise of a broken stage, and none when the stage is whole.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.broker import free_ports
from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.evidence import Verdict
from tests.faults.harness.load import BASE, contact, envelope
from tests.faults.harness.scenario import (
    BROKEN_SECONDS,
    Scenario,
    change,
    event,
    wait_for_violation,
)
from tests.faults.harness.variants import VARIANTS
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

CONTACTS = 10


@pytest.fixture
def scenario(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one


def has_committed(scenario: Scenario, stage: str, topic: str) -> Callable[[], bool]:
    """A check whether a stage has committed more than at its start."""
    return lambda: sum(scenario.committed(stage, topic).values()) > 0


def bridge_is_killed(scenario: Scenario, variant: str) -> Verdict:
    """kill -9 of a bridge that has taken notifications and has not published them yet.

    Nylas sends again what was not answered with 200.
    """
    scenario.set_up()
    (port,) = free_ports(1)
    scenario.start("dedupe")
    scenario.start("sink")
    bridge = scenario.start("bridge", variant, {"BRIDGE_LISTEN": f"127.0.0.1:{port}"}).wait_ready()
    bodies = {
        f"n{number}": envelope(f"n{number}", BASE + 1, contact(number, "first"), "contact.created")
        for number in range(CONTACTS)
    }
    scenario.hold("before_publish")
    with ThreadPoolExecutor(CONTACTS) as senders:
        sending = [
            senders.submit(scenario.notify, port, body, name) for name, body in bodies.items()
        ]
        scenario.wait_reached("before_publish")
        wait_for_violation(lambda: len(scenario.acknowledged) == CONTACTS, variant)
        bridge.kill()
        assert all(future.result() in (0, 200) for future in sending)
    scenario.release("before_publish")
    scenario.start("bridge", variant, {"BRIDGE_LISTEN": f"127.0.0.1:{port}"}).wait_ready()
    for name in bodies.keys() - set(scenario.acknowledged):
        assert scenario.notify(port, bodies[name], name) == 200
    wait_until(
        lambda: scenario.end("contacts.events") or variant != "whole",
        "the notifications are published",
    )
    scenario.wait_until_idle()
    return scenario.verdict()


def dedupe_is_killed(scenario: Scenario, variant: str) -> Verdict:
    """kill -9 of a dedupe worker that has published a batch's outputs and not yet its table."""
    scenario.set_up()
    scenario.send([event(number, 1, "first") for number in range(CONTACTS)])
    scenario.hold("between")
    scenario.start("sink")
    worker = scenario.start("dedupe", variant)
    scenario.wait_reached("between")
    worker.kill()
    scenario.release("between")
    scenario.start("dedupe", variant)
    scenario.wait_until_idle()
    return scenario.verdict()


def dedupe_is_killed_at_work(scenario: Scenario, variant: str) -> Verdict:
    """kill -9 of a dedupe worker that has decided upon a batch and published nothing of it."""
    scenario.set_up()
    scenario.send([event(number, 1, "first") for number in range(CONTACTS)])
    scenario.hold("before_outputs")
    scenario.start("sink")
    worker = scenario.start("dedupe", variant)
    scenario.wait_reached("before_outputs")
    wait_for_violation(has_committed(scenario, "dedupe", "contacts.events"), variant)
    scenario.sample()
    worker.kill()
    scenario.release("before_outputs")
    scenario.start("dedupe", variant)
    scenario.wait_until_idle()
    return scenario.verdict()


def sink_is_killed(scenario: Scenario, variant: str) -> Verdict:
    """kill -9 of a sink that has queried the org and not yet written."""
    scenario.set_up()
    scenario.send([event(number, 1, "first") for number in range(CONTACTS)])
    scenario.hold("before_write")
    scenario.start("dedupe")
    sink = scenario.start("sink", variant)
    scenario.wait_reached("before_write")
    wait_for_violation(has_committed(scenario, "sink", "contacts.changes"), variant)
    scenario.sample()
    sink.kill()
    scenario.release("before_write")
    scenario.start("sink", variant)
    scenario.wait_until_idle()
    return scenario.verdict()


def sink_is_killed_with_a_gap(scenario: Scenario, variant: str) -> Verdict:
    """kill -9 of a sink whose first batch hangs in the org while a later one is finished."""
    scenario.set_up()
    hang = {
        "effect": "hang",
        "kind": "composite_query",
        "contains": "storm1.example",
        "seconds": 30,
    }
    scenario.control_org("/_sim/faults", {"faults": [hang]})
    scenario.start("dedupe")
    sink = scenario.start("sink", variant)
    scenario.send([event(1, 1, "first")])
    wait_until(lambda: scenario.org_state()["faults"].get("hang"), "the first batch hangs", 60.0)
    scenario.send([event(number, 1, "first") for number in range(2, CONTACTS)])
    wait_until(
        lambda: scenario.records("contacts.outcomes") == CONTACTS - 2,
        "the second batch is finished",
    )
    wait_for_violation(has_committed(scenario, "sink", "contacts.changes"), variant)
    scenario.sample()
    sink.kill()
    scenario.start("sink", variant)
    scenario.wait_until_idle()
    return scenario.verdict()


def changes_come_out_of_order(scenario: Scenario, variant: str) -> Verdict:
    """The newer change of a contact before the older one, in one batch.

    Two dedupe workers, one after the other, may leave such a batch.
    """
    scenario.set_up()
    scenario.send([event(1, 1, "first"), event(1, 2, "second")])
    # Of what is there before a sink starts, it finds out the newest before any batch.
    sink = scenario.start("sink", variant, {"SINK_LINGER": "5"})
    wait_until(lambda: '"assigned"' in sink.log, "the sink has the partition", 60.0)
    for version, title in ((2, "second"), (1, "first")):
        record, headers = change(1, version, title)
        scenario.kafka.produce("contacts.changes", [record], headers)
    scenario.wait_committed("sink", "contacts.changes", 2)
    return scenario.verdict()


def a_stale_event_comes(scenario: Scenario, dedupe: str, sink: str = "whole") -> Verdict:
    """An event that is older than what the org has."""
    scenario.set_up()
    scenario.start("dedupe", dedupe)
    scenario.start("sink", sink)
    for version, title in ((2, "second"), (1, "first")):
        scenario.send([event(number, version, title) for number in range(CONTACTS)])
        scenario.wait_until_idle()
    return scenario.verdict()


def a_table_is_restored(scenario: Scenario, variant: str) -> Process:
    """A worker starts with a table to restore, and events come as soon as it is restored.

    Returns the worker, which still runs.
    """
    scenario.set_up()
    first = scenario.start("dedupe")
    scenario.start("sink")
    scenario.send([event(number, 1, "first") for number in range(CONTACTS)])
    scenario.wait_committed("dedupe", "contacts.events", CONTACTS)
    assert first.stop() == 0
    scenario.hold("sought")
    # So that a batch waits in Faust's queue: the agent has the one before.
    scenario.hold("before_plan")
    worker = scenario.start("dedupe", variant)
    scenario.wait_reached("sought")
    scenario.send([event(number, 1, "first") for number in range(CONTACTS, 2 * CONTACTS)])
    wait_for_violation(
        lambda: scenario.has_reached("dropped") or scenario.has_reached("queued_again"), variant
    )
    scenario.release("sought")
    # The queues have been cleared. An agent that went on before could save what is to be lost.
    worker.wait_ready()
    scenario.release("before_plan")
    scenario.send([event(number, 2, "second") for number in range(CONTACTS)])
    return worker


def events_come_at_the_end_of_a_recovery(scenario: Scenario, variant: str) -> Verdict:
    """Events come as soon as a table is restored, and each is committed afterwards."""
    a_table_is_restored(scenario, variant)
    scenario.wait_until_idle()
    return scenario.verdict()


OLDER_LAST = {"older_change_last"}
"""The violation in contacts.changes itself, where a test is about what the sink makes of it."""

SCENARIOS: dict[str, tuple[Callable[[Scenario, str], Verdict], str]] = {
    "acknowledge_first": (bridge_is_killed, "acknowledged_lost"),
    "table_first": (dedupe_is_killed, "change_differs"),
    "done_early": (dedupe_is_killed_at_work, "commit_ahead"),
    "commit_early": (sink_is_killed, "commit_ahead"),
    "commit_past_gap": (sink_is_killed_with_a_gap, "commit_ahead"),
    "last_offset_wins": (changes_come_out_of_order, "org_differs"),
    "first_window": (events_come_at_the_end_of_a_recovery, "change_differs"),
    "second_window": (events_come_at_the_end_of_a_recovery, "change_differs"),
    "open_windows": (events_come_at_the_end_of_a_recovery, "change_differs"),
}


@pytest.mark.storm  # they test the verifier, in minutes
@pytest.mark.parametrize("variant", SCENARIOS)
def test_a_broken_promise_is_noticed(scenario: Scenario, variant: str) -> None:
    play, violation = SCENARIOS[variant]
    verdict = play(scenario, variant)
    assert violation in verdict.violations, verdict.violations


@pytest.mark.parametrize("play", dict.fromkeys(play for play, _ in SCENARIOS.values()))
def test_a_stage_that_keeps_its_promise_breaks_none(
    scenario: Scenario, play: Callable[[Scenario, str], Verdict]
) -> None:
    verdict = play(scenario, "whole")
    allowed = OLDER_LAST if play is changes_come_out_of_order else set()
    assert verdict.violations.keys() <= allowed, verdict.examples


def test_a_hole_that_the_second_window_leaves_ends_the_process(scenario: Scenario) -> None:
    worker = a_table_is_restored(scenario, "second_window_alone")
    assert worker.popen.wait(BROKEN_SECONDS) == ExitCode.RECORDS_MISSING
    scenario.start("dedupe")
    scenario.wait_until_idle()
    verdict = scenario.verdict()
    assert verdict.good, verdict.examples


def test_what_the_first_window_drops_is_never_committed(scenario: Scenario) -> None:
    worker = a_table_is_restored(scenario, "first_window_alone")
    wait_until(
        lambda: scenario.end("contacts.changes") > 2 * CONTACTS, "the later events are forwarded"
    )
    wait_for_violation(
        lambda: sum(scenario.committed("dedupe", "contacts.events").values()) > 2 * CONTACTS,
        "whole",
    )
    scenario.sample()
    worker.kill()
    scenario.start("dedupe")
    scenario.wait_until_idle()
    verdict = scenario.verdict()
    assert verdict.good, verdict.examples


@pytest.mark.storm
def test_commits_ahead_of_the_work_also_show_in_the_org(scenario: Scenario) -> None:
    assert "org_differs" in sink_is_killed(scenario, "commit_early").violations


def test_without_any_check_of_versions_the_org_goes_backwards(scenario: Scenario) -> None:
    scenario.version_rule = False
    verdict = a_stale_event_comes(scenario, "no_version_check", "no_version_check")
    assert "went_backwards" in verdict.violations
    assert "org_differs" in verdict.violations


@pytest.mark.parametrize(
    ("dedupe", "sink", "rule"),
    [
        ("whole", "no_version_check", False),
        ("no_version_check", "whole", False),
        ("no_version_check", "no_version_check", True),
    ],
    ids=["dedupe", "the sink", "the org's rule"],
)
def test_any_one_check_of_versions_is_enough(
    scenario: Scenario, dedupe: str, sink: str, *, rule: bool
) -> None:
    scenario.version_rule = rule
    verdict = a_stale_event_comes(scenario, dedupe, sink)
    assert verdict.violations.keys() == (OLDER_LAST if dedupe == "no_version_check" else set()), (
        verdict.examples
    )


def test_every_variant_has_a_test() -> None:
    elsewhere = {"no_version_check", "no_fences", "no_watchdog", "range_assignor", "whole"}
    elsewhere |= {"first_window_alone", "second_window_alone", "takes_nothing", "no_wait"}
    elsewhere |= {"deaf_publisher", "no_topic_watch", "no_log_watch", "no_split"}
    assert {name for name, _ in VARIANTS} == SCENARIOS.keys() | elsewhere
