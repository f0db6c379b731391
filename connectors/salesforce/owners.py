"""Who owns a created record: the rules of the settings, and what is known of the org's users.

An owner is chosen for created records only, and never changed afterwards. The rules are asked in
the order of the settings; where none of them gives an owner, the record is our user's. Plain
functions and data: `owner_metadata` asks the org.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.salesforce.api.errors import Action
from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.owner_rules import OwnerPolicy, OwnerRule, UserMatch
from connectors.salesforce.person import grant_of
from connectors.salesforce.planner import PlannedOutcome
from connectors.salesforce.repeats import WrittenRow
from connectors.salesforce.rows import WriteRow

# In a sandbox Salesforce appends this to the addresses of users [Help: Sandbox Setup
# Considerations].
SANDBOX_SUFFIX = ".invalid"
# A user who was refused as an owner is asked again after an hour: somebody may have put it right.
REFUSAL_SECONDS = 3600.0
# IDs of refused owners in memory. An org has far fewer users that it refuses.
MAX_REFUSED = 10_000

GrantAddress = Callable[[str], str | None]
"""The address of a grant's owner in lower case; empty if it has none, None while it is unknown."""


def no_addresses(_grant: str) -> str | None:
    """For callers that know no grants."""
    return None


def comparable_address(value: object) -> str:
    """A user's address or name as it is compared: in lower case, without a sandbox's suffix."""
    text = value.strip().lower() if isinstance(value, str) else ""
    return text.removesuffix(SANDBOX_SUFFIX)


@dataclass(slots=True)
class UserIndex:
    """The active users of the org by the address that they are compared by."""

    match: UserMatch = UserMatch.EMAIL
    _address_of: dict[str, str] = field(default_factory=dict)
    _by_address: dict[str, set[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._address_of)

    def apply(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes rows of User over; users that are not active any more are forgotten."""
        for row in rows:
            user_id = row.get("Id")
            if not isinstance(user_id, str):
                continue
            self._forget(user_id)
            address = comparable_address(row.get(self.match.field))
            if row.get("IsActive") is not False and address:
                self._address_of[user_id] = address
                self._by_address.setdefault(address, set()).add(user_id)

    def _forget(self, user_id: str) -> None:
        address = self._address_of.pop(user_id, None)
        if address is None:
            return
        holders = self._by_address[address]
        holders.discard(user_id)
        if not holders:
            del self._by_address[address]

    def find(self, address: str) -> str | None:
        """The ID of the one active user of an address; None for none, and for several."""
        found = self._by_address.get(comparable_address(address), set())
        return next(iter(found)) if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class OwnerChoice:
    """The owner of a record that is created. Without an ID the org decides: our user, or a rule."""

    rule: OwnerRule
    owner_id: str | None = None


@dataclass(slots=True)
class OwnerBook:
    """What is known of possible owners, and the choice among them."""

    policy: OwnerPolicy = field(default_factory=OwnerPolicy)
    grant_address: GrantAddress = no_addresses
    users: UserIndex = field(init=False)
    account_owners: "OrderedDict[str, tuple[str | None, float]]" = field(
        default_factory=OrderedDict
    )
    """Account ID to its active owner, None if it has none, and when that was read."""
    _refused: "OrderedDict[tuple[str, str], float]" = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.users = UserIndex(self.policy.match)

    def choose(
        self, sobject: str, grant: str, account_id: str | None, *, live: bool, now: float
    ) -> OwnerChoice:
        """The owner of a record that is created for a contact of this grant.

        `live`: the contact's change does not come from a backfill, a reconcile or a replay.
        """
        if not self.policy.rules:
            return OwnerChoice(OwnerRule.SYNC_USER)
        for rule in self.policy.rules:
            if rule is OwnerRule.ASSIGNMENT_RULE:
                if live and sobject == "Lead":
                    return OwnerChoice(rule)
                continue
            owner = self._owner_by(rule, sobject, grant, account_id)
            if owner is not None and not self._is_refused(sobject, owner, now):
                return OwnerChoice(rule, owner)
        return OwnerChoice(OwnerRule.FALLBACK)

    def _owner_by(
        self, rule: OwnerRule, sobject: str, grant: str, account_id: str | None
    ) -> str | None:
        match rule:
            case OwnerRule.USER:
                address = self.grant_address(grant)
                return self.users.find(address) if address else None
            case OwnerRule.ACCOUNT if sobject == "Contact" and account_id:
                return self.account_owners.get(account_id[:15], (None, 0.0))[0]
            case OwnerRule.CONFIGURED if sobject == "Lead" or not self.policy.configured_queue:
                return self.policy.configured_id or None
            case _:
                return None

    def refuse(self, sobject: str, owner_id: str, now: float) -> None:
        """Notes that the org refused an owner, so that the next records go to the next rule."""
        self._refused[sobject, owner_id] = now
        if len(self._refused) > MAX_REFUSED:
            self._refused.popitem(last=False)

    def _is_refused(self, sobject: str, owner_id: str, now: float) -> bool:
        refused_at = self._refused.get((sobject, owner_id))
        return refused_at is not None and now - refused_at < REFUSAL_SECONDS


def with_owner(row: WriteRow, book: OwnerBook, now: float, *, writable: bool) -> WriteRow:
    """The row with the owner of its record, if it creates one.

    A record that several contacts create together has the owner of the contact that stands first.
    What the assignment rule decides is an operation of its own: it is a creation that the org
    refuses to repeat, since the key is unique, so that the rule never runs twice for a record.
    `writable`: our user may set OwnerId of new records.
    """
    creator = _creator(row)
    if row.op != "upsert" or creator is None:
        return row
    grant, live = grant_of(creator.change.key), creator.change.live
    choice = book.choose(row.sobject, grant, row.account_id, live=live, now=now)
    if choice.rule is OwnerRule.ASSIGNMENT_RULE:
        return replace(row, op="create", owner_rule=choice.rule)
    if choice.owner_id is None:
        return row.with_owner_rule(choice.rule, row.fields)
    if not writable:
        return row.with_owner_rule(OwnerRule.FALLBACK, row.fields)
    return row.with_owner_rule(choice.rule, {**row.fields, "OwnerId": choice.owner_id})


def _creator(row: WriteRow) -> PlannedOutcome | None:
    members: list[PlannedOutcome] = row.tag or []
    created = (one for one in members if one.outcome.status is OutcomeStatus.CREATED)
    return next(created, None)


# Codes with which Salesforce refuses an owner: one that is not active, does not exist, may not see
# the object, is of a kind that cannot own it, or a queue that does not serve the object
# [SOAP API Developer Guide: StatusCode].
_OWNER_REFUSED = frozenset(
    {
        "ENTITY_IS_DELETED",
        "FIELD_INTEGRITY_EXCEPTION",
        "INACTIVE_OWNER_OR_USER",
        "INSUFFICIENT_ACCESS",
        "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
        "INSUFFICIENT_ACCESS_OR_READONLY",
        "INVALID_CROSS_REFERENCE_KEY",
        "INVALID_OPERATION",
        "MALFORMED_ID",
        "OP_WITH_INVALID_USER_TYPE_EXCEPTION",
        "TRANSFER_REQUIRES_READ",
    }
)
# Those that are about the owner where they name no field.
_WITHOUT_FIELD = _OWNER_REFUSED - {"FIELD_INTEGRITY_EXCEPTION", "MALFORMED_ID"}


def without_refused_owner(written: WrittenRow) -> WriteRow | None:
    """A row that may have been refused for its owner, as our user's record; None for another row.

    Some refusals name no field. Without the owner such a row is refused again if it was refused for
    something else, and then that decides.
    """
    row = written.row
    if row.op == "update" or "OwnerId" not in row.fields or written.verdict.action is Action.DONE:
        return None
    refused = any(
        error.code in (_OWNER_REFUSED if "OwnerId" in error.fields else _WITHOUT_FIELD)
        and (not error.fields or "OwnerId" in error.fields)
        for error in written.result.errors
    )
    if not refused:
        return None
    fields = {name: value for name, value in row.fields.items() if name != "OwnerId"}
    return replace(row, fields=fields, owner_rule=OwnerRule.FALLBACK)
