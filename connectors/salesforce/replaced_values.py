"""Which values of the org a write replaces: those of one row, and those of a whole plan.

Plain functions over plain data.
"""

from collections import Counter
from collections.abc import Collection

from connectors.salesforce.field_hashes import FieldHashes, is_blank
from connectors.salesforce.org_fields import BOOKKEEPING_FIELDS, EMAIL_FIELDS, MARKER_FIELD
from connectors.salesforce.outcome import ReplacedValue
from connectors.salesforce.person import record_key
from connectors.salesforce.planner import PlannedOutcome, WritePlan
from connectors.salesforce.rows import WriteRow

# What says nothing of a person.
_NOBODYS = BOOKKEEPING_FIELDS | {"Id"}
FURTHER_EMAILS = frozenset(EMAIL_FIELDS[1:])


def owner_of(row: WriteRow) -> PlannedOutcome:
    """The decision about the contact that owns the record of a planned row; else the first one."""
    members: list[PlannedOutcome] = row.tag
    for member in members:
        if member.record is not None and member.record.key == record_key(member.change.key):
            return member
    return members[0]


def values_replaced_by(row: WriteRow, flag: str | None = None) -> list[ReplacedValue]:
    """The values that are not blank and that the row replaces, whoever wrote them.

    None for a record that is created. Our bookkeeping fields and the checkbox of deleted contacts,
    `flag`, say nothing of a person, and are left out. So are the further addresses that an erasure
    clears: a journal would keep what is erased.
    """
    record_id = row.fields.get("Id")
    if record_id is None:
        return []
    stored = row.stored
    changed = [
        (name, old, new)
        for name, new in row.fields.items()
        if (old := stored.get(name)) is not None
        and name not in _NOBODYS
        and name != flag
        and old != new
        and not is_blank(old)
    ]
    members: list[PlannedOutcome] = row.tag or []
    if changed and any(member.change.erase for member in members):
        changed = [one for one in changed if one[0] not in FURTHER_EMAILS]
    return [ReplacedValue(row.sobject, record_id, *one) for one in changed]


def replaced_values(plan: WritePlan, names: Collection[str]) -> Counter[str]:
    """By `Lead.Title`, the fields of these names whose value is not ours and would be replaced.

    A field that we wrote and that somebody cleared counts too. Each record counts once, however
    many contacts it stands for.
    """
    found: Counter[str] = Counter()
    records = {id(each.record): each.record for each in plan.decisions if each.record is not None}
    for record in records.values():
        changes = record.changes
        if record.id is None or changes.keys().isdisjoint(names):
            continue
        described = plan.schemas[record.sobject].described.fields
        hashes = FieldHashes.parse(record.stored.get(MARKER_FIELD))
        for name in changes.keys() & {*names}:
            if not hashes.untouched(name, record.stored.get(name), described[name]):
                found[f"{record.sobject}.{name}"] += 1
    return found
