"""Finds out what became of a contact, an address or a record; for the command and the console."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from connectors.salesforce.policy import Policy
from connectors.salesforce.suppression import GrowingSuppression
from streams.commands.explain.ahead import ScanAhead
from streams.commands.explain.answer import Answer, answer
from streams.commands.explain.question import Question
from streams.commands.explain.search import Found, Wanted, everything, find
from streams.commands.topic_records import topic_scan
from streams.control import ControlTable
from streams.events import UnreadableRecord
from streams.kafka.records import KafkaRecord
from streams.runs import RunLog
from streams.settings import KafkaSettings
from streams.suppression import apply_record
from streams.topics import topics

# For one topic. A person waits, and a topic that takes longer is better searched by its key.
TOPIC_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Investigation:
    """The answer, and the records that it follows from, which hold personal data."""

    answer: Answer
    found: Found


def investigate(
    kafka: KafkaSettings, policy: Policy, question: Question, count: Callable[[str, int], None]
) -> Investigation:
    """What became of it. Blocks until the topics are read.

    `count` is called with a topic and how many further records of it were looked at. Raises
    click.ClickException without a broker.
    """
    names = topics(kafka)
    ahead = ScanAhead(kafka, TOPIC_SECONDS)

    def read(topic: str, wanted: Wanted) -> Iterator[KafkaRecord]:
        def counted(records: int) -> None:
            count(topic, records)

        counted(0)
        if not ahead.has(topic):
            yield from topic_scan(kafka, topic, wanted, counted, TOPIC_SECONDS)
            return
        for found in ahead.take(topic):
            if isinstance(found, int):
                counted(found)
            else:
                yield from found

    with _no_garbage_collection(), closing(ahead):
        found = find(question, read, names, ahead.begin)
    listed = policy.suppression
    if isinstance(listed, GrowingSuppression):
        for record in read(names.suppression.name, everything):
            apply_record(listed, record)
    runs = _run_log(read(names.runs.name, everything)) if found.contacts else RunLog()
    control = ControlTable()
    for record in read(names.control.name, everything):
        control.apply(record)
    return Investigation(answer(question, found, runs, policy, names, control), found)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Without the search for reference cycles, of which a search through topics makes none.

    Millions of records are made and dropped, and looking for cycles among them takes a third of the
    time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _run_log(records: Iterable[KafkaRecord]) -> RunLog:
    log = RunLog()
    for record in records:
        try:
            log.apply(record.key or b"", record.value)
        except UnreadableRecord:
            continue  # the reader counts it
    return log
