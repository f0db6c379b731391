"""The part of the Tooling API that is simulated: its query, over the set-up of the org.

Objects are those of the Tooling API only: FlowDefinitionView and AssignmentRule, which belong to
the REST API's /query, are not supported here, as in an org.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .settings import BadValueError
from .soql import SoqlError

COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "ApexTrigger": frozenset(("Id", "Name", "NamespacePrefix", "TableEnumOrId", "Status")),
    "WorkflowRule": frozenset(("Id", "Name", "NamespacePrefix", "TableEnumOrId", "Metadata")),
}
# Fields that an org refuses in a query that returns several rows.
_OF_ONE_ROW: Final = frozenset(("Metadata", "FullName"))
_STATEMENT: Final = re.compile(
    r"SELECT\s+(?P<fields>[\w\s,.]+?)\s+FROM\s+(?P<object>\w+)(?:\s+WHERE\s+(?P<name>\w+)\s*"
    r"(?:=\s*(?P<value>'[^']*')|IN\s*\((?P<values>[^)]*)\)))?\s*",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Tooling:
    """The rows of the objects of COLUMNS, as the world document gives them."""

    rows: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in COLUMNS}
    )

    def add(self, name: str, rows: Sequence[Mapping[str, Any]], where: str) -> None:
        """Take rows over. Raises BadValueError naming the field that the object lacks."""
        for position, row in enumerate(rows):
            unknown = row.keys() - COLUMNS[name]
            if unknown:
                raise BadValueError(f"{where}[{position}].{min(unknown)}: {name} has no such field")
            self.rows[name].append(dict(row))

    def query(self, statement: str) -> list[dict[str, Any]]:
        """The rows of a statement with at most one condition. Raises SoqlError."""
        parsed = _STATEMENT.fullmatch(statement.strip())
        if parsed is None:
            raise SoqlError("MALFORMED_QUERY", f"unexpected token in: {statement}")
        name = parsed["object"]
        if name not in COLUMNS:
            raise SoqlError("INVALID_TYPE", f"sObject type '{name}' is not supported.")
        wanted = [each.strip() for each in parsed["fields"].split(",")]
        for column in [*wanted, *([parsed["name"]] if parsed["name"] else [])]:
            if column not in COLUMNS[name]:
                message = f"No such column '{column}' on entity '{name}'."
                raise SoqlError("INVALID_FIELD", message)
        listed = parsed["values"] or parsed["value"] or ""
        values = re.findall(r"'([^']*)'", listed)
        rows = [
            row
            for row in self.rows[name]
            if parsed["name"] is None or row.get(parsed["name"]) in values
        ]
        if len(rows) > 1 and _OF_ONE_ROW.intersection(wanted):
            message = (
                "When retrieving results with Metadata or FullName fields, the query "
                f"qualifications must specify no more than one row for retrieval. Result size: "
                f"{len(rows)}"
            )
            raise SoqlError("MALFORMED_QUERY", message)
        return [
            {"attributes": {"type": name}, **{column: row.get(column) for column in wanted}}
            for row in rows
        ]
