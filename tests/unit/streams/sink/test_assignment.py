"""When batches may start on a partition that was just assigned, and what ends with it."""

import asyncio

from confluent_kafka import TopicPartition

from streams.events import ContactChange, Kind, change_headers
from streams.kafka.polling import EndOfPartition
from streams.kafka.records import KafkaRecord
from streams.sink.assignment import Assignment, ReadProgress
from streams.sink.batching import PendingChange
from streams.sink.catch_up import CatchUp
from streams.sink.deletions import Deletions


async def nothing() -> None:
    pass


async def assigned(catch_up_to: int) -> Assignment:
    made = Assignment(
        TopicPartition("contacts.changes", 0),
        0,
        CatchUp(catch_up_to) if catch_up_to else None,
        Deletions(),
        ReadProgress(0),
    )
    made.recall = asyncio.create_task(nothing())
    await made.recall
    return made


def deletion(offset: int) -> PendingChange:
    change = ContactChange("g/ada", Kind.DELETED, 5, "", "", "webhook", 0, {})
    record = KafkaRecord("contacts.changes", b"g/ada", b"{}", [], 0, offset)
    return PendingChange(change, record, frozenset(), 0.0, [offset])


def record(offset: int, contact: str = "x", version: int = 1) -> KafkaRecord:
    headers = change_headers(Kind.UPDATED, version, "", "", b"webhook", b"0")
    return KafkaRecord("contacts.changes", f"g/{contact}".encode(), b"{}", headers, 0, offset)


async def test_batches_wait_until_all_was_read_that_a_predecessor_may_have_written() -> None:
    partition = await assigned(2)
    partition.survey([record(0)])
    assert not partition.may_write
    partition.survey([record(1)])
    assert partition.may_write
    assert partition.rewind
    assert (partition.progress.read_up_to, len(partition.tracker)) == (0, 0)


async def test_the_end_of_the_log_counts_though_compaction_left_a_hole_before_it() -> None:
    partition = await assigned(10)
    partition.survey([record(0), EndOfPartition("contacts.changes", 0, 9)])
    assert partition.may_write


async def test_what_the_first_reading_found_is_dropped_once_it_was_read_again() -> None:
    partition = await assigned(1)
    partition.survey([record(0)])
    assert not partition.is_superseded("g/x", 0)
    partition.took(0)
    partition.took_all()
    assert partition.catch_up is None


async def test_a_change_before_an_older_one_is_finished_once_both_were_read_again() -> None:
    partition = await assigned(2)
    partition.survey([record(0, "a", 2), record(1, "a", 1)])
    newer, older = (partition.is_superseded("g/a", offset) for offset in (0, 1))
    assert (newer, older) == (False, True)
    partition.took(0)
    partition.finish([deletion(0)])
    assert partition.tracker.committable() == 0
    partition.took(1)
    partition.tracker.finish(1)
    partition.took_all()
    assert partition.tracker.committable() == 2


async def test_a_hole_at_the_end_of_what_was_read_twice_holds_nothing_back() -> None:
    partition = await assigned(9)
    partition.survey([record(0, "a", 2), record(1, "a", 1), record(8, "b", 1)])
    partition.is_superseded("g/a", 0)
    for offset in range(2):
        partition.took(offset)
    partition.finish([deletion(0)])
    partition.tracker.finish(1)
    partition.reached_end(9)
    assert partition.tracker.committable() == 2


async def test_batches_wait_for_the_deletions_of_a_predecessor() -> None:
    partition = await assigned(0)
    assert partition.may_write
    partition.recall = asyncio.create_task(asyncio.sleep(60))
    assert not partition.may_write
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
