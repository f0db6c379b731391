"""Plans a batch: which contact is which record, in which order they are decided, what changes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.emails import addresses
from connectors.salesforce.matching import Match, find_match
from connectors.salesforce.merge import merge_fields
from connectors.salesforce.org_fields import KEY_FIELD, MARKER_FIELD, VERSION_FIELD
from connectors.salesforce.outcome import NAME_DIFFERS, ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.person import Person, person, record_key
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.routing import admit, may_create, route
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.schema import Schema
from connectors.salesforce.skip_reasons import SkipReason
from connectors.salesforce.sobject_record import SObjectRecord
from connectors.salesforce.suppression import Suppression, SuppressionFile

SoughtPerson = tuple[ContactVersion, Person]
"""A change with the person that it describes."""


@dataclass(frozen=True, slots=True)
class PlannedOutcome:
    """The outcome of a change if the row of its record is written.

    `record` is None if nothing is written for the change. `person` is set where the record stands
    for a person, and not for a deletion.
    """

    change: ContactVersion
    outcome: Outcome
    record: SObjectRecord | None = None
    person: Person | None = None


@dataclass(frozen=True, slots=True)
class WritePlan:
    """The decisions of a batch, and the changes that had no room in it.

    Nothing in it changes while it is written.
    """

    decisions: tuple[PlannedOutcome, ...]
    leftovers: tuple[ContactVersion, ...]
    candidates: CandidateIndex
    schemas: Mapping[str, Schema]
    read_at: int
    """`RecordLocks.moment()` before the records were read."""

    @property
    def rows(self) -> list[WriteRow]:
        """A row for each record that changes, as the function `rows` makes them."""
        return rows(self.decisions)


def rows(decisions: Iterable[PlannedOutcome]) -> list[WriteRow]:
    """A row for each record that changes; its tag is the list of decisions that it stands for."""
    of_record: dict[SObjectRecord, list[PlannedOutcome]] = defaultdict(list)
    for decision in decisions:
        if decision.record is not None:
            of_record[decision.record].append(decision)
    return [_row(record, own) for record, own in of_record.items() if record.changes]


def _row(record: SObjectRecord, decisions: list[PlannedOutcome]) -> WriteRow:
    fields = record.changes
    if record.id is not None:
        fields = {"Id": record.id, **fields}
        if record.version is not None and any(
            record_key(decision.change.key) == record.key for decision in decisions
        ):
            # also where it is stored already: without it the org's validation rule would let this
            # row overwrite a newer version
            fields[VERSION_FIELD] = record.version
    return WriteRow(
        record.sobject,
        "upsert" if record.id is None else "update",
        fields,
        record.fields.get("AccountId"),
        frozenset(record.people.union(record.addresses)),
        decisions,
        record.stored.get(MARKER_FIELD),
    )


@dataclass(frozen=True, slots=True)
class PartitionedBatch:
    """A batch before anything is looked up; `decided` are the changes that are skipped."""

    people: list[SoughtPerson]
    deleted: list[ContactVersion]
    decided: list[PlannedOutcome]


def partition_batch(
    batch: Iterable[ContactVersion], policy: Policy, accounts: AccountDirectory
) -> PartitionedBatch:
    """Separates the changes that have to be looked up from those that are skipped at once."""
    people: list[SoughtPerson] = []
    deleted: list[ContactVersion] = []
    decided: list[PlannedOutcome] = []
    for change in batch:
        found = person_of(change, policy, accounts)
        if found is None:
            deleted.append(change)
        elif isinstance(found, SkipReason):
            decided.append(_skipped(change, found))
        else:
            people.append((change, found))
    return PartitionedBatch(people, deleted, decided)


def person_of(
    change: ContactVersion, policy: Policy, accounts: AccountDirectory
) -> Person | SkipReason | None:
    """The person of a change, why it is skipped, or None for a deleted contact."""
    if change.contact is None:
        return None
    found_by = admit(change.contact, policy.exclusions, policy.sources)
    if is_suppressed(change, policy.suppression):
        return SkipReason.SUPPRESSED
    if isinstance(found_by, SkipReason):
        return found_by
    return person(change.key, change.version, change.contact, found_by, route(found_by, accounts))


def is_suppressed(change: ContactVersion, suppression: Suppression | SuppressionFile) -> bool:
    """Whether the contact, by its key or by any of its addresses, asked to be erased."""
    if change.contact is None or not suppression.hashes:
        return False
    return suppression.holds((change.key, *addresses(change.contact)))


def _skipped(change: ContactVersion, reason: SkipReason) -> PlannedOutcome:
    return PlannedOutcome(change, Outcome(change.key, OutcomeStatus.SKIPPED, reason=reason.value))


class WritePlanner:
    """Plans one batch against its candidates, as if its contacts came one after the other.

    What one contact changes in a record, the next one sees: planning changes `candidates`.
    """

    def __init__(
        self,
        candidates: CandidateIndex,
        schemas: Mapping[str, Schema],
        policy: Policy,
        count: CountCallback,
    ) -> None:
        self._candidates = candidates
        self._schemas = schemas
        self._policy = policy
        self._count = count

    def plan(
        self, people: Sequence[SoughtPerson], deleted: Iterable[ContactVersion]
    ) -> list[PlannedOutcome]:
        """A decision for each change; two where a deletion concerns a Contact and a Lead.

        1. Deletions, so that a released record can be taken over.
        2. Contacts whose key a record holds, so that others only fill what they leave blank.
        3. Contacts that share an address with a record that exists, or that this plan creates.
        4. All others.

        So people who are connected by their addresses end in one record, in whatever order they
        came.
        """
        decisions = [decision for change in deleted for decision in self._delete(change)]
        others: list[SoughtPerson] = []
        for change, someone in people:
            if self._candidates.with_key(someone.record_key):
                decisions.append(self.decide(change, someone))
            else:
                others.append((change, someone))
        return [*decisions, *self._plan_connected(others)]

    def _plan_connected(self, people: Sequence[SoughtPerson]) -> list[PlannedOutcome]:
        """Decides people so that each is followed by those who share an address with it."""
        neighbours: dict[str, list[int]] = defaultdict(list)
        for place, (_, someone) in enumerate(people):
            for address in someone.addresses:
                neighbours[address].append(place)
        decisions: list[PlannedOutcome] = []
        seen: set[int] = set()
        for start in self._starting_places(people):
            waiting = [start]
            while waiting:
                place = waiting.pop()
                if place in seen:
                    continue
                seen.add(place)
                change, someone = people[place]
                decision = self.decide(change, someone)
                decisions.append(decision)
                if _joins(decision):  # a person without a record connects nobody
                    for address in someone.addresses:
                        waiting.extend(neighbours.pop(address, ()))
        return decisions

    def _starting_places(self, people: Sequence[SoughtPerson]) -> Iterator[int]:
        """The places of people with a record before all places."""
        known = [
            place
            for place, (_, someone) in enumerate(people)
            if self._candidates.has_address_of(someone)
        ]
        # of a family on one mailbox, the person whose name the record has comes before the others
        known.sort(key=lambda place: not self._candidates.has_address_and_name_of(people[place][1]))
        yield from known
        yield from range(len(people))

    def _delete(self, change: ContactVersion) -> list[PlannedOutcome]:
        """One decision, or two where a Contact and a Lead hold the key."""
        held = self._candidates.with_key(record_key(change.key))
        if not held:
            outcome = Outcome(change.key, OutcomeStatus.UNCHANGED, reason="no_record")
            return [PlannedOutcome(change, outcome)]
        if any(record.version is not None and record.version > change.version for record in held):
            return [PlannedOutcome(change, _deletion(change, held[0], OutcomeStatus.STALE))]
        if self._policy.on_delete is OnDelete.KEEP:
            kept = _deletion(change, held[0], OutcomeStatus.UNCHANGED, "kept")
            return [PlannedOutcome(change, kept)]
        if self._policy.on_delete is OnDelete.RELEASE:
            return [self._release(change, record) for record in held]
        return [self._flag(change, record) for record in held]

    def _release(self, change: ContactVersion, record: SObjectRecord) -> PlannedOutcome:
        record.fields |= {KEY_FIELD: None, VERSION_FIELD: None}
        self._candidates.remove_key(record, record_key(change.key))
        return PlannedOutcome(change, _deletion(change, record, OutcomeStatus.RELEASED), record)

    def _flag(self, change: ContactVersion, record: SObjectRecord) -> PlannedOutcome:
        flag = self._schemas[record.sobject].flag
        if flag is None:
            outcome = _deletion(change, record, OutcomeStatus.UNCHANGED, "no_flag_field")
            return PlannedOutcome(change, outcome)
        record.fields |= {flag: True, VERSION_FIELD: change.version}
        outcome = _deletion(change, record, OutcomeStatus.RELEASED, "flagged")
        return PlannedOutcome(change, outcome, record)

    def decide(self, change: ContactVersion, someone: Person) -> PlannedOutcome:
        """Decides one person; the `fields` of its record change with it."""
        match = find_match(self._candidates, someone)
        if match.record is not None:
            return self.join(change, someone, match)
        if match.shared:
            return _skipped(change, SkipReason.SHARED_ADDRESS)
        target = someone.target
        if match.converted and target.sobject == "Lead":
            return _skipped(change, SkipReason.CONVERTED_LEAD)
        if reason := may_create(someone.found_by, target, self._policy.creation):
            return _skipped(change, reason)
        record = SObjectRecord(target.sobject, None, {}, {})
        self._apply(record, someone, owner=True)
        outcome = Outcome(change.key, OutcomeStatus.CREATED, record.sobject, first=True)
        return PlannedOutcome(change, outcome, record, someone)

    def join(self, change: ContactVersion, someone: Person, match: Match) -> PlannedOutcome:
        """Decides a person whose record was found. ValueError if `match` has no record."""
        record = match.record
        if record is None:
            raise ValueError("nothing was found")
        if match.ambiguous:
            self._count(SyncWarning.AMBIGUOUS, "")
        owner = record.key in (None, someone.record_key) and not match.keyless
        outcome = Outcome(
            change.key,
            OutcomeStatus.UPDATED,
            record.sobject,
            record.id,
            match.matched,
            match.matched != "key",
            ambiguous=match.ambiguous,
        )
        if _holds_newer_version(record, someone):
            return PlannedOutcome(change, replace(outcome, status=OutcomeStatus.STALE))
        if not owner and record.has_other_name(someone.name):
            self._count(SyncWarning.NAME_DIFFERS, "")
            outcome = replace(outcome, status=OutcomeStatus.FILLED, reason=NAME_DIFFERS)
            return PlannedOutcome(change, outcome, record, someone)
        changed = self._apply(record, someone, owner=owner)
        if not owner:
            reason = "" if changed else "nothing_to_fill"
            outcome = replace(outcome, status=OutcomeStatus.FILLED, reason=reason)
        elif not changed - {VERSION_FIELD}:
            outcome = replace(outcome, status=OutcomeStatus.UNCHANGED)
        return PlannedOutcome(change, outcome, record, someone)

    def _apply(self, record: SObjectRecord, someone: Person, *, owner: bool) -> set[str]:
        """Merges a person into a record; returns the names of the fields that change."""
        changed = merge_fields(
            record,
            someone,
            self._schemas[record.sobject],
            owner=owner,
            count=self._count,
        )
        record.fields |= changed
        self._candidates.join(record, someone)
        return set(changed)


def _joins(decision: PlannedOutcome) -> bool:
    """Whether the person of a decision is one of those whom its record stands for."""
    return decision.record is not None and decision.outcome.reason != NAME_DIFFERS


def _holds_newer_version(record: SObjectRecord, someone: Person) -> bool:
    return (
        record.key == someone.record_key
        and record.version is not None
        and record.version > someone.version
    )


def _deletion(
    change: ContactVersion, record: SObjectRecord, status: OutcomeStatus, reason: str = ""
) -> Outcome:
    return Outcome(change.key, status, record.sobject, record.id, "key", reason=reason)
