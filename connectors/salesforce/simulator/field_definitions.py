"""FieldDefinition and EntityDefinition: what an org says of its fields besides the describe."""

from __future__ import annotations

from .schema import make_id
from .store import CallRefused, Org

_NO_FILTER = (
    "When retrieving results with FieldDefinition, a filter on a reified column is required: "
    "[EntityDefinitionId, DurableId]"
)


def add_field_definitions(org: Org) -> None:
    """Stores a row for each object, and one for each of its fields."""
    entities, fields = org.tables["EntityDefinition"], org.tables["FieldDefinition"]
    for number, table in enumerate(list(org.tables.values()), 1):
        entity = make_id("4ie", number)
        entities.put({"Id": entity, "QualifiedApiName": table.sobject.name})
        for item in table.sobject.fields.values():
            row = {
                "Id": fields.new_id(),
                "EntityDefinitionId": entity,
                "QualifiedApiName": item.name,
                "DataType": item.type,
                "IsIndexed": item.has_database_index,
            }
            fields.put(row)


def check_filter(sobject: str, statement: str) -> None:
    """Refuses a query for the fields of all objects at once. Raises CallRefused."""
    condition = statement.lower().partition(" where ")[2]
    if sobject == "FieldDefinition" and "entitydefinition" not in condition:
        raise CallRefused(400, "MALFORMED_QUERY", _NO_FILTER)
