"""A replay on a real Kafka whose reader is killed at random equals an undisturbed one."""

import json
import random
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.kafka import Found, Kafka
from tests.support.processes import Process, Processes
from tests.support.reader_harness import ReaderHarness, Start
from tests.support.replayed_events import NO_GATE, changes, replayed, with_versions
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.storm, pytest.mark.timeout(900)]

KILLS, SEED = 20, 1
# Of three events each: more pages than the readers publish that are killed.
CONTACTS = 12_000
# streams/reader/replay_page.py: so many records may be published again after each kill.
PAGE_RECORDS = 1_000
# A page in five seconds, so that there is something to kill for as long as it takes.
RATE = "200"
# From the first record that a reader publishes to its kill: most often with its page, and sometimes
# with the next one.
SHORT_LIFE_SECONDS, LONG_LIFE_SECONDS, LONG_SHARE = 0.3, 6.0, 0.3
# The shortest that Kafka allows: the next reader waits for it.
SESSION = "6"


@pytest.fixture
def start(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: ReaderHarness(kafka, processes, tmp_path, world)


def next_reader(harness: ReaderHarness) -> Process:
    return harness.reader(
        READER_RECONCILE_EVERY="0", READER_MAX_LAG=NO_GATE, READER_SESSION_TIMEOUT=SESSION
    )


def in_first_order(found: Iterable[Found]) -> dict[int, list[str]]:
    """The notification IDs of each partition by their first appearance."""
    ids: dict[int, dict[str, None]] = defaultdict(dict)
    for record in found:
        ids[record.partition][json.loads(record.value or b"")["id"]] = None
    return {partition: list(each) for partition, each in ids.items()}


def test_a_replay_killed_twenty_times_equals_an_undisturbed_one(start: Start) -> None:
    harness, reader = with_versions(start, CONTACTS)
    harness.command("replay", "events", "--grant", "g", "--execute", seconds=240)
    undisturbed = replayed(harness)
    assert len(undisturbed) == 3 * CONTACTS
    expected = {f"g/c{number}": [1, 2, 3, 3] for number in range(CONTACTS)}
    wait_until(lambda: changes(harness) == expected, "the newest are forwarded once more", 120)

    choose = random.Random(SEED)
    replay = ("replay", "events", "--grant", "g", "--execute", "--rate", RATE, "--no-wait")
    run_id = harness.command(*replay).split()[-1]
    kills = 0
    while kills < KILLS:
        before = len(replayed(harness))
        wait_until(lambda seen=before: len(replayed(harness)) > seen, "it publishes", 60)  # type: ignore[misc]
        with suppress(subprocess.TimeoutExpired):
            longest = LONG_LIFE_SECONDS if choose.random() < LONG_SHARE else SHORT_LIFE_SECONDS
            reader.popen.wait(choose.random() * longest)
        reader.send(signal.SIGKILL)
        reader.popen.wait(10)
        kills += 1
        reader = next_reader(harness)
    harness.command("runs", "follow", run_id, seconds=240)

    disturbed = [
        found for found in replayed(harness) if found.headers["replay.id"] == run_id.encode()
    ]
    assert in_first_order(disturbed) == in_first_order(undisturbed)
    assert len(disturbed) - 3 * CONTACTS <= KILLS * PAGE_RECORDS, "a page for each kill"
    _, partitions = harness.last_run()
    assert sum(each["contacts"] for each in partitions.values()) == 3 * CONTACTS
    for versions in expected.values():
        versions.append(3)
    wait_until(lambda: changes(harness) == expected, "as after the undisturbed one", 120)
