"""Rows to write to Contact and Lead, and the sObject collections that they are sent in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from connectors.salesforce.api.composite import (
    WRITE_HEADERS,
    Subrequest,
    create_subrequest,
    update_subrequest,
    upsert_subrequest,
)
from connectors.salesforce.field_hashes import FieldHashes
from connectors.salesforce.org_fields import KEY_FIELD, MARKER_FIELD

Op = Literal["upsert", "update", "create"]
"""`create` is the creation of a Lead whose owner the org's assignment rule chooses. The org refuses
to carry it out twice, because the key is unique, and so the rule runs once for each record. An
upsert that is sent again updates the record, and would run the rule again.
"""


@dataclass(frozen=True, slots=True)
class WriteRow:
    """A record to write: an upsert and a create carry KEY_FIELD in `fields`, an update `Id`.

    `fields` come without `attributes`. `people` are tokens (addresses, keys) of everybody whom the
    record stands for; they are only compared for equality. `tag` is returned with the row's
    result. `stored` are the fields of the record before the row is written; none of a new one.
    `owner_rule` is the OwnerRule by which a new record gets its owner; "" for other rows.
    """

    sobject: str
    op: Op
    fields: Mapping[str, Any]
    account_id: str | None = None
    people: frozenset[str] = frozenset()
    tag: Any = None
    stored: Mapping[str, Any] = field(default_factory=dict)
    owner_rule: str = ""

    @property
    def creates(self) -> bool:
        """Whether the row creates its record, unless another call has created it meanwhile."""
        return self.op != "update"

    def with_owner_rule(self, rule: str, fields: Mapping[str, Any]) -> "WriteRow":
        """The row with these fields, whose owner was chosen by this rule.

        Written out, because a first sync creates everybody, and `replace` takes thrice as long.
        """
        return WriteRow(
            self.sobject,
            self.op,
            fields,
            self.account_id,
            self.people,
            self.tag,
            self.stored,
            rule,
        )

    def without(self, names: Iterable[str]) -> "WriteRow":
        """The row without these fields, and without what its marker says of them.

        A marker that named a field which was not written would read as if a person had cleared it.
        """
        left_out = set(names)
        kept = {name: value for name, value in self.fields.items() if name not in left_out}
        if (text := kept.pop(MARKER_FIELD, None)) is not None:
            before = FieldHashes.parse(self.stored.get(MARKER_FIELD))
            marker = FieldHashes.parse(text).taking_back(left_out, before)
            if marker != before:
                kept[MARKER_FIELD] = str(marker)
        return replace(self, fields=kept)


@dataclass(frozen=True, slots=True)
class Collection:
    """Up to 200 rows of one operation, ordered by sObject and Account: one subrequest.

    Upserts and creates are of one sObject. Updates may be of several.
    """

    op: Op
    rows: tuple[WriteRow, ...]

    @property
    def is_mixed(self) -> bool:
        """Whether it has rows of several sObjects."""
        return self.rows[0].sobject != self.rows[-1].sobject


Call = tuple[Collection, ...]
"""The collections of one Composite request."""


def collection_subrequest(
    collection: Collection, reference: str, headers: Mapping[str, str] = WRITE_HEADERS
) -> Subrequest:
    """The subrequest that writes a collection: upserts by KEY_FIELD, updates by `Id`.

    Creates run the org's assignment rule, the only rows that do.

    Raises ValueError for rows that Salesforce would refuse as a whole.
    """
    if collection.op == "update":
        records = [(row.sobject, row.fields) for row in collection.rows]
        return update_subrequest(records, reference, headers)
    sobject, rows = collection.rows[0].sobject, [row.fields for row in collection.rows]
    if collection.op == "create":
        assigned = {**headers, "Sforce-Auto-Assign": "TRUE"}
        return create_subrequest(sobject, KEY_FIELD, rows, reference, assigned)
    return upsert_subrequest(sobject, KEY_FIELD, rows, reference, headers)
