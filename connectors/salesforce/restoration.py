"""Puts values back that contactstream replaced, where its own value still stands in the org.

The marker keeps the hash of our value. A field that got its former value back therefore no longer
holds what we left there: it counts as written by people, and only the policy `always` or a restore
writes it again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import query_subrequest
from connectors.salesforce.api.describe import (
    ObjectDescribe,
    describe_answer,
    describe_subrequest,
)
from connectors.salesforce.api.errors import Action
from connectors.salesforce.field_hashes import same
from connectors.salesforce.queries import soql_text
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.writer import WriteContext, write_rows

# Of one read and one write: a Composite takes five collections of 200 rows.
MAX_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class ValueToRestore:
    """A value to put back into a field, and our value that has to stand there."""

    sobject: str
    record_id: str
    field: str
    wanted: Any
    ours: Any
    """None if we cleared the field."""


class Standing(StrEnum):
    """What stands in a field whose former value is to be put back."""

    OURS = "ours"
    """The value that we wrote: it can be restored."""
    RESTORED = "restored"
    """The former value, already."""
    CHANGED = "changed"
    """A third value, of people or other systems: it stays."""
    RECORD_GONE = "record_gone"
    """The record was deleted or merged, or is hidden from our user."""
    CONVERTED = "converted"
    """The Lead was converted: it takes no writes."""
    NOT_WRITABLE = "not_writable"
    """The field is gone, or our user may not write it."""


async def describe_objects(
    client: CompositeClient, sobjects: Iterable[str], fence: Fence
) -> dict[str, ObjectDescribe]:
    """The objects as our user sees them, by name: one call.

    Raises as `CompositeClient.composite` and `describe_answer` do.
    """
    requests = [describe_subrequest(name, name) for name in sobjects]
    answers = await client.composite(requests, "composite_start", fence)
    return {shape.name: shape for shape in map(describe_answer, answers)}


async def read_records(
    client: CompositeClient,
    values: Iterable[ValueToRestore],
    described: Mapping[str, ObjectDescribe],
    fence: Fence,
) -> dict[str, Mapping[str, Any]]:
    """The records of the values, by ID, with the fields of the values: one call.

    Of at most MAX_RECORDS records. One that is not returned is gone. Raises as
    `CompositeClient.composite` does.
    """
    ids: dict[str, dict[str, None]] = {}
    fields: dict[str, set[str]] = {}
    for value in values:
        ids.setdefault(value.sobject, {})[value.record_id] = None
        fields.setdefault(value.sobject, set()).add(value.field)
    requests = []
    for sobject, wanted in ids.items():
        known = described[sobject].fields
        also = {"IsConverted"} if sobject == "Lead" else set[str]()
        names = ["Id", *sorted(((fields[sobject] | also) & known.keys()) - {"Id"})]
        found = ",".join(map(soql_text, wanted))
        statement = f"SELECT {', '.join(names)} FROM {sobject} WHERE Id IN ({found})"  # noqa: S608
        requests.append(query_subrequest(statement, sobject))
    answers = await client.composite(requests, "composite_query", fence)
    return {
        str(row["Id"]): row
        for answer in answers
        for row in await client.rest_of(answer, fence=fence)
    }


def standing(
    value: ValueToRestore, record: Mapping[str, Any] | None, described: ObjectDescribe
) -> Standing:
    """What stands in the field of a record as `read_records` returned it."""
    field = described.fields.get(value.field)
    if record is None:
        return Standing.RECORD_GONE
    if record.get("IsConverted") is True:
        return Standing.CONVERTED
    if field is None or not field.updateable:
        return Standing.NOT_WRITABLE
    current = record.get(value.field)
    if same(current, value.ours, field):
        return Standing.OURS
    return Standing.RESTORED if same(current, value.wanted, field) else Standing.CHANGED


async def restore(
    client: CompositeClient,
    values: Sequence[ValueToRestore],
    headers: Mapping[str, str],
    fence: Fence,
) -> dict[ValueToRestore, str]:
    """Writes the values; of each an empty text, or why the org refused it: one call, or few more.

    Of at most MAX_RECORDS records. No row carries a key, a version or a marker. Raises as
    `write_rows` does: then some may have been written, and the same call is safe to repeat.
    """
    of_record: dict[tuple[str, str], list[ValueToRestore]] = {}
    for value in values:
        of_record.setdefault((value.sobject, value.record_id), []).append(value)
    rows = [
        WriteRow(
            sobject,
            "update",
            {"Id": record_id, **{one.field: one.wanted for one in own}},
            tag=own,
        )
        for (sobject, record_id), own in of_record.items()
    ]
    written, _ = await write_rows(
        WriteContext(client, lambda _sobject, _field: None, headers, fence), rows, calls=None
    )
    results: dict[ValueToRestore, str] = {}
    for one in written:
        done = one.verdict.action is Action.DONE
        for value in one.row.tag:
            left_out = value.field not in one.row.fields
            results[value] = ("field_refused" if left_out else "") if done else one.verdict.reason
    return results
