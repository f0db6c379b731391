"""Address fields of the org's own, such as Personal_Email__c: read for matching, never written.

A lookup searches by them, so only indexed ones are used: by any other field, every batch would
search the whole object. A describe has no property that says whether a field is indexed. Two
answers together do:

1. The describe: an External ID or a unique field has an index, and so has a standard field with
   `idLookup`, such as Email [Best Practices for Deployments with Large Data Volumes, "Indexes"].
2. `IsIndexed` of FieldDefinition, which also knows the custom indexes that Salesforce Support or a
   deployment made. The address fields of the Nonprofit Success Pack are no External IDs, so that
   only this answer can admit them.
"""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.org_fields import EMAIL_FIELDS
from connectors.salesforce.queries import soql_text

OBJECTS = ("Contact", "Lead")
# Each field takes the room of all addresses of a batch once more, out of one statement.
MAX_ADDRESS_FIELDS = 5
_TYPES = frozenset({"email", "string"})

Indexes = Collection[tuple[str, str]] | None
"""The (object, field) pairs of which FieldDefinition says that they are indexed; None without an
answer.
"""


class AddressFieldError(ValueError):
    """A setting names a field that cannot be one; the text names it and the remedy."""


def parse_address_fields(entries: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The field names by object, of entries like `Contact.Personal_Email__c`.

    Raises AddressFieldError.
    """
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        sobject, dot, field = entry.strip().partition(".")
        if not dot or not field.isidentifier() or not field.isascii():
            raise AddressFieldError(
                f"{entry!r} is not of the form Contact.Personal_Email__c or Lead.Personal_Email__c"
            )
        if sobject not in OBJECTS:
            near = get_close_matches(sobject.capitalize(), OBJECTS, 1)
            hint = f"did you mean {near[0]}.{field}?" if near else "use Contact or Lead"
            raise AddressFieldError(f"{entry!r}: the object {sobject!r} has no people; {hint}")
        if field in EMAIL_FIELDS:
            raise AddressFieldError(f"{entry!r} is searched in any case: leave it out")
        found.setdefault(sobject, {})[field] = None
    for sobject, fields in found.items():
        if len(fields) > MAX_ADDRESS_FIELDS:
            raise AddressFieldError(
                f"{len(fields)} fields of {sobject}: at most {MAX_ADDRESS_FIELDS} are possible, "
                "because each makes a lookup longer"
            )
    return {sobject: tuple(fields) for sobject, fields in found.items()}


def refusal(described: ObjectDescribe, name: str, indexes: Indexes) -> str | None:
    """Why a field is not used for matching; None if it is."""
    field = described.fields.get(name)
    if field is None:
        return "missing, or hidden from the user"
    if field.type not in _TYPES:
        return f"is {field.type}, and holds no address: it has to be Email or Text"
    if not field.filterable:
        return "is encrypted, so that nobody is found by it"
    if has_index(field) or (indexes is not None and (described.name, name) in indexes):
        return None
    if indexes is None:
        return "no External ID, and the org does not say whether it is indexed otherwise"
    return "not indexed: every batch would search the whole object"


def has_index(field: FieldDescribe) -> bool:
    """Whether the describe alone shows that a field is indexed."""
    return field.external_id or field.unique or field.id_lookup


def used_address_fields(
    described: ObjectDescribe, wanted: Mapping[str, Iterable[str]], indexes: Indexes
) -> tuple[str, ...]:
    """Those of the wanted fields of an object that are used for matching."""
    return tuple(
        name for name in wanted.get(described.name, ()) if refusal(described, name, indexes) is None
    )


def index_query(wanted: Mapping[str, Iterable[str]]) -> str:
    """The statement that asks which of the wanted fields are indexed."""
    objects = ",".join(soql_text(sobject) for sobject in wanted)
    names = sorted({name for fields in wanted.values() for name in fields})
    return (
        "SELECT EntityDefinition.QualifiedApiName, QualifiedApiName, IsIndexed "  # noqa: S608
        f"FROM FieldDefinition WHERE EntityDefinition.QualifiedApiName IN ({objects}) "
        f"AND QualifiedApiName IN ({','.join(map(soql_text, names))})"
    )


def parse_indexes(rows: Iterable[Mapping[str, Any]]) -> frozenset[tuple[str, str]]:
    """The (object, field) pairs that the rows of an `index_query` call indexed."""
    return frozenset(
        (str(entity.get("QualifiedApiName")), str(row.get("QualifiedApiName")))
        for row in rows
        if row.get("IsIndexed") is True and isinstance(entity := row.get("EntityDefinition"), dict)
    )
