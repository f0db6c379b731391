"""The Accounts as the batches use them: their directory, and when it is read or refreshed."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from connectors.salesforce.account_loading import AccountLoader
from connectors.salesforce.account_store import AccountStore, AccountStoreUnavailable, OpenLoad
from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.api.errors import (
    PAUSE_SECONDS,
    OrgUnavailable,
    RequestRejected,
    UnexpectedAnswer,
)
from connectors.salesforce.contact_domain_loading import ContactDomainLoader
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.policy import Policy

# After a failed refresh of the Accounts, whose time-out may hold up a batch for two minutes.
ACCOUNT_RETRY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class AccountRequest:
    """What to ask for, and the subrequest that asks for it; None where a load only goes on."""

    asked: datetime
    load: OpenLoad
    subrequest: Subrequest | None


class AccountCache:
    """The directory of Accounts. Nothing is read where the policy has no use for Accounts."""

    def __init__(
        self,
        client: CompositeClient,
        policy: Policy,
        count: CountCallback,
        store: AccountStore,
    ) -> None:
        self.directory = AccountDirectory(
            policy.account_domains if policy.creation.uses_accounts else None
        )
        self.revision = 0
        """Goes up with every change of the directory."""
        self._loader = AccountLoader(
            client, self.directory, store, count, rules=policy.account_rules
        )
        self.contact_domains = ContactDomainLoader(client, self.directory, store, policy, count)
        self._used = policy.creation.uses_accounts
        self._count = count
        self._refresh_seconds = policy.account_refresh
        self._due_at = 0.0
        self._shared_hosts = 0
        self._reading = asyncio.Lock()

    @property
    def known(self) -> bool:
        """Whether all Accounts were read once, so that people without one are known to be Leads."""
        return not self._used or self._loader.cursor.known_until is not None

    def due(self, now: float) -> bool:
        """Whether a refresh should go along with the next batch. `now` in epoch seconds."""
        return now >= self._due_at and not self._reading.locked()

    def postpone(self, now: float) -> None:
        """Notes that a refresh is on its way, so that other batches go without.

        If it fails, the next one follows ACCOUNT_RETRY_SECONDS later.
        """
        self._due_at = now + min(self._refresh_seconds, ACCOUNT_RETRY_SECONDS)

    async def restore(self) -> None:
        """Takes what the store holds and this process does not know yet.

        Raises what the store's `load` raises.
        """
        if self._used:
            async with self._reading:
                async for page in self._loader.restore():
                    if page.from_start:
                        self.contact_domains.forget_cursor()
                    self.contact_domains.take(page.contact_domains, page.contact_cursor)
                self.revision += 1

    def tell_person_accounts_apart(self) -> bool:
        """Asks of each Account whether it is a Person Account. True if it was not asked before."""
        return self._used and self._loader.tell_person_accounts_apart()

    def request(self, asked: datetime) -> AccountRequest | None:
        """What to ask for at `asked`: everything, or what changed. None without use for it."""
        if not self._used:
            return None
        load = self._loader.open(asked)
        return AccountRequest(asked, load, self._loader.subrequest(load))

    async def read(self, request: AccountRequest, answer: SubAnswer | None, fence: Fence) -> None:
        """Reads the Accounts to the end of a `request`, whose subrequest was answered.

        Once they are known, a refusal is only counted: those that are known serve on, and a later
        refresh asks again. Before, everybody would become a Lead: raises OrgUnavailable("accounts")
        until an administrator has granted the user what it needs. Raises OrgUnavailable with other
        reasons, AccountStoreUnavailable, and WriterFenced.
        """
        self.postpone(request.asked.timestamp())
        try:
            async with self._reading:
                await self._loader.read(request.load, answer, fence)
        except (RequestRejected, UnexpectedAnswer) as refused:
            self._refused(refused)
            return
        finally:
            self.revision += 1
        # A load that went on for a while knows nothing of what changed meanwhile.
        self._due_at = request.load.asked.timestamp() + self._refresh_seconds
        for _ in range(self.directory.shared_hosts - self._shared_hosts):
            self._count(SyncWarning.SHARED_DOMAIN, "")
        self._shared_hosts = self.directory.shared_hosts

    async def refresh(
        self, request: AccountRequest, answer: SubAnswer | None, fence: Fence
    ) -> None:
        """As `read`, beside a batch: it counts every failure. Raises WriterFenced."""
        try:
            await self.read(request, answer, fence)
        except OrgUnavailable as error:
            self._count(SyncWarning.ACCOUNTS_REFUSED, error.reason)
        except AccountStoreUnavailable:
            self._count(SyncWarning.ACCOUNTS_REFUSED, "store")

    def _refused(self, refused: RequestRejected | UnexpectedAnswer) -> None:
        reason = "unexpected_answer"
        if isinstance(refused, RequestRejected):
            reason = refused.verdict.reason
        self._count(SyncWarning.ACCOUNTS_REFUSED, reason)
        if not self.known:
            raise OrgUnavailable(
                "accounts",
                PAUSE_SECONDS["accounts"],
                f"the Accounts cannot be read ({refused}), so that everybody would become a Lead. "
                "Grant the user Account with Website and the fields of SALESFORCE_ACCOUNT_FILTER, "
                "or set PEOPLE_CREATE=leads",
            ) from refused

    def forget(self, account_id: str) -> None:
        """Takes a deleted Account out of the directory, and makes a refresh due at once."""
        self.directory.forget(account_id)
        self.revision += 1
        self._due_at = 0.0
