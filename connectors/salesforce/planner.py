"""Plans a batch: which contact is which record, in which order they are decided, what changes."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.counting import CountCallback, SyncWarning, count_nothing
from connectors.salesforce.emails import addresses
from connectors.salesforce.kept_fields import recorded_exclusion
from connectors.salesforce.matching import Match, best_tier, find_match
from connectors.salesforce.merge import merge_fields
from connectors.salesforce.names import is_full_name, is_known
from connectors.salesforce.org_fields import (
    EMAIL_FIELDS,
    KEY_FIELD,
    MARKER_FIELD,
    VERSION_FIELD,
)
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus, next_batch
from connectors.salesforce.person import Person, person, record_key
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.routing import admit, may_create, route
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.schema import Schema
from connectors.salesforce.shared_addresses import claimed_addresses
from connectors.salesforce.skip_reasons import SkipReason
from connectors.salesforce.sobject_record import SObjectRecord
from connectors.salesforce.suppression import SuppressionList
from connectors.salesforce.write_mode import BLANKS_ONLY_REASON, CREATE_ONLY_REASON, WriteMode

_NO_FIELDS: frozenset[str] = frozenset()

SoughtPerson = tuple[ContactVersion, Person]
"""A change with the person that it describes."""


@dataclass(frozen=True, slots=True)
class PlannedOutcome:
    """The outcome of a change if the row of its record is written.

    `record` is None if nothing depends on a record; that of a covered contact is the record that
    covers it. `person` is set where the record stands for the person: not for a deletion, and not
    for a covered contact.
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
    return [
        _row(record, changes, own)
        for record, own in of_record.items()
        if (changes := record.changes)
    ]


def _row(
    record: SObjectRecord, fields: dict[str, Any], decisions: list[PlannedOutcome]
) -> WriteRow:
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
        record.stored,
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
    """The person of a change, why it is skipped, or None for a deleted contact.

    A change is read once for each policy, and its Account is looked for again once the directory
    has changed. Who asked to be erased is asked every time: that may grow at any moment.
    """
    if change.contact is None:
        return None
    if recorded := recorded_exclusion(change.contact):
        return recorded
    if is_suppressed(change, policy.suppression):
        return SkipReason.SUPPRESSED
    known: _ReadChange | None = change.read[0] if change.read else None
    if known is None or known.policy is not policy:
        known = _ReadChange(policy, accounts.state, _read(change, policy, accounts))
    elif known.accounts_state is not accounts.state:
        found = known.found
        if isinstance(found, Person):
            found = replace(found, target=route(found.found_by, accounts))
        known = _ReadChange(policy, accounts.state, found)
    change.read[:] = [known]
    return known.found


@dataclass(frozen=True, slots=True)
class _ReadChange:
    """What a change was read as, by a policy and in a state of the directory of Accounts."""

    policy: Policy
    accounts_state: object
    found: Person | SkipReason


def _read(
    change: ContactVersion, policy: Policy, accounts: AccountDirectory
) -> Person | SkipReason:
    contact = change.contact or {}
    found_by = admit(contact, policy.exclusions, policy.sources)
    if isinstance(found_by, SkipReason):
        return found_by
    target = route(found_by, accounts)
    found = person(change.key, change.version, contact, found_by, target)
    return replace(found, restore=change.restore) if change.restore else found


def is_suppressed(change: ContactVersion, suppression: SuppressionList) -> bool:
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
        accounts: AccountDirectory,
        count: CountCallback,
        mode: WriteMode = WriteMode.MIRROR,
        user_id: str | None = None,
    ) -> None:
        """`user_id` is ours: by it CREATE_ONLY tells our records from those of others."""
        self._mode = mode
        self._user_id = user_id
        self._candidates = candidates
        self._schemas = schemas
        self._policy = policy
        self._accounts = accounts
        self._count = count
        # by record key: further addresses that are the primary ones of other people of the batch
        self._claimed: Mapping[str, frozenset[str]] = {}

    def plan(
        self, people: Sequence[SoughtPerson], deleted: Iterable[ContactVersion]
    ) -> list[PlannedOutcome]:
        """A decision for each change; two where a deletion concerns a Contact and a Lead.

        1. Deletions, so that a released record can be taken over.
        2. Contacts whose key a record holds, so that others only fill what they leave blank.
        3. The others, those first that fit best to a record of the org. Each is followed by those
           who share an address with it.

        So people who are connected by their addresses end in one record. The order in which the
        batch came decides nothing.
        """
        decisions = [decision for change in deleted for decision in self._delete(change)]
        self._claimed = claimed_addresses([someone for _, someone in people])
        others: list[SoughtPerson] = []
        for change, someone in sorted(people, key=lambda one: one[1].record_key):
            if self._candidates.with_key(someone.record_key):
                decisions.append(self.decide(change, someone))
            else:
                others.append((change, someone))
        others.sort(key=lambda one: self._order(one[1]))
        # one without a name says less than any other, and is found by its primary address alone
        named = [sought for sought in others if is_known(sought[1].name)]
        nameless = [sought for sought in others if not is_known(sought[1].name)]
        return [
            *decisions,
            *self._plan_connected(named),
            *self._plan_connected(nameless),
        ]

    def _order(self, someone: Person) -> tuple[bool, tuple[int, int], bool, str]:
        """The order of decisions: those that fit a record best, then full names, then by key.

        Of those who fit no record, one with a full name creates it, and others fill it.
        """
        key = someone.record_key
        return (
            self._candidates.followed_with_key(key) is None,
            best_tier(self._candidates, someone),
            not is_full_name(someone.name),
            key,
        )

    def _plan_connected(self, people: Sequence[SoughtPerson]) -> list[PlannedOutcome]:
        """Decides people so that each is followed by those who share an address with it."""
        neighbours: dict[str, list[int]] = defaultdict(list)
        for place, (_, someone) in enumerate(people):
            for address in someone.addresses:
                neighbours[address].append(place)
        decisions: list[PlannedOutcome] = []
        covered_at_first: list[SoughtPerson] = []
        seen: set[int] = set()
        for start in range(len(people)):
            waiting = [start]
            while waiting:
                place = heappop(waiting)
                if place in seen:
                    continue
                seen.add(place)
                change, someone = people[place]
                decision = self.decide(change, someone)
                if decision.outcome.status is OutcomeStatus.COVERED:
                    covered_at_first.append((change, someone))
                    continue
                decisions.append(decision)
                if decision.person is not None:  # a person without a record connects nobody
                    for address in someone.addresses:
                        for neighbour in neighbours.pop(address, ()):
                            heappush(waiting, neighbour)
        # the batch may have created their own record meanwhile
        return [*decisions, *(self.decide(*sought) for sought in covered_at_first)]

    def _delete(self, change: ContactVersion) -> list[PlannedOutcome]:
        """One decision, or two where a Contact and a Lead hold the key."""
        held = self._candidates.with_key(record_key(change.key))
        if not held:
            outcome = Outcome(change.key, OutcomeStatus.UNCHANGED, reason="no_record")
            return [PlannedOutcome(change, outcome)]
        if change.erase:
            return [self._erase(change, record) for record in held]
        if any(record.version is not None and record.version > change.version for record in held):
            return [PlannedOutcome(change, _deletion(change, held[0], OutcomeStatus.STALE))]
        if any(self._leaves_alone(record) for record in held):
            left = _deletion(change, held[0], OutcomeStatus.UNCHANGED, CREATE_ONLY_REASON)
            return [PlannedOutcome(change, left)]
        if self._policy.on_delete is OnDelete.KEEP:
            kept = _deletion(change, held[0], OutcomeStatus.UNCHANGED, "kept")
            return [PlannedOutcome(change, kept)]
        if self._policy.on_delete is OnDelete.RELEASE:
            return [self._release(change, record) for record in held]
        return [self._flag(change, record) for record in held]

    def _release(self, change: ContactVersion, record: SObjectRecord) -> PlannedOutcome:
        # The version stays: by it the org's validation rule refuses what comes too late.
        record.change({KEY_FIELD: None, VERSION_FIELD: change.version})
        self._candidates.remove_key(record, record_key(change.key))
        return PlannedOutcome(change, _deletion(change, record, OutcomeStatus.RELEASED), record)

    def _erase(self, change: ContactVersion, record: SObjectRecord) -> PlannedOutcome:
        """Clears what only contactstream wrote: key, version, marker and further addresses.

        The standard fields stay: whether the record is to be deleted, people decide.
        """
        ours = (KEY_FIELD, VERSION_FIELD, MARKER_FIELD, *EMAIL_FIELDS[1:])
        record.change({name: None for name in ours if name in record.stored})
        self._candidates.remove_key(record, record_key(change.key))
        outcome = _deletion(change, record, OutcomeStatus.RELEASED, "erased")
        return PlannedOutcome(change, outcome, record)

    def _flag(self, change: ContactVersion, record: SObjectRecord) -> PlannedOutcome:
        flag = self._schemas[record.sobject].flag
        if flag is None:
            outcome = _deletion(change, record, OutcomeStatus.UNCHANGED, "no_flag_field")
            return PlannedOutcome(change, outcome)
        record.change({flag: True, VERSION_FIELD: change.version})
        outcome = _deletion(change, record, OutcomeStatus.RELEASED, "flagged")
        return PlannedOutcome(change, outcome, record)

    def decide(self, change: ContactVersion, someone: Person) -> PlannedOutcome:
        """Decides one person; the `fields` of its record change with it."""
        match = find_match(self._candidates, someone)
        if match.covered_by:
            return covered(change, match.covered_by)
        if match.ambiguous:
            return _ambiguous(change, match.ambiguous)
        dropped = match.dropped | self._claimed.get(someone.record_key, frozenset())
        # Nearly everybody has the primary address alone, and only further ones may be held.
        if match.record is not None and someone.addresses != (someone.found_by.primary,):
            dropped |= self._held_elsewhere(someone, match.record)
        kept = self._without(someone, dropped) if dropped else someone
        if match.record is not None:
            decision = self.join(change, kept, match)
        else:
            decision = self._create(change, kept, match)
        if dropped and decision.person is not None and decision.record is not None:
            # others of the batch who are this person are found by these addresses too
            self._candidates.join(decision.record, someone)
        return decision

    def _held_elsewhere(self, someone: Person, record: SObjectRecord) -> frozenset[str]:
        """Further addresses of a person that stand on another record than the person's own.

        Writing them here as well would make two records of one address.
        """
        return frozenset(
            address
            for address in someone.addresses
            if address != someone.found_by.primary
            and address not in record.addresses
            and any(
                address in other.addresses
                for other in self._candidates.with_address([address])
                if other is not record
            )
        )

    def _without(self, someone: Person, dropped: Collection[str]) -> Person:
        """The person without addresses of others, which lead to no Account either."""
        kept = someone.without(dropped)
        return replace(kept, target=route(kept.found_by, self._accounts))

    def _create(self, change: ContactVersion, someone: Person, match: Match) -> PlannedOutcome:
        """Decides a person for whom no record was found."""
        target = someone.target
        if match.converted and target.sobject == "Lead":
            return _skipped(change, SkipReason.CONVERTED_LEAD)
        if self._candidates.is_deleted(someone.record_key, someone.addresses):
            return _skipped(change, SkipReason.DELETED_IN_SALESFORCE)
        if reason := may_create(someone.found_by, target, self._policy.creation):
            return _skipped(change, reason)
        if not self._mode.creates:
            return _skipped(change, SkipReason.MODE_CREATES_NOBODY)
        record = SObjectRecord(target.sobject, None, {}, {})
        changed = self._apply(record, someone, owner=True)
        outcome = Outcome(
            change.key,
            OutcomeStatus.CREATED,
            record.sobject,
            first=True,
            account_by=_account_by(someone, changed),
        )
        return PlannedOutcome(change, outcome, record, someone)

    def join(self, change: ContactVersion, someone: Person, match: Match) -> PlannedOutcome:
        """Decides a person whose record was found. ValueError if `match` has no record."""
        record = match.record
        if record is None:
            raise ValueError("nothing was found")
        if match.several:
            self._count(SyncWarning.SEVERAL_MATCHED, "")
        owner = record.key in (None, someone.record_key) and not match.keyless
        if _holds_newer_version(record, someone):
            return PlannedOutcome(change, _joined(change, match, record, OutcomeStatus.STALE))
        if self._leaves_alone(record):
            alone = _joined(change, match, record, OutcomeStatus.UNCHANGED, CREATE_ONLY_REASON)
            return PlannedOutcome(change, alone, record, someone)
        withheld = self._withheld(record, someone) if owner else _NO_FIELDS
        changed = self._apply(record, someone, owner=owner)
        status, reason = OutcomeStatus.UPDATED, ""
        if not owner:
            status, reason = OutcomeStatus.FILLED, "" if changed else "nothing_to_fill"
        elif not changed - {VERSION_FIELD}:
            status = OutcomeStatus.UNCHANGED
        if withheld - changed:
            reason = BLANKS_ONLY_REASON
        outcome = _joined(change, match, record, status, reason, _account_by(someone, changed))
        return PlannedOutcome(change, outcome, record, someone)

    def _leaves_alone(self, record: SObjectRecord) -> bool:
        """Whether the mode leaves a record as it is, because others created it."""
        return (
            self._mode is WriteMode.CREATE_ONLY
            and record.id is not None
            and (self._user_id is None or record.stored.get("CreatedById") != self._user_id)
        )

    def _withheld(self, record: SObjectRecord, someone: Person) -> frozenset[str]:
        """The fields that another mode than FILL_BLANKS would change."""
        if self._mode is not WriteMode.FILL_BLANKS:
            return _NO_FIELDS
        schema = self._schemas[record.sobject]
        return frozenset(merge_fields(record, someone, schema, owner=True, count=count_nothing))

    def _apply(self, record: SObjectRecord, someone: Person, *, owner: bool) -> set[str]:
        """Merges a person into a record; returns the names of the fields that change."""
        changed = merge_fields(
            record,
            someone,
            self._schemas[record.sobject],
            owner=owner,
            count=self._count,
            blanks_only=self._mode is WriteMode.FILL_BLANKS,
        )
        record.change(changed)
        self._candidates.join(record, someone)
        return set(changed)


def _joined(
    change: ContactVersion,
    match: Match,
    record: SObjectRecord,
    status: OutcomeStatus,
    reason: str = "",
    account_by: str = "",
) -> Outcome:
    """The outcome of a person whose record was found."""
    return Outcome(
        change.key,
        status,
        record.sobject,
        record.id,
        match.matched,
        match.matched != "key",
        reason,
        account_by=account_by,
        several_matched=match.several,
    )


def _account_by(someone: Person, changed: Collection[str]) -> str:
    """By which evidence a record gets its Account with these changes; empty if it gets none."""
    by = someone.target.by
    return by.value if by is not None and "AccountId" in changed else ""


def covered(change: ContactVersion, by: Sequence[SObjectRecord]) -> PlannedOutcome:
    """The decision about a person whose primary address these records of others hold.

    It belongs to the row of the first one: if that one is not created after all, nothing covers the
    person.
    """
    first = by[0]
    outcome = Outcome(
        change.key,
        OutcomeStatus.COVERED,
        first.sobject,
        first.id,
        candidates=tuple(record.id for record in by if record.id is not None),
    )
    return PlannedOutcome(change, outcome, first)


def _ambiguous(change: ContactVersion, records: Sequence[SObjectRecord]) -> PlannedOutcome:
    """The decision about a person who may be any of these records.

    Records that this batch creates have no ID yet, by which they could be listed for a person.
    """
    ids = tuple(record.id for record in records if record.id is not None)
    if len(ids) < len(records):
        return PlannedOutcome(change, next_batch(change))
    outcome = Outcome(change.key, OutcomeStatus.AMBIGUOUS, candidates=ids)
    return PlannedOutcome(change, outcome)


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
