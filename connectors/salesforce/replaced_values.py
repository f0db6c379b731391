"""Counts the values of people and other systems that a restore would replace."""

from collections import Counter
from collections.abc import Collection

from connectors.salesforce.field_hashes import FieldHashes
from connectors.salesforce.org_fields import MARKER_FIELD
from connectors.salesforce.planner import WritePlan


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
