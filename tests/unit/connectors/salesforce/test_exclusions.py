"""Role addresses are recognised, and the list of them can be changed."""

import pytest

from connectors.salesforce.exclusions import is_role, role_names


@pytest.mark.parametrize(
    ("address", "role"),
    [
        ("donotreply@x.com", True),
        ("no_reply-eu@x.com", True),
        ("bounces@x.com", True),
        ("sales@x.com", True),
        ("salesman@x.com", False),
        ("infante@x.com", False),
        ("bouncer@x.com", False),
        ("ada@x.com", False),
    ],
)
def test_role_addresses_are_recognised(address: str, role: bool) -> None:
    assert is_role(address) is role


def test_role_names_can_be_added_and_removed() -> None:
    roles = role_names(["Kontakt", "front-desk", "!Hello", "!no-such"])
    found = [is_role(f"{name}@x.com", roles) for name in ("kontakt", "front.desk", "hello", "info")]
    assert found == [True, True, False, True]
