"""Accounts as a query returns them, and the directory that is made of them."""

from typing import Any

from connectors.salesforce.accounts import AccountDirectory

ACME = "001000000000001AAA"


def account(
    number: int,
    website: object,
    *,
    parent: str | None = None,
    created: str = "2020",
    deleted: bool = False,
) -> dict[str, Any]:
    return {
        "Id": f"00100000000000{number}AAA",
        "Website": website,
        "ParentId": parent,
        "CreatedDate": created,
        "IsDeleted": deleted,
    }


def directory(*rows: dict[str, Any], **configured: str) -> AccountDirectory:
    accounts = AccountDirectory(
        {name.replace("_", "."): value for name, value in configured.items()}
    )
    accounts.update(rows)
    return accounts
