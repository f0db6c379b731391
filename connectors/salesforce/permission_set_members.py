"""Asks which users have a permission set, for the choice of mailboxes.

PermissionSetAssignment needs one of View Setup and Configuration, Assign Permission Sets and Manage
Users. Its field IsActive, from API version 52.0, leaves out expired assignments. [Object Reference
for the Salesforce Platform, PermissionSetAssignment]
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import query_subrequest
from connectors.salesforce.queries import soql_text

# A sandbox ends the addresses of the users that were copied with this, so that nobody there gets
# mail. [Salesforce Help, "Sandbox Setup Considerations"]
SANDBOX_END = ".invalid"


async def permission_set_members(
    client: CompositeClient, names: Sequence[str], fence: Fence
) -> dict[str, frozenset[str]]:
    """The addresses of the active users of each permission set, by its API name, in lower case.

    One call, and one more for each further 2,000 users. A permission set that the org lacks is
    left out. Raises as `CompositeClient.composite` does.
    """
    among = ", ".join(soql_text(name) for name in names)
    sets = f"SELECT Name FROM PermissionSet WHERE Name IN ({among})"  # noqa: S608 it is SOQL
    users = (
        "SELECT PermissionSet.Name, Assignee.Email FROM PermissionSetAssignment "  # noqa: S608
        f"WHERE PermissionSet.Name IN ({among}) AND IsActive = TRUE AND Assignee.IsActive = TRUE"
    )
    requests = [
        query_subrequest(sets, "PermissionSet"),
        query_subrequest(users, "PermissionSetAssignment"),
    ]
    found, assignments = await client.composite(requests, "composite_query", fence)
    there = [str(row["Name"]) for row in await client.rest_of(found, fence=fence)]
    return by_permission_set(names, there, await client.rest_of(assignments, fence=fence))


def by_permission_set(
    wanted: Iterable[str], there: Iterable[str], assignments: Iterable[Mapping[str, Any]]
) -> dict[str, frozenset[str]]:
    """The addresses by permission set, as `wanted` spells it; Salesforce ignores the case."""
    spelled = {name.casefold(): name for name in wanted}
    found: dict[str, set[str]] = {
        spelled[name.casefold()]: set() for name in there if name.casefold() in spelled
    }
    for row in assignments:
        name = spelled.get(str((row.get("PermissionSet") or {}).get("Name") or "").casefold())
        address = str((row.get("Assignee") or {}).get("Email") or "").casefold()
        if name is not None and address:
            found.setdefault(name, set()).add(address.removesuffix(SANDBOX_END))
    return {name: frozenset(addresses) for name, addresses in found.items()}
