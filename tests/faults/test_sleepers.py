"""A stage stands still for longer than its session, in the middle of a batch, and wakes up: each
fence, and what comes of none.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.scenario import BROKEN_SECONDS, SLEEPER_SESSION, Scenario, event, soon
from tests.faults.harness.variants import LINGER
from tests.faults.harness.verifier import Verdict
from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

CONTACTS = 10
# Records wait in the producer almost as long as its delivery time-out, half of the session, lets
# them: so long a busy machine may take to put the worker to sleep.
UNSENT_SESSION, UNSENT_LINGER_MS = 14.0, "6900"
LINGER_MS = "2900"


@pytest.fixture
def scene(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one


def dedupe_sleeps(scene: Scenario, variant: str, moment: str) -> tuple[Verdict, int | None]:
    """A worker stands still in the middle of a batch until another has taken over and gone on, and
    then wakes up.

    What it would write then, to its output and over the table's newer entry, shows when the contact
    is again as it was in that batch: a duplicate of what the table wrongly holds. Returns the exit
    code too.
    """
    scene.set_up()
    scene.start("sink")
    session, linger = (
        (UNSENT_SESSION, UNSENT_LINGER_MS) if moment == "unsent" else (SLEEPER_SESSION, LINGER_MS)
    )
    sleeper = scene.start("dedupe", variant, {LINGER: linger}, session=session)
    scene.send([event(number, 1, "first") for number in range(CONTACTS)])
    scene.wait_committed("dedupe", "contacts.events", CONTACTS)
    scene.hold(moment)
    scene.send([event(number, 2, "second") for number in range(CONTACTS)])
    scene.wait_reached(moment)
    sleeper.pause()
    scene.release(moment)
    successor = scene.start("dedupe", variant)
    scene.send([event(number, 3, "third") for number in range(CONTACTS)])
    scene.wait_committed("dedupe", "contacts.events", 3 * CONTACTS)
    assert scene.end("contacts.changes") == 3 * CONTACTS, (
        "the sleeper had sent its outputs before it slept"
    )
    written = scene.end("contactstream-dedupe-seen-changelog")
    scene.hold(
        "done"
    )  # else it goes on with what the successor has done, and mends the table again
    sleeper.resume()
    wait_until(
        lambda: (
            sleeper.exit_code is not None
            or scene.end("contactstream-dedupe-seen-changelog") > written
        ),
        "the sleeper ends itself, or does what it must not",
        BROKEN_SECONDS,
    )
    ended = sleeper.exit_code
    sleeper.kill()
    successor.stop()
    scene.release("done")
    scene.start("dedupe", variant)
    scene.send([event(number, 4, "second") for number in range(CONTACTS)])
    scene.settle()
    return scene.verdict(), ended


def sink_sleeps(scene: Scenario, variant: str) -> Verdict:
    """A sink stands still between its query and its write until the standby has taken over and gone
    on, and then wakes up.
    """
    scene.set_up()
    scene.start("dedupe")
    sleeper = scene.start("sink", variant, session=SLEEPER_SESSION)
    scene.send([event(number, 1, "first") for number in range(CONTACTS)])
    scene.settle()
    scene.hold("before_write")
    scene.send([event(number, 2, "second") for number in range(CONTACTS)])
    scene.wait_reached("before_write")
    sleeper.pause()
    scene.release("before_write")
    scene.start("sink", variant)
    scene.send([event(number, 3, "third") for number in range(CONTACTS)])
    scene.settle()
    written = scene.org_state()["rows"]
    sleeper.resume()
    wait_until(
        lambda: "lost" in sleeper.log or "revoked" in sleeper.log,
        "the sleeper learns that it was replaced",
        30.0,
    )
    soon(lambda: scene.org_state()["rows"] != written, variant)
    return scene.verdict()


def test_a_dedupe_worker_that_wakes_up_without_fences_is_noticed(scene: Scenario) -> None:
    verdict, ended = dedupe_sleeps(scene, "no_fences", "before_outputs")
    assert ended is None
    assert "change_differs" in verdict.violations


def test_a_dedupe_worker_that_wakes_up_ends_itself(scene: Scenario) -> None:
    verdict, ended = dedupe_sleeps(scene, "whole", "before_outputs")
    assert ended in (ExitCode.PAUSED_TOO_LONG, ExitCode.NO_HEARTBEAT)
    assert verdict.good, verdict.examples


def test_records_that_wait_in_the_producer_without_fences_are_noticed(scene: Scenario) -> None:
    verdict, ended = dedupe_sleeps(scene, "no_fences", "unsent")
    assert ended is None
    assert "change_differs" in verdict.violations


def test_the_delivery_timeout_alone_holds_back_what_waits_in_the_producer(scene: Scenario) -> None:
    verdict, ended = dedupe_sleeps(scene, "no_watchdog", "unsent")
    assert ended == ExitCode.NOT_ACKNOWLEDGED
    assert verdict.good, verdict.examples


def test_a_sink_that_wakes_up_without_fences_is_noticed(scene: Scenario) -> None:
    scene.version_rule = False
    assert "went_backwards" in sink_sleeps(scene, "no_fences").violations


def test_a_sink_that_wakes_up_asks_itself_whether_the_partition_is_its_own(scene: Scenario) -> None:
    scene.version_rule = False
    verdict = sink_sleeps(scene, "whole")
    assert verdict.good, verdict.examples


def test_the_orgs_rule_refuses_what_a_sink_without_fences_writes_when_it_wakes_up(
    scene: Scenario,
) -> None:
    verdict = sink_sleeps(scene, "no_fences")
    assert verdict.good, verdict.examples
