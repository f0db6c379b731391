"""Contacts offered again: which records are published, and how contacts.changes is read."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import orjson
from prometheus_client import CollectorRegistry

from streams.kafka.records import KafkaRecord, header
from streams.kafka.snapshot import Snapshots
from streams.metrics import ReaderMetrics
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.reoffer import REOFFER_BATCH, Reoffer, reoffer_records
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.change_records import change

TOPICS = topics(load(KafkaSettings, {}))


def test_the_last_change_is_offered_again_at_its_own_version() -> None:
    changes = [change("g/a", 5, 0), change("g/a", 7, 1), change("g/b", 6, 2)]
    (offered,) = reoffer_records(changes, TOPICS, {"g/a": 1})
    assert offered.topic == TOPICS.events.name
    assert header(offered.headers, "origin") == b"replay"
    assert orjson.loads(offered.value or b"")["time"] == 7


def test_a_change_that_cannot_be_offered_again_does_not_stop_the_others() -> None:
    deep = orjson.dumps({"id": "a", "more": json.loads(b'{"a":' * 252 + b"1" + b"}" * 252)})
    changes = [
        change("g/a", 5, 0)._replace(value=deep),
        change("g/b", 5, 1)._replace(value=b"{"),
        change("g/c", 6, 2),
    ]
    found = list(reoffer_records(changes, TOPICS, {"g/a": 0, "g/b": 1, "g/c": 2}))
    assert [(record.topic, record.key) for record in found] == [
        (TOPICS.dead_letter.name, b"contacts.events/-/-/g/a"),
        (TOPICS.events.name, b"g/c"),
    ]
    assert header(found[0].headers, "dlq.reason") == b"too_deep"


class Readings:
    """Stands for Snapshots: notes where each reading began, and how many records it left."""

    def __init__(self, changes: list[KafkaRecord]) -> None:
        self.changes = changes
        self.begun: list[int] = []
        self.left: list[int] = []

    async def read(
        self, _topic: str, function: Callable[[Iterator[KafkaRecord]], Any], since: int = 0
    ) -> Any:
        self.begun.append(since)
        records = iter(self.changes[since:])
        result = function(records)
        self.left.append(len(list(records)))
        return result


async def test_changes_are_read_in_batches_and_nothing_is_open_while_the_gate_is_closed() -> None:
    changes = [change(f"g/{number}", number, number) for number in range(3 * REOFFER_BATCH)]
    readings, published, begun_at_the_gate = Readings(changes), [], []

    class Watched(Gate):
        async def wait(self, records: int) -> None:
            begun_at_the_gate.append((len(readings.begun), records))

    async def publish(records: Sequence[KafkaRecord]) -> None:
        published.append([record.key for record in records])

    gate = Watched(lambda: 0, 1, lambda _: None)
    reoffer = Reoffer(
        ReaderContext(TOPICS, publish, gate, ReaderMetrics(CollectorRegistry())),
        cast(Snapshots, readings),
    )
    numbers = range(0, 3 * REOFFER_BATCH, 2)
    await reoffer.publish({f"g/{number}": number for number in reversed(numbers)})
    assert [key for batch in published for key in batch] == [b"g/%d" % number for number in numbers]
    assert [len(batch) for batch in published] == [REOFFER_BATCH, REOFFER_BATCH // 2]
    assert readings.begun == [0, 2 * REOFFER_BATCH]
    assert begun_at_the_gate == [(0, REOFFER_BATCH), (1, REOFFER_BATCH // 2)]
    assert readings.left[0] >= REOFFER_BATCH, "a batch is not read beyond its last record"
