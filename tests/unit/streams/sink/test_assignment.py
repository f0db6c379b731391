"""When batches may start on a partition that was just assigned, and what ends with it."""

import asyncio

from confluent_kafka import TopicPartition

from streams.events import ContactChange, Kind
from streams.kafka.records import KafkaRecord
from streams.sink.assignment import Assignment, ReadProgress
from streams.sink.batching import PendingChange
from streams.sink.deletions import Deletions


async def nothing() -> None:
    pass


async def assigned(catch_up_to: int) -> Assignment:
    made = Assignment(
        TopicPartition("contacts.changes", 0), 0, catch_up_to, Deletions(), ReadProgress(0)
    )
    made.recall = asyncio.create_task(nothing())
    await made.recall
    return made


def deletion(offset: int) -> PendingChange:
    change = ContactChange("g/ada", Kind.DELETED, 5, "", "", "webhook", 0, {})
    record = KafkaRecord("contacts.changes", b"g/ada", b"{}", [], 0, offset)
    return PendingChange(change, record, frozenset(), 0.0, [offset])


async def test_batches_wait_until_the_log_was_read_to_its_former_end() -> None:
    partition = await assigned(2)
    partition.took(0)
    assert not partition.caught_up(100)
    partition.took(1)
    assert partition.caught_up(100)


async def test_the_end_of_the_log_counts_though_compaction_left_a_hole_before_it() -> None:
    partition = await assigned(10)
    partition.took(0)
    partition.reached_end(10)
    assert partition.caught_up(100)
    assert partition.progress.read_up_to == 10


async def test_batches_start_once_nothing_more_may_be_taken_ahead() -> None:
    partition = await assigned(10)
    for offset in range(3):
        partition.took(offset)
    assert partition.caught_up(3)
    assert partition.caught_up(100), "it stays so"


async def test_batches_wait_for_the_deletions_of_a_predecessor() -> None:
    partition = await assigned(0)
    assert partition.caught_up(100)
    partition.recall = asyncio.create_task(asyncio.sleep(60))
    assert not partition.caught_up(100)
    partition.recall.cancel()


async def test_a_finished_deletion_is_remembered_and_its_offset_may_be_committed() -> None:
    partition = await assigned(0)
    row = deletion(0)
    partition.took(0)
    partition.finish([row])
    assert partition.tracker.committable() == 1
    older = ContactChange("g/ada", Kind.UPDATED, 4, "", "", "webhook", 0, {})
    assert partition.deletions.is_outdated(older)


async def test_rows_of_a_lost_partition_are_not_put_back() -> None:
    partition = await assigned(0)
    partition.put_back([deletion(0)])
    assert len(partition.pending) == 1
    partition.pending.clear()
    partition.active = False
    partition.put_back([deletion(0)])
    assert len(partition.pending) == 0
