"""Which of the records that contactstream created nobody has touched since.

Touched is a record that was converted, deleted or merged, that somebody else modified last, that
holds a value of somebody else in a field that we map, or that has a task, an event or a campaign.
Salesforce hides archived activities from these queries, but LastActivityDate remembers them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import query_subrequest
from connectors.salesforce.api.describe import ObjectDescribe
from connectors.salesforce.field_hashes import FieldHashes, is_blank
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.org_fields import EMAIL_FIELDS, MARKER_FIELD
from connectors.salesforce.queries import soql_text

_SYSTEM_FIELDS = ("LastModifiedById", "LastActivityDate", "IsConverted", MARKER_FIELD)


class Touch(StrEnum):
    """Why a record counts as touched."""

    GONE = "gone"
    CONVERTED = "converted"
    MODIFIED = "modified"
    """Somebody else modified it last, or a mapped field holds somebody else's value."""
    ACTIVITY = "activity"
    """It has a task or an event."""
    CAMPAIGN = "campaign"


async def find_touches(
    client: CompositeClient,
    user_id: str,
    created: Mapping[str, str],
    described: Mapping[str, ObjectDescribe],
    mapping: FieldMapping,
    fence: Fence,
) -> dict[str, Touch]:
    """Why each record counts as touched; a record that is missing here is untouched. Two calls.

    `created` has the object of each record's ID, of at most 1,000 records. `user_id` is our user.
    Raises as `CompositeClient.composite` does, and RequestRejected where our user may not read
    tasks, events or campaign members: then nothing is known.
    """
    by_object: dict[str, list[str]] = {}
    for record_id, sobject in created.items():
        by_object.setdefault(sobject, []).append(record_id)
    requests = [
        query_subrequest(_statement(sobject, ids, described[sobject], mapping), sobject)
        for sobject, ids in by_object.items()
    ]
    answers = await client.composite(requests, "composite_query", fence)
    touches = dict.fromkeys(created, Touch.GONE)
    for sobject, answer in zip(by_object, answers, strict=True):
        for record in await client.rest_of(answer, fence=fence):
            touch = own_touch(record, user_id, described[sobject], _mapped(mapping, sobject))
            del touches[str(record["Id"])]
            if touch is not None:
                touches[str(record["Id"])] = touch
    left = [record_id for record_id in created if record_id not in touches]
    return touches | await _links(client, left, fence) if left else touches


def own_touch(
    record: Mapping[str, Any],
    user_id: str,
    described: ObjectDescribe,
    mapped: Collection[str],
) -> Touch | None:
    """Why the record itself shows that it was touched; None if it does not."""
    if record.get("IsConverted") is True:
        return Touch.CONVERTED
    if str(record.get("LastModifiedById"))[:15] != user_id[:15]:
        return Touch.MODIFIED
    hashes = FieldHashes.parse(record.get(MARKER_FIELD))
    for name in mapped:
        field = described.fields.get(name)
        if field is None or name not in record:
            continue
        ours = hashes.left(name, record[name], field)
        if not ours and not (is_blank(record[name]) and not hashes.wrote(name)):
            return Touch.MODIFIED
    return Touch.ACTIVITY if record.get("LastActivityDate") else None


async def _links(client: CompositeClient, ids: Sequence[str], fence: Fence) -> dict[str, Touch]:
    """The records that have an activity or a campaign."""
    found = ",".join(map(soql_text, ids))
    statements = {
        "Task": f"SELECT WhoId FROM Task WHERE WhoId IN ({found})",  # noqa: S608
        "Event": f"SELECT WhoId FROM Event WHERE WhoId IN ({found})",  # noqa: S608
        "CampaignMember": (
            f"SELECT LeadId, ContactId FROM CampaignMember "  # noqa: S608
            f"WHERE LeadId IN ({found}) OR ContactId IN ({found})"
        ),
    }
    requests = [query_subrequest(text, name) for name, text in statements.items()]
    answers = await client.composite(requests, "composite_query", fence)
    touches: dict[str, Touch] = {}
    for name, answer in zip(statements, answers, strict=True):
        for row in await client.rest_of(answer, fence=fence):
            touch = Touch.CAMPAIGN if name == "CampaignMember" else Touch.ACTIVITY
            for column in ("WhoId", "LeadId", "ContactId"):
                if row.get(column) in ids:
                    touches.setdefault(str(row[column]), touch)
    return touches


def _statement(
    sobject: str, ids: Iterable[str], described: ObjectDescribe, mapping: FieldMapping
) -> str:
    wanted = {*_SYSTEM_FIELDS, *_mapped(mapping, sobject)} & described.fields.keys()
    found = ",".join(map(soql_text, ids))
    names = ", ".join(["Id", *sorted(wanted)])
    return f"SELECT {names} FROM {sobject} WHERE Id IN ({found})"  # noqa: S608


def _mapped(mapping: FieldMapping, sobject: str) -> frozenset[str]:
    return frozenset({rule.field for rule in mapping.rules(sobject)} | {*EMAIL_FIELDS})
