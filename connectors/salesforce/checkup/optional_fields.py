"""Checks of the optional fields: which of them the org has, and whether our user may fill them."""

from connectors.salesforce.api.describe import ObjectDescribe
from connectors.salesforce.checkup.findings import CheckupFinding, ok, warn
from connectors.salesforce.provenance_fields import MAILBOX_FIELD, PROVENANCE_FIELDS

_PERMIT = "assign the permission set Contactstream_Optional_Fields to the user of the sink"
_DEPLOY = "deploy deploy/salesforce/optional-app into the org"


def optional_fields(described: ObjectDescribe, *, source_mailbox: bool) -> CheckupFinding:
    """Which optional fields of the object are filled; `source_mailbox` as the settings say."""
    check = f"{described.name} optional fields"
    wanted = PROVENANCE_FIELDS if source_mailbox else PROVENANCE_FIELDS - {MAILBOX_FIELD}
    there = {name for name in wanted if name in described.fields}
    unwritable = sorted(
        name
        for name in there
        if not (described.fields[name].createable and described.fields[name].updateable)
    )
    if unwritable:
        finding = f"{', '.join(unwritable)}: the user may not edit them, so they stay blank"
        return warn(check, finding, _PERMIT)
    if source_mailbox and MAILBOX_FIELD not in there:
        finding = f"PEOPLE_SOURCE_MAILBOX is set, but {MAILBOX_FIELD} is missing or hidden"
        return warn(check, finding, f"{_DEPLOY}; {_PERMIT}")
    if not there:
        return ok(check, "none is deployed, and none is needed")
    return ok(check, f"filled: {', '.join(sorted(there))}")
