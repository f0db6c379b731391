"""Reads from Salesforce the records that a batch of contacts may already be."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import query_subrequest
from connectors.salesforce.api.errors import Action, DuplicateMatch, RequestRejected
from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.org_metadata import OrgMetadata
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.person import record_key
from connectors.salesforce.queries import by_id, lookup
from connectors.salesforce.schema import Schema


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
    """Looks candidates up, one Composite for a batch. Every method raises as the client does."""

    def __init__(self, client: CompositeClient, metadata: OrgMetadata) -> None:
        self._client = client
        self._metadata = metadata

    async def find(
        self,
        contacts: Sequence[SoughtContact],
        schemas: Mapping[str, Schema],
        limit: int,
        fence: Fence,
    ) -> FoundCandidates:
        """The candidates of at most `limit` contacts; of fewer where the org finds that too much.

        The metadata's refresh goes along where it is due.
        """
        most = min(limit, len(contacts))
        while True:  # ends: a single contact is not halved
            try:
                return await self._find_once(contacts[:most], schemas, fence)
            except RequestRejected as refused:
                if refused.verdict.action is not Action.HALVE or most <= 1:
                    raise
            most //= 2

    async def _find_once(
        self, contacts: Sequence[SoughtContact], schemas: Mapping[str, Schema], fence: Fence
    ) -> FoundCandidates:
        candidates = CandidateIndex()
        if not contacts:
            return FoundCandidates(candidates, 0)
        found = lookup(
            [(record_key(contact.change.key), contact.addresses) for contact in contacts],
            schemas["Contact"],
            schemas["Lead"],
        )
        requests = [
            query_subrequest(statement, f"{sobject}{number}")
            for number, (sobject, statement) in enumerate(found.statements)
        ]
        refresh = self._metadata.claim_refresh()
        if refresh is not None:
            requests += refresh.subrequests
        answers = await self._client.composite(requests, "composite_query", fence)
        people = answers[: len(found.statements)]
        if refresh is not None:
            await self._metadata.take_refresh(refresh, answers[len(people) :], fence)
        for (sobject, _), answer in zip(found.statements, people, strict=True):
            candidates.add_rows(sobject, await self._client.rest_of(answer, fence=fence))
        return FoundCandidates(candidates, found.taken)

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
        candidates = CandidateIndex()
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
            statements = {
                name: by_id(schemas[name], schemas["Contact"], sorted(ids))
                for name, ids in unknown.items()
            }
            answers = await self._client.composite(
                [query_subrequest(statement, name) for name, statement in statements.items()],
                "composite_query",
                fence,
            )
            for name, answer in zip(statements, answers, strict=True):
                candidates.add_rows(name, await self._client.rest_of(answer, fence=fence))
        return candidates
