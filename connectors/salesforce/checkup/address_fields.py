"""Checks of the org's own address fields: which are used for matching, and why others are not."""

from collections.abc import Iterable
from difflib import get_close_matches

from connectors.salesforce.address_fields import Indexes, has_index, refusal
from connectors.salesforce.api.describe import ObjectDescribe
from connectors.salesforce.checkup.findings import CheckupFinding, ok, warn

_REMEDY = (
    "make it an External ID in Setup, or have Salesforce Support index it; or take it out of "
    "SALESFORCE_ADDRESS_FIELDS. The sink learns of a new index when it starts"
)


def own_address_fields(
    described: ObjectDescribe, wanted: Iterable[str], indexes: Indexes
) -> list[CheckupFinding]:
    """A finding for each of the wanted fields of an object."""
    return [_own_address_field(described, name, indexes) for name in wanted]


def _own_address_field(described: ObjectDescribe, name: str, indexes: Indexes) -> CheckupFinding:
    check = f"{described.name}.{name}"
    refused = refusal(described, name, indexes)
    if refused is None:
        shown = "the describe shows" if has_index(described.fields[name]) else "IsIndexed says"
        return ok(check, f"indexed, as {shown}: people are found by it, and it is never written")
    remedy = _REMEDY
    if name not in described.fields:
        near = get_close_matches(name, described.fields, 1)
        remedy = "correct SALESFORCE_ADDRESS_FIELDS, or grant the user read access to the field"
        remedy = f"did you mean {near[0]}? {remedy}" if near else remedy
    return warn(check, f"nobody is found by it: {refused}", remedy)
