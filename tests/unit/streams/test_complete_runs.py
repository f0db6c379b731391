"""The record that says how far contacts.changes holds what runs have read."""

import orjson
import pytest

from streams.complete_runs import COMPLETE_RUNS_KEY, complete_runs_record, parse_complete_runs
from streams.control import ControlTable
from streams.events import UnreadableRecord
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings, load
from streams.topics import topics

NAMES = topics(load(KafkaSettings, {}))


def test_the_record_comes_back_as_it_was_written() -> None:
    table = ControlTable()
    assert table.runs_complete_to == 0, "nothing is known"
    table.apply(complete_runs_record(NAMES, 2103))
    assert table.runs_complete_to == 2103
    table.apply(complete_runs_record(NAMES, 5))
    assert table.runs_complete_to == 5, "the newest record counts: the topic was created again"


def test_a_record_of_another_kind_is_none_of_these() -> None:
    assert parse_complete_runs(b"own-domains", b"{}") is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        orjson.dumps({"schema": 2, "changes_end": 7}),
        orjson.dumps({"schema": 1}),
        orjson.dumps({"schema": 1, "changes_end": "7"}),
        orjson.dumps({"schema": 1, "changes_end": True}),
    ],
)
def test_a_record_that_cannot_be_read_changes_nothing(value: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        parse_complete_runs(COMPLETE_RUNS_KEY, value)
    table = ControlTable()
    table.apply(complete_runs_record(NAMES, 7))
    table.apply(KafkaRecord(NAMES.control.name, COMPLETE_RUNS_KEY, value, []))
    assert table.runs_complete_to == 7
