"""Records that expired before they were read stop the stage that would have read them.

The stage ends with an error instead of skipping them silently.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.scenario import Scenario, change, event
from tests.support.kafka import Kafka
from tests.support.processes import Processes

pytestmark = pytest.mark.kafka

RECORDS = 20
ENDS_SECONDS = 40.0  # a start on shared cores
PAUSE_SESSION_SECONDS = 60.0  # so that the worker is still in its group after the pause


@pytest.fixture
def scenario(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up()


def expire(scenario: Scenario, topic: str, start: int) -> None:
    """Deletes the records below `start`, as retention would."""
    where = TopicPartition(scenario.kafka.name(topic), 0, start)
    # Kept until the answer comes: a client that is garbage collected ends its requests.
    admin = scenario.kafka.admin()
    next(iter(admin.delete_records([where]).values())).result()


def send_changes(scenario: Scenario, version: int) -> None:
    records = [change(number, version, f"v{version}") for number in range(RECORDS)]
    scenario.kafka.produce("contacts.changes", [record for record, _ in records], records[0][1])


def test_events_that_expired_unread_stop_dedupe(scenario: Scenario) -> None:
    scenario.send([event(number, 1, "first") for number in range(RECORDS)])
    first = scenario.start("dedupe").wait_ready()
    scenario.wait_committed("dedupe", "contacts.events", RECORDS)
    assert first.stop() == 0
    scenario.send([event(number, 2, "second") for number in range(RECORDS)])
    expire(scenario, "contacts.events", RECORDS + 5)

    second = scenario.start("dedupe")
    assert second.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "below the start of the log" in second.log
    assert scenario.committed("dedupe", "contacts.events") == {0: RECORDS}
    assert scenario.end("contacts.changes") == RECORDS


@pytest.mark.storm  # a worker believes the second of two looks, ten seconds apart
@pytest.mark.parametrize("variant", ["whole", "no_log_watch"])
def test_events_that_expire_under_a_worker_stop_it_before_the_next_event(
    scenario: Scenario, variant: str
) -> None:
    worker = scenario.start("dedupe", variant, session=PAUSE_SESSION_SECONDS).wait_ready()
    scenario.send([event(number, 1, "first") for number in range(RECORDS)])
    scenario.wait_committed("dedupe", "contacts.events", RECORDS)
    worker.pause()
    for version in (2, 3):  # a fetch in flight is answered with the first of them
        scenario.send([event(number, version, f"v{version}") for number in range(RECORDS)])
    expire(scenario, "contacts.events", 3 * RECORDS)
    worker.resume()
    if variant == "whole":
        assert worker.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
        assert "expired unread" in worker.log
    else:
        with pytest.raises(subprocess.TimeoutExpired):
            worker.popen.wait(ENDS_SECONDS)


def test_changes_that_expired_unread_stop_the_sink(scenario: Scenario) -> None:
    send_changes(scenario, 1)
    first = scenario.start("sink").wait_ready()
    scenario.wait_committed("sink", "contacts.changes", RECORDS)
    assert first.stop() == 0
    send_changes(scenario, 2)
    expire(scenario, "contacts.changes", RECORDS + 5)

    second = scenario.start("sink")
    assert second.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "below the start of the log" in second.log
    assert scenario.committed("sink", "contacts.changes") == {0: RECORDS}
    assert scenario.records("contacts.outcomes") == RECORDS


def test_changes_that_expire_while_the_sink_is_paused_stop_it(scenario: Scenario) -> None:
    send_changes(scenario, 1)
    sink = scenario.start("sink").wait_ready()
    scenario.wait_committed("sink", "contacts.changes", RECORDS)
    sink.pause()
    for version in (2, 3):  # a fetch in flight is answered with the first of them
        send_changes(scenario, version)
    expire(scenario, "contacts.changes", 3 * RECORDS - 1)
    sink.resume()
    assert sink.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "outside of the log" in sink.log
    assert scenario.committed("sink", "contacts.changes")[0] < 3 * RECORDS - 1


def test_a_log_that_ends_before_the_committed_offset_stops_the_sink(scenario: Scenario) -> None:
    send_changes(scenario, 1)
    where = TopicPartition(scenario.kafka.name("contacts.changes"), 0, 10 * RECORDS)
    behind = ConsumerGroupTopicPartitions(f"{scenario.kafka.prefix}contactstream-sink", [where])
    admin = scenario.kafka.admin()
    next(iter(admin.alter_consumer_group_offsets([behind]).values())).result()

    sink = scenario.start("sink")
    assert sink.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "the topic was deleted and created again" in sink.log
    assert "reset the offset of the group" in sink.log
    assert scenario.records("contacts.outcomes") == 0
