"""What a batch of changed contacts makes of the records that were found: who is whom, in which order, and what changes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.composite import KEY_FIELD, Row
from connectors.salesforce.emails import addresses
from connectors.salesforce.errors import VERSION_FIELD, RowError
from connectors.salesforce.exclusions import Exclusions, Suppression, SuppressionFile
from connectors.salesforce.identity import Census, Match, Person, Record, Schema, person, record_key
from connectors.salesforce.mapping import Mapping as FieldMapping
from connectors.salesforce.merging import changes
from connectors.salesforce.routing import ADDRESS_BOOK, Creation, admit, may_create, route
from connectors.salesforce.skips import SkipReason


@dataclass(frozen=True, slots=True)
class Change:
    """A contact as of its last change. At most one for each key in a batch.

    `key` is `grant_id/contact_id`, `version` in seconds since the epoch, `contact` the Nylas object, None if deleted.
    """

    key: str
    version: int
    contact: Mapping[str, Any] | None


class Fate(StrEnum):
    """What became of a change."""

    CREATED = "created"
    UPDATED = "updated"
    FILLED = "filled"  # the record belongs to another contact's key: only blanks were filled, perhaps none
    UNCHANGED = "unchanged"
    STALE = "stale"
    SKIPPED = "skipped"
    RELEASED = "released"
    FAILED = "failed"  # cannot succeed: dead letter
    RETRY = "retry"  # this row alone may succeed later; with reason NEXT_BATCH it was not even tried


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change.

    `matched` is key, email, converted_lead or duplicate_rule; None if the record was created or nothing was looked up.
    `first`: resolved for the first time, so that it counts for the match rate (found where `matched` is set, else created).
    `reason`: a word of a closed set (why skipped, failed or to be retried).
    """

    key: str
    fate: Fate
    sobject: str | None = None
    record_id: str | None = None
    matched: str | None = None
    first: bool = False
    reason: str = ""
    errors: tuple[RowError, ...] = ()
    ambiguous: bool = False


NAME_DIFFERS = "name_differs"
"""Reason of a FILLED that filled nothing: the record belongs to another contact's key, and has another name."""


class OnDelete(StrEnum):
    """What happens to the record of a deleted contact. Salesforce is never asked to delete."""

    RELEASE = "release"  # the key is cleared, so that the next contact that matches takes the record over
    FLAG = "flag"  # a checkbox is set
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be done in the org."""

    mapping: FieldMapping = field(default_factory=FieldMapping)
    exclusions: Exclusions = field(default_factory=Exclusions)
    suppression: Suppression | SuppressionFile = field(default_factory=Suppression)
    sources: frozenset[str] = ADDRESS_BOOK
    creation: Creation = field(default_factory=Creation)
    overwrite_others: bool = False
    """Whether a key's owner also overwrites records that others created; otherwise what people typed stays."""
    on_delete: OnDelete = OnDelete.RELEASE
    flag_field: str | None = None
    """The checkbox for OnDelete.FLAG, on both objects."""
    account_domains: Mapping[str, str] = field(default_factory=dict)
    """Further domains: to an Account ID, or to the domain whose Account they share."""
    allow_save: bool = True
    """Save past duplicate rules that only alert."""
    account_refresh: float = 900.0
    """Seconds after which the Accounts that changed, and the describes, are read again, beside the queries of a batch."""


Count = Callable[[str, str], None]
"""Called with what happened (`cut`, `left_out`, `invalid_address`, `ambiguous`, `name_differs`, `missing`, `stripped`,
`shared_domain`, `account_gone`, `accounts_refused`, `describe_refused`) and where (`Lead.Title`, why, or nothing)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a change if its record's row is written."""

    change: Change
    outcome: Outcome
    record: Record | None = None
    person: Person | None = None


@dataclass(slots=True)
class Plan:
    """The decisions of a batch, and the changes that had no room in it. `rows` are what has to be written for them."""

    decisions: list[Decision]
    leftovers: tuple[Change, ...]
    census: Census
    schemas: Mapping[str, Schema]
    turn: int
    """How many writes had ended when the records were read."""

    @property
    def rows(self) -> list[Row]:
        """A row for each record that changes; its tag is the decisions that it stands for."""
        return rows(self.decisions)


def rows(decisions: Iterable[Decision]) -> list[Row]:
    """A row for each record that changes; its tag is the list of decisions that it stands for."""
    of_record: dict[Record, list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.record is not None:
            of_record[decision.record].append(decision)
    return [_row(record, own) for record, own in of_record.items() if record.changes]


def _row(record: Record, decisions: list[Decision]) -> Row:
    fields = record.changes
    if record.id is not None:
        fields = {"Id": record.id, **fields}
        if record.version is not None and any(record_key(decision.change.key) == record.key for decision in decisions):
            # also where it stands already: without it the org's rule would let this row over a newer one
            fields[VERSION_FIELD] = record.version
    return Row(
        record.sobject,
        "upsert" if record.id is None else "update",
        fields,
        record.fields.get("AccountId"),
        frozenset(record.people.union(record.addresses)),
        decisions,
    )


@dataclass(frozen=True, slots=True)
class Sorted:
    """A batch before anything is looked up."""

    people: list[tuple[Change, Person]]
    deleted: list[Change]
    decided: list[Decision]


def sort_out(batch: Iterable[Change], policy: Policy, accounts: AccountDirectory) -> Sorted:
    """Who has to be looked up, and who is left out at once."""
    people: list[tuple[Change, Person]] = []
    deleted: list[Change] = []
    decided: list[Decision] = []
    for change in batch:
        found = person_of(change, policy, accounts)
        if found is None:
            deleted.append(change)
        elif isinstance(found, SkipReason):
            decided.append(_skipped(change, found))
        else:
            people.append((change, found))
    return Sorted(people, deleted, decided)


def person_of(change: Change, policy: Policy, accounts: AccountDirectory) -> Person | SkipReason | None:
    """The person of a change, why it is left out, or None for a deleted contact."""
    if change.contact is None:
        return None
    found_by = admit(change.contact, policy.exclusions, policy.sources)
    if is_suppressed(change, policy.suppression):
        return SkipReason.SUPPRESSED
    if isinstance(found_by, SkipReason):
        return found_by
    return person(change.key, change.version, change.contact, found_by, route(found_by, accounts))


def is_suppressed(change: Change, suppression: Suppression | SuppressionFile) -> bool:
    """Whether the contact, by its key or by any of its addresses, asked to be erased."""
    if change.contact is None or not suppression.hashes:
        return False
    return suppression.holds((change.key, *addresses(change.contact)))


def _skipped(change: Change, reason: SkipReason) -> Decision:
    return Decision(change, Outcome(change.key, Fate.SKIPPED, reason=reason.value))


class Planner:
    """Plans one batch against what was found, as if its contacts came one after the other: what one changes, the next one sees."""

    def __init__(self, census: Census, schemas: Mapping[str, Schema], policy: Policy, count: Count) -> None:
        self._census = census
        self._schemas = schemas
        self._policy = policy
        self._count = count

    def plan(self, people: Sequence[tuple[Change, Person]], deleted: Iterable[Change]) -> list[Decision]:
        """A decision for each.

        Deletions come first, so that a released record can be taken over; then the owners of keys, so that the others only fill
        what they leave blank; then whoever shares an address with a record that is there, or will be, before anybody is created:
        so people who hang together by their addresses end in one record, in whatever order they came.
        """
        decisions = [decision for change in deleted for decision in self._delete(change)]
        others: list[tuple[Change, Person]] = []
        for change, someone in people:
            if self._census.of_key(someone.record_key):
                decisions.append(self.decide(change, someone))
            else:
                others.append((change, someone))
        neighbours: dict[str, list[int]] = defaultdict(list)
        for place, (_, someone) in enumerate(others):
            for address in someone.addresses:
                neighbours[address].append(place)
        seen = [False] * len(others)
        known = [place for place, (_, someone) in enumerate(others) if self._census.knows(someone)]
        # of a family on one mailbox, the one whose name stands comes before the others
        known.sort(key=lambda place: not self._census.names(others[place][1]))
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

    def _delete(self, change: Change) -> list[Decision]:
        """One decision, or one for each where a Contact and a Lead hold the key."""
        key = record_key(change.key)
        held = self._census.of_key(key)
        if not held:
            return [Decision(change, Outcome(change.key, Fate.UNCHANGED, reason="no_record"))]
        if any(record.version is not None and record.version > change.version for record in held):
            return [Decision(change, _deleted(change, held[0], Fate.STALE))]
        if self._policy.on_delete is OnDelete.KEEP:
            return [Decision(change, _deleted(change, held[0], Fate.UNCHANGED, "kept"))]
        decisions = []
        for record in held:
            flag = self._schemas[record.sobject].flag
            if self._policy.on_delete is OnDelete.RELEASE:
                record.fields |= {KEY_FIELD: None, VERSION_FIELD: None}
                self._census.released(record, key)
                decisions.append(Decision(change, _deleted(change, record, Fate.RELEASED), record))
            elif flag is None:
                decisions.append(Decision(change, _deleted(change, record, Fate.UNCHANGED, "no_flag_field")))
            else:
                record.fields |= {flag: True, VERSION_FIELD: change.version}
                decisions.append(Decision(change, _deleted(change, record, Fate.RELEASED, "flagged"), record))
        return decisions

    def decide(self, change: Change, someone: Person) -> Decision:
        """What becomes of one person; its record's `fields` change with it."""
        match = self._census.find(someone)
        if match.record is not None:
            return self.join(change, someone, match)
        if match.shared:
            return _skipped(change, SkipReason.SHARED_ADDRESS)
        target = someone.target
        if match.converted and target.sobject == "Lead":
            return _skipped(change, SkipReason.CONVERTED_LEAD)
        if reason := may_create(someone.found_by, target, self._policy.creation):
            return _skipped(change, reason)
        record = Record(target.sobject, None, {}, {}, ours=True)
        self._apply(record, someone, owner=True)
        outcome = Outcome(change.key, Fate.CREATED, record.sobject, first=True)
        return Decision(change, outcome, record, someone)

    def join(self, change: Change, someone: Person, match: Match) -> Decision:
        """Makes a person of a record that was found."""
        record = match.record
        if record is None:
            raise ValueError("nothing was found")
        if match.ambiguous:
            self._count("ambiguous", "")
        owner = record.key in (None, someone.record_key) and not match.keyless
        outcome = Outcome(
            change.key,
            Fate.UPDATED,
            record.sobject,
            record.id,
            match.how,
            match.how != "key",
            ambiguous=match.ambiguous,
        )
        if record.key == someone.record_key and record.version is not None and record.version > someone.version:
            return Decision(change, _but(outcome, Fate.STALE))
        if not owner and record.is_somebody_else(someone):
            self._count(NAME_DIFFERS, "")
            return Decision(change, _but(outcome, Fate.FILLED, NAME_DIFFERS), record, someone)
        changed = self._apply(record, someone, owner=owner)
        if not owner:
            outcome = _but(outcome, Fate.FILLED, "" if changed else "nothing_to_fill")
        elif not changed - {VERSION_FIELD}:
            outcome = _but(outcome, Fate.UNCHANGED)
        return Decision(change, outcome, record, someone)

    def _apply(self, record: Record, someone: Person, *, owner: bool) -> set[str]:
        found = changes(
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


def _deleted(change: Change, record: Record, fate: Fate, reason: str = "") -> Outcome:
    return Outcome(change.key, fate, record.sobject, record.id, "key", reason=reason)


def _but(outcome: Outcome, fate: Fate, reason: str = "") -> Outcome:
    return replace(outcome, fate=fate, reason=reason)
