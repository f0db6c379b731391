"""The fields of Contact and Lead that this org has and that contactstream reads or writes."""

from dataclasses import dataclass

from connectors.salesforce.api.composite import KEY_FIELD
from connectors.salesforce.api.describe import ObjectDescribe
from connectors.salesforce.api.errors import VERSION_FIELD, SalesforceError
from connectors.salesforce.field_values import ObjectMapping

EMAIL_FIELDS = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")


_SYSTEM = (
    "Id",
    KEY_FIELD,
    VERSION_FIELD,
    *EMAIL_FIELDS,
    "CreatedById",
    "CreatedDate",
    "LastModifiedDate",
)


_NAMES = ("FirstName", "LastName")


_OWN = {"Contact": ("AccountId",), "Lead": ("IsConverted", "ConvertedContactId")}


class OrgNotPrepared(SalesforceError):
    """The org lacks what contactstream needs there; `contactstream doctor` says what and how to get
    it.
    """


@dataclass(frozen=True, slots=True)
class Schema:
    """What of an sObject is read and written. `flag` is the field that marks a deleted contact, if
    it is used.
    """

    sobject: str
    described: ObjectDescribe
    mapped: ObjectMapping
    flag: str | None = None

    @property
    def emails(self) -> tuple[str, ...]:
        """The address fields that this org has."""
        return tuple(name for name in EMAIL_FIELDS if name in self.described.fields)

    @property
    def select(self) -> tuple[str, ...]:
        wanted = (
            *_SYSTEM,
            *_NAMES,
            *_OWN[self.sobject],
            *self.mapped.fields,
            *([self.flag] if self.flag else ()),
        )
        return tuple(name for name in dict.fromkeys(wanted) if name in self.described.fields)

    def writable(self, name: str, *, new: bool) -> bool:
        there = self.described.fields.get(name)
        return there is not None and (there.createable if new else there.updateable)


def schema(described: ObjectDescribe, mapped: ObjectMapping, flag: str | None = None) -> Schema:
    """Raises OrgNotPrepared where people could not be found again."""
    for name in (KEY_FIELD, VERSION_FIELD, "Email"):
        if name not in described.fields:
            raise OrgNotPrepared(
                f"{described.name}.{name} is missing, or hidden from our user; see contactstream doctor"
            )
    return Schema(described.name, described, mapped, flag if flag in described.fields else None)
