"""The fields of Contact and Lead that this org has and that contactstream reads or writes."""

from dataclasses import dataclass
from functools import cached_property

from connectors.salesforce.api.describe import ObjectDescribe
from connectors.salesforce.api.errors import SalesforceError
from connectors.salesforce.field_values import ObjectMapping
from connectors.salesforce.org_fields import (
    EMAIL_FIELDS,
    KEY_FIELD,
    MARKER_FIELD,
    MAX_MARKER_LENGTH,
    PERSON_ACCOUNT_FIELD,
    VERSION_FIELD,
)

_COMMON_FIELDS = (
    "Id",
    KEY_FIELD,
    VERSION_FIELD,
    MARKER_FIELD,
    *EMAIL_FIELDS,
    "IsDeleted",
    "MasterRecordId",
    "SystemModstamp",
    "CreatedDate",
    "CreatedById",
    "LastModifiedDate",
    "LastActivityDate",
    "FirstName",
    "LastName",
)
_OBJECT_FIELDS = {
    "Contact": ("AccountId", PERSON_ACCOUNT_FIELD),
    "Lead": ("IsConverted", "ConvertedContactId"),
}


class OrgNotPrepared(SalesforceError):
    """The org lacks something that contactstream needs; `contactstream doctor` names it."""


@dataclass(frozen=True)
class Schema:
    """One sObject of this org: its describe, the mapping to it, and the fields to query.

    What follows from the describe is computed once: it is asked for with every contact.
    `flag` is the checkbox that marks the record of a deleted contact; None if it is not used.
    `address_fields` are the org's own fields that are searched and never written.
    """

    sobject: str
    described: ObjectDescribe
    mapped: ObjectMapping
    flag: str | None = None
    address_fields: tuple[str, ...] = ()

    @cached_property
    def emails(self) -> tuple[str, ...]:
        """The address fields of ours that this org has: those that may be written."""
        return tuple(name for name in EMAIL_FIELDS if name in self.described.fields)

    @cached_property
    def read_emails(self) -> tuple[str, ...]:
        """All address fields that are read."""
        return (*self.emails, *self.address_fields)

    @cached_property
    def searched_emails(self) -> tuple[str, ...]:
        """The address fields by which records can be searched: a query refuses encrypted ones."""
        return tuple(name for name in self.read_emails if self.described.fields[name].filterable)

    @cached_property
    def select(self) -> tuple[str, ...]:
        """The fields to query."""
        flag = (self.flag,) if self.flag else ()
        wanted = (
            *_COMMON_FIELDS,
            *_OBJECT_FIELDS[self.sobject],
            *self.mapped.fields,
            *self.address_fields,
            *flag,
        )
        return tuple(name for name in dict.fromkeys(wanted) if name in self.described.fields)

    @cached_property
    def marker_length(self) -> int:
        """The most characters that a marker may have in this org."""
        return min(MAX_MARKER_LENGTH, self.described.fields[MARKER_FIELD].length)

    def writable(self, name: str, *, new: bool) -> bool:
        """Whether the user may set a field, of a new record or of an existing one."""
        return name in self.writable_fields(new=new)

    def writable_fields(self, *, new: bool) -> frozenset[str]:
        """The fields that the user may set, of a new record or of an existing one."""
        return self.described.createable_fields if new else self.described.updateable_fields


def schema(
    described: ObjectDescribe,
    mapped: ObjectMapping,
    flag: str | None = None,
    address_fields: tuple[str, ...] = (),
) -> Schema:
    """The schema of a described object. `address_fields`: see `address_fields.used_address_fields`.

    Raises OrgNotPrepared if a field is missing by which contacts are found again, if the key cannot
    be searched, or if the user may not write our own fields. Without the marker nothing would
    protect what people type.
    """
    for name in (KEY_FIELD, VERSION_FIELD, MARKER_FIELD, "Email"):
        if name not in described.fields:
            raise OrgNotPrepared(
                f"{described.name}.{name} is missing, or hidden from the user; "
                "run contactstream doctor"
            )
    if not described.fields[KEY_FIELD].filterable:
        raise OrgNotPrepared(
            f"{described.name}.{KEY_FIELD} cannot be searched, because it is encrypted: take it "
            "out of the org's encryption policy, or choose the deterministic scheme that keeps "
            "case; run contactstream doctor"
        )
    for name in (KEY_FIELD, VERSION_FIELD, MARKER_FIELD):
        field = described.fields[name]
        if not (field.createable and field.updateable):
            raise OrgNotPrepared(
                f"{described.name}.{name} cannot be written by our user; run contactstream doctor"
            )
    flag = flag if flag in described.fields else None
    return Schema(described.name, described, mapped, flag, address_fields)
