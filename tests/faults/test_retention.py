"""Records that expired before they were read stop the stage that would have read them, loudly;
nothing is skipped in silence.
"""

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


@pytest.fixture
def scene(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up()


def expire(scene: Scenario, topic: str, start: int) -> None:
    """Retention, at once: the log begins at `start` from now on."""
    where = TopicPartition(scene.kafka.name(topic), 0, start)
    admin = (
        scene.kafka.admin()
    )  # held until the answer is there: a client that is collected ends its requests
    next(iter(admin.delete_records([where]).values())).result()


def send_changes(scene: Scenario, version: int) -> None:
    records = [change(number, version, f"v{version}") for number in range(RECORDS)]
    scene.kafka.produce("contacts.changes", [record for record, _ in records], records[0][1])


def test_events_that_expired_unread_stop_dedupe(scene: Scenario) -> None:
    scene.send([event(number, 1, "first") for number in range(RECORDS)])
    first = scene.start("dedupe").wait_ready()
    scene.wait_committed("dedupe", "contacts.events", RECORDS)
    assert first.stop() == 0
    scene.send([event(number, 2, "second") for number in range(RECORDS)])
    expire(scene, "contacts.events", RECORDS + 5)

    second = scene.start("dedupe")
    assert second.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "below the start of the log" in second.log
    assert scene.committed("dedupe", "contacts.events") == {0: RECORDS}
    assert scene.end("contacts.changes") == RECORDS


def test_changes_that_expired_unread_stop_the_sink(scene: Scenario) -> None:
    send_changes(scene, 1)
    first = scene.start("sink").wait_ready()
    scene.wait_committed("sink", "contacts.changes", RECORDS)
    assert first.stop() == 0
    send_changes(scene, 2)
    expire(scene, "contacts.changes", RECORDS + 5)

    second = scene.start("sink")
    assert second.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "below the start of the log" in second.log
    assert scene.committed("sink", "contacts.changes") == {0: RECORDS}
    assert scene.end("contacts.outcomes") == RECORDS


def test_changes_that_expire_while_the_sink_stands_still_stop_it(scene: Scenario) -> None:
    send_changes(scene, 1)
    sink = scene.start("sink").wait_ready()
    scene.wait_committed("sink", "contacts.changes", RECORDS)
    sink.pause()
    for version in (2, 3):  # a fetch that was under way is answered with the first of them
        send_changes(scene, version)
    expire(scene, "contacts.changes", 3 * RECORDS - 1)
    sink.resume()
    assert sink.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "not in the log any more" in sink.log
    assert scene.committed("sink", "contacts.changes")[0] < 3 * RECORDS - 1


def test_a_log_that_ends_before_the_committed_offset_stops_the_sink(scene: Scenario) -> None:
    send_changes(scene, 1)
    where = TopicPartition(scene.kafka.name("contacts.changes"), 0, 10 * RECORDS)
    behind = ConsumerGroupTopicPartitions(f"{scene.kafka.prefix}contactstream-sink", [where])
    admin = scene.kafka.admin()
    next(iter(admin.alter_consumer_group_offsets([behind]).values())).result()

    sink = scene.start("sink")
    assert sink.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "the topic was made anew" in sink.log
    assert "reset the group" in sink.log
    assert scene.end("contacts.outcomes") == 0
