"""Builds the SOQL statements that look up the records of a batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.schema import Schema

MAX_LOOKUP_STATEMENT = 95_000  # SOQL takes 100,000 characters
# A group of contacts takes a statement on Contact and one on Lead. A Composite takes five, and the
# fifth is for the query of Accounts.
MAX_GROUPS = 2


@dataclass(frozen=True, slots=True)
class Lookup:
    """The statements that find the records of the first `taken` contacts, each with its sObject."""

    statements: tuple[tuple[str, str], ...]
    taken: int


def lookup(
    contacts: Sequence[tuple[str, Sequence[str]]],
    contact_schema: Schema,
    lead_schema: Schema,
    limit: int = MAX_LOOKUP_STATEMENT,
) -> Lookup:
    """At most four statements of at most `limit` characters for (record key, addresses) pairs.

    Contacts that do not fit are not taken, and have to wait for another lookup.
    """
    schemas = (contact_schema, lead_schema)
    head = max(len(_statement(schema, contact_schema, ("",), ("",))) for schema in schemas)
    emails = max(len(schema.searched_emails) for schema in schemas)
    groups: list[tuple[dict[str, None], dict[str, None]]] = [({}, {})]
    room, taken = limit - head, 0
    for key, addresses in contacts:
        length = len(soql_text(key)) + 1
        length += emails * sum(len(soql_text(address)) + 1 for address in addresses)
        if length > room:
            if len(groups) == MAX_GROUPS:
                break
            groups.append(({}, {}))
            room = limit - head
        room -= length
        taken += 1
        group_keys, group_addresses = groups[-1]
        group_keys[soql_text(key)] = None
        group_addresses.update(dict.fromkeys(map(soql_text, addresses)))
    statements = tuple(
        (schema.sobject, _statement(schema, contact_schema, tuple(keys), tuple(addresses)))
        for keys, addresses in groups
        if keys
        for schema in schemas
    )
    return Lookup(statements, taken)


def _statement(
    schema: Schema, contact_schema: Schema, keys: tuple[str, ...], addresses: tuple[str, ...]
) -> str:
    conditions = [f"{KEY_FIELD} IN ({','.join(keys)})"]
    if addresses:
        conditions += [f"{name} IN ({','.join(addresses)})" for name in schema.searched_emails]
    return _select(schema, contact_schema, " OR ".join(conditions))


def by_id(schema: Schema, contact_schema: Schema, ids: Iterable[str]) -> str:
    """The statement that reads records by their IDs."""
    return _select(schema, contact_schema, f"Id IN ({','.join(map(soql_text, ids))})")


def _select(schema: Schema, contact_schema: Schema, condition: str) -> str:
    """Of a Lead it also selects the Contact that it was converted to, which saves a second call."""
    fields = schema.select
    if schema.sobject == "Lead" and "ConvertedContactId" in fields:
        fields += tuple(f"ConvertedContact.{name}" for name in contact_schema.select)
    return f"SELECT {', '.join(fields)} FROM {schema.sobject} WHERE {condition}"  # noqa: S608


_ESCAPES = str.maketrans(
    {
        "\\": r"\\",
        "'": r"\'",
        "\n": r"\n",
        "\r": r"\r",
        "\t": r"\t",
        "\b": r"\b",
        "\f": r"\f",
        '"': r"\"",
    }
)


def soql_text(value: str) -> str:
    """A SOQL string literal, quoted and escaped."""
    return f"'{value.translate(_ESCAPES)}'"
