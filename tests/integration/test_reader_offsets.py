"""Offsets that are not in the log any more: a topic made anew, records that expired. Told, and made
good, never skipped in silence.
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
from tests.support.reader_harness import Desk, Start, grant, keys, people
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def desk(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: Desk(kafka, processes, tmp_path, world)


def remake(kafka: Kafka, topic: str) -> None:
    """The topic anew and empty, as after a restored cluster or a hand that slipped."""
    admin = kafka.admin()
    for future in admin.delete_topics([kafka.name(topic)]).values():
        future.result()
    wait_until(lambda: kafka.name(topic) not in admin.list_topics(timeout=10).topics, "it is gone")
    kafka.create(topic)


def expire(kafka: Kafka, topic: str, before: int) -> None:
    """As retention does."""
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


async def test_a_commit_within_the_log_is_where_reading_goes_on(kafka: Kafka) -> None:
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
        await source.commit(
            9
        )  # as a commit stands after an unclean election, or in a log that a restored cluster cut
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


async def test_a_log_that_is_made_anew_while_it_is_read_is_told_and_read_from_its_start(
    kafka: Kafka,
) -> None:
    kafka.create("asked")
    kafka.produce("asked", [(b"k", b"v")] * 9)
    lost: list[int] = []

    async def told(source: AssignedPartition) -> bool:
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
        await until(lambda: told(source), "the loss is told", 60)
        await source.start_over()
        assert lost == [1]
        assert await read(source, 2) == [0, 1]


def asked_for(mine: Desk) -> set[str]:
    return {run["by"] for key, run in mine.runs().items() if "/" not in key}


def test_requests_to_read_again_that_are_lost_are_made_good_by_a_reconcile(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(5))]})
    mine.refetch(0, "g1/c0", "g1/c1")
    mine.commit("reader-work", "contacts.refetch", {0: 50})
    reader = mine.reader()
    wait_until(lambda: "g1/c4" in keys(mine.events()), "everything is compared", 60)
    assert asked_for(mine) == {"contacts.refetch"}
    assert reader.metric("contactstream_reader_offset_resets_total", topic="contacts.refetch") == 1
    seen = len(mine.events())
    mine.refetch(0, "g1/c1")
    wait_until(lambda: len(mine.events()) > seen, "what is asked for now is served", 60)


def test_requests_that_are_lost_while_the_reader_runs_are_made_good_too(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(5))]})
    mine.refetch(0, *[f"g1/c{number}" for number in range(4)])
    reader = mine.reader()
    wait_until(
        lambda: (
            mine.kafka.committed(mine.kafka.name("contactstream-reader-work"), "contacts.refetch")
            == {0: 4}
        ),
        "they are read",
        60,
    )
    assert reader.metric("contactstream_reader_offset_resets_total", topic="contacts.refetch") == 0
    remake(mine.kafka, "contacts.refetch")
    wait_until(lambda: "g1/c4" in keys(mine.events()), "everything is compared", 60)
    assert asked_for(mine) == {"contacts.refetch"}
    seen = len(mine.events())
    mine.refetch(0, "g1/c1")
    wait_until(lambda: len(mine.events()) > seen, "what is asked for now is served", 60)


def test_events_of_grants_below_a_commit_of_another_log_are_acted_on(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(2)), grant("g2", people(2))]})
    mine.granted("grant.created", "g1")
    mine.commit("reader-work", "grants.events", {0: 50})
    mine.reader()
    wait_until(
        lambda: asked_for(mine) == {"grants.events", "grant.created"}, "both are asked for", 60
    )
