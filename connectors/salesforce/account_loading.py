"""Reads the org's Accounts page by page, into the directory and into a store.

A page counts as read once its rows are in the store, and the cursor behind it: a fault on a late
page, a restart or a takeover goes on there. Nothing here keeps the event loop for long: pages are
parsed in a thread and taken in small parts.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from connectors.salesforce.account_queries import (
    AccountFields,
    AccountQuery,
    after_load,
    bulk_is_cheaper,
    next_load,
)
from connectors.salesforce.account_rules import NO_RULES, AccountRules
from connectors.salesforce.account_store import AccountCursor, AccountStore, OpenLoad, StoredPage
from connectors.salesforce.account_table import AccountRow
from connectors.salesforce.accounts import AccountDirectory, account_row
from connectors.salesforce.api.bulk_query import (
    create_job,
    records,
    result_page,
    wait_until_complete,
)
from connectors.salesforce.api.client import MAX_PAGES, CompositeClient, Fence
from connectors.salesforce.api.composite import QueryPage, SubAnswer, Subrequest, query_page
from connectors.salesforce.api.errors import OrgUnavailable, RequestRejected, UnexpectedAnswer
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.sequences import batched

REFERENCE = "accounts"
# Rows that are looked at or taken in one go, which is some 5 ms, and twice that on a busy machine.
ROWS_AT_ONCE = 250
# A query whose further pages are gone is asked again soon: what is wrong with it is known.
ASK_AGAIN_SECONDS = 5.0


class AccountLoader:
    """Reads one load at a time, for one org. Only the caller knows whether a failure matters."""

    def __init__(
        self,
        client: CompositeClient,
        directory: AccountDirectory,
        store: AccountStore,
        count: CountCallback,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rules: AccountRules = NO_RULES,
    ) -> None:
        self.cursor = AccountCursor()
        """How far the Accounts were read."""
        self._client = client
        self._directory = directory
        self._store = store
        self._count = count
        self._sleep = sleep
        self._rules = rules
        self._fields = AccountFields(rules)
        self._bulk_works = True

    def tell_person_accounts_apart(self) -> bool:
        """Asks whether an Account is a Person Account. True if it did not ask before."""
        return self._fields.tell_person_accounts_apart()

    async def restore(self) -> AsyncIterator[StoredPage]:
        """Takes what the store holds and this process does not know yet; yields it as well.

        Raises what the store's `load` raises.
        """
        async for page in self._store.load():
            if page.from_start:
                self._directory.clear()
                self.cursor = AccountCursor()
            await self._take(page.rows)
            self.cursor = page.cursor or self.cursor
            yield page

    def open(self, asked: datetime) -> OpenLoad:
        """The load to go on with, or to begin."""
        return next_load(self.cursor, asked, self._rules)

    def subrequest(self, load: OpenLoad) -> Subrequest | None:
        """The query with which a load begins; None for one that goes on."""
        if load.next_url is not None or load.job is not None:
            return None
        return self._query(load).subrequest(REFERENCE)

    async def read(self, load: OpenLoad, answer: SubAnswer | None, fence: Fence) -> None:
        """Reads a load to its end; `answer` is the one to its `subrequest`.

        What was read before a failure is kept, and `open` goes on there. Raises
        OrgUnavailable("accounts") where that is impossible, and `open` begins again. Otherwise
        raises as the client and the store do.
        """
        following: OpenLoad | None = load
        if answer is not None:
            following = await self._begin(load, answer, fence)
        for _ in range(MAX_PAGES):
            if following is None:
                return
            if following.job is None:
                following = await self._read_page(following, fence)
            else:
                following = await self._read_results(following, fence)
        raise self._lost(f"a query for the Accounts with more than {MAX_PAGES} pages")

    async def _begin(self, load: OpenLoad, answer: SubAnswer, fence: Fence) -> OpenLoad | None:
        """Takes the first page, or hands the whole query to a job. Returns what follows."""
        page = await self._first_page(load, answer, fence)
        if load.full:  # so that no later load takes its rows for its own
            self.cursor = replace(self.cursor, begun=load.generation, load=None)
            await self._store.save([], self.cursor, fence)
        if self._bulk_works and bulk_is_cheaper(page):
            query = self._query(load)
            try:
                job = await create_job(self._client, query.soql, fence, deleted=query.deleted)
            except (RequestRejected, UnexpectedAnswer):
                self._bulk_failed()
            else:
                following = replace(load, job=job, fields=query.fields)
                await self._keep(iter(()), load, following, fence)
                return following
        return await self._take_page(load, page, fence)

    async def _first_page(self, load: OpenLoad, answer: SubAnswer, fence: Fence) -> QueryPage:
        """The page of an answer; asked for again without hidden fields that can be spared."""
        while True:  # ends: every round asks for fewer fields
            try:
                return query_page(answer)
            except RequestRejected as refused:
                if not self._fields.drop(refused.verdict.fields):
                    raise
                name = refused.verdict.fields[0]
                self._count(SyncWarning.FIELD_MISSING, f"Account.{name}")
            (answer,) = await self._client.composite(
                [self._query(load).subrequest(REFERENCE)], "composite_query", fence
            )

    async def _read_page(self, load: OpenLoad, fence: Fence) -> OpenLoad | None:
        if load.next_url is None:
            raise ValueError("a load without a further page")
        try:
            page = await self._client.query_more(load.next_url, fence=fence)
        except RequestRejected as refused:  # most often the query has expired
            raise self._lost(f"a page of the Accounts: {refused}") from refused
        return await self._take_page(load, page, fence)

    async def _take_page(self, load: OpenLoad, page: QueryPage, fence: Fence) -> OpenLoad | None:
        rows = self._rows(page.records, load.generation)
        following = None if page.next_url is None else replace(load, next_url=page.next_url)
        await self._keep(rows, load, following, fence)
        return following

    async def _read_results(self, load: OpenLoad, fence: Fence) -> OpenLoad | None:
        """Reads a page of a job's results; before the first one, waits for the job."""
        job = load.job or ""
        try:
            if load.locator is None:
                await wait_until_complete(self._client, job, fence, self._sleep)
            page = await result_page(self._client, job, load.locator, fence)
            rows = self._rows(records(page.content, load.fields), load.generation)
            following = None if page.locator is None else replace(load, locator=page.locator)
            await self._keep(rows, load, following, fence)
        except (RequestRejected, UnexpectedAnswer) as failed:
            self._bulk_failed()
            raise self._lost(f"a bulk query for the Accounts: {failed}") from failed
        return following

    def _bulk_failed(self) -> None:
        self._bulk_works = False
        self._count(SyncWarning.BULK_QUERY_REFUSED, "")

    def _lost(self, detail: str) -> OrgUnavailable:
        self.cursor = replace(self.cursor, load=None)
        return OrgUnavailable("accounts", ASK_AGAIN_SECONDS, detail)

    async def _keep(
        self,
        rows: Iterator[AccountRow],
        load: OpenLoad,
        following: OpenLoad | None,
        fence: Fence,
    ) -> None:
        """Keeps the rows of a page, and then the cursor that says so. None follows the last.

        A thread makes the rows, a small part at a time: many of them at once would make Python's
        garbage collections long.
        """
        while part := await asyncio.to_thread(_next_part, rows):
            changed = self._directory.changed(part)
            await self._store.save(changed, None, fence)
            self._directory.update(changed)
        if following is not None:
            cursor = replace(self.cursor, load=following)
            await self._store.save([], cursor, fence)
            self.cursor = cursor
            return
        if load.full:
            await self._remove_others(load.generation, fence)
        await self._store.save(self._directory.take_forgotten(), after_load(load), fence)
        self.cursor = after_load(load)

    async def _remove_others(self, generation: int, fence: Fence) -> None:
        """Removes Accounts that a full load did not show."""
        for start in range(0, self._directory.places, ROWS_AT_ONCE):
            rows = self._directory.of_other_generations(generation, start, ROWS_AT_ONCE)
            if rows:
                await self._store.save(rows, None, fence)
                self._directory.update(rows)
            await asyncio.sleep(0)

    async def _take(self, rows: Sequence[AccountRow]) -> None:
        for part in batched(rows, ROWS_AT_ONCE):
            self._directory.update(part)
            await asyncio.sleep(0)

    def _rows(self, found: Iterable[Mapping[str, Any]], generation: int) -> Iterator[AccountRow]:
        rules = self._rules
        return (row for fields in found if (row := account_row(fields, generation, rules)))

    def _query(self, load: OpenLoad) -> AccountQuery:
        return self._fields.query(load, self.cursor.known_until, self._directory.gone)


def _next_part(rows: Iterator[AccountRow]) -> list[AccountRow]:
    return list(islice(rows, ROWS_AT_ONCE))
