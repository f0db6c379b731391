"""Records that are no longer there to be matched: converted, merged or deleted. Plain data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors.salesforce.deleted_records import DeletedRecord
from connectors.salesforce.org_fields import EMAIL_FIELDS, KEY_FIELD
from connectors.salesforce.sobject_record import addresses_in

CONVERTED, MERGED = "converted_lead", "merged"


@dataclass(frozen=True, slots=True, eq=False)
class MovedRecord:
    """A record that people converted, merged or deleted.

    `next_id` is the record that took its place; None for a deletion. `matched` says how a contact
    is found that is followed from here. `deleted_at`: seconds since the epoch, by the org's clock.
    """

    sobject: str
    record_id: str | None
    key: str | None
    addresses: tuple[str, ...]
    next_id: str | None
    matched: str
    is_deleted: bool
    deleted_at: int
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_converted_lead(self) -> bool:
        """Whether it is a converted Lead that still exists, and holds its key."""
        return self.matched == CONVERTED and not self.is_deleted

    @property
    def next_sobject(self) -> str:
        """The object of `next_id`."""
        return "Contact" if self.matched == CONVERTED else self.sobject


def row_move(
    sobject: str, row: Mapping[str, Any], address_fields: Iterable[str] = ()
) -> MovedRecord | None:
    """What became of the record of a row; None if it is there to be matched.

    `address_fields` are the org's own ones that count besides EMAIL_FIELDS. A converted Lead that
    was deleted afterwards still leads to its Contact.
    """
    deleted = row.get("IsDeleted") is True
    contact_id = row.get("ConvertedContactId") if row.get("IsConverted") is True else None
    if not deleted and row.get("IsConverted") is not True:
        return None
    master_id = row.get("MasterRecordId") if deleted else None
    converted = not master_id and (not deleted or bool(contact_id))
    return MovedRecord(
        sobject,
        _text(row.get("Id")),
        _text(row.get(KEY_FIELD)),
        addresses_in(row, (*EMAIL_FIELDS, *address_fields)),
        _text(master_id) or _text(contact_id),
        CONVERTED if converted else MERGED,
        deleted,
        epoch_seconds(row.get("SystemModstamp")),
        row,
    )


def remembered_move(record: DeletedRecord) -> MovedRecord:
    """What is remembered of a record; its addresses are known as hashes only."""
    sobject = "Lead" if record.record_id.startswith("00Q") else "Contact"
    converted = sobject == "Lead" and (record.master_id or "").startswith("003")
    return MovedRecord(
        sobject,
        record.record_id,
        record.key,
        (),
        record.master_id,
        CONVERTED if converted else MERGED,
        True,
        record.deleted_at,
    )


def epoch_seconds(stamp: object) -> int:
    """The seconds since the epoch of a time as Salesforce writes it; 0 for anything else."""
    try:
        return int(datetime.fromisoformat(str(stamp)).timestamp())
    except ValueError:
        return 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
