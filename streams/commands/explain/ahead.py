"""Scans a topic in a process of its own, while the command scans another one.

Python looks at the records of one topic at a time, and a search through all of them waits for
nothing else. A second process takes the second core.
"""

import gc
import signal
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import click
from confluent_kafka import KafkaException

from streams.commands.topic_records import topic_log
from streams.kafka.records import KafkaRecord
from streams.kafka.scan import Wanted, scan
from streams.kafka.snapshot import SnapshotStalled
from streams.settings import KafkaSettings

# Records in one message between the processes. The other process waits while nobody takes them.
RECORDS_AT_ONCE = 500

# Records that are scanned in about the time that a process takes to start.
WORTH = 200_000

# For a process that was told to end.
END_SECONDS = 5.0


class ScanAhead:
    """Scans that were begun, by topic. `close` ends those that nobody has read."""

    def __init__(self, kafka: KafkaSettings, within: float) -> None:
        self._kafka, self._within = kafka, within
        self._begun: dict[str, tuple[SpawnProcess, Connection]] = {}

    def begin(self, topic: str, wanted: Wanted) -> None:
        """Begins a scan in another process, unless the topic is small.

        `wanted` must be one that can be pickled. Raises click.ClickException without a broker or
        without the topic.
        """
        if sum(each.end - each.oldest for each in topic_log(self._kafka, topic).values()) < WORTH:
            return
        # Not forked: a fork would copy locks of the Kafka client's threads as they are.
        context = get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        arguments = (self._kafka, topic, wanted, self._within, theirs)
        process = context.Process(target=_scan, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._begun[topic] = process, ours

    def has(self, topic: str) -> bool:
        """Whether a scan of the topic was begun and not taken yet."""
        return topic in self._begun

    def take(self, topic: str) -> Iterator[list[KafkaRecord] | int]:
        """The records that a scan finds, and numbers of records looked at, as they come. Blocks.

        Raises click.ClickException when the topic cannot be read.
        """
        process, connection = self._begun.pop(topic)
        try:
            while (message := _received(connection)) is not None:
                if isinstance(message, str):
                    raise click.ClickException(message)
                yield message
        finally:
            _end(process, connection)

    def close(self) -> None:
        """Ends the scans that nobody takes any more."""
        while self._begun:
            _, (process, connection) = self._begun.popitem()
            _end(process, connection)


def _received(connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        return "the process that reads a topic has ended; ask again"


def _end(process: SpawnProcess, connection: Connection) -> None:
    connection.close()
    process.terminate()
    process.join(END_SECONDS)


def _scan(
    kafka: KafkaSettings, topic: str, wanted: Wanted, within: float, connection: Connection
) -> None:
    """The other process: sends records, numbers of records looked at, an error, None at the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends it
    gc.disable()  # as the command does
    found: list[KafkaRecord] = []
    try:
        try:
            for record in scan(kafka, topic, wanted, connection.send, within):
                found.append(record)
                if len(found) >= RECORDS_AT_ONCE:
                    connection.send(found)
                    found = []
            connection.send(found)
            connection.send(None)
        except (SnapshotStalled, KafkaException) as error:
            connection.send(str(error))
    except OSError:
        return  # the command has ended
