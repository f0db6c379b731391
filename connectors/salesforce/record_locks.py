"""Which Accounts and records other batches in flight are writing, or wrote since a plan was made.

Two requests that write people of one Account at once would lock each other out in Salesforce. Two
people without a common address can meet in one record that holds an address of each: the second
plan was made from values that the first one has replaced.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from connectors.salesforce.rows import WriteRow

# Longer than most calls take, shorter than the sink's orderly stop.
ACCOUNT_WAIT_SECONDS = 15.0
# Of the rows of a batch: if no more wait for Accounts, the others go without them. They go along
# with the next batch, which a batch of this size nearly always has behind it.
LEFT_OUT_SHARE = 0.1
# Far more records than any caller has in flight.
MAX_REMEMBERED_RECORDS = 50_000
_BEING_WRITTEN = sys.maxsize


class RecordLocks:
    """Locks for the writes of one org; one instance for all batches in flight.

    A *moment* is the number of writes that had ended. A plan notes the moment before it reads, so
    that a record that was written after that moment is known to have changed since.
    """

    def __init__(self) -> None:
        self._accounts_in_use: set[str] = set()
        self._account_freed = asyncio.Condition()
        self._moment = 0
        self._written_at: dict[str, int] = {}

    def moment(self) -> int:
        """The number of writes that have ended."""
        return self._moment

    def written_since(self, record_id: str, moment: int) -> bool:
        """Whether a record was written after `moment`, or is being written now."""
        return self._written_at.get(record_id, -1) > moment

    @asynccontextmanager
    async def hold(
        self, rows: Sequence[WriteRow], read_at: int
    ) -> AsyncIterator[Sequence[WriteRow]]:
        """Locks and yields the rows that may be written now, for a plan that was read at `read_at`.

        Waits up to ACCOUNT_WAIT_SECONDS for the Accounts of the rows: waiting costs no call, while
        another batch costs a query. Does not wait if at most LEFT_OUT_SHARE of the rows would have
        to. Leaves out rows whose Account is locked then, and rows whose record was written since
        `read_at`.
        """
        async with self._hold_accounts(rows) as unlocked:
            free = [
                row for row in unlocked if not self.written_since(row.fields.get("Id", ""), read_at)
            ]
            with self._mark_written(free):
                yield free

    @asynccontextmanager
    async def _hold_accounts(self, rows: Sequence[WriteRow]) -> AsyncIterator[Sequence[WriteRow]]:
        wanted = {row.account_id for row in rows if row.account_id}

        def few_are_locked() -> bool:
            locked = wanted & self._accounts_in_use
            if not locked:
                return True
            return sum(row.account_id in locked for row in rows) <= LEFT_OUT_SHARE * len(rows)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACCOUNT_WAIT_SECONDS), self._account_freed:
                await self._account_freed.wait_for(few_are_locked)
        held = wanted - self._accounts_in_use
        self._accounts_in_use |= held
        try:
            yield [row for row in rows if not row.account_id or row.account_id in held]
        finally:
            self._accounts_in_use -= held
            async with self._account_freed:
                self._account_freed.notify_all()

    @contextmanager
    def _mark_written(self, rows: Sequence[WriteRow]) -> Iterator[None]:
        ids = [row.fields["Id"] for row in rows if "Id" in row.fields]
        self._written_at.update(dict.fromkeys(ids, _BEING_WRITTEN))
        try:
            yield
        finally:
            # also after a failure: some of the rows may have been written
            self._moment += 1
            for record_id in ids:
                self._written_at.pop(record_id, None)
                self._written_at[record_id] = self._moment
            while len(self._written_at) > MAX_REMEMBERED_RECORDS:
                del self._written_at[next(iter(self._written_at))]
