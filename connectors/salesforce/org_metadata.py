"""What contactstream remembers about one org: the fields of both objects, and the Accounts.

Read in one Composite at the start. Afterwards it is renewed in three ways: beside the queries of a
batch once it is old (`claim_refresh`), when a query names a field that is gone (`renew`), and when
a row was refused for a field (`check_refused_fields`).
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.salesforce.accounts import PERSON_ACCOUNT_FIELD, AccountDirectory
from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.api.describe import describe_answer, describe_subrequest
from connectors.salesforce.api.errors import OrgUnavailable, RequestRejected, UnexpectedAnswer
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.field_values import bind
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.schema import Schema, schema

# After a failed refresh of the Accounts, whose time-out may hold up a batch for two minutes.
ACCOUNT_RETRY_SECONDS = 300.0
# Between the describes after refused fields: the refusal of one odd row may come with every batch.
DESCRIBE_INTERVAL_SECONDS = 300.0
OBJECTS = ("Contact", "Lead")
_ACCOUNTS_REFERENCE = "accounts"


class AccountCache:
    """The directory of Accounts, and when it has to be read again."""

    def __init__(self, client: CompositeClient, policy: Policy, count: CountCallback) -> None:
        self.directory = AccountDirectory(policy.account_domains)
        self.revision = 0
        """Goes up with every change of the directory."""
        self._client = client
        self._count = count
        self._refresh_seconds = policy.account_refresh
        self._due_at = 0.0
        self._shared_domains = 0

    def due(self, now: float) -> bool:
        """Whether a refresh should go along with the next batch. `now` in epoch seconds."""
        return now >= self._due_at

    def postpone(self, now: float) -> None:
        """Notes that a refresh is on its way, so that other batches go without.

        If it fails, the next one follows ACCOUNT_RETRY_SECONDS later.
        """
        self._due_at = now + min(self._refresh_seconds, ACCOUNT_RETRY_SECONDS)

    def request(self, asked: datetime) -> Subrequest:
        """The query for what changed since the last refresh."""
        return self.directory.request(_ACCOUNTS_REFERENCE, asked)

    async def take(self, answer: SubAnswer, asked: datetime, fence: Fence) -> None:
        """Takes the answer to `request`.

        A refusal is counted and fails no batch: the domains that are known or configured serve on,
        and a later refresh asks again. Raises OrgUnavailable.
        """
        self.postpone(asked.timestamp())
        try:
            found = await self._read(answer, asked, fence)
        except RequestRejected as refused:
            self._count(SyncWarning.ACCOUNTS_REFUSED, refused.verdict.reason)
            return
        except UnexpectedAnswer:
            self._count(SyncWarning.ACCOUNTS_REFUSED, "unexpected_answer")
            return
        self.directory.update(found, asked)
        self.revision += 1
        self._due_at = asked.timestamp() + self._refresh_seconds
        for _ in range(self.directory.shared_domains - self._shared_domains):
            self._count(SyncWarning.SHARED_DOMAIN, "")
        self._shared_domains = self.directory.shared_domains

    async def _read(
        self, answer: SubAnswer, asked: datetime, fence: Fence
    ) -> list[Mapping[str, Any]]:
        """The Accounts of an answer; asked for again without hidden fields that can be spared."""
        while True:  # ends: every round asks for fewer fields
            try:
                return await self._client.rest_of(answer, fence=fence)
            except RequestRejected as refused:
                if not self.directory.drop_fields(refused.verdict.fields):
                    raise
                name = refused.verdict.fields[0]
                self._count(SyncWarning.FIELD_MISSING, f"Account.{name}")
            (answer,) = await self._client.composite(
                [self.request(asked)], "composite_query", fence
            )

    def forget(self, account_id: str) -> None:
        """Takes a deleted Account out of the directory, and makes a refresh due at once."""
        self.directory.forget(account_id)
        self.revision += 1
        self._due_at = 0.0


@dataclass(frozen=True, slots=True)
class MetadataRefresh:
    """The subrequests that one batch sends along to refresh the metadata."""

    asked: datetime
    subrequests: tuple[Subrequest, ...]


class OrgMetadata:
    """The metadata of one org, shared by all batches in flight.

    `accounts` is the Accounts' directory. `start` must have ended before anything else is used.
    """

    def __init__(
        self,
        client: CompositeClient,
        policy: Policy,
        count: CountCallback,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.accounts = AccountCache(client, policy, count)
        self._client = client
        self._policy = policy
        self._count = count
        self._clock = clock
        self._schemas: Mapping[str, Schema] = {}
        # a row was refused for a field that the describe calls writable
        self._fields_in_doubt = False
        self._described_again_at: float | None = None
        self._starting = asyncio.Lock()

    @property
    def schemas(self) -> Mapping[str, Schema]:
        """The schemas by sObject.

        Each describe makes a new mapping: a batch keeps the one that it began with.
        """
        return self._schemas

    async def start(self, fence: Fence) -> None:
        """Describes both objects and reads the Accounts' domains, in one Composite, once.

        Raises OrgNotPrepared, and as `CompositeClient.composite` does.
        """
        async with self._starting:
            if not self._schemas:
                await self._read_all(fence)

    async def renew(self, outdated: Mapping[str, Schema], fence: Fence) -> None:
        """Starts again because `outdated` names a field that is gone.

        Of several batches that find this out one starts again; the others use its result.
        """
        async with self._starting:
            if self._schemas is outdated:
                await self._read_all(fence)

    async def _read_all(self, fence: Fence) -> None:
        asked = datetime.fromtimestamp(self._clock(), UTC)
        *described, accounts = await self._client.composite(
            [*_describes(), self.accounts.request(asked)], "composite_start", fence
        )
        schemas = self._bind(described)
        if self._tell_person_accounts_apart(schemas):
            (accounts,) = await self._client.composite(
                [self.accounts.request(asked)], "composite_query", fence
            )
        await self.accounts.take(accounts, asked, fence)
        self._take_schemas(schemas)

    def _bind(self, answers: Iterable[SubAnswer]) -> dict[str, Schema]:
        """The schemas of two describes. Raises as describe_answer does, and OrgNotPrepared."""
        flag = self._policy.flag_field if self._policy.on_delete is OnDelete.FLAG else None
        described = [describe_answer(answer) for answer in answers]
        return {
            shape.name: schema(shape, bind(self._policy.mapping, shape), flag)
            for shape in described
        }

    def _tell_person_accounts_apart(self, schemas: Mapping[str, Schema]) -> bool:
        """Whether the Accounts have to be asked for again, because some may be Person Accounts.

        The Contact's describe tells; Account has the same field, but is not described.
        """
        if PERSON_ACCOUNT_FIELD not in schemas["Contact"].described.fields:
            return False
        return self.accounts.directory.tell_person_accounts_apart()

    def _take_schemas(self, schemas: Mapping[str, Schema]) -> None:
        for name, shape in schemas.items():
            known = self._schemas[name].mapped.missing if name in self._schemas else ()
            for missing in set(shape.mapped.missing).difference(known):
                self._count(SyncWarning.FIELD_MISSING, f"{name}.{missing}")
            for unsearched in _unsearched(shape) - _unsearched(self._schemas.get(name)):
                self._count(SyncWarning.FIELD_NOT_FILTERABLE, f"{name}.{unsearched}")
        self._schemas = schemas
        self._fields_in_doubt = False

    def field_refused(self) -> None:
        """Notes that a row was refused for a field that the describe calls writable."""
        self._fields_in_doubt = True

    async def check_refused_fields(self, fence: Fence) -> None:
        """Describes both objects again after the org refused fields.

        It does so at most every DESCRIBE_INTERVAL_SECONDS.

        Only the describe distinguishes a field that our user lost from one that a single row may
        not have.
        """
        now = self._clock()
        if not self._fields_in_doubt or not self._may_describe(now):
            return
        async with self._starting:
            if self._fields_in_doubt:
                answers = await self._client.composite(_describes(), "composite_start", fence)
                self._take_schemas(self._bind(answers))
                self._described_again_at = now

    def _may_describe(self, now: float) -> bool:
        last = self._described_again_at
        return last is None or now - last >= DESCRIBE_INTERVAL_SECONDS

    def claim_refresh(self) -> MetadataRefresh | None:
        """What the calling batch has to send along; None while the metadata is fresh.

        One batch is enough: the others in flight get None, whether its refresh succeeds or not.
        """
        now = self._clock()
        if not self.accounts.due(now):
            return None
        self.accounts.postpone(now)
        asked = datetime.fromtimestamp(now, UTC)
        return MetadataRefresh(asked, (*_describes(), self.accounts.request(asked)))

    async def take_refresh(
        self, refresh: MetadataRefresh, answers: Sequence[SubAnswer], fence: Fence
    ) -> None:
        """Takes the answers to a refresh. A failure is counted, and is not the batch's failure.

        Raises OrgNotPrepared: an org that lost our own fields fails the batch.
        """
        *described, accounts = answers
        try:
            await self.accounts.take(accounts, refresh.asked, fence)
        except OrgUnavailable as error:
            self._count(SyncWarning.ACCOUNTS_REFUSED, error.reason)
        try:
            schemas = self._bind(described)
            self._tell_person_accounts_apart(schemas)  # by the next refresh
            self._take_schemas(schemas)
        except (OrgUnavailable, RequestRejected, UnexpectedAnswer):
            self._count(SyncWarning.DESCRIBE_REFUSED, "")


def _unsearched(shape: Schema | None) -> set[str]:
    """The address fields by which no query can search."""
    return set(shape.emails).difference(shape.searched_emails) if shape else set()


def _describes() -> list[Subrequest]:
    return [describe_subrequest(name, name) for name in OBJECTS]
