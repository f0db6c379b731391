"""Offsets outside of the log, because records expired or a topic was deleted and created again.

The reader logs and counts each loss, and makes up for it by a reconcile.
"""

import asyncio
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from streams.kafka.assigned import AssignedPartition
from streams.kafka.polling import OffsetOutOfRange
from streams.settings import KafkaSettings, load
from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.reader_harness import ReaderHarness, Start, grant, keys, people
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def start(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: ReaderHarness(kafka, processes, tmp_path, world)


def remake(kafka: Kafka, topic: str) -> None:
    """Deletes the topic and creates it again, as after the restore of a cluster or by mistake."""
    admin = kafka.admin()
    for future in admin.delete_topics([kafka.name(topic)]).values():
        future.result()
    wait_until(
        lambda: kafka.name(topic) not in admin.list_topics(timeout=10).topics,
        "the topic is deleted",
    )
    kafka.create(topic)


def expire(kafka: Kafka, topic: str, before: int) -> None:
    """Deletes the records before an offset, as retention does."""
    admin = kafka.admin()
    for future in admin.delete_records([TopicPartition(kafka.name(topic), 0, before)]).values():
        future.result()


async def read(source: AssignedPartition, many: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(60):
        while len(found) < many:
            found += [record.offset for record in await source.consume()]
    return found


def partition(kafka: Kafka, lost: list[int]) -> AssignedPartition:
    settings = load(KafkaSettings, kafka.environ)
    return AssignedPartition(
        settings, kafka.name("asked"), kafka.name("group"), lambda: lost.append(1)
    )


async def test_reading_continues_at_a_commit_within_the_log(kafka: Kafka) -> None:
    kafka.create("asked")
    kafka.produce("asked", [(b"k", b"v")] * 5)
    lost: list[int] = []
    for at, left in ((0, 5), (3, 2), (5, 1)):
        async with partition(kafka, lost) as source:
            if at == 5:
                kafka.produce("asked", [(b"k", b"v")])
            assert not await source.start()
            assert await read(source, left) == list(range(at, at + left))
            await source.commit(3 if at == 0 else 5)
    assert not lost


async def test_a_commit_beyond_the_end_or_before_the_start_of_the_log_is_a_loss(
    kafka: Kafka,
) -> None:
    kafka.create("asked")
    kafka.produce("asked", [(b"k", b"v")] * 4)
    lost: list[int] = []
    async with partition(kafka, lost) as source:
        await source.start()
        # Such a commit remains after an unclean leader election or the restore of a cluster.
        await source.commit(9)
    async with partition(kafka, lost) as source:
        assert await source.start()
        assert (source.committed, lost) == (0, [1])
        assert await read(source, 4) == [0, 1, 2, 3]
        await source.commit(1)
    expire(kafka, "asked", 3)
    async with partition(kafka, lost) as source:
        assert await source.start()
        assert (source.committed, lost) == (3, [1, 1])
        assert await read(source, 1) == [3]


async def test_a_topic_created_again_while_it_is_read_is_reported_and_read_from_its_start(
    kafka: Kafka,
) -> None:
    kafka.create("asked")
    kafka.produce("asked", [(b"k", b"v")] * 9)
    lost: list[int] = []

    async def reports_loss(source: AssignedPartition) -> bool:
        try:
            await source.consume()
        except OffsetOutOfRange:
            return True
        return False

    async with partition(kafka, lost) as source:
        await source.start()
        assert len(await read(source, 9)) == 9
        await asyncio.to_thread(remake, kafka, "asked")
        kafka.produce("asked", [(b"k", b"v")] * 2)
        await until(lambda: reports_loss(source), "the loss is reported", 60)
        await source.start_over()
        assert lost == [1]
        assert await read(source, 2) == [0, 1]


def requested_by(harness: ReaderHarness) -> set[str]:
    return {run["by"] for key, run in harness.runs().items() if "/" not in key}


def test_lost_refetch_requests_are_made_up_for_by_a_reconcile(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(5))]})
    harness.refetch(0, "g1/c0", "g1/c1")
    harness.commit("reader-work", "contacts.refetch", {0: 50})
    reader = harness.reader()
    wait_until(lambda: "g1/c4" in keys(harness.events()), "everything is compared", 60)
    assert requested_by(harness) == {"contacts.refetch"}
    assert reader.metric("contactstream_reader_offset_resets_total", topic="contacts.refetch") == 1
    seen = len(harness.events())
    harness.refetch(0, "g1/c1")
    wait_until(lambda: len(harness.events()) > seen, "a later request is answered", 60)


def test_refetch_requests_lost_while_the_reader_runs_are_made_up_for_too(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(5))]})
    harness.refetch(0, *[f"g1/c{number}" for number in range(4)])
    reader = harness.reader()
    wait_until(
        lambda: (
            harness.kafka.committed(
                harness.kafka.name("contactstream-reader-work"), "contacts.refetch"
            )
            == {0: 4}
        ),
        "they are read",
        60,
    )
    assert reader.metric("contactstream_reader_offset_resets_total", topic="contacts.refetch") == 0
    remake(harness.kafka, "contacts.refetch")
    wait_until(lambda: "g1/c4" in keys(harness.events()), "everything is compared", 60)
    assert requested_by(harness) == {"contacts.refetch"}
    seen = len(harness.events())
    harness.refetch(0, "g1/c1")
    wait_until(lambda: len(harness.events()) > seen, "a later request is answered", 60)


def test_grant_events_below_a_commit_of_an_older_topic_are_acted_on(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(2)), grant("g2", people(2))]})
    harness.write_grant_event("grant.created", "g1")
    harness.commit("reader-work", "grants.events", {0: 50})
    harness.reader()
    wait_until(
        lambda: requested_by(harness) == {"grants.events", "grant.created"},
        "both are requested",
        60,
    )
