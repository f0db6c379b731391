"""A scan looks at every record of every partition, and returns the few that are wanted."""

from collections.abc import Sequence

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka import scan as scan_module
from streams.kafka.scan import scan
from streams.kafka.snapshot import SnapshotStalled
from streams.settings import KafkaSettings, load
from tests.support.fake_consumer import FakeConsumer, FakeMessage

Values = Sequence[bytes | None]


def record(partition: int, offset: int) -> FakeMessage:
    return FakeMessage(offset, of=partition)


def end(partition: int, offset: int) -> FakeMessage:
    return FakeMessage(offset, KafkaError(KafkaError._PARTITION_EOF), partition)


def use(monkeypatch: pytest.MonkeyPatch, fake: FakeConsumer) -> KafkaSettings:
    monkeypatch.setattr(scan_module, "Consumer", lambda _config: fake)
    return load(KafkaSettings, {})


def test_what_is_wanted_and_the_oldest_of_each_partition_are_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeConsumer(
        [
            [record(0, 0), record(2, 4), record(0, 1)],
            [record(0, 2), record(0, 3), record(2, 5), end(2, 7), record(0, 4), end(0, 5)],
        ],
        ends={0: 4, 1: 0, 2: 7},
    )
    counts: list[int] = []

    def wanted(_keys: Values, values: Values) -> list[int]:
        return [place for place, value in enumerate(values) if value == b"v3"]

    found = scan(use(monkeypatch, fake), "t", wanted, counts.append, 10.0)
    assert [(each.partition, each.offset) for each in found] == [(0, 0), (2, 4), (0, 3)]
    assert counts == [3, 4]
    assert fake.closed


def test_an_error_and_a_topic_that_does_not_end_in_time_end_the_scan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = FakeMessage(0, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), 0)
    for answers, within, expected in (
        ([[refused]], 10.0, KafkaException),
        ([[record(0, 0)]], 0.0, SnapshotStalled),
    ):
        fake = FakeConsumer(answers, ends={0: 9})
        with pytest.raises(expected):
            list(scan(use(monkeypatch, fake), "t", lambda *_: (), lambda _: None, within))
        assert fake.closed
