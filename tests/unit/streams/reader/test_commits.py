"""When the offset of a partition is committed."""

from typing import cast

import pytest

from streams.kafka.assigned import AssignedPartition
from streams.reader import commits
from streams.reader.commits import RECOMMIT_SECONDS, OffsetCommitter


class Partition:
    """Stands for AssignedPartition, and may refuse commits."""

    def __init__(self) -> None:
        self.committed: list[int] = []
        self.refuses = False

    async def commit(self, offset: int) -> bool:
        if not self.refuses:
            self.committed.append(offset)
        return not self.refuses


class Clock:
    """The monotonic clock, which only the test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved_by_test = Clock()
    monkeypatch.setattr(commits, "time", moved_by_test)
    return moved_by_test


async def test_a_moved_offset_is_committed_at_most_once_an_interval(clock: Clock) -> None:
    partition = Partition()
    committer = OffsetCommitter(cast(AssignedPartition, partition), 5, interval_seconds=1.0)
    clock.now += 1
    for offset in (5, 6, 7):
        await committer.commit_if_due(offset)
    assert partition.committed == [6]
    clock.now += 1
    await committer.commit_if_due(7)
    assert partition.committed == [6, 7]


async def test_a_refused_commit_is_repeated(clock: Clock) -> None:
    partition = Partition()
    committer = OffsetCommitter(cast(AssignedPartition, partition), 5)
    partition.refuses = True
    await committer.commit_if_due(6)
    partition.refuses = False
    await committer.commit_if_due(6)
    await committer.commit_if_due(6)
    assert partition.committed == [6]


async def test_an_offset_that_does_not_move_is_committed_every_hour(clock: Clock) -> None:
    partition = Partition()
    committer = OffsetCommitter(cast(AssignedPartition, partition), 5)
    await committer.commit_if_due(5)
    assert partition.committed == []
    clock.now += RECOMMIT_SECONDS + 1
    await committer.commit_if_due(5)
    await committer.commit_if_due(5)
    assert partition.committed == [5]
