"""Who has a permission set: active users with an active assignment, and nobody else."""

from collections.abc import Mapping
from typing import Any

from connectors.salesforce.api.client import no_fence
from connectors.salesforce.permission_set_members import by_permission_set, permission_set_members
from tests.support.salesforce_org import simulated_org

WORLD = {
    "permission_sets": {
        "Sales_Sync": ["Ada@acme.example", "bob@acme.example.invalid", ["left@acme.example"]],
        "Empty": [],
        "Other": ["carl@acme.example"],
    }
}


async def test_one_call_finds_the_active_users_of_each_permission_set() -> None:
    async with simulated_org(WORLD) as org:
        names = ["sales_sync", "Empty", "Missing"]
        found = await permission_set_members(org.client, names, no_fence)
        assert found == {
            "sales_sync": {"ada@acme.example", "bob@acme.example"},
            "Empty": frozenset(),
        }
        assert org.calls["composite_query"] == 1


async def test_who_loses_the_permission_set_is_not_found_any_more() -> None:
    async with simulated_org(WORLD) as org:
        org.world.unassign("Sales_Sync", "Ada@acme.example")
        found = await permission_set_members(org.client, ["Sales_Sync"], no_fence)
        assert found == {"Sales_Sync": {"bob@acme.example"}}


def test_a_user_without_an_address_is_left_out() -> None:
    rows: list[Mapping[str, Any]] = [
        {"PermissionSet": {"Name": "A"}, "Assignee": {"Email": None}},
        {"PermissionSet": None},
    ]
    assert by_permission_set(["A"], ["A"], rows) == {"A": frozenset()}
