"""Checks of record access: whether the user sees, and may edit, every record of an object."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.checkup.findings import PERMIT, SEE_SETUP, CheckupFinding, ok, warn

_PUBLIC_READ = frozenset({"Read", "ReadSelect", "Edit", "ReadEdit", "ReadEditTransfer", "All"})
_PUBLIC_WRITE = frozenset({"Edit", "ReadEdit", "ReadEditTransfer", "All"})


@dataclass(frozen=True, slots=True)
class Sharing:
    """What is known of the user's access to records; None is unknown.

    `view_all`, `modify_all` and `defaults` (the org-wide ones) are by object.
    """

    view_all_data: bool | None = None
    modify_all_data: bool | None = None
    view_all: Mapping[str, bool] | None = None
    modify_all: Mapping[str, bool] | None = None
    defaults: Mapping[str, str] | None = None


def parse_sharing(
    permissions: Sequence[Mapping[str, Any]] | None,
    objects: Sequence[Mapping[str, Any]] | None,
    organization: Sequence[Mapping[str, Any]] | None,
) -> Sharing:
    """The user's access, from query rows; None for a query that was refused.

    They are the rows of UserPermissionAccess, of the user's ObjectPermissions, and of Organization.
    """
    user = permissions[0] if permissions else {}
    org = organization[0] if organization else {}
    defaults = {
        name: str(org[f"Default{name}Access"])
        for name in ("Account", "Contact", "Lead")
        if org.get(f"Default{name}Access")
    }
    if defaults.get("Contact") == "ControlledByParent":
        defaults["Contact"] = defaults.get("Account", "")
    return Sharing(
        _yes_or_no(user.get("PermissionsViewAllData")),
        _yes_or_no(user.get("PermissionsModifyAllData")),
        None if objects is None else _granted(objects, "PermissionsViewAllRecords"),
        None if objects is None else _granted(objects, "PermissionsModifyAllRecords"),
        defaults or None,
    )


def _granted(rows: Iterable[Mapping[str, Any]], right: str) -> dict[str, bool]:
    return {str(row.get("SobjectType")): True for row in rows if row.get(right) is True}


def _yes_or_no(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def visibility(sobject: str, sharing: Sharing) -> list[CheckupFinding]:
    """Whether the user sees, and may edit, every record. Accounts are only read."""
    found = [_seen(sobject, sharing)]
    if sobject != "Account":
        found.append(_edited(sobject, sharing))
    return found


def _seen(sobject: str, sharing: Sharing) -> CheckupFinding:
    check = f"{sobject} records seen"
    default = (sharing.defaults or {}).get(sobject, "")
    if sharing.view_all_data or (sharing.view_all or {}).get(sobject) or default in _PUBLIC_READ:
        return ok(check, "the user sees every record")
    if sharing.view_all_data is None:
        return warn(check, "cannot tell whether the user sees every record", SEE_SETUP)
    if sobject == "Account":
        lost = "people of a hidden Account become Leads"
    else:
        lost = (
            "a person with a hidden record is not found, and a key on a hidden record is refused "
            "as a duplicate"
        )
    finding = f"records may be hidden from the user: {lost}"
    return warn(check, finding, f"grant View All on {sobject} ({PERMIT})")


def edits_every_record(sobject: str, sharing: Sharing) -> bool | None:
    """Whether the user may edit every record, whoever owns it; None if that is unknown."""
    default = (sharing.defaults or {}).get(sobject, "")
    if (
        sharing.modify_all_data
        or (sharing.modify_all or {}).get(sobject)
        or default in _PUBLIC_WRITE
    ):
        return True
    return None if sharing.modify_all_data is None or sharing.defaults is None else False


def _edited(sobject: str, sharing: Sharing) -> CheckupFinding:
    check = f"{sobject} records edited"
    edited = edits_every_record(sobject, sharing)
    if edited:
        return ok(check, "the user may edit every record")
    if edited is None:
        finding = "cannot tell whether the user may edit every record"
        return warn(check, finding, "compare the sharing with deploy/salesforce/README.md")
    finding = (
        "the user may not edit every record of other owners: such rows fail with "
        "INSUFFICIENT_ACCESS"
    )
    return warn(check, finding, "widen the sharing as deploy/salesforce/README.md says")
