"""Reads from Salesforce the records that a batch of contacts may already be."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import query_subrequest
from connectors.salesforce.api.errors import Action, DuplicateMatch, RequestRejected
from connectors.salesforce.candidates import MAX_MOVES, CandidateIndex
from connectors.salesforce.counting import CountCallback, SyncWarning, count_nothing
from connectors.salesforce.deleted_records import DeletedRecord, DeletedRecords
from connectors.salesforce.lookup_size import LookupSize
from connectors.salesforce.org_metadata import OBJECTS, OrgMetadata
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.person import record_key
from connectors.salesforce.planned_records import PlannedRecords
from connectors.salesforce.queries import by_id, lookup
from connectors.salesforce.schema import Schema
from connectors.salesforce.sequences import batched

# IDs in a statement that follows merges and conversions: 42,000 of the 100,000 characters.
IDS_OF_A_STATEMENT = 2_000
# A Composite takes five queries.
MAX_STATEMENTS = 5
# Contacts of which it is remembered where their merges lead, so that a further call is needed once
# and not with every change; 4 MB. Beyond it the oldest costs its call again.
MAX_REMEMBERED_PATHS = 10_000


@dataclass(frozen=True, slots=True)
class SoughtContact:
    """A change, and the addresses by which its record is looked up besides its key."""

    change: ContactVersion
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundCandidates:
    """The candidate records of the first `taken` contacts; the others had no room in one call."""

    candidates: CandidateIndex
    taken: int


class CandidateFinder:
    """Looks candidates up, one Composite for a batch. Every method raises as the client does.

    A further one is sent only where a merge or a conversion leads to a record that is deleted
    itself. The recycle bin is asked as well, by /queryAll; `deleted` is what is remembered beyond.
    """

    def __init__(
        self,
        client: CompositeClient,
        metadata: OrgMetadata,
        deleted: DeletedRecords,
        count: CountCallback = count_nothing,
        planned: PlannedRecords | None = None,
    ) -> None:
        """With `planned`, records are found as earlier plans leave them, which nobody wrote."""
        self._client = client
        self._metadata = metadata
        self._deleted = deleted
        self._count = count
        self._planned = planned
        self._size = LookupSize()
        self._paths: dict[str, tuple[str, ...]] = {}

    async def find(
        self,
        contacts: Sequence[SoughtContact],
        schemas: Mapping[str, Schema],
        limit: int,
        fence: Fence,
    ) -> FoundCandidates:
        """The candidates of at most `limit` contacts; of fewer where the org finds that too much.

        A size that the org, or a proxy before it, refused is not tried again for a while. The
        metadata's refresh goes along where it is due.
        """
        most = first = self._size.most(min(limit, len(contacts)))
        while True:  # ends: a single contact is not halved
            try:
                found = await self._find_once(contacts[:most], schemas, fence)
            except RequestRejected as refused:
                if refused.verdict.action is not Action.HALVE or most <= 1:
                    raise
                self._count(SyncWarning.LOOKUP_HALVED, refused.verdict.reason)
                most //= 2
                continue
            if most < first:
                self._size.passed_after_refusal(most)
            else:
                self._size.passed(most)
            return found

    async def _find_once(
        self, contacts: Sequence[SoughtContact], schemas: Mapping[str, Schema], fence: Fence
    ) -> FoundCandidates:
        candidates = CandidateIndex(self._deleted, _address_fields(schemas))
        if not contacts:
            return FoundCandidates(candidates, 0)
        remembered = self._remembered(contacts)
        known_ids = self._known_ids(contacts, remembered)
        found = lookup(
            [(record_key(contact.change.key), contact.addresses) for contact in contacts],
            schemas["Contact"],
            schemas["Lead"],
            record_ids=known_ids,
        )
        requests = [
            query_subrequest(statement, f"{sobject}{number}", deleted=True)
            for number, (sobject, statement) in enumerate(found.statements)
        ]
        owners, room = self._metadata.owners, MAX_STATEMENTS - len(requests)
        owners_first = room == 1 and owners.goes_before_refresh()
        refresh = None if owners_first else self._metadata.claim_refresh()
        asked_owners = owners.claim(room - (refresh is not None))
        if refresh is not None:
            requests += refresh.subrequests
        if asked_owners is not None:
            requests += asked_owners.subrequests
        answers = await self._client.composite(requests, "composite_query", fence)
        people = answers[: len(found.statements)]
        if asked_owners is not None:
            owners.take(asked_owners, answers[-len(asked_owners.subrequests) :])
            answers = answers[: -len(asked_owners.subrequests)]
        if refresh is not None:
            await self._metadata.take_refresh(refresh, answers[len(people) :], fence)
        self._add_planned(candidates, contacts)
        for (sobject, _), answer in zip(found.statements, people, strict=True):
            self._add_rows(candidates, sobject, await self._client.rest_of(answer, fence=fence))
        for contact in contacts[: found.taken]:
            key = record_key(contact.change.key)
            candidates.note_read(known_ids.get(key, ()))
            candidates.add_remembered(remembered.get(key, ()), contact.addresses)
        if await self._follow(candidates, schemas, fence):
            self._remember_paths(contacts[: found.taken], candidates)
        return FoundCandidates(candidates, found.taken)

    def _add_rows(
        self, candidates: CandidateIndex, sobject: str, rows: Iterable[Mapping[str, Any]]
    ) -> None:
        if self._planned is not None:
            rows = map(self._planned.newest, rows)
        candidates.add_rows(sobject, rows)

    def _add_planned(self, candidates: CandidateIndex, contacts: Iterable[SoughtContact]) -> None:
        if self._planned is None:
            return
        sought = [
            value
            for contact in contacts
            for value in (record_key(contact.change.key), *contact.addresses)
        ]
        for sobject in OBJECTS:
            candidates.add_rows(sobject, self._planned.rows(sobject, sought))

    def _remembered(self, contacts: Iterable[SoughtContact]) -> dict[str, list[DeletedRecord]]:
        """By record key: what is remembered of deleted records of these contacts."""
        found = {}
        for contact in contacts:
            key = record_key(contact.change.key)
            if records := self._deleted.found(key, contact.addresses):
                found[key] = records
        return found

    def _known_ids(
        self, contacts: Iterable[SoughtContact], remembered: Mapping[str, list[DeletedRecord]]
    ) -> dict[str, list[str]]:
        """By record key: the records to read by their IDs, for their merges lead there."""
        found = {}
        for contact in contacts:
            key = record_key(contact.change.key)
            pairs = ((each.record_id, each.master_id) for each in remembered.get(key, ()))
            ids = [each for pair in pairs for each in pair if each]
            ids += self._paths.get(key, ())
            if ids:
                found[key] = ids
        return found

    async def _follow(
        self, candidates: CandidateIndex, schemas: Mapping[str, Schema], fence: Fence
    ) -> bool:
        """Reads the records to which merges and conversions lead, if they did not come along.

        A call for each link that is deleted itself, for all contacts together; two links are rare.
        Returns whether there was any.
        """
        for calls in range(MAX_MOVES):
            unread = candidates.unread_ids()
            if not unread:
                return calls > 0
            await self._add_by_id(candidates, unread, schemas, fence)
        return True

    def _remember_paths(
        self, contacts: Iterable[SoughtContact], candidates: CandidateIndex
    ) -> None:
        for contact in contacts:
            key = record_key(contact.change.key)
            passed = candidates.ids_passed(key, contact.addresses)
            if passed:
                self._paths[key] = passed[:MAX_MOVES]
                if len(self._paths) > MAX_REMEMBERED_PATHS:
                    del self._paths[next(iter(self._paths))]

    async def _add_by_id(
        self,
        candidates: CandidateIndex,
        ids: Mapping[str, Sequence[str]],
        schemas: Mapping[str, Schema],
        fence: Fence,
    ) -> None:
        statements = [
            (name, by_id(schemas[name], schemas["Contact"], some))
            for name, listed in ids.items()
            for some in batched(sorted(listed), IDS_OF_A_STATEMENT)
        ]
        for part in batched(statements, MAX_STATEMENTS):
            requests = [
                query_subrequest(statement, f"{name}{number}", deleted=True)
                for number, (name, statement) in enumerate(part)
            ]
            answers = await self._client.composite(requests, "composite_query", fence)
            for (name, _), answer in zip(part, answers, strict=True):
                self._add_rows(candidates, name, await self._client.rest_of(answer, fence=fence))

    async def read_matches(
        self,
        matches: Iterable[DuplicateMatch],
        known: CandidateIndex,
        schemas: Mapping[str, Schema],
        fence: Fence,
    ) -> CandidateIndex:
        """The records that duplicate rules named, in an index of their own.

        Records of `known` are copied as they are planned; `known` itself stays as it is. The others
        are read by ID, in one call if there are any.
        """
        candidates = CandidateIndex(self._deleted, _address_fields(schemas))
        unknown: dict[str, set[str]] = defaultdict(set)
        for match in matches:
            record = known.records.get(match.record_id[:15])
            if record is not None:
                copied = replace(
                    record,
                    fields=dict(record.fields),
                    people=set(record.people),
                    joined=set(record.joined),
                )
                candidates.add(copied)
            elif match.sobject in schemas:
                unknown[match.sobject].add(match.record_id)
        if unknown:
            ids = {name: sorted(found) for name, found in unknown.items()}
            await self._add_by_id(candidates, ids, schemas, fence)
        return candidates


def _address_fields(schemas: Mapping[str, Schema]) -> dict[str, tuple[str, ...]]:
    return {name: shape.address_fields for name, shape in schemas.items()}
