"""Locks between batches in flight, without an org."""

import asyncio

import pytest

from connectors.salesforce import record_locks
from connectors.salesforce.record_locks import RecordLocks
from connectors.salesforce.rows import WriteRow


def update(record_id: str, account_id: str | None = None) -> WriteRow:
    return WriteRow("Contact", "update", {"Id": record_id}, account_id)


async def test_a_record_that_was_written_since_a_plan_was_read_is_left_out() -> None:
    locks = RecordLocks()
    read_at = locks.moment()
    async with locks.hold([update("a")], read_at) as free:
        assert free == [update("a")]
        assert locks.written_since("a", locks.moment()), "it is being written"
        async with locks.hold([update("a"), update("b")], read_at) as others:
            assert others == [update("b")]
    assert locks.written_since("a", read_at)
    assert not locks.written_since("c", read_at)
    async with locks.hold([update("a")], read_at) as free:
        assert free == []
    async with locks.hold([update("a")], locks.moment()) as free:
        assert free == [update("a")]


async def test_a_failed_write_counts_as_a_write() -> None:
    locks = RecordLocks()
    with pytest.raises(ConnectionError):
        async with locks.hold([update("a")], 0):
            raise ConnectionError
    assert locks.written_since("a", 0)


async def test_a_batch_waits_for_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_locks, "ACCOUNT_WAIT_SECONDS", 30.0)
    locks = RecordLocks()
    order: list[str] = []
    held = asyncio.Event()

    async def first() -> None:
        async with locks.hold([update("a", "acme")], 0):
            held.set()
            await asyncio.sleep(0.05)
            order.append("first")

    async def second() -> None:
        await held.wait()
        async with locks.hold([update("b", "acme")], 0) as free:
            assert free == [update("b", "acme")]
            order.append("second")

    await asyncio.gather(first(), second())
    assert order == ["first", "second"]


async def test_a_large_batch_does_not_wait_for_the_accounts_of_a_few_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record_locks, "ACCOUNT_WAIT_SECONDS", 0.01)
    locks = RecordLocks()
    others = [update(f"o{number}") for number in range(18)]
    few = [update("b", "acme"), update("c", "acme")]
    async with locks.hold([update("a", "acme")], 0):
        async with asyncio.timeout(0), locks.hold([*few, *others], 0) as free:
            assert free == others
        waited = locks.hold([*few, update("d", "acme"), *others], 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), waited:
                pass


async def test_an_account_that_stays_locked_holds_up_only_its_own_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record_locks, "ACCOUNT_WAIT_SECONDS", 0.01)
    locks = RecordLocks()
    rows = [update("b", "acme"), update("c", "globex")]
    async with locks.hold([update("a", "acme")], 0), locks.hold(rows, 0) as free:
        assert free == [update("c", "globex")]


async def test_the_locks_remember_a_bounded_number_of_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record_locks, "MAX_REMEMBERED_RECORDS", 2)
    locks = RecordLocks()
    for record_id in "abc":
        async with locks.hold([update(record_id)], locks.moment()):
            pass
    assert [locks.written_since(record_id, 0) for record_id in "abc"] == [False, True, True]
