"""Check of the permission set that the sink holds while it writes a backfill."""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.salesforce.bulk_load import PERMISSION_SET
from connectors.salesforce.checkup.findings import CheckupFinding, ok, warn

ASSIGN_RIGHT_QUERY = "SELECT PermissionsAssignPermissionSets FROM UserPermissionAccess"
PERMISSION_SET_QUERY = f"SELECT Id FROM PermissionSet WHERE Name = '{PERMISSION_SET}'"  # noqa: S608

Rows = Sequence[Mapping[str, Any]]


def bulk_load_permission(permission_sets: Rows, rights: Rows) -> CheckupFinding:
    """Whether the sink can tell the org's automation that a first sync runs.

    `permission_sets` are the rows of PERMISSION_SET_QUERY, `rights` those of ASSIGN_RIGHT_QUERY.
    """
    check = "bulk load permission"
    if not permission_sets:
        return ok(
            check,
            f"{PERMISSION_SET} is not deployed, or hidden from the user: flows cannot tell a first "
            "sync apart, and nothing is assigned",
        )
    if not rights or rights[0].get("PermissionsAssignPermissionSets") is not True:
        return warn(
            check,
            f"the user may not assign {PERMISSION_SET} to itself: during a first sync the org's "
            "automation runs for every record",
            f"assign {PERMISSION_SET} to the user before a first sync, and take it away "
            "afterwards; or grant the user Assign Permission Sets, with which it could take any "
            "permission",
        )
    return ok(check, f"the sink assigns {PERMISSION_SET} to its user during a first sync")
