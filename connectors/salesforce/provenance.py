"""Optional fields of the record itself: that we created it, when we last wrote it, why, and whose.

They are filled where the org has them and our user may edit them. They go along with rows that are
written anyway: none of them is compared, journaled or queried, so that none ever causes a write.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from connectors.salesforce.outcome import Outcome, OutcomeStatus
from connectors.salesforce.owners import GrantAddress
from connectors.salesforce.person import grant_of, record_key
from connectors.salesforce.planner import PlannedOutcome
from connectors.salesforce.provenance_fields import (
    CREATED_FIELD,
    MAILBOX_FIELD,
    MAX_WHY_LENGTH,
    PROVENANCE_FIELDS,
    WHY_FIELD,
    WRITTEN_FIELD,
)
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.schema import Schema

# Of several contacts in one row the one that says most about it.
_ORDER = (
    OutcomeStatus.CREATED,
    OutcomeStatus.UPDATED,
    OutcomeStatus.RELEASED,
    OutcomeStatus.FILLED,
)
_FOUND_BY = {
    "key": "its key",
    "email": "name and address",
    "address_field": "name and another address field",
    "converted_lead": "a converted Lead",
    "merged": "a merged record",
    "duplicate_rule": "a duplicate rule",
}
# Of a person who asked to be erased nothing of ours stays on the record.
_ERASED: Mapping[str, Any] = MappingProxyType(
    {CREATED_FIELD: False, WRITTEN_FIELD: None, WHY_FIELD: None, MAILBOX_FIELD: None}
)


def with_provenance(
    row: WriteRow, schema: Schema, now: float, mailbox: GrantAddress | None
) -> WriteRow:
    """The row with the optional fields that the org has.

    `now` is in epoch seconds. `mailbox` says whose address book a grant is; None where the settings
    do not let it be written.
    """
    writable = PROVENANCE_FIELDS & schema.writable_fields(new=row.creates)
    if not writable:
        return row
    members: list[PlannedOutcome] = row.tag or []
    wanted: Mapping[str, Any] = {
        WRITTEN_FIELD: _stamp(int(now)),
    }
    if row.creates:
        wanted = {**wanted, CREATED_FIELD: True}
    if member := _speaker(members):
        wanted = {**wanted, WHY_FIELD: why(member.outcome, member.change.origin)}
    if mailbox is not None:
        wanted = {**wanted, **_mailbox(members, mailbox)}
    if any(member.change.erase for member in members):
        wanted = _ERASED
    kept = {
        name: value for name, value in wanted.items() if name not in row.fields and name in writable
    }
    return replace(row, fields={**row.fields, **kept}) if kept else row


@lru_cache(maxsize=2)
def _stamp(seconds: int) -> str:
    """A time as Salesforce takes it; the rows of a batch are written in the same second or two."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _speaker(members: Iterable[PlannedOutcome]) -> PlannedOutcome | None:
    ranked = [one for one in members if one.outcome.status in _ORDER]
    return min(ranked, key=lambda one: _ORDER.index(one.outcome.status), default=None)


def why(outcome: Outcome, origin: str) -> str:
    """A short text for people: what was done, how the record was found, what set it off."""
    match outcome.status:
        case OutcomeStatus.CREATED:
            how = "created: nobody was found by key, name or address"
        case OutcomeStatus.RELEASED:
            how = "released: the contact was deleted"
        case OutcomeStatus.FILLED:
            how = f"blanks filled: found by {_FOUND_BY.get(outcome.matched or '', 'address')}"
        case _:
            how = f"updated: found by {_FOUND_BY.get(outcome.matched or '', 'address')}"
    return (f"{how} ({origin})" if origin else how)[:MAX_WHY_LENGTH]


def _mailbox(members: Iterable[PlannedOutcome], mailbox: GrantAddress) -> dict[str, str | None]:
    """The address book of the contact that owns the record; blank once it is released."""
    for member in members:
        if member.outcome.status is OutcomeStatus.RELEASED and not member.outcome.reason:
            return {MAILBOX_FIELD: None}
    for member in members:
        if member.record is not None and member.record.key == record_key(member.change.key):
            address = mailbox(grant_of(member.change.key))
            return {MAILBOX_FIELD: address} if address else {}
    return {}
