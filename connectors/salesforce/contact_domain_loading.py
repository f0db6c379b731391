"""Reads once a day which Account the Contacts of each mail domain belong to, and keeps it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.salesforce.account_loading import ROWS_AT_ONCE
from connectors.salesforce.account_queries import bulk_is_cheaper
from connectors.salesforce.account_store import AccountStore, ContactDomainCursor
from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.api.bulk_query import (
    create_job,
    records,
    result_page,
    wait_until_complete,
)
from connectors.salesforce.api.client import MAX_PAGES, CompositeClient, Fence
from connectors.salesforce.api.composite import QueryPage, query_page, query_subrequest
from connectors.salesforce.api.errors import RequestRejected, UnexpectedAnswer
from connectors.salesforce.contact_domains import (
    ContactDomain,
    DomainCounts,
    changed_domains,
    contact_query,
)
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.policy import Policy
from connectors.salesforce.sequences import batched

# Between two readings. The share of an Account among the Contacts of a domain changes slowly.
READ_EVERY_SECONDS = 86_400.0
# After a reading that failed.
RETRY_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class _Question:
    soql: str
    fields: tuple[str, ...]


class ContactDomainLoader:
    """Keeps the directory's evidence by Contacts; reads nothing where the policy has no share."""

    def __init__(
        self,
        client: CompositeClient,
        directory: AccountDirectory,
        store: AccountStore,
        policy: Policy,
        count: CountCallback,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._directory = directory
        self._store = store
        self._count = count
        self._sleep = sleep
        self._rules = policy.account_rules
        self._share = policy.contact_share if policy.creation.uses_accounts else 0.0
        self._cursor = ContactDomainCursor()
        self._retry_at = 0.0
        self._reading = asyncio.Lock()

    def take(self, domains: Sequence[ContactDomain], cursor: ContactDomainCursor | None) -> None:
        """Takes what the store holds."""
        if self._share:
            self._directory.update_contact_domains(domains)
            self._cursor = cursor or self._cursor

    def forget_cursor(self) -> None:
        """Notes that the store is read from its start."""
        self._cursor = ContactDomainCursor()

    def never_read(self, now: float) -> bool:
        """Whether nothing is known yet by these rules, and a reading may be tried."""
        return bool(self._share) and self._cursor.rules != self._name and now >= self._retry_at

    def due(self, now: float) -> bool:
        """Whether a reading is due. `now` in epoch seconds."""
        if not self._share or now < self._retry_at or self._reading.locked():
            return False
        read_at = self._cursor.read_at
        late = read_at is None or now - read_at.timestamp() >= READ_EVERY_SECONDS
        return late or self._cursor.rules != self._name

    @property
    def _name(self) -> str:
        return f"{self._share} {self._rules.fingerprint}"

    async def read(self, now: float, fence: Fence, *, person_accounts: bool) -> None:
        """Reads all Contacts with an Account, and keeps which domains follow from them.

        A refusal is counted, and what was known before serves on. Raises OrgUnavailable,
        AccountStoreUnavailable and WriterFenced.
        """
        async with self._reading:
            self._retry_at = now + RETRY_SECONDS
            counts = DomainCounts(self._rules)
            asked = _Question(*contact_query(self._rules, person_accounts=person_accounts))
            try:
                async for rows in self._pages(asked, fence):
                    for part in batched(rows, ROWS_AT_ONCE):
                        counts.add(part)
                        await asyncio.sleep(0)
            except (RequestRejected, UnexpectedAnswer) as refused:
                self._count(SyncWarning.CONTACT_DOMAINS_REFUSED, _reason(refused))
                return
            if counts.uncounted:
                self._count(SyncWarning.CONTACT_DOMAINS_REFUSED, "too_many")
            found = await asyncio.to_thread(counts.domains, self._share)
            await self._keep(found, now, fence)

    async def _keep(self, found: Mapping[str, ContactDomain], now: float, fence: Fence) -> None:
        changed = changed_domains(self._directory.contact_domains, found)
        cursor = ContactDomainCursor(datetime.fromtimestamp(now, UTC), self._name)
        await self._store.save_contact_domains(changed, cursor, fence)
        self._directory.update_contact_domains(changed)
        self._cursor, self._retry_at = cursor, 0.0

    async def _pages(
        self, asked: _Question, fence: Fence
    ) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """The Contacts, page by page, by a job where that takes fewer calls."""
        request = query_subrequest(asked.soql, "contacts")
        (answer,) = await self._client.composite([request], "composite_query", fence)
        page = query_page(answer)
        if bulk_is_cheaper(page):
            async for rows in self._bulk_pages(asked, fence):
                yield rows
            return
        following: QueryPage | None = page
        for _ in range(MAX_PAGES):
            if following is None:
                return
            yield following.records
            url = following.next_url
            following = await self._client.query_more(url, fence=fence) if url else None
        raise UnexpectedAnswer("a query for the Contacts with too many pages")

    async def _bulk_pages(
        self, asked: _Question, fence: Fence
    ) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        job = await create_job(self._client, asked.soql, fence, deleted=False)
        await wait_until_complete(self._client, job, fence, self._sleep)
        locator: str | None = None
        for _ in range(MAX_PAGES):
            page = await result_page(self._client, job, locator, fence)
            yield await asyncio.to_thread(list, records(page.content, asked.fields))
            locator = page.locator
            if locator is None:
                return
        raise UnexpectedAnswer("a bulk query for the Contacts with too many pages")


def _reason(refused: RequestRejected | UnexpectedAnswer) -> str:
    if isinstance(refused, RequestRejected):
        return refused.verdict.reason
    return "unexpected_answer"
