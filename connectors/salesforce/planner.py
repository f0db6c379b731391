"""What a batch of changed contacts makes of the records that were found: who is whom, in which
order, and what changes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.emails import addresses
from connectors.salesforce.matching import Match, find_match
from connectors.salesforce.merge import merge_fields
from connectors.salesforce.org_fields import KEY_FIELD, VERSION_FIELD
from connectors.salesforce.outcome import NAME_DIFFERS, ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.person import Person, person, record_key
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.routing import admit, may_create, route
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.schema import Schema
from connectors.salesforce.skip_reasons import SkipReason
from connectors.salesforce.sobject_record import SObjectRecord
from connectors.salesforce.suppression import Suppression, SuppressionFile

CountCallback = Callable[[str, str], None]
"""Called with what happened (`cut`, `left_out`, `invalid_address`, `ambiguous`, `name_differs`,
`missing`, `stripped`, `shared_domain`, `account_gone`, `accounts_refused`, `describe_refused`) and
where (`Lead.Title`, why, or nothing).
"""


@dataclass(frozen=True, slots=True)
class PlannedOutcome:
    """What becomes of a change if its record's row is written."""

    change: ContactVersion
    outcome: Outcome
    record: SObjectRecord | None = None
    person: Person | None = None


@dataclass(slots=True)
class WritePlan:
    """The decisions of a batch, and the changes that had no room in it. `rows` are what has to be
    written for them.
    """

    decisions: list[PlannedOutcome]
    leftovers: tuple[ContactVersion, ...]
    candidates: CandidateIndex
    schemas: Mapping[str, Schema]
    turn: int
    """How many writes had ended when the records were read."""

    @property
    def rows(self) -> list[WriteRow]:
        """A row for each record that changes; its tag is the decisions that it stands for."""
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
            # also where it stands already: without it the org's rule would let this row over a
            # newer one
            fields[VERSION_FIELD] = record.version
    return WriteRow(
        record.sobject,
        "upsert" if record.id is None else "update",
        fields,
        record.fields.get("AccountId"),
        frozenset(record.people.union(record.addresses)),
        decisions,
    )


@dataclass(frozen=True, slots=True)
class PartitionedBatch:
    """A batch before anything is looked up."""

    people: list[tuple[ContactVersion, Person]]
    deleted: list[ContactVersion]
    decided: list[PlannedOutcome]


def partition_batch(
    batch: Iterable[ContactVersion], policy: Policy, accounts: AccountDirectory
) -> PartitionedBatch:
    """Who has to be looked up, and who is left out at once."""
    people: list[tuple[ContactVersion, Person]] = []
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
    """The person of a change, why it is left out, or None for a deleted contact."""
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
    """Plans one batch against what was found, as if its contacts came one after the other: what one
    changes, the next one sees.
    """

    def __init__(
        self,
        candidates: CandidateIndex,
        schemas: Mapping[str, Schema],
        policy: Policy,
        count: CountCallback,
    ) -> None:
        self._census = candidates
        self._schemas = schemas
        self._policy = policy
        self._count = count

    def plan(
        self, people: Sequence[tuple[ContactVersion, Person]], deleted: Iterable[ContactVersion]
    ) -> list[PlannedOutcome]:
        """A decision for each.

        Deletions come first, so that a released record can be taken over; then the owners of keys,
        so that the others only fill what they leave blank; then whoever shares an address with a
        record that is there, or will be, before anybody is created: so people who hang together by
        their addresses end in one record, in whatever order they came.
        """
        decisions = [decision for change in deleted for decision in self._delete(change)]
        others: list[tuple[ContactVersion, Person]] = []
        for change, someone in people:
            if self._census.with_key(someone.record_key):
                decisions.append(self.decide(change, someone))
            else:
                others.append((change, someone))
        neighbours: dict[str, list[int]] = defaultdict(list)
        for place, (_, someone) in enumerate(others):
            for address in someone.addresses:
                neighbours[address].append(place)
        seen = [False] * len(others)
        known = [
            place
            for place, (_, someone) in enumerate(others)
            if self._census.has_address_of(someone)
        ]
        # of a family on one mailbox, the one whose name stands comes before the others
        known.sort(key=lambda place: not self._census.has_address_and_name_of(others[place][1]))
        for start in (*known, *range(len(others))):
            waiting = [start]
            while waiting:
                place = waiting.pop()
                if seen[place]:
                    continue
                seen[place] = True
                change, someone = others[place]
                decision = self.decide(change, someone)
                decisions.append(decision)
                joined = decision.record is not None and decision.outcome.reason != NAME_DIFFERS
                for address in someone.addresses if joined else ():  # who is left out joins nobody
                    waiting.extend(neighbours.pop(address, ()))
        return decisions

    def _delete(self, change: ContactVersion) -> list[PlannedOutcome]:
        """One decision, or one for each where a Contact and a Lead hold the key."""
        key = record_key(change.key)
        held = self._census.with_key(key)
        if not held:
            return [
                PlannedOutcome(
                    change, Outcome(change.key, OutcomeStatus.UNCHANGED, reason="no_record")
                )
            ]
        if any(record.version is not None and record.version > change.version for record in held):
            return [PlannedOutcome(change, _deleted(change, held[0], OutcomeStatus.STALE))]
        if self._policy.on_delete is OnDelete.KEEP:
            return [
                PlannedOutcome(change, _deleted(change, held[0], OutcomeStatus.UNCHANGED, "kept"))
            ]
        decisions = []
        for record in held:
            flag = self._schemas[record.sobject].flag
            if self._policy.on_delete is OnDelete.RELEASE:
                record.fields |= {KEY_FIELD: None, VERSION_FIELD: None}
                self._census.remove_key(record, key)
                decisions.append(
                    PlannedOutcome(change, _deleted(change, record, OutcomeStatus.RELEASED), record)
                )
            elif flag is None:
                decisions.append(
                    PlannedOutcome(
                        change, _deleted(change, record, OutcomeStatus.UNCHANGED, "no_flag_field")
                    )
                )
            else:
                record.fields |= {flag: True, VERSION_FIELD: change.version}
                decisions.append(
                    PlannedOutcome(
                        change, _deleted(change, record, OutcomeStatus.RELEASED, "flagged"), record
                    )
                )
        return decisions

    def decide(self, change: ContactVersion, someone: Person) -> PlannedOutcome:
        """What becomes of one person; its record's `fields` change with it."""
        match = find_match(self._census, someone)
        if match.record is not None:
            return self.join(change, someone, match)
        if match.shared:
            return _skipped(change, SkipReason.SHARED_ADDRESS)
        target = someone.target
        if match.converted and target.sobject == "Lead":
            return _skipped(change, SkipReason.CONVERTED_LEAD)
        if reason := may_create(someone.found_by, target, self._policy.creation):
            return _skipped(change, reason)
        record = SObjectRecord(target.sobject, None, {}, {}, ours=True)
        self._apply(record, someone, owner=True)
        outcome = Outcome(change.key, OutcomeStatus.CREATED, record.sobject, first=True)
        return PlannedOutcome(change, outcome, record, someone)

    def join(self, change: ContactVersion, someone: Person, match: Match) -> PlannedOutcome:
        """Makes a person of a record that was found."""
        record = match.record
        if record is None:
            raise ValueError("nothing was found")
        if match.ambiguous:
            self._count("ambiguous", "")
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
        if (
            record.key == someone.record_key
            and record.version is not None
            and record.version > someone.version
        ):
            return PlannedOutcome(change, _but(outcome, OutcomeStatus.STALE))
        if not owner and record.has_other_name(someone.name):
            self._count(NAME_DIFFERS, "")
            return PlannedOutcome(
                change, _but(outcome, OutcomeStatus.FILLED, NAME_DIFFERS), record, someone
            )
        changed = self._apply(record, someone, owner=owner)
        if not owner:
            outcome = _but(outcome, OutcomeStatus.FILLED, "" if changed else "nothing_to_fill")
        elif not changed - {VERSION_FIELD}:
            outcome = _but(outcome, OutcomeStatus.UNCHANGED)
        return PlannedOutcome(change, outcome, record, someone)

    def _apply(self, record: SObjectRecord, someone: Person, *, owner: bool) -> set[str]:
        found = merge_fields(
            record,
            someone,
            self._schemas[record.sobject],
            owner=owner,
            overwrite_others=self._policy.overwrite_others,
            count=self._count,
        )
        record.fields |= found
        self._census.join(record, someone)
        return set(found)


def _deleted(
    change: ContactVersion, record: SObjectRecord, fate: OutcomeStatus, reason: str = ""
) -> Outcome:
    return Outcome(change.key, fate, record.sobject, record.id, "key", reason=reason)


def _but(outcome: Outcome, fate: OutcomeStatus, reason: str = "") -> Outcome:
    return replace(outcome, status=fate, reason=reason)
