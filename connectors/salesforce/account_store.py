"""What is known of the Accounts beyond the life of a process: the interface, and two without one.

The sink keeps it on a Kafka topic. It writes the rows of a page before the cursor that says that
the page was read, so that a reader that starts there misses nothing.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from connectors.salesforce.account_table import AccountRow
from connectors.salesforce.api.client import Fence
from connectors.salesforce.api.errors import SalesforceError
from connectors.salesforce.contact_domains import ContactDomain


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """A query for Accounts whose pages are not all read yet."""

    asked: datetime
    """When it was asked: later changes are not in it."""
    full: bool
    """For all Accounts; otherwise for those that changed."""
    generation: int
    """What its rows carry; see AccountRow."""
    rules: str
    """How hosts are read out of its websites; see AccountRules.fingerprint."""
    next_url: str | None = None
    """The next page of a REST query."""
    job: str | None = None
    """The job of a bulk query."""
    fields: tuple[str, ...] = ()
    """The fields of the job's records, in their order."""
    locator: str | None = None
    """The next page of the job's results; None for the first."""


@dataclass(frozen=True, slots=True)
class AccountCursor:
    """How far the Accounts were read."""

    known_until: datetime | None = None
    """Everything that changed before is known; None until a full load has ended."""
    rules: str = ""
    """How the hosts of what is known were read; see AccountRules.fingerprint."""
    generation: int = 0
    """Of the last full load that ended."""
    begun: int = 0
    """Of the last full load that began, whether it ended or not."""
    load: OpenLoad | None = None


@dataclass(frozen=True, slots=True)
class ContactDomainCursor:
    """When the Contacts were read for the domains of their Accounts, and by which rules."""

    read_at: datetime | None = None
    rules: str = ""


@dataclass(frozen=True, slots=True)
class StoredPage:
    """Part of what a store holds, in the order in which it was saved.

    `from_start`: the store is read from its start, so that nothing known before counts any more.
    """

    rows: Sequence[AccountRow] = ()
    cursor: AccountCursor | None = None
    from_start: bool = False
    contact_domains: Sequence[ContactDomain] = ()
    contact_cursor: ContactDomainCursor | None = None


class AccountStoreUnavailable(SalesforceError):
    """The store took or gave nothing; the same page is safe to save again."""


class AccountStore(Protocol):
    """Where rows and cursors are kept. One writer at a time, under its fence."""

    def load(self) -> AsyncIterator[StoredPage]:
        """Yields what was saved since the last `load`; the first time, everything."""
        ...

    async def save(
        self, rows: Sequence[AccountRow], cursor: AccountCursor | None, fence: Fence
    ) -> None:
        """Returns once the rows, and after them the cursor, are kept. A row without a host removes.

        Raises AccountStoreUnavailable, and WriterFenced where the fence does.
        """
        ...

    async def save_contact_domains(
        self, domains: Sequence[ContactDomain], cursor: ContactDomainCursor, fence: Fence
    ) -> None:
        """As `save`, for domains of Contacts; one without an Account is removed."""
        ...


class NoAccountStore:
    """Keeps nothing: for commands, and for callers whose process reads the Accounts each time."""

    async def load(self) -> AsyncIterator[StoredPage]:
        """Yields nothing."""
        return
        yield

    async def save(
        self, rows: Sequence[AccountRow], cursor: AccountCursor | None, fence: Fence
    ) -> None:
        """Does nothing."""

    async def save_contact_domains(
        self, domains: Sequence[ContactDomain], cursor: ContactDomainCursor, fence: Fence
    ) -> None:
        """Does nothing."""


@dataclass(slots=True)
class MemoryAccountStore:
    """Keeps everything in memory, for tests; `pages` are in the order in which they were saved."""

    pages: list[StoredPage] = field(default_factory=list)
    loaded: int = 0

    async def load(self) -> AsyncIterator[StoredPage]:
        """Yields the pages that were saved since the last `load`."""
        while self.loaded < len(self.pages):
            self.loaded += 1
            yield self.pages[self.loaded - 1]

    async def save(
        self, rows: Sequence[AccountRow], cursor: AccountCursor | None, fence: Fence
    ) -> None:
        """Keeps the rows, and then the cursor."""
        fence()
        self.pages.append(StoredPage(tuple(rows), cursor))

    async def save_contact_domains(
        self, domains: Sequence[ContactDomain], cursor: ContactDomainCursor, fence: Fence
    ) -> None:
        """Keeps the domains, and then the cursor."""
        fence()
        found = StoredPage(contact_domains=tuple(domains), contact_cursor=cursor)
        self.pages.append(found)
