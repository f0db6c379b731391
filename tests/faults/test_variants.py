"""Each promise left out on purpose is noticed: the verifier names what the broken stage did, and
nothing when the stage is whole.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.broker import free_ports
from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.load import BASE, contact, envelope
from tests.faults.harness.scenario import BROKEN_SECONDS, Scenario, change, event, soon
from tests.faults.harness.variants import VARIANTS
from tests.faults.harness.verifier import Verdict
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

CONTACTS = 10


@pytest.fixture
def scene(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one


def has_committed(scene: Scenario, stage: str, topic: str) -> Callable[[], bool]:
    """Whether a stage has committed more than where it started."""
    return lambda: sum(scene.committed(stage, topic).values()) > 0


def bridge_is_killed(scene: Scenario, variant: str) -> Verdict:
    """kill -9 of a bridge that has notifications in its hands and has not published them yet; Nylas
    sends again what got no 200.
    """
    scene.set_up()
    (port,) = free_ports(1)
    scene.start("dedupe")
    scene.start("sink")
    bridge = scene.start("bridge", variant, {"BRIDGE_LISTEN": f"127.0.0.1:{port}"}).wait_ready()
    bodies = {
        f"n{number}": envelope(f"n{number}", BASE + 1, contact(number, "first"), "contact.created")
        for number in range(CONTACTS)
    }
    scene.hold("before_publish")
    with ThreadPoolExecutor(CONTACTS) as senders:
        sending = [senders.submit(scene.notify, port, body, name) for name, body in bodies.items()]
        scene.wait_reached("before_publish")
        soon(lambda: len(scene.acknowledged) == CONTACTS, variant)
        bridge.kill()
        assert all(future.result() in (0, 200) for future in sending)
    scene.release("before_publish")
    scene.start("bridge", variant, {"BRIDGE_LISTEN": f"127.0.0.1:{port}"}).wait_ready()
    for name in bodies.keys() - set(scene.acknowledged):
        assert scene.notify(port, bodies[name], name) == 200
    wait_until(
        lambda: scene.end("contacts.events") or variant != "whole",
        "the notifications are published",
    )
    scene.settle()
    return scene.verdict()


def dedupe_is_killed(scene: Scenario, variant: str) -> Verdict:
    """kill -9 of a dedupe worker between the two things that it publishes for a batch."""
    scene.set_up()
    scene.send([event(number, 1, "first") for number in range(CONTACTS)])
    scene.hold("between")
    scene.start("sink")
    worker = scene.start("dedupe", variant)
    scene.wait_reached("between")
    worker.kill()
    scene.release("between")
    scene.start("dedupe", variant)
    scene.settle()
    return scene.verdict()


def dedupe_is_killed_at_work(scene: Scenario, variant: str) -> Verdict:
    """kill -9 of a dedupe worker that has decided upon a batch and published nothing of it."""
    scene.set_up()
    scene.send([event(number, 1, "first") for number in range(CONTACTS)])
    scene.hold("before_outputs")
    scene.start("sink")
    worker = scene.start("dedupe", variant)
    scene.wait_reached("before_outputs")
    soon(has_committed(scene, "dedupe", "contacts.events"), variant)
    scene.sample()
    worker.kill()
    scene.release("before_outputs")
    scene.start("dedupe", variant)
    scene.settle()
    return scene.verdict()


def sink_is_killed(scene: Scenario, variant: str) -> Verdict:
    """kill -9 of a sink that has asked the org and not yet written."""
    scene.set_up()
    scene.send([event(number, 1, "first") for number in range(CONTACTS)])
    scene.hold("before_write")
    scene.start("dedupe")
    sink = scene.start("sink", variant)
    scene.wait_reached("before_write")
    soon(has_committed(scene, "sink", "contacts.changes"), variant)
    scene.sample()
    sink.kill()
    scene.release("before_write")
    scene.start("sink", variant)
    scene.settle()
    return scene.verdict()


def sink_is_killed_with_a_gap(scene: Scenario, variant: str) -> Verdict:
    """kill -9 of a sink whose first batch hangs in the org while a later one is finished."""
    scene.set_up()
    hang = {
        "effect": "hang",
        "kind": "composite_query",
        "contains": "storm1.example",
        "seconds": 30,
    }
    scene.tell_org("/_sim/faults", {"faults": [hang]})
    scene.start("dedupe")
    sink = scene.start("sink", variant)
    scene.send([event(1, 1, "first")])
    wait_until(lambda: scene.org_state()["faults"].get("hang"), "the first batch hangs", 60.0)
    scene.send([event(number, 1, "first") for number in range(2, CONTACTS)])
    wait_until(
        lambda: scene.end("contacts.outcomes") == CONTACTS - 2, "the second batch is finished"
    )
    soon(has_committed(scene, "sink", "contacts.changes"), variant)
    scene.sample()
    sink.kill()
    scene.start("sink", variant)
    scene.settle()
    return scene.verdict()


def changes_come_out_of_order(scene: Scenario, variant: str) -> Verdict:
    """The newer change of a contact before the older one, in one batch: what two dedupe workers in
    a row may leave.
    """
    scene.set_up()
    scene.send([event(1, 1, "first"), event(1, 2, "second")])
    for version, title in ((2, "second"), (1, "first")):
        record, headers = change(1, version, title)
        scene.kafka.produce("contacts.changes", [record], headers)
    scene.start("sink", variant)
    scene.wait_committed("sink", "contacts.changes", 2)
    return scene.verdict()


def a_stale_event_comes(scene: Scenario, dedupe: str, sink: str = "whole") -> Verdict:
    """An event that is older than what the org has."""
    scene.set_up()
    scene.start("dedupe", dedupe)
    scene.start("sink", sink)
    for version, title in ((2, "second"), (1, "first")):
        scene.send([event(number, version, title) for number in range(CONTACTS)])
        scene.settle()
    return scene.verdict()


def a_table_is_restored(scene: Scenario, variant: str) -> Process:
    """A worker starts with a table to restore, and events come right when it has been; returns the
    worker, which goes on.
    """
    scene.set_up()
    first = scene.start("dedupe")
    scene.start("sink")
    scene.send([event(number, 1, "first") for number in range(CONTACTS)])
    scene.wait_committed("dedupe", "contacts.events", CONTACTS)
    assert first.stop() == 0
    scene.hold("sought")
    scene.hold(
        "before_outputs"
    )  # so that a batch waits in Faust's queue, where there is one already
    worker = scene.start("dedupe", variant)
    scene.wait_reached("sought")
    scene.send([event(number, 1, "first") for number in range(CONTACTS, 2 * CONTACTS)])
    soon(lambda: scene.has_reached("dropped") or scene.has_reached("queued_again"), variant)
    scene.release("sought")
    # the queues have been cleared: an agent that went on before that could save what is to be lost
    worker.wait_ready()
    scene.release("before_outputs")
    scene.send([event(number, 2, "second") for number in range(CONTACTS)])
    return worker


def events_come_at_the_end_of_a_recovery(scene: Scenario, variant: str) -> Verdict:
    """Every event is committed then."""
    a_table_is_restored(scene, variant)
    scene.settle()
    return scene.verdict()


OLDER_LAST = {"older_change_last"}
"""What the verifier says of contacts.changes itself, where a test is about what the sink and the
org make of it.
"""

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


@pytest.mark.parametrize("variant", SCENARIOS)
def test_a_promise_left_out_is_noticed(scene: Scenario, variant: str) -> None:
    scenario, violation = SCENARIOS[variant]
    verdict = scenario(scene, variant)
    assert violation in verdict.violations, verdict.violations


@pytest.mark.parametrize("scenario", dict.fromkeys(scenario for scenario, _ in SCENARIOS.values()))
def test_where_it_is_kept_nothing_is_found(
    scene: Scenario, scenario: Callable[[Scenario, str], Verdict]
) -> None:
    verdict = scenario(scene, "whole")
    given = OLDER_LAST if scenario is changes_come_out_of_order else set()
    assert verdict.violations.keys() <= given, verdict.examples


def test_a_hole_that_the_second_window_leaves_ends_the_process(scene: Scenario) -> None:
    worker = a_table_is_restored(scene, "second_window_alone")
    assert worker.popen.wait(BROKEN_SECONDS) == ExitCode.RECORDS_MISSING
    scene.start("dedupe")
    scene.settle()
    verdict = scene.verdict()
    assert verdict.good, verdict.examples


def test_what_the_first_window_drops_is_never_committed(scene: Scenario) -> None:
    worker = a_table_is_restored(scene, "first_window_alone")
    wait_until(lambda: scene.end("contacts.changes") > 2 * CONTACTS, "what came later is forwarded")
    soon(lambda: sum(scene.committed("dedupe", "contacts.events").values()) > 2 * CONTACTS, "whole")
    scene.sample()
    worker.kill()
    scene.start("dedupe")
    scene.settle()
    verdict = scene.verdict()
    assert verdict.good, verdict.examples


@pytest.mark.storm
def test_commits_ahead_of_the_work_also_show_in_the_org(scene: Scenario) -> None:
    assert "org_differs" in sink_is_killed(scene, "commit_early").violations


def test_without_any_check_of_versions_the_org_goes_backwards(scene: Scenario) -> None:
    scene.version_rule = False
    verdict = a_stale_event_comes(scene, "no_version_check", "no_version_check")
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
    scene: Scenario, dedupe: str, sink: str, *, rule: bool
) -> None:
    scene.version_rule = rule
    verdict = a_stale_event_comes(scene, dedupe, sink)
    assert verdict.violations.keys() == (OLDER_LAST if dedupe == "no_version_check" else set()), (
        verdict.examples
    )


def test_every_variant_is_put_to_the_test() -> None:
    elsewhere = {"no_version_check", "no_fences", "no_watchdog", "range_assignor", "whole"}
    elsewhere |= {"first_window_alone", "second_window_alone", "takes_nothing"}
    assert {name for name, _ in VARIANTS} == SCENARIOS.keys() | elsewhere
