"""How much the sink reads: enough for every batch that may be in flight, and one that gathers."""

from typing import Any

from confluent_kafka import TopicPartition
from prometheus_client import CollectorRegistry

from connectors.salesforce.sync import Sync
from streams.metrics import SinkMetrics
from streams.settings import SinkSettings
from streams.sink.assignment import Assignment, ReadProgress
from streams.sink.deletions import Deletions
from streams.sink.intake import Intake
from streams.sink.running_tasks import RunningTasks
from streams.sink.stopping import StopRequest


def sink_settings(**changed: Any) -> SinkSettings:
    return SinkSettings(**changed)


def rows_that_may_be_read(settings: SinkSettings, rows_in_flight: int) -> int:
    org: Sync = None  # type: ignore[assignment]  # not asked for how much may be read
    partition = TopicPartition("contacts.changes", 0)
    assignment = Assignment(partition, 0, None, Deletions(), ReadProgress(0))
    in_flight = RunningTasks(StopRequest())
    in_flight.rows = rows_in_flight
    room = Intake(org, settings, SinkMetrics(CollectorRegistry())).room(assignment, in_flight)
    return 0 if room is None else room.records


def test_as_many_batches_as_are_set_can_be_in_flight() -> None:
    settings = sink_settings(in_flight=16, max_unfinished=10_000)
    assert rows_that_may_be_read(settings, 15_000) == 2_000
    assert rows_that_may_be_read(settings, 17_000) == 0


def test_a_larger_bound_is_kept() -> None:
    settings = sink_settings(in_flight=8, max_unfinished=20_000)
    assert rows_that_may_be_read(settings, 19_000) == 1_000
