"""Accounts as a query returns them, and the directory that is made of them."""

from typing import Any

from connectors.salesforce.account_table import AccountRow
from connectors.salesforce.accounts import AccountDirectory, account_row

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
        "Id": f"001{number:012d}AAA",
        "Website": website,
        "ParentId": parent,
        "CreatedDate": created,
        "IsDeleted": deleted,
    }


def directory(*rows: dict[str, Any], **configured: str) -> AccountDirectory:
    accounts = AccountDirectory(
        {name.replace("_", "."): value for name, value in configured.items()}
    )
    accounts.update(parsed(*rows))
    return accounts


def parsed(*rows: dict[str, Any], generation: int = 0) -> list[AccountRow]:
    """The rows as the directory takes them."""
    return [found for row in rows if (found := account_row(row, generation))]
