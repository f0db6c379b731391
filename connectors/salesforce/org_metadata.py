"""What contactstream remembers about one org: the fields of both objects, and the Accounts.

Read in one Composite at the start. Afterwards it is renewed in three ways: beside the queries of a
batch once it is old (`claim_refresh`), when a query names a field that is gone (`renew`), and when
a row was refused for a field (`check_refused_fields`).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.salesforce.account_cache import AccountCache, AccountRequest
from connectors.salesforce.account_store import AccountStore
from connectors.salesforce.address_fields import (
    Indexes,
    index_query,
    parse_indexes,
    used_address_fields,
)
from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import (
    SubAnswer,
    Subrequest,
    query_page,
    query_subrequest,
)
from connectors.salesforce.api.describe import describe_answer, describe_subrequest
from connectors.salesforce.api.errors import OrgUnavailable, RequestRejected, UnexpectedAnswer
from connectors.salesforce.bulk_load import BulkLoad
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.field_values import bind
from connectors.salesforce.org_fields import PERSON_ACCOUNT_FIELD
from connectors.salesforce.owner_metadata import OwnerMetadata
from connectors.salesforce.owners import GrantAddress, OwnerBook, no_addresses
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.schema import Schema, schema

# Between the describes after refused fields: the refusal of one odd row may come with every batch.
DESCRIBE_INTERVAL_SECONDS = 300.0
OBJECTS = ("Contact", "Lead")


@dataclass(frozen=True, slots=True)
class MetadataRefresh:
    """The subrequests that one batch sends along to refresh the metadata."""

    subrequests: tuple[Subrequest, ...]
    accounts: AccountRequest | None


class OrgMetadata:
    """The metadata of one org, shared by all batches in flight.

    `accounts` is the Accounts' directory. `start` must have ended before anything else is used.
    """

    def __init__(
        self,
        client: CompositeClient,
        policy: Policy,
        count: CountCallback,
        clock: Callable[[], float],
        store: AccountStore,
        grant_address: GrantAddress = no_addresses,
    ) -> None:
        self.accounts = AccountCache(client, policy, count, store)
        book = OwnerBook(policy.owners, grant_address)
        self.bulk_load = BulkLoad(client, count, clock)
        self.owners = OwnerMetadata(book, client, count, clock, policy.account_refresh)
        self._client = client
        self._policy = policy
        self._count = count
        self._clock = clock
        self._schemas: Mapping[str, Schema] = {}
        # of the fields of policy.address_fields; asked for at the start only
        self._indexes: Indexes = None
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

    @property
    def is_read(self) -> bool:
        """Whether both objects are described and the Accounts are known."""
        return bool(self._schemas) and self.accounts.known

    async def start(self, fence: Fence) -> None:
        """Describes both objects and reads the Accounts, once.

        That is one Composite, and further calls for thousands of Accounts. Raises OrgNotPrepared,
        OrgUnavailable("accounts") for an org whose Accounts were never read and cannot be read, and
        as `CompositeClient.composite` does.
        """
        async with self._starting:
            if not self.is_read:
                await self._read_all(fence)
            if self.accounts.contact_domains.never_read(self._clock()):
                await self._read_contact_domains(fence)

    async def read_contact_domains(self, fence: Fence) -> None:
        """Reads the Contacts' domains again if that is due, which is once a day.

        Raises as `ContactDomainLoader.read` does.
        """
        if self._schemas and self.accounts.contact_domains.due(self._clock()):
            await self._read_contact_domains(fence)

    async def _read_contact_domains(self, fence: Fence) -> None:
        there = PERSON_ACCOUNT_FIELD in self._schemas["Contact"].described.fields
        await self.accounts.contact_domains.read(self._clock(), fence, person_accounts=there)
        self.accounts.revision += 1

    async def renew(self, outdated: Mapping[str, Schema], fence: Fence) -> None:
        """Starts again because `outdated` names a field that is gone.

        Of several batches that find this out one starts again; the others use its result.
        """
        async with self._starting:
            if self._schemas is outdated:
                await self._read_all(fence)

    async def _read_all(self, fence: Fence) -> None:
        asked = datetime.fromtimestamp(self._clock(), UTC)
        asking = self._ask(asked)
        indexes, users = self._index_subrequests(), self.owners.start_subrequests()
        bulk_load = await self.bulk_load.start_subrequests()
        answers = await self._client.composite(
            [*asking.subrequests, *bulk_load, *users, *indexes], "composite_start", fence
        )
        if indexes:
            self._indexes = _indexes(answers.pop())
        if users:
            await self.owners.take_start(answers.pop(), fence)
        if bulk_load:
            self.bulk_load.take_start(answers[-len(bulk_load) :])
            del answers[-len(bulk_load) :]
        schemas = self._bind(answers[: len(OBJECTS)])
        if self._tell_person_accounts_apart(schemas):
            asking = self._ask(asked)
            again = asking.subrequests[len(OBJECTS) :]
            if again:
                accounts = await self._client.composite(again, "composite_query", fence)
                answers = [*answers[: len(OBJECTS)], *accounts]
        if asking.accounts is not None:
            await self.accounts.read(asking.accounts, _accounts_answer(answers), fence)
        self._take_schemas(schemas)

    def _ask(self, asked: datetime) -> MetadataRefresh:
        accounts = self.accounts.request(asked)
        subrequests = _describes()
        if accounts is not None and accounts.subrequest is not None:
            subrequests.append(accounts.subrequest)
        return MetadataRefresh(tuple(subrequests), accounts)

    def _index_subrequests(self) -> list[Subrequest]:
        wanted = self._policy.address_fields
        return [query_subrequest(index_query(wanted), "indexes")] if wanted else []

    def _bind(self, answers: Iterable[SubAnswer]) -> dict[str, Schema]:
        """The schemas of two describes. Raises as describe_answer does, and OrgNotPrepared."""
        flag = self._policy.flag_field if self._policy.on_delete is OnDelete.FLAG else None
        described = [describe_answer(answer) for answer in answers]
        wanted = self._policy.address_fields
        return {
            shape.name: schema(
                shape,
                bind(self._policy.mapping, shape),
                flag,
                used_address_fields(shape, wanted, self._indexes),
            )
            for shape in described
        }

    def _tell_person_accounts_apart(self, schemas: Mapping[str, Schema]) -> bool:
        """Whether the Accounts have to be asked for again, because some may be Person Accounts.

        The Contact's describe tells; Account has the same field, but is not described.
        """
        if PERSON_ACCOUNT_FIELD not in schemas["Contact"].described.fields:
            return False
        return self.accounts.tell_person_accounts_apart()

    def _take_schemas(self, schemas: Mapping[str, Schema]) -> None:
        for name, shape in schemas.items():
            known = self._schemas[name].mapped.missing if name in self._schemas else ()
            for missing in set(shape.mapped.missing).difference(known):
                self._count(SyncWarning.FIELD_MISSING, f"{name}.{missing}")
            for unsearched in _unsearched(shape) - _unsearched(self._schemas.get(name)):
                self._count(SyncWarning.FIELD_NOT_FILTERABLE, f"{name}.{unsearched}")
            unused = set(self._policy.address_fields.get(name, ())) - set(shape.address_fields)
            if name in self._schemas:  # counted at the start, or when it is lost
                unused &= set(self._schemas[name].address_fields)
            for field in sorted(unused):
                self._count(SyncWarning.ADDRESS_FIELD_UNUSED, f"{name}.{field}")
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
        return self._ask(datetime.fromtimestamp(now, UTC))

    async def take_refresh(
        self, refresh: MetadataRefresh, answers: Sequence[SubAnswer], fence: Fence
    ) -> None:
        """Takes the answers to a refresh. A failure is counted, and is not the batch's failure.

        Raises OrgNotPrepared: an org that lost our own fields fails the batch.
        """
        if refresh.accounts is not None:
            await self.accounts.refresh(refresh.accounts, _accounts_answer(answers), fence)
        try:
            schemas = self._bind(answers[: len(OBJECTS)])
            self._tell_person_accounts_apart(schemas)  # by the next refresh
            self._take_schemas(schemas)
        except (OrgUnavailable, RequestRejected, UnexpectedAnswer):
            self._count(SyncWarning.DESCRIBE_REFUSED, "")


def _unsearched(shape: Schema | None) -> set[str]:
    """The address fields by which no query can search."""
    return set(shape.emails).difference(shape.searched_emails) if shape else set()


def _describes() -> list[Subrequest]:
    return [describe_subrequest(name, name) for name in OBJECTS]


def _indexes(answer: SubAnswer) -> Indexes:
    """None where the org does not answer; then only what the describe shows counts."""
    try:
        return parse_indexes(query_page(answer).records)
    except (RequestRejected, UnexpectedAnswer):
        return None


def _accounts_answer(answers: Sequence[SubAnswer]) -> SubAnswer | None:
    """The answer behind those to the describes; None if the Accounts were not asked for."""
    return answers[len(OBJECTS)] if len(answers) > len(OBJECTS) else None
