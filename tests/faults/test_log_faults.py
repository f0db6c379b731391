"""Faults of the logs themselves: an end that is lost, topics made anew, partitions, small limits.

Each stops the stage that would lose records, with a code that says why, or is done without.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from deploy.local.broker import Broker
from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.scenario import REACH_SECONDS, Scenario, change, event
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONTACTS = 200
# Two looks at the topics, ten seconds apart, on shared cores.
ENDS_SECONDS = 60.0
# Of stages that are paused while their topics are made anew.
PAUSE_SESSION_SECONDS = 60.0
READER = {"NYLAS_API_KEY": "test", "NYLAS_API_URL": "http://127.0.0.1:1"}


@pytest.fixture
def scenario(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up()


def send(scenario: Scenario, version: int) -> None:
    scenario.send([event(number, version, f"v{version}") for number in range(CONTACTS)])


def keep_batches(directory: Path, batches: int) -> None:
    """Cuts a partition's log behind so many batches, as a power cut does before a flush."""
    (log,) = directory.glob("*.log")
    data, at = log.read_bytes(), 0
    for _ in range(batches):
        at += 12 + int.from_bytes(data[at + 8 : at + 12], "big")
    assert at < len(data), "there is nothing to lose"
    log.write_bytes(data[:at])
    for name in ("*.index", "*.timeindex", "*.snapshot"):
        for file in directory.glob(name):
            file.unlink()


def test_stages_whose_topics_lost_their_end_stop_and_name_it(
    own_broker: Broker, processes: Processes, tmp_path: Path
) -> None:
    """A broker without a second copy loses power: the last events and outcomes are gone."""
    with Scenario(Kafka(own_broker.bootstrap, "t."), processes, tmp_path) as scenario:
        scenario.set_up()
        dedupe, sink = scenario.start("dedupe").wait_ready(), scenario.start("sink").wait_ready()
        for version in (1, 2, 3):
            send(scenario, version)
            scenario.wait_until_idle()
        own_broker.kill()
        for topic in ("contacts.events", "contacts.outcomes"):
            keep_batches(tmp_path / "broker" / "data" / f"t.{topic}-0", 1)
        own_broker.start()

        # The producer's sequence goes on where the broker's was cut off, which is fatal for it.
        send(scenario, 4)
        assert dedupe.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
        assert "lost its end" in dedupe.log
        assert "contactstream reconcile --all" in dedupe.log
        record, headers = change(CONTACTS, 1, "new")
        scenario.kafka.produce("contacts.changes", [record], headers)
        assert sink.popen.wait(ENDS_SECONDS) == ExitCode.KAFKA_REFUSED
        scenario.start("sink")
        scenario.wait_committed("sink", "contacts.changes", scenario.end("contacts.changes"))


def make_anew(scenario: Scenario, topics: Mapping[str, int]) -> None:
    """Deletes topics and creates them again."""
    admin = scenario.kafka.admin()
    names = [scenario.kafka.name(topic) for topic in topics]
    for future in admin.delete_topics(names, request_timeout=REQUEST_SECONDS).values():
        future.result()
    wait_until(
        lambda: not set(names) & admin.list_topics(timeout=REQUEST_SECONDS).topics.keys(),
        "the topics are gone",
        REACH_SECONDS,
    )
    for topic, partitions in topics.items():
        scenario.kafka.create(topic, partitions)


def test_stages_whose_topics_are_made_anew_stop_and_name_it(scenario: Scenario) -> None:
    dedupe = scenario.start("dedupe", session=PAUSE_SESSION_SECONDS)
    sink = scenario.start("sink", session=PAUSE_SESSION_SECONDS)
    stages = [dedupe, sink, scenario.start("reader", environ=READER)]
    for stage in stages:
        stage.wait_ready()
    scenario.send([event(0, 1, "first")])
    scenario.wait_until_idle()
    # Both find more records than the old topics had: no position is outside of the log.
    dedupe.pause()
    sink.pause()
    make_anew(scenario, {"contacts.events": 1, "contacts.changes": 1, "reader.runs": 1})
    send(scenario, 2)
    records = [change(number, 2, "v2") for number in range(CONTACTS)]
    scenario.kafka.produce("contacts.changes", [one for one, _ in records], records[0][1])
    dedupe.resume()
    sink.resume()
    for stage in stages:
        assert stage.popen.wait(ENDS_SECONDS) == ExitCode.TOPIC_REPLACED
        assert "was deleted" in stage.log


def test_partitions_that_a_stage_does_not_expect_stop_it_at_once_and_at_its_start(
    scenario: Scenario,
) -> None:
    stages = {
        "contacts.events": scenario.start("dedupe"),
        "contacts.changes": scenario.start("sink"),
    }
    admin = scenario.kafka.admin()
    for topic, stage in stages.items():
        stage.wait_ready()
        grown = [NewPartitions(scenario.kafka.name(topic), 2)]
        for future in admin.create_partitions(grown).values():
            future.result()
    for topic, stage in stages.items():
        assert stage.popen.wait(ENDS_SECONDS) == ExitCode.PARTITION_COUNT_MISMATCH
        assert f"{topic} has 2 partitions instead of 1" in stage.log
    again = scenario.start("sink")
    assert again.popen.wait(ENDS_SECONDS) == ExitCode.PARTITION_COUNT_MISMATCH


def limit(scenario: Scenario, topic: str, size: int) -> None:
    """Sets the largest batch that a topic takes."""
    change = ConfigEntry(
        "max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(
        ResourceType.TOPIC, scenario.kafka.name(topic), incremental_configs=[change]
    )
    admin = scenario.kafka.admin()
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def test_batches_that_a_topic_refuses_as_too_large_are_split(scenario: Scenario) -> None:
    # Some records fit, a batch does not.
    limit(scenario, "contacts.changes", 5000)
    limit(scenario, "contacts.outcomes", 1000)
    stages: list[Process] = [scenario.start("dedupe"), scenario.start("sink")]
    for stage in stages:
        stage.wait_ready()
    send(scenario, 1)
    scenario.wait_until_idle()
    assert [stage.exit_code for stage in stages] == [None, None]
    assert all("a batch was refused as too large; it is split" in stage.log for stage in stages)
    assert scenario.records("contacts.outcomes") == CONTACTS
    assert scenario.verdict().good
