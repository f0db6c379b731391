"""Makes Salesforce correct for a batch of changed contacts: resolve, plan, write, report.

`Sync` is the glue; each step is a module:

- `org_metadata` knows the fields and Accounts of the org;
- `candidate_lookup` reads the records that the contacts may be;
- `planner` decides which contact is which record, and what changes;
- `record_locks` keeps two batches in flight off one record and one Account;
- `writer` sends the rows;
- `adoption` plans the contacts whose creation a duplicate rule blocked;
- `outcome_mapping` turns the results into one outcome for each contact.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from connectors.salesforce.account_store import AccountStore, NoAccountStore
from connectors.salesforce.adoption import named_record, plan_adoptions, split_blocked
from connectors.salesforce.api.budget import Usage
from connectors.salesforce.api.client import CompositeClient, Fence, no_fence
from connectors.salesforce.api.composite import write_headers
from connectors.salesforce.api.errors import Action, RequestRejected
from connectors.salesforce.candidate_lookup import CandidateFinder, SoughtContact
from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.counting import CountCallback, SyncWarning, count_nothing
from connectors.salesforce.deleted_records import DeletedRecords
from connectors.salesforce.deletion_sweep import SweepStep, sweep
from connectors.salesforce.emails import addresses
from connectors.salesforce.kept_fields import fields_read
from connectors.salesforce.org_fields import KEY_FIELD, MARKER_FIELD
from connectors.salesforce.org_metadata import OrgMetadata
from connectors.salesforce.outcome import (
    NEXT_BATCH,
    ContactVersion,
    Outcome,
    OutcomeStatus,
    next_batch,
    no_room,
)
from connectors.salesforce.outcome_mapping import (
    WriteReport,
    deleted_account,
    one_for_each_contact,
    report_rows,
    single_rounds,
    take_out_suppressed,
    unsent_outcomes,
    without_refused_values,
)
from connectors.salesforce.owners import (
    GrantAddress,
    no_addresses,
    with_owner,
    without_refused_owner,
)
from connectors.salesforce.permission_set_members import permission_set_members
from connectors.salesforce.person import Person, record_key
from connectors.salesforce.planned_records import PlannedRecords
from connectors.salesforce.planner import (
    PartitionedBatch,
    PlannedOutcome,
    SoughtPerson,
    WritePlan,
    WritePlanner,
    partition_batch,
    person_of,
)
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.provenance import with_provenance
from connectors.salesforce.record_locks import RecordLocks
from connectors.salesforce.routing import route
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.schema import Schema
from connectors.salesforce.skip_reasons import SkipReason
from connectors.salesforce.unanswered_calls import UnansweredCalls, take_out_waiting
from connectors.salesforce.write_mode import WriteMode
from connectors.salesforce.write_rules import (
    EVERYTHING,
    WriteRules,
    take_out_held,
    take_out_planned,
)
from connectors.salesforce.writer import WriteContext, WrittenRow, write_rows

__all__ = [
    "MAX_BATCH",
    "NEXT_BATCH",
    "ContactVersion",
    "OnDelete",
    "Outcome",
    "OutcomeStatus",
    "PlannedOutcome",
    "Policy",
    "Sync",
    "WritePlan",
]

# Rows of one Composite: five collections of 200.
MAX_BATCH = 1000
# Contacts that fill a record of another contact's key are found by address every time. So many are
# remembered, so that the match rate counts each of them once.
MAX_REMEMBERED_FILLS = 200_000


BeforeWrite = Callable[[Sequence[WriteRow]], Awaitable[None]]
"""Called with planned rows that are about to be sent; their tags are lists of PlannedOutcome.

What it raises ends the batch before any of these rows is sent.
"""


async def note_nothing(_rows: Sequence[WriteRow]) -> None:
    """For callers that keep no journal."""


class Sync:
    """The writer of one org; one instance for all batches in flight.

    No two batches in flight may share a claim (see `claims`). Every method that sends requests
    takes the fence of its caller (see `connectors.salesforce.api.client.Fence`) and raises
    OrgUnavailable for a fault of the whole org: the same batch is safe to offer again. Any other
    SalesforceError means that the configuration or contactstream is wrong, and never a single row.
    """

    def __init__(
        self,
        client: CompositeClient,
        policy: Policy,
        count: CountCallback = count_nothing,
        clock: Callable[[], float] = time.time,
        planned: PlannedRecords | None = None,
        accounts: AccountStore | None = None,
        unanswered: UnansweredCalls | None = None,
        grant_address: GrantAddress = no_addresses,
    ) -> None:
        """`accounts` keeps what is known of the Accounts; None if nothing does.

        The caller notes in `unanswered` which calls ended without an answer; None if none can.
        `grant_address` says whose address book a grant is, for the owners of created records.
        With `planned`, `resolve` takes those records as written; `write` is not to be used.
        """
        self.policy = policy
        self._client = client
        self._count = count
        self._clock = clock
        self.before_write: BeforeWrite = note_nothing
        self._metadata = OrgMetadata(
            client, policy, count, clock, accounts or NoAccountStore(), grant_address
        )
        self.deleted_records = DeletedRecords()
        """What people deleted in the org; the caller keeps it durably (see `deletion_sweep`)."""
        self.unanswered = unanswered or UnansweredCalls()
        self._finder = CandidateFinder(client, self._metadata, self.deleted_records, count, planned)
        self._locks = RecordLocks()
        # One batch is planned at a time. Planning takes the event loop for a while, and the answers
        # of many batches may come together: without turns nothing would be sent, and Kafka not be
        # polled, until all of them were planned.
        self._planning = asyncio.Lock()
        self._reads = fields_read(policy.mapping)
        self._counted_fills: dict[int, None] = {}

    async def restore(self) -> None:
        """Takes from the store what is known of the Accounts; may be repeated, to take the rest.

        No call of the org. Raises what the store's `load` raises.
        """
        await self._metadata.accounts.restore()

    async def org_id(self) -> str | None:
        """The ID of the org; logs in if nobody has. No call that Salesforce counts.

        Raises OrgUnavailable, UnexpectedAnswer, and what refuses the org.
        """
        return await self._client.org_id()

    async def data_storage(self, fence: Fence = no_fence) -> Usage | None:
        """How much of the org's data storage is used, in MB; None where we may not see it.

        One call of the day's. The user needs "View Setup and Configuration".
        """
        try:
            return (await self._client.limits(fence)).get("DataStorageMB")
        except RequestRejected:
            return None

    async def start(self, fence: Fence = no_fence) -> None:
        """Reads what the org looks like, in one call, or more for thousands of unknown Accounts.

        Done by the first `resolve` at the latest.
        """
        await self._metadata.start(fence)

    @property
    def is_started(self) -> bool:
        """Whether the org was read, so that `claims` are complete."""
        return self._metadata.is_read

    async def end_bulk_load(self, fence: Fence = no_fence) -> None:
        """Takes the permission of a backfill away once it is quiet; to be called regularly.

        One call when there is something to take away, and none otherwise.
        """
        await self._metadata.bulk_load.release_when_quiet(fence)

    async def sweep_deleted(self, read_from: Mapping[str, int], fence: Fence) -> SweepStep:
        """What people deleted or merged since `read_from`: one step of the daily sweep."""
        await self._metadata.start(fence)
        schemas = self._metadata.schemas
        return await sweep(self._client, schemas, self.deleted_records, read_from, fence)

    async def read_contact_domains(self, fence: Fence) -> None:
        """Reads to which Accounts the Contacts' domains lead, if that is due: once a day.

        Raises OrgUnavailable, AccountStoreUnavailable and WriterFenced.
        """
        await self._metadata.read_contact_domains(fence)

    @property
    def contact_domains(self) -> int:
        """The number of domains that lead to an Account by their Contacts."""
        return len(self._metadata.accounts.directory.contact_domains)

    async def permission_set_members(
        self, names: Sequence[str], fence: Fence
    ) -> dict[str, frozenset[str]]:
        """The addresses of the users of each permission set; see `permission_set_members`."""
        return await permission_set_members(self._client, names, fence)

    def needed(self, contact: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a contact that decides what is written; the rest need not be kept."""
        return {name: contact[name] for name in self._reads if name in contact}

    def claims(self, change: ContactVersion) -> frozenset[str]:
        """What a change locks: the contact's key, its addresses, and its future Account.

        Complete after `start` only; before, no Accounts are known.
        """
        found = {record_key(change.key)}
        if change.contact is not None:
            someone = person_of(change, self.policy, self._metadata.accounts.directory)
            if isinstance(someone, Person):
                found.update(someone.addresses)
                if someone.target.account_id:
                    found.add(someone.target.account_id)
            else:
                found.update(addresses(change.contact))
        return frozenset(found)

    async def sync(
        self,
        changes: Sequence[ContactVersion],
        fence: Fence = no_fence,
        rules: WriteRules = EVERYTHING,
    ) -> list[Outcome]:
        """`resolve` and `write`: two calls for a batch."""
        return await self.write(await self.resolve(changes, fence, rules), fence, rules)

    async def resolve(
        self,
        changes: Sequence[ContactVersion],
        fence: Fence = no_fence,
        rules: WriteRules = EVERYTHING,
    ) -> WritePlan:
        """Looks all contacts up in one Composite of queries, and plans what the mode allows.

        Nothing is written.
        """
        await self._metadata.start(fence)
        await self._metadata.check_refused_fields(fence)
        schemas = self._metadata.schemas
        try:
            return await self._resolve(changes, schemas, fence, rules)
        except RequestRejected as refused:
            if refused.verdict.action is not Action.STRIP_FIELD:
                raise
        # a field was hidden from our user since it was described
        await self._metadata.renew(schemas, fence)
        return await self._resolve(changes, self._metadata.schemas, fence, rules)

    async def _resolve(
        self,
        changes: Sequence[ContactVersion],
        schemas: Mapping[str, Schema],
        fence: Fence,
        rules: WriteRules,
    ) -> WritePlan:
        accounts = self._metadata.accounts
        read_at, revision = self._locks.moment(), accounts.revision
        batch = partition_batch(changes, self.policy, accounts.directory)
        for _, someone in batch.people:
            if someone.found_by.present and not someone.addresses:
                self._count(SyncWarning.INVALID_ADDRESS, "Email")
            if someone.target.conflict:
                self._count(SyncWarning.ACCOUNT_CONFLICT, "")
        self._metadata.owners.want(someone.target.account_id for _, someone in batch.people)
        sought = _sought(changes, batch)
        found = await self._finder.find(sought, schemas, MAX_BATCH, fence)
        taken = {contact.change.key for contact in sought[: found.taken]}
        people = [(change, someone) for change, someone in batch.people if change.key in taken]
        if accounts.revision != revision:  # the Accounts changed while the records were read
            people = [self._routed_again(change, someone) for change, someone in people]
        planner = await self._planner(found.candidates, schemas, rules.mode)
        deleted = [change for change in batch.deleted if change.key in taken]
        async with self._planning:
            planned = planner.plan(people, deleted)
            await asyncio.sleep(0)  # others go on before the next batch is planned
        return WritePlan(
            (*batch.decided, *planned),
            tuple(contact.change for contact in sought[found.taken :]),
            found.candidates,
            schemas,
            read_at,
        )

    async def _planner(
        self, candidates: CandidateIndex, schemas: Mapping[str, Schema], mode: WriteMode
    ) -> WritePlanner:
        # our ID comes with the token, without a call that counts
        ours = await self._client.user_id() if mode is WriteMode.CREATE_ONLY else None
        accounts = self._metadata.accounts.directory
        return WritePlanner(candidates, schemas, self.policy, accounts, self._count, mode, ours)

    def _routed_again(self, change: ContactVersion, someone: Person) -> SoughtPerson:
        target = route(someone.found_by, self._metadata.accounts.directory)
        return change, replace(someone, target=target)

    async def write(
        self, plan: WritePlan, fence: Fence = no_fence, rules: WriteRules = EVERYTHING
    ) -> list[Outcome]:
        """Writes what the plan changes; returns one outcome for each change of the batch.

        Contacts whose common row failed follow in rounds of their own, each looked up and planned
        anew. The rounds end: each is smaller than the batch that it comes from.
        """
        report = await self._write_plan(plan, fence, rules)
        outcomes = report.outcomes
        rounds = deque(single_rounds(report.split))
        while rounds:
            again = await self.resolve(rounds.popleft(), fence, rules)
            report = await self._write_plan(again, fence, rules)
            outcomes += report.outcomes
            rounds.extendleft(reversed(single_rounds(report.split)))
        final = [self._count_fill_once(outcome) for outcome in one_for_each_contact(outcomes)]
        for outcome in final:
            if outcome.reason == SkipReason.PERSON_ACCOUNT and outcome.errors:
                self._count(SyncWarning.PERSON_ACCOUNT_REFUSED, outcome.errors[0].code)
        return final

    async def _write_plan(self, plan: WritePlan, fence: Fence, rules: WriteRules) -> WriteReport:
        """Writes a plan, and then the contacts that a duplicate rule sends to another record."""
        outcomes, written = await self._write_planned(plan.decisions, plan.read_at, fence, rules)
        outcomes += map(no_room, plan.leftovers)
        blocked, others = split_blocked(written)
        report = WriteReport(outcomes)
        report.add(report_rows(others, self.policy.flag_field))
        if blocked:
            report.add(await self._write_adoptions(blocked, plan, fence, rules))
        return report

    async def _write_adoptions(
        self, blocked: Sequence[WrittenRow], plan: WritePlan, fence: Fence, rules: WriteRules
    ) -> WriteReport:
        candidates = await self._finder.read_matches(
            map(named_record, blocked), plan.candidates, plan.schemas, fence
        )
        planner = await self._planner(candidates, plan.schemas, rules.mode)
        adopted, report = plan_adoptions(blocked, candidates, planner)
        outcomes, written = await self._write_planned(adopted, plan.read_at, fence, rules)
        report.add(WriteReport(outcomes))
        report.add(report_rows(written, self.policy.flag_field))
        return report

    async def _write_planned(
        self, planned: Sequence[PlannedOutcome], read_at: int, fence: Fence, rules: WriteRules
    ) -> tuple[list[Outcome], list[WrittenRow]]:
        """Writes the rows that may be written now.

        Returns the outcomes of all contacts that are in no written row, and the written rows.
        """
        planned, outcomes = take_out_suppressed(planned, self.policy.suppression)
        planned, waiting = take_out_waiting(planned, self.unanswered.remaining)
        outcomes += waiting
        planned, only_planned = take_out_planned(planned, rules.mode)
        allowed = take_out_held(planned, rules, self.policy.flag_field)
        planned = allowed.planned
        outcomes += [*only_planned, *allowed.held]
        to_write = [self._finished(row) for row in allowed.rows]
        context = self._write_context(fence)
        await self._metadata.bulk_load.before_write(to_write, fence)
        async with self._locks.hold(to_write, read_at) as free:
            await self.before_write(free)
            written, left_over = await write_rows(context, free)
            written = await self._write_without_refused_owners(context, written)
            written = await self._write_without_refused_values(context, written)
        sent = {id(row) for row in free}
        locked = [row for row in to_write if id(row) not in sent]
        outcomes += [next_batch(member.change) for row in locked for member in row.tag]
        outcomes += [no_room(member.change) for row in left_over for member in row.tag]
        outcomes += unsent_outcomes(
            planned, to_write, lambda record_id: self._locks.written_since(record_id, read_at)
        )
        self._forget_deleted_accounts(written)
        return outcomes, written

    def _finished(self, row: WriteRow) -> WriteRow:
        """The planned row with what no contact says: its owner, and the optional fields."""
        schema = self._metadata.schemas[row.sobject]
        book, now = self._metadata.owners.book, self._clock()
        owned = with_owner(row, book, now, writable=schema.writable("OwnerId", new=True))
        mailbox = book.grant_address if self.policy.source_mailbox else None
        return with_provenance(owned, schema, now, mailbox)

    async def _write_without_refused_owners(
        self, context: WriteContext, written: list[WrittenRow]
    ) -> list[WrittenRow]:
        """Writes rows again whose owner was refused, as records of our user."""
        ours = {id(one): row for one in written if (row := without_refused_owner(one))}
        if not ours:
            return written
        more, _ = await write_rows(context, list(ours.values()), calls=None)
        accepted = {one.row.fields[KEY_FIELD] for one in more if one.verdict.action is Action.DONE}
        for one in written:
            if id(one) in ours and one.row.fields[KEY_FIELD] in accepted:
                self._count(SyncWarning.OWNER_REFUSED, one.result.errors[0].code.lower())
                owner_id = one.row.fields["OwnerId"]
                self._metadata.owners.book.refuse(one.row.sobject, owner_id, self._clock())
        return [*(one for one in written if id(one) not in ours), *more]

    async def _write_without_refused_values(
        self, context: WriteContext, written: list[WrittenRow]
    ) -> list[WrittenRow]:
        """Writes rows again whose values were refused, without the fields of these values."""
        # ends: every round has fewer fields
        while shorter := {id(one): row for one in written if (row := without_refused_values(one))}:
            for one in written:
                if row := shorter.get(id(one)):
                    for name in one.row.fields.keys() - row.fields.keys() - {MARKER_FIELD}:
                        self._count(SyncWarning.VALUE_DROPPED, f"{row.sobject}.{name}")
            more, _ = await write_rows(context, list(shorter.values()), calls=None)
            written = [*(one for one in written if id(one) not in shorter), *more]
        return written

    def _write_context(self, fence: Fence) -> WriteContext:
        headers = write_headers(allow_save=self.policy.allow_save)
        return WriteContext(self._client, self._field_refused, headers, fence)

    def _field_refused(self, sobject: str, name: str) -> None:
        self._count(SyncWarning.FIELD_REFUSED, f"{sobject}.{name}")
        self._metadata.field_refused()

    def _forget_deleted_accounts(self, written: Sequence[WrittenRow]) -> None:
        for row in written:
            if account_id := deleted_account(row):
                self._count(SyncWarning.ACCOUNT_DELETED, "")
                self._metadata.accounts.forget(account_id)

    def _count_fill_once(self, outcome: Outcome) -> Outcome:
        """A contact that owns no record is found by address every time; it counts once as first."""
        if (
            outcome.status not in {OutcomeStatus.FILLED, OutcomeStatus.UNCHANGED}
            or not outcome.first
        ):
            return outcome
        mark = hash(outcome.key)
        if mark in self._counted_fills:
            return replace(outcome, first=False)
        self._counted_fills[mark] = None
        if len(self._counted_fills) > MAX_REMEMBERED_FILLS:
            self._counted_fills.pop(next(iter(self._counted_fills)))
        return outcome


def _sought(changes: Sequence[ContactVersion], batch: PartitionedBatch) -> list[SoughtContact]:
    """The contacts to look up, in the order of the batch; deleted ones by their key alone."""
    found_by: dict[str, tuple[str, ...]] = {change.key: () for change in batch.deleted}
    found_by |= {change.key: someone.addresses for change, someone in batch.people}
    return [
        SoughtContact(change, found_by[change.key]) for change in changes if change.key in found_by
    ]
