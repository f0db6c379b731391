"""Makes Salesforce true for a batch of changed contacts: who is there already, what to write, and
what became of each.
"""

import asyncio
import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import (
    AsyncIterator,
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.api.client import SalesforceClient
from connectors.salesforce.api.composite import SubAnswer, query_subrequest, write_headers
from connectors.salesforce.api.describe import describe_answer, describe_subrequest
from connectors.salesforce.api.errors import (
    Action,
    OrgUnavailable,
    RequestRejected,
    UnexpectedAnswer,
)
from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.emails import addresses
from connectors.salesforce.field_values import bind
from connectors.salesforce.matching import Match, acceptable
from connectors.salesforce.org_fields import KEY_FIELD, VERSION_FIELD
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.person import Person, record_key
from connectors.salesforce.planner import (
    CountCallback,
    PlannedOutcome,
    WritePlan,
    WritePlanner,
    is_suppressed,
    partition_batch,
    person_of,
    rows,
)
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.queries import by_id, lookup
from connectors.salesforce.routing import route
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.schema import OrgNotPrepared, Schema, schema
from connectors.salesforce.skip_reasons import SkipReason
from connectors.salesforce.writer import WriteContext, WrittenRow, write_rows

__all__ = [
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

NEXT_BATCH = "next_batch"
"""Reason of a RETRY that is no failed attempt: the batch was full, or another batch in flight holds
the Account. Offer it again with the next batch.
"""

MAX_BATCH = 1000  # rows of one Composite
# wait for another batch to write the same Account: longer than most calls, shorter than a stop
ACCOUNT_SECONDS = 15.0
ACCOUNT_RETRY_SECONDS = (
    300.0  # after a failed refresh, whose time-out may hold up a batch for two minutes
)
# between the describes after refused fields: one row's own refusal may come with every batch
DESCRIBE_SECONDS = 300.0
_OBJECTS = ("Contact", "Lead")
_GONE = {"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY"}  # codes of a row whose Account is
_VALUES = {  # codes of a row that the org refuses for the values of the fields that it names
    "FIELD_INTEGRITY_EXCEPTION",
    "INVALID_EMAIL_ADDRESS",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
    "INVALID_TYPE_ON_FIELD_IN_RECORD",
    "NUMBER_OUTSIDE_VALID_RANGE",
    "STRING_TOO_LONG",
    "TEXT_DATA_OUTSIDE_SUPPORTED_CHARSET",
}
TOUCHED = 50_000  # records: far more than any caller has in flight
_REMEMBERED = (
    200_000  # contacts that were found but own no record, so that the match rate counts each once
)


def _no_count(what: str, where: str) -> None:
    """The Count of those who do not count."""


class Sync:
    """One org's writer. One instance for each org, whatever number of batches is in flight; no two
    of them may hold the same person (see `claims`).

    All methods raise OrgUnavailable for a fault of the whole org: the same batch is safe to offer
    again. Any other SalesforceError means that the configuration, or contactstream, is wrong, and
    that no row is to blame.
    """

    def __init__(
        self,
        client: SalesforceClient,
        policy: Policy,
        count: CountCallback = _no_count,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self.policy = policy
        self._count = count
        self._clock = clock
        self._schemas: Mapping[str, Schema] = {}
        self._accounts = AccountDirectory(policy.account_domains)
        self._shared = 0  # domains of several Accounts, as counted
        self._refreshed = 0.0
        self._doubted = False  # a row was refused for a field that the describe calls writable
        self._described = 0.0
        self._our_user: str | None = None
        self._starting = asyncio.Lock()
        self._writing: set[str] = set()  # Accounts whose rows are on their way
        self._written = asyncio.Condition()
        self._filled: dict[int, None] = {}
        self._turn = 0
        self._touched: dict[str, int] = {}

    async def start(self) -> None:
        """Describes both objects and reads the Accounts' domains, in one Composite. Done by the
        first `resolve` at the latest.
        """
        async with self._starting:
            if not self._schemas:
                await self._start()

    async def _start_again(self, outdated: Mapping[str, Schema]) -> None:
        """Of the batches that find out that the schemas are outdated, one renews them; the others
        use them to their end.
        """
        async with self._starting:
            if self._schemas is outdated:
                await self._start()

    async def _start(self) -> None:
        now = self._clock()
        asked = datetime.fromtimestamp(now, UTC)
        self._our_user = await self._client.user_id()
        if self._our_user is None:  # nothing would be ours, and so nothing overwritten
            raise OrgNotPrepared("the login's answer names no user in its id")
        *described, accounts = await self._client.composite(
            [
                *(describe_subrequest(name, name) for name in _OBJECTS),
                self._accounts.request("accounts", asked),
            ],
            "composite_start",
        )
        schemas = self._bound(described)
        await self._take_accounts(accounts, asked)
        self._take_schemas(schemas)

    async def _take_accounts(self, answer: SubAnswer, asked: datetime) -> None:
        """A refusal is counted and fails no batch: the domains that are known or configured serve
        on, and a later refresh asks again.

        Raises OrgUnavailable.
        """
        self._refreshed = asked.timestamp() - max(
            0.0, self.policy.account_refresh - ACCOUNT_RETRY_SECONDS
        )
        try:
            found = await self._accounts_in(answer, asked)
        except (RequestRejected, UnexpectedAnswer) as refused:
            self._count(
                "accounts_refused",
                refused.verdict.reason if isinstance(refused, RequestRejected) else "odd",
            )
            return
        self._accounts.update(found, asked)
        self._refreshed = asked.timestamp()
        for _ in range(self._accounts.shared_domains - self._shared):
            self._count("shared_domain", "")
        self._shared = self._accounts.shared_domains

    async def _accounts_in(self, answer: SubAnswer, asked: datetime) -> list[Mapping[str, Any]]:
        """The Accounts of an answer; asked for again without a hidden field that can be missed."""
        while True:  # ends: every round asks for fewer fields
            try:
                return await self._client.rest_of(answer)
            except RequestRejected as refused:
                if not self._accounts.drop_fields(refused.verdict.fields):
                    raise
                self._count("missing", f"Account.{refused.verdict.fields[0]}")
            (answer,) = await self._client.composite(
                [self._accounts.request("accounts", asked)], "composite_query"
            )

    def _bound(self, answers: Iterable[SubAnswer]) -> dict[str, Schema]:
        """The schemas of two describes. Raises as describe_answer does, and OrgNotPrepared."""
        flag = self.policy.flag_field if self.policy.on_delete is OnDelete.FLAG else None
        described = [describe_answer(answer) for answer in answers]
        return {
            shape.name: schema(shape, bind(self.policy.mapping, shape), flag) for shape in described
        }

    def _take_schemas(self, schemas: Mapping[str, Schema]) -> None:
        for name, shape in schemas.items():
            before = self._schemas[name].mapped.missing if name in self._schemas else ()
            for missing in set(shape.mapped.missing).difference(before):
                self._count("missing", f"{name}.{missing}")
        self._schemas = schemas
        self._doubted = False

    async def _ask_about_refused_fields(self) -> None:
        """Only the describe tells a field that was taken from our user from one that a single row
        may not have.
        """
        now = self._clock()
        if not self._doubted or now - self._described < DESCRIBE_SECONDS:
            return
        async with self._starting:
            if self._doubted:
                describes = [describe_subrequest(name, name) for name in _OBJECTS]
                self._take_schemas(
                    self._bound(await self._client.composite(describes, "composite_start"))
                )
                self._described = now

    def claims(self, change: ContactVersion) -> frozenset[str]:
        """What no two batches in flight may have in common: the contact, its addresses, the Account
        that it would belong to.

        Right once started; before, it knows no Accounts.
        """
        found = {record_key(change.key)}
        if change.contact is not None:
            found.update(addresses(change.contact))
            someone = person_of(change, self.policy, self._accounts)
            if isinstance(someone, Person) and someone.target.account_id:
                found.add(someone.target.account_id)
        return frozenset(found)

    async def sync(self, changes: Sequence[ContactVersion]) -> list[Outcome]:
        """`resolve` and `write`: two calls for a batch."""
        return await self.write(await self.resolve(changes))

    async def resolve(self, changes: Sequence[ContactVersion]) -> WritePlan:
        """Looks everybody up in one Composite of queries, and plans what to write. Nothing is
        written.
        """
        await self.start()
        await self._ask_about_refused_fields()
        schemas = self._schemas
        try:
            return await self._resolve(changes, schemas)
        except RequestRejected as refused:
            if refused.verdict.action is not Action.STRIP_FIELD:
                raise
        await self._start_again(schemas)  # a field was hidden from our user since we asked
        return await self._resolve(changes, self._schemas)

    async def _resolve(
        self, changes: Sequence[ContactVersion], schemas: Mapping[str, Schema]
    ) -> WritePlan:
        turn, refreshed = self._turn, self._refreshed
        sorted_out = partition_batch(changes, self.policy, self._accounts)
        for _, someone in sorted_out.people:
            if someone.found_by.present and not someone.addresses:
                self._count("invalid_address", "Email")
        wanted: dict[str, tuple[str, ...]] = {change.key: () for change in sorted_out.deleted}
        wanted |= {change.key: someone.addresses for change, someone in sorted_out.people}
        queue = [(change, wanted[change.key]) for change in changes if change.key in wanted]
        most = MAX_BATCH
        while True:
            try:
                candidates, taken = await self._look_up(queue[:most], schemas)
                break
            except RequestRejected as refused:
                if refused.verdict.action is not Action.HALVE or min(most, len(queue)) == 1:
                    raise
                most = min(most, len(queue)) // 2
        inside = {change.key for change, _ in queue[:taken]}
        people = [
            (change, someone) for change, someone in sorted_out.people if change.key in inside
        ]
        if self._refreshed != refreshed:  # the Accounts came along with the answer
            people = [
                (change, replace(one, target=route(one.found_by, self._accounts)))
                for change, one in people
            ]
        planner = WritePlanner(candidates, schemas, self.policy, self._count)
        decisions = planner.plan(
            people,
            [change for change in sorted_out.deleted if change.key in inside],
        )
        leftovers = tuple(change for change, _ in queue[taken:])
        return WritePlan([*sorted_out.decided, *decisions], leftovers, candidates, schemas, turn)

    async def _look_up(
        self, queue: Sequence[tuple[ContactVersion, tuple[str, ...]]], schemas: Mapping[str, Schema]
    ) -> tuple[CandidateIndex, int]:
        """The records that come into question for the first so many changes."""
        candidates = CandidateIndex(self._our_user)
        if not queue:
            return candidates, 0
        keys = [(record_key(change.key), found_by) for change, found_by in queue]
        found = lookup(keys, schemas["Contact"], schemas["Lead"])
        requests = [
            query_subrequest(statement, f"{sobject}{number}")
            for number, (sobject, statement) in enumerate(found.statements)
        ]
        now = self._clock()
        asked, due = (
            datetime.fromtimestamp(now, UTC),
            now - self._refreshed >= self.policy.account_refresh,
        )
        if due:
            # one of the batches in flight is enough; and where it fails, the next ones go without
            self._refreshed = now - max(0.0, self.policy.account_refresh - ACCOUNT_RETRY_SECONDS)
            requests += [
                describe_subrequest(name, name) for name in _OBJECTS
            ]  # they take no place of a query
            requests.append(self._accounts.request("accounts", asked))
        answers = await self._client.composite(requests, "composite_query")
        people, others = answers[: len(found.statements)], answers[len(found.statements) :]
        if due:
            await self._refresh(others, asked)
        for (sobject, _), answer in zip(found.statements, people, strict=True):
            candidates.add_rows(sobject, await self._client.rest_of(answer))
        return candidates, found.taken

    async def _refresh(self, answers: Sequence[SubAnswer], asked: datetime) -> None:
        """What came along with the queries of a batch. No failure of it is the batch's, but for an
        org that lost our own fields.
        """
        *described, accounts = answers
        try:
            await self._take_accounts(accounts, asked)
        except OrgUnavailable as error:
            self._count("accounts_refused", error.reason)
        try:
            self._take_schemas(self._bound(described))
        except (OrgUnavailable, RequestRejected, UnexpectedAnswer):
            self._count("describe_refused", "")

    async def write(self, plan: WritePlan) -> list[Outcome]:
        """Writes what the plan changes, and says of every change of the batch what became of it."""
        outcomes, written = await self._write(plan.decisions, plan.turn)
        outcomes += [
            Outcome(one.key, OutcomeStatus.RETRY, reason=NEXT_BATCH) for one in plan.leftovers
        ]
        duplicates = [one for one in written if one.verdict.action is Action.ADOPT_DUPLICATE]
        apart: list[list[PlannedOutcome]] = []
        for one in written:
            if one.verdict.action is not Action.ADOPT_DUPLICATE:
                outcomes += self._outcomes(one, apart)
        if duplicates:
            outcomes += await self._adopt(duplicates, plan, apart)
        outcomes += await self._one_by_one(apart)
        return _combined(outcomes)

    async def _write(
        self, planned: Sequence[PlannedOutcome], turn: int
    ) -> tuple[list[Outcome], list[WrittenRow]]:
        """Writes the rows that may be written now; the outcomes of the decisions that none of them
        stands for.
        """
        outcomes, decisions = self._without_suppressed(planned)
        to_write = rows(decisions)
        changed = {id(decision) for row in to_write for decision in row.tag}
        async with self._accounts_of(to_write) as unlocked:
            free = [
                row for row in unlocked if self._touched.get(row.fields.get("Id", ""), -1) <= turn
            ]
            with self._touching(free):
                written, left = await write_rows(self._how(), free)
                written = await self._without_refused_values(written)
        kept = {id(row) for row in free}
        busy = [row for row in to_write if id(row) not in kept]
        waiting = [decision.change for row in (*busy, *left) for decision in row.tag]
        outcomes += [Outcome(one.key, OutcomeStatus.RETRY, reason=NEXT_BATCH) for one in waiting]
        ours = {row.fields.get("Id") for row in to_write}
        outcomes += [
            self._unwritten(one, turn, ours) for one in decisions if id(one) not in changed
        ]
        return outcomes, written

    def _unwritten(self, one: PlannedOutcome, turn: int, ours: Container[str | None]) -> Outcome:
        """Of somebody for whom nothing had to be written; if another batch wrote the record
        meanwhile that may no longer be true: its owner may have released it, and whoever only
        filled it takes it over.
        """
        record_id = one.record.id if one.record else None
        if (
            record_id is not None
            and record_id not in ours
            and self._touched.get(record_id, -1) > turn
        ):
            return Outcome(one.change.key, OutcomeStatus.RETRY, reason=NEXT_BATCH)
        return self._told(one.outcome)

    async def _without_refused_values(self, written: list[WrittenRow]) -> list[WrittenRow]:
        """A country that the org does not list, a value that the record type does not have: rather
        a contact without it than none.
        """
        while again := {
            id(one): row for one in written if (row := _without_its_refused_values(one))
        }:  # with fewer fields
            for one in written:
                for name in (
                    one.row.fields.keys() - again[id(one)].fields.keys() if id(one) in again else ()
                ):
                    self._count("left_out", f"{one.row.sobject}.{name}")
            more, _ = await write_rows(self._how(), list(again.values()), calls=None)
            written = [*(one for one in written if id(one) not in again), *more]
        return written

    @contextmanager
    def _touching(self, free: Sequence[WriteRow]) -> Iterator[None]:
        """Notes which records are written, and when that ended: a plan that read one of them before
        is no longer true.

        Two people without a common address can meet in one record that holds an address of each.
        """
        ids = [row.fields["Id"] for row in free if "Id" in row.fields]
        self._touched.update(dict.fromkeys(ids, sys.maxsize))
        try:
            yield
        finally:
            self._turn += 1
            for record_id in ids:
                self._touched.pop(record_id, None)
                self._touched[record_id] = self._turn
            while len(self._touched) > TOUCHED:
                del self._touched[next(iter(self._touched))]

    @asynccontextmanager
    async def _accounts_of(self, to_write: Sequence[WriteRow]) -> AsyncIterator[Sequence[WriteRow]]:
        """The rows that may be written now: no other request holds their Account, and none will
        until the end.

        Waiting costs no call, coming again with the next batch costs a query.
        """
        wanted = {row.account_id for row in to_write if row.account_id}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACCOUNT_SECONDS), self._written:
                await self._written.wait_for(lambda: not wanted & self._writing)
        held = wanted - self._writing
        self._writing |= held
        try:
            yield [row for row in to_write if not row.account_id or row.account_id in held]
        finally:
            self._writing -= held
            async with self._written:
                self._written.notify_all()

    def _how(self) -> WriteContext:
        return WriteContext(
            self._client, self._refused_field, write_headers(allow_save=self.policy.allow_save)
        )

    def _refused_field(self, sobject: str, name: str) -> None:
        """The org refuses a field of a row: that row goes without, and the describe is asked about
        the others.
        """
        self._count("stripped", f"{sobject}.{name}")
        self._doubted = True

    def _without_suppressed(
        self, decisions: Sequence[PlannedOutcome]
    ) -> tuple[list[Outcome], list[PlannedOutcome]]:
        """Again just before the write: somebody may have been erased since the plan was made."""
        hit = {
            id(one.record)
            for one in decisions
            if one.record and is_suppressed(one.change, self.policy.suppression)
        }
        outcomes, kept = [], []
        for one in decisions:
            if one.record is None or id(one.record) not in hit:
                kept.append(one)
            elif is_suppressed(one.change, self.policy.suppression):
                outcomes.append(
                    Outcome(
                        one.change.key, OutcomeStatus.SKIPPED, reason=SkipReason.SUPPRESSED.value
                    )
                )
            else:  # its row holds what the erased person brought; planned again it will not
                outcomes.append(Outcome(one.change.key, OutcomeStatus.RETRY, reason=NEXT_BATCH))
        return outcomes, kept

    def _told(self, outcome: Outcome) -> Outcome:
        """A contact that owns no record is found by address every time, and counts once."""
        if outcome.status is not OutcomeStatus.FILLED or not outcome.first:
            return outcome
        mark = hash(outcome.key)
        if mark in self._filled:
            return replace(outcome, first=False)
        self._filled[mark] = None
        if len(self._filled) > _REMEMBERED:
            self._filled.pop(next(iter(self._filled)))
        return outcome

    def _outcomes(self, written: WrittenRow, apart: list[list[PlannedOutcome]]) -> list[Outcome]:
        """Of everybody whom a row stands for; those who must be tried alone go to `apart`."""
        decisions: list[PlannedOutcome] = written.row.tag
        if account_id := _gone_account(written):
            self._count("account_gone", "")
            self._accounts.forget(account_id)
            self._refreshed = 0.0
        match written.verdict.action:
            case Action.DONE:
                return [self._told(self._done(one, written)) for one in decisions]
            case Action.RETRY_ROW | Action.FOLLOW_CONVERTED:
                fate = OutcomeStatus.RETRY
            case Action.STALE:
                fate = OutcomeStatus.STALE
            case _:
                fate = OutcomeStatus.FAILED
        if fate is not OutcomeStatus.RETRY and len(decisions) > 1:
            apart.append(decisions)  # one of them spoilt the row of the others
            return []
        return [
            replace(
                one.outcome,
                status=fate,
                first=False,
                reason=written.verdict.reason,
                errors=written.result.errors,
            )
            for one in decisions
        ]

    def _done(self, decision: PlannedOutcome, written: WrittenRow) -> Outcome:
        if decision.record is not None:
            decision.record.id = written.result.id
            decision.record.stored = dict(decision.record.fields)
        outcome = replace(decision.outcome, record_id=written.result.id)
        if outcome.status is OutcomeStatus.CREATED and written.result.created is False:
            return replace(outcome, status=OutcomeStatus.UPDATED, matched="key", first=False)
        return outcome

    async def _one_by_one(self, apart: Sequence[Sequence[PlannedOutcome]]) -> list[Outcome]:
        """Those whose common row failed, each in a row of its own: in every round one of each
        failed row.

        Ends: a round is always smaller than the batch that it comes from.
        """
        outcomes: list[Outcome] = []
        for number in range(max(map(len, apart), default=0)):
            turn = [decisions[number].change for decisions in apart if number < len(decisions)]
            outcomes += await self.sync(turn)
        return outcomes

    async def _adopt(
        self, blocked: Sequence[WrittenRow], plan: WritePlan, apart: list[list[PlannedOutcome]]
    ) -> list[Outcome]:
        """A duplicate rule blocked a new record and named one match: if it shares an address, that
        is the person.
        """
        outcomes: list[Outcome] = []
        creations = [one for one in blocked if one.row.op == "upsert"]
        candidates = plan.candidates
        await self._read_matches(creations, plan)
        planner = WritePlanner(candidates, plan.schemas, self.policy, self._count)
        decisions: list[PlannedOutcome] = []
        for one in blocked:
            match = one.verdict.duplicates[0]
            record = (
                candidates.records.get(match.record_id[:15]) if one.row.op == "upsert" else None
            )
            members: list[PlannedOutcome] = one.row.tag
            if record is None or not set(record.addresses) & one.row.people:
                outcomes += self._outcomes(one, apart)
                continue
            for member in members:
                if member.person is None or not acceptable(record, member.person):
                    outcomes += self._outcomes(
                        replace(one, row=replace(one.row, tag=[member])), apart
                    )
                else:
                    decisions.append(
                        planner.join(member.change, member.person, Match(record, "duplicate_rule"))
                    )
        others, written = await self._write(decisions, plan.turn)
        outcomes += others
        for one in written:
            outcomes += self._outcomes(one, apart)
        return outcomes

    async def _read_matches(self, blocked: Iterable[WrittenRow], plan: WritePlan) -> None:
        wanted: dict[str, set[str]] = defaultdict(set)
        for one in blocked:
            match = one.verdict.duplicates[0]
            if (
                match.sobject in plan.schemas
                and match.record_id[:15] not in plan.candidates.records
            ):
                wanted[match.sobject].add(match.record_id)
        if not wanted:
            return
        contact = plan.schemas["Contact"]
        requests = [
            query_subrequest(by_id(plan.schemas[name], contact, sorted(ids)), name)
            for name, ids in wanted.items()
        ]
        answers: list[SubAnswer] = await self._client.composite(requests, "composite_query")
        for name, answer in zip(wanted, answers, strict=True):
            found: list[Mapping[str, Any]] = await self._client.rest_of(answer)
            plan.candidates.add_rows(name, found)


def _without_its_refused_values(written: WrittenRow) -> WriteRow | None:
    """A row that was refused for values alone, without them; None if it would not be itself, or
    nothing would be left of it.
    """
    row, errors = written.row, written.result.errors
    if written.verdict.action is not Action.DEAD_LETTER or any(
        error.code not in _VALUES for error in errors
    ):
        return None
    # of a State and Country picklist the code is named, whichever of the two was written
    named = {
        name
        for error in errors
        for field in error.fields
        for name in (field, field.removesuffix("Code"))
    }
    refused = named & row.fields.keys()
    left = {name: value for name, value in row.fields.items() if name not in refused}
    needed = {"Id"} if row.op == "update" else {KEY_FIELD, "LastName", "Company"}
    if not refused or refused & {*needed, KEY_FIELD, VERSION_FIELD} or left.keys() == {"Id"}:
        return None
    return replace(row, fields=left)


def _gone_account(written: WrittenRow) -> str | None:
    """The Account that a row was refused for, because it was deleted or purged."""
    account_id = written.row.fields.get("AccountId")
    blamed = any(
        error.code in _GONE and (not error.fields or "AccountId" in error.fields)
        for error in written.result.errors
    )
    return account_id if blamed and isinstance(account_id, str) else None


def _combined(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """One for each contact. A deletion may have two rows: it is done when both are."""
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        known = found.setdefault(outcome.key, outcome)
        if _gravity(outcome) > _gravity(known):
            found[outcome.key] = outcome
    return list(found.values())


def _gravity(outcome: Outcome) -> int:
    return {OutcomeStatus.RETRY: 2, OutcomeStatus.FAILED: 1}.get(outcome.status, 0)
