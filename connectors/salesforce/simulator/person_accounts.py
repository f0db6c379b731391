"""Person Accounts: one record that shows as an Account and as the one Contact that belongs to it.

Sources: SOAP API Developer Guide, "Person Account Record Types" (one Contact, its ID is
PersonContactId); Salesforce Help 005305352 (the record type); the recorded refusal of AccountId in
sfb2csolutionarchitects/b2c-crm-sync#14; Change Data Capture Developer Guide, "Updating a Person
Account" (a change of one shows in both).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .store import Org, Row, RowError, Table

# No page says whether they may be changed through the Contact; refused, to be on the safe side.
_NAMES: Final = ("FirstName", "LastName", "Salutation")
# Fields of the Contact, and under which names the Account shows them.
_SHOWN: Final = {
    "Id": "PersonContactId",
    "Email": "PersonEmail",
    "Title": "PersonTitle",
    "FirstName": "FirstName",
    "LastName": "LastName",
    "Name": "Name",
}


def person_contact_refusal(org: Org, values: Row, existing: Row | None) -> RowError | None:
    """Why a row for a Contact is refused because of a Person Account; None if it is not."""
    if existing is not None and existing.get("IsPersonAccount"):
        return _refusal_of_own_contact(org, values)
    target = values.get("AccountId")
    account = org.tables["Account"].rows.get(target) if target is not None else None
    if account is not None and account.get("IsPersonAccount"):
        # the code is an assumption: no recorded answer is known
        message = "A Contact cannot be associated with a Person Account."
        return _error("FIELD_INTEGRITY_EXCEPTION", message, ["AccountId"])
    return None


def _refusal_of_own_contact(org: Org, values: Row) -> RowError | None:
    if "RecordTypeId" in values or not org.settings.person_accounts_editable:
        message = "insufficient access rights on object id"
        return _error("INSUFFICIENT_ACCESS_OR_READONLY", message, [])
    for name in ("AccountId", *_NAMES):
        if name in values:
            message = f"Account: bad field names on insert/update call: {name}"
            return _error("INVALID_FIELD_FOR_INSERT_UPDATE", message, [name])
    return None


def show_on_account(org: Org, table: Table, row: Row) -> None:
    """Stores what the Account of a person shows of its Contact."""
    if table.sobject.name != "Contact" or not row.get("IsPersonAccount"):
        return
    account = org.tables["Account"].rows.get(row.get("AccountId") or "")
    if account is None:
        return
    shown = {theirs: row.get(name) for name, theirs in _SHOWN.items()}
    kept = {name: value for name, value in account.items() if name not in shown}
    present = {name: value for name, value in shown.items() if value is not None}
    org.tables["Account"].put(kept | present)


def _error(code: str, message: str, fields: list[str]) -> dict[str, Any]:
    return {"statusCode": code, "message": message, "fields": fields}
