"""The standard fields of Contact and Lead as described, and the values of a contact for them."""

from typing import Any

from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.field_values import bind, field_values
from connectors.salesforce.mapping_rules import FieldMapping

LENGTHS = {
    "FirstName": 40,
    "LastName": 80,
    "Email": 80,
    "Phone": 40,
    "MobilePhone": 40,
    "Title": 128,
    "Company": 255,
}


def described(sobject: str = "Contact", **more: FieldDescribe) -> ObjectDescribe:
    kinds = {"Email": "email", "Phone": "phone", "MobilePhone": "phone"}
    fields = {
        name: FieldDescribe(
            name,
            kinds.get(name, "string"),
            length=length,
            createable=True,
            updateable=True,
            nillable=name not in {"LastName", "Company"},
        )
        for name, length in LENGTHS.items()
        if sobject == "Lead" or name != "Company"
    }
    return ObjectDescribe(sobject, fields | more, createable=True, updateable=True, queryable=True)


def wanted(
    contact: Any,
    sobject: str = "Contact",
    mapping: FieldMapping | None = None,
    address: str | None = None,
    more: dict[str, FieldDescribe] | None = None,
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    counted: list[tuple[str, str]] = []
    found = field_values(
        bind(mapping or FieldMapping(), described(sobject, **(more or {}))),
        contact,
        address,
        lambda what, where: counted.append((what, where)),
    )
    return {name: value.value for name, value in found.items()}, counted
