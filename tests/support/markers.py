"""The marker of a record, as an earlier sync would have left it."""

from typing import Any

from connectors.salesforce.field_hashes import FieldHashes
from connectors.salesforce.org_fields import MAX_MARKER_LENGTH
from tests.support.plain_org import describe


def marker_of(**values: Any) -> str:
    """The text of the marker if all of these values are ours; fields without a value have none."""
    fields = {**describe("Lead").fields, **describe("Contact").fields}
    known = {name: value for name, value in values.items() if name in fields and value is not None}
    return str(FieldHashes().noting(known, fields, MAX_MARKER_LENGTH)[0])
