"""Builds the SOQL statements that look up the records of a batch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.schema import Schema

# SOQL takes 100,000 characters. The length is computed exactly; the rest is for a proxy that counts
# the statement's surroundings too. An org that refuses the length gets half of the contacts.
MAX_LOOKUP_STATEMENT = 99_500
# A group of contacts takes a statement on Contact and one on Lead. A Composite takes five, and the
# fifth is for the query of Accounts.
MAX_GROUPS = 2
# A record ID names its object by its first three characters.
ID_PREFIXES = {"Contact": "003", "Lead": "00Q"}


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
    record_ids: Mapping[str, Sequence[str]] | None = None,
) -> Lookup:
    """At most four statements of at most `limit` characters for (record key, addresses) pairs.

    `record_ids`: of some record keys, records that are read by their IDs as well. Contacts that do
    not fit are not taken, and have to wait for another lookup.
    """
    schemas = (contact_schema, lead_schema)
    contact_room, lead_room = whole = tuple(
        limit - len(_statement(schema, contact_schema, ("",), ("",), ("",))) for schema in schemas
    )
    contact_fields, lead_fields = (len(schema.searched_emails) for schema in schemas)
    known_ids = record_ids or {}
    groups: list[tuple[dict[str, None], dict[str, None], dict[str, None]]] = [({}, {}, {})]
    group_keys, group_addresses, group_ids = groups[0]
    taken = 0
    for key, addresses in contacts:
        ids = known_ids.get(key, ())
        literal, sought = soql_text(key), [soql_text(address) for address in addresses]
        once = len(literal) + 1
        if ids:
            once += sum(len(soql_text(record_id)) + 1 for record_id in ids)
        for_each_field = sum(map(len, sought)) + len(sought)
        contact_length = once + contact_fields * for_each_field
        lead_length = once + lead_fields * for_each_field
        if contact_length > contact_room or lead_length > lead_room:
            if len(groups) == MAX_GROUPS:
                break
            group_keys, group_addresses, group_ids = {}, {}, {}
            groups.append((group_keys, group_addresses, group_ids))
            contact_room, lead_room = whole
        contact_room -= contact_length
        lead_room -= lead_length
        taken += 1
        group_keys[literal] = None
        for text in sought:
            group_addresses[text] = None
        for record_id in ids:
            group_ids[record_id] = None
    statements = tuple(
        (
            schema.sobject,
            _statement(
                schema, contact_schema, tuple(keys), tuple(addresses), _ids_of(schema.sobject, ids)
            ),
        )
        for keys, addresses, ids in groups
        if keys
        for schema in schemas
    )
    return Lookup(statements, taken)


def _ids_of(sobject: str, ids: Iterable[str]) -> tuple[str, ...]:
    prefix = ID_PREFIXES[sobject]
    return tuple(soql_text(record_id) for record_id in ids if record_id.startswith(prefix))


def _statement(
    schema: Schema,
    contact_schema: Schema,
    keys: tuple[str, ...],
    addresses: tuple[str, ...],
    ids: tuple[str, ...],
) -> str:
    conditions = [f"{KEY_FIELD} IN ({','.join(keys)})"]
    if addresses:
        conditions += [f"{name} IN ({','.join(addresses)})" for name in schema.searched_emails]
    if ids:
        conditions.append(f"Id IN ({','.join(ids)})")
    return _select(schema, contact_schema, " OR ".join(conditions))


def by_id(schema: Schema, contact_schema: Schema, ids: Iterable[str]) -> str:
    """The statement that reads records by their IDs."""
    return _select(schema, contact_schema, f"Id IN ({','.join(map(soql_text, ids))})")


def deleted_since(schema: Schema, since: str, limit: int) -> str:
    """The statement that reads what people deleted since a time (an ISO date-time), oldest first.

    Of deletions only those that carried our key; of merges all, since a record without a key may be
    one into which another with a key was merged before.
    """
    wanted = ("Id", KEY_FIELD, *schema.read_emails, "MasterRecordId", "SystemModstamp")
    if schema.sobject == "Lead":
        wanted += ("ConvertedContactId",)
    names = [name for name in wanted if name in schema.described.fields]
    conditions = [f"{KEY_FIELD} != null"]
    if "MasterRecordId" in names:
        conditions.append("MasterRecordId != null")
    return (
        f"SELECT {', '.join(names)} FROM {schema.sobject} "  # noqa: S608
        f"WHERE IsDeleted = true AND SystemModstamp >= {since} AND ({' OR '.join(conditions)}) "
        f"ORDER BY SystemModstamp LIMIT {limit}"
    )


def _select(schema: Schema, contact_schema: Schema, condition: str) -> str:
    """It also selects the record that people kept in a merge, which saves a second call.

    So it does of a Lead with the Contact that it was converted to.
    """
    fields = schema.select
    if "MasterRecordId" in fields:
        fields += tuple(f"MasterRecord.{name}" for name in schema.select)
    if schema.sobject == "Lead" and "ConvertedContactId" in fields:
        fields += tuple(f"ConvertedContact.{name}" for name in contact_schema.select)
    return f"SELECT {','.join(fields)} FROM {schema.sobject} WHERE {condition}"  # noqa: S608


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
