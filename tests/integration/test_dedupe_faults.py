"""The dedupe stage is killed, joined and left in the middle of its work.

Every event is accounted for.

Workers that are paused during a takeover or die in the middle of a batch: tests/faults,
test_paused_processes.py and test_variants.py.
"""

import pytest

from tests.support.dedupe_load import (
    Load,
    account,
    changes_end,
    create_topics,
    environ,
    wait_changes,
    wait_done,
)
from tests.support.kafka import Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

PARTITIONS = 4
CONTACTS = 500


def start(processes: Processes, kafka: Kafka) -> Process:
    return processes.start("dedupe", environ=environ(kafka, PARTITIONS))


def test_every_event_is_accounted_for_when_the_worker_is_killed_while_5000_flow(
    kafka: Kafka, processes: Processes
) -> None:
    create_topics(kafka, PARTITIONS)
    with Load(kafka, CONTACTS, rate=300) as load:
        for _ in range(3):
            before = changes_end(kafka)
            worker = start(processes, kafka).wait_ready()
            wait_changes(kafka, before + 200)
            worker.kill()
        wait_until(lambda: load.sent >= 5000, "5000 events are sent", 60.0)
        start(processes, kafka).wait_ready()
    wait_done(kafka, load.sent)
    found = account(kafka.read("contacts.changes"))
    assert found.missing(CONTACTS, load.versions) == []
    assert found.not_last(load.versions) == []
    assert kafka.read("contacts.dead-letter") == []


def test_nothing_is_missing_after_workers_joined_and_left_under_load(
    kafka: Kafka, processes: Processes
) -> None:
    create_topics(kafka, PARTITIONS)
    first = start(processes, kafka).wait_ready()
    with Load(kafka, CONTACTS, rate=1000) as load:
        for how in ("stop", "kill", "stop"):
            before = changes_end(kafka)
            other = start(processes, kafka).wait_ready()
            wait_changes(kafka, before + 300)
            if how == "kill":
                other.kill()
            else:
                assert other.stop() == 0
        last = start(processes, kafka).wait_ready()
        assert first.stop() == 0
    wait_done(kafka, load.sent)
    assert last.exit_code is None, "no worker ended itself"
    found = account(kafka.read("contacts.changes"))
    assert found.missing(CONTACTS, load.versions) == []
    assert found.not_last(load.versions) == []
