"""Reads a topic for a command, and tells its user what is wrong if it cannot be read."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager

import click
from confluent_kafka import KafkaException

from streams.kafka.clients import BrokerUnavailable, wait_for_broker
from streams.kafka.records import KafkaRecord
from streams.kafka.scan import Wanted, scan
from streams.kafka.snapshot import (
    LogRange,
    SnapshotStalled,
    log_ranges,
    read_ranges,
    read_to_end,
)
from streams.settings import KafkaSettings

# A person waits for the command, but a broker that is just starting should be reached.
BROKER_WAIT_SECONDS = 30.0


@contextmanager
def _explained() -> Iterator[None]:
    """Tells the user what is wrong where Kafka cannot be read."""
    try:
        yield
    except (BrokerUnavailable, SnapshotStalled, KafkaException) as error:
        raise click.ClickException(str(error)) from error


def _wait_for_topic(
    kafka: KafkaSettings,
    name: str,
    waiting: Callable[[str], None] = lambda _: None,
    seconds: float = BROKER_WAIT_SECONDS,
) -> None:
    wait_for_broker(kafka, [name], stopped=lambda: False, waiting=waiting, deadline=seconds)


def topic_records(
    kafka: KafkaSettings,
    name: str,
    *,
    offset: int = 0,
    since: float | None = None,
    within: float | None = None,
    waiting: Callable[[str], None] = lambda _: None,
    broker_seconds: float = BROKER_WAIT_SECONDS,
) -> Generator[KafkaRecord, None, None]:
    """The records of a topic from its start, or from `offset`, to its present end. Blocks.

    `since` and `within` are as for `read_to_end`; `waiting` is called with what is waited for, for
    up to `broker_seconds` until the broker and the topic are there.
    Raises click.ClickException, with the remedy, when the broker or the topic is not there.
    """
    with _explained():
        _wait_for_topic(kafka, name, waiting, broker_seconds)
        yield from read_to_end(kafka, name, offset=offset, since=since, within=within)


def topic_scan(
    kafka: KafkaSettings,
    name: str,
    wanted: Wanted,
    count: Callable[[int], None],
    within: float,
) -> Iterator[KafkaRecord]:
    """The wanted records of every partition, as `scan` yields them. Blocks.

    Raises click.ClickException, with the remedy, when the broker or the topic is not there.
    """
    with _explained():
        _wait_for_topic(kafka, name)
        yield from scan(kafka, name, wanted, count, within)


def topic_log(kafka: KafkaSettings, name: str, since: float | None = None) -> dict[int, LogRange]:
    """The offsets of each partition, as `log_ranges` returns them. Blocks.

    Raises click.ClickException, with the remedy, when the broker or the topic is not there.
    """
    with _explained():
        _wait_for_topic(kafka, name)
        return log_ranges(kafka, name, since)


def topic_ranges(
    kafka: KafkaSettings, name: str, ranges: Mapping[int, tuple[int, int]]
) -> Iterator[KafkaRecord]:
    """The records of these offsets, by partition. Blocks. Raises click.ClickException."""
    with _explained():
        yield from read_ranges(kafka, name, ranges)
