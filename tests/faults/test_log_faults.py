"""Faults of the logs themselves: an end that is lost, topics made anew, partitions, small limits.

Each stops the stage that would lose records, with a code that says why, or is done without.
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
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
from tests.faults.harness.log_files import End, batches, cut
from tests.faults.harness.scenario import REACH_SECONDS, Scenario, change, event
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system, pytest.mark.slow]

CONTACTS = 200
# Two looks at the topics, ten seconds apart, on shared cores.
ENDS_SECONDS = 60.0
# Of stages that are paused while their topics are made anew.
PAUSE_SESSION_SECONDS = 60.0
# Two looks at the topics, and a record that is produced meanwhile.
UNMENDED_SECONDS = 30.0
WHOLE = {"dedupe": "whole", "sink": "whole"}
READER = {"NYLAS_API_KEY": "test", "NYLAS_API_URL": "http://127.0.0.1:1"}


@pytest.fixture
def scenario(kafka: Kafka, processes: Processes, tmp_path: Path) -> Iterator[Scenario]:
    with Scenario(kafka, processes, tmp_path) as one:
        yield one.set_up()


def send(scenario: Scenario, version: int) -> None:
    scenario.send([event(number, version, f"v{version}") for number in range(CONTACTS)])


def keep_batches(directory: Path, count: int) -> None:
    """Cuts a partition's log behind so many batches, as a power cut does before a flush."""
    (log,) = directory.glob("*.log")
    kept, *lost = list(batches(log.read_bytes()))[count - 1 :]
    assert lost, "there is nothing to lose"
    cut(End(log, kept.end, ()))


def topics_lose_their_end(
    scenario: Scenario, broker: Broker, variants: Mapping[str, str]
) -> list[Process]:
    """A broker without a second copy loses power: the last events and outcomes are gone.

    Then more events come. Returns dedupe and the sink, which still run.
    """
    scenario.set_up()
    dedupe = scenario.start("dedupe", variants["dedupe"])
    # It keeps its partition over the outage, and with it its producer.
    sink = scenario.start("sink", variants["sink"], session=PAUSE_SESSION_SECONDS)
    stages = [dedupe.wait_ready(), sink.wait_ready()]
    for version in (1, 2, 3):
        send(scenario, version)
        scenario.wait_until_idle()
    broker.kill()
    for topic in ("contacts.events", "contacts.outcomes"):
        keep_batches(broker.directory / "data" / f"t.{topic}-0", 1)
    broker.start()
    send(scenario, 4)
    return stages


def end_by_themselves(stages: Sequence[Process], seconds: float) -> list[int | None]:
    """The exit codes of processes after so many seconds; None of those that still run."""
    ends = time.monotonic() + seconds
    for stage in stages:
        with contextlib.suppress(subprocess.TimeoutExpired):
            stage.popen.wait(max(0.0, ends - time.monotonic()))
    return [stage.exit_code for stage in stages]


def test_stages_whose_topics_lost_their_end_stop_and_name_it(
    own_broker: Broker, processes: Processes, tmp_path: Path
) -> None:
    with Scenario(Kafka(own_broker.bootstrap, "t."), processes, tmp_path) as scenario:
        dedupe, sink = topics_lose_their_end(scenario, own_broker, WHOLE)
        assert dedupe.popen.wait(ENDS_SECONDS) == ExitCode.OFFSET_OUT_OF_RANGE
        assert "lost its end" in dedupe.log
        assert "contactstream reconcile --all" in dedupe.log
        record, headers = change(CONTACTS, 1, "new")
        scenario.kafka.produce("contacts.changes", [record], headers)
        # The producer's sequence goes on where the broker's was cut off, which is fatal for it. If
        # the sink has lost the partition meanwhile, it has another producer, and works on.
        end = scenario.end("contacts.changes")
        with contextlib.suppress(AssertionError):
            scenario.wait_committed("sink", "contacts.changes", end, ENDS_SECONDS)
        if sink.exit_code is not None:
            assert sink.exit_code == ExitCode.KAFKA_REFUSED
            scenario.start("sink")
        scenario.wait_committed("sink", "contacts.changes", end)


@pytest.mark.storm
def test_without_the_mends_stages_skip_or_hang_after_topics_lost_their_end(
    own_broker: Broker, processes: Processes, tmp_path: Path
) -> None:
    with Scenario(Kafka(own_broker.bootstrap, "t."), processes, tmp_path) as scenario:
        variants = {"dedupe": "no_log_watch", "sink": "deaf_publisher"}
        stages = topics_lose_their_end(scenario, own_broker, variants)
        before = scenario.committed("sink", "contacts.changes")
        record, headers = change(CONTACTS, 1, "new")
        scenario.kafka.produce("contacts.changes", [record], headers)
        assert end_by_themselves(stages, UNMENDED_SECONDS) == [None, None]
        assert scenario.committed("sink", "contacts.changes") == before, "the sink hangs"
        assert "change_differs" in scenario.verdict().violations, "dedupe has skipped events"


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


def topics_are_made_anew(scenario: Scenario, variant: str) -> list[Process]:
    """Under dedupe, sink and reader, which still run."""
    dedupe = scenario.start("dedupe", variant, session=PAUSE_SESSION_SECONDS)
    sink = scenario.start("sink", variant, session=PAUSE_SESSION_SECONDS)
    stages = [dedupe, sink, scenario.start("reader", variant, READER)]
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
    return stages


def test_stages_whose_topics_are_made_anew_stop_and_name_it(scenario: Scenario) -> None:
    for stage in topics_are_made_anew(scenario, "whole"):
        assert stage.popen.wait(ENDS_SECONDS) == ExitCode.TOPIC_REPLACED
        assert "was deleted" in stage.log


@pytest.mark.storm
def test_without_the_watch_stages_go_on_with_topics_that_were_made_anew(
    scenario: Scenario,
) -> None:
    stages = topics_are_made_anew(scenario, "no_topic_watch")
    assert None in end_by_themselves(stages, UNMENDED_SECONDS)


def topics_grow(scenario: Scenario, variant: str) -> dict[str, Process]:
    """contacts.events and contacts.changes get a second partition; dedupe and sink, by topic."""
    stages = {
        "contacts.events": scenario.start("dedupe", variant),
        "contacts.changes": scenario.start("sink", variant),
    }
    admin = scenario.kafka.admin()
    for topic, stage in stages.items():
        stage.wait_ready()
        grown = [NewPartitions(scenario.kafka.name(topic), 2)]
        for future in admin.create_partitions(grown).values():
            future.result()
    return stages


@pytest.mark.storm
def test_without_the_watch_nobody_says_that_a_topic_has_grown(scenario: Scenario) -> None:
    stages = list(topics_grow(scenario, "no_topic_watch").values())
    assert ExitCode.PARTITION_COUNT_MISMATCH not in end_by_themselves(stages, UNMENDED_SECONDS)


def test_partitions_that_a_stage_does_not_expect_stop_it_at_once_and_at_its_start(
    scenario: Scenario,
) -> None:
    for topic, stage in topics_grow(scenario, "whole").items():
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


def topics_take_small_batches(scenario: Scenario, variant: str) -> list[Process]:
    """Some records fit, a batch does not. Returns dedupe and the sink, which got work."""
    limit(scenario, "contacts.changes", 5000)
    limit(scenario, "contacts.outcomes", 1000)
    stages = [scenario.start("dedupe", variant), scenario.start("sink", variant)]
    for stage in stages:
        stage.wait_ready()
    send(scenario, 1)
    return stages


@pytest.mark.storm
def test_without_splitting_a_limit_stops_the_stages(scenario: Scenario) -> None:
    dedupe, _ = topics_take_small_batches(scenario, "no_split")
    assert dedupe.popen.wait(ENDS_SECONDS) == ExitCode.KAFKA_REFUSED


def test_batches_that_a_topic_refuses_as_too_large_are_split(scenario: Scenario) -> None:
    stages = topics_take_small_batches(scenario, "whole")
    scenario.wait_until_idle()
    assert [stage.exit_code for stage in stages] == [None, None]
    assert all("a batch was refused as too large; it is split" in stage.log for stage in stages)
    assert scenario.records("contacts.outcomes") == CONTACTS
    assert scenario.verdict().good
