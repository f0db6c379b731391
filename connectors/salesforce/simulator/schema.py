"""The simulated objects: fields with their standard lengths, record IDs, and describe."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from .settings import BadValueError

_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SUFFIX: Final = string.ascii_uppercase + "012345"
PREFIXES: Final = {
    "Account": "001",
    "Contact": "003",
    "Lead": "00Q",
    "User": "005",
    "Organization": "00D",
    "DuplicateRule": "0Bm",
    "UserPermissionAccess": "0PX",
    "Group": "00G",
    "QueueSobject": "03g",
    "PermissionSet": "0PS",
    "PermissionSetAssignment": "0Pa",
    "FlowDefinitionView": "300",
    "AssignmentRule": "01Q",
    "UserRecordAccess": "0ua",
    "EntityDefinition": "4ie",
    "FieldDefinition": "4fe",
    "RecordType": "012",
    "Task": "00T",
    "Event": "00U",
    "CampaignMember": "00v",
}


def id18(id15: str) -> str:
    """A 15-character Id with its case-safe suffix of three characters."""
    suffix = ""
    for group in (id15[0:5], id15[5:10], id15[10:15]):
        suffix += _SUFFIX[sum(1 << bit for bit, letter in enumerate(group) if "A" <= letter <= "Z")]
    return id15 + suffix


def make_id(prefix: str, number: int) -> str:
    """The 18-character Id of the record with this serial number."""
    digits = ""
    for _ in range(7):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return id18(f"{prefix}5g000{digits}"[:15].ljust(15, "0"))


def normal_id(value: str, prefix: str | None = None) -> str | None:
    """The 18-character form of a 15- or 18-character Id; None if it is not one (of this prefix)."""
    if not (value.isascii() and value.isalnum()) or (
        prefix is not None and not value.startswith(prefix)
    ):
        return None
    if len(value) == 18:
        return value if id18(value[:15]) == value else None
    return id18(value) if len(value) == 15 else None


_TEXTS: Final = frozenset(("string", "email", "phone", "url", "textarea", "picklist"))


@dataclass(frozen=True, slots=True)
class Field:
    """A field as describe shows it.

    `hidden` and `read_only` are the field-level security of the user.
    """

    name: str
    label: str
    type: str
    length: int = 0
    createable: bool = True
    updateable: bool = True
    nillable: bool = True
    defaulted: bool = False
    external_id: bool = False
    id_lookup: bool = False
    unique: bool = False
    case_sensitive: bool = False
    values: tuple[str, ...] = ()
    default: Any = None
    restricted: bool = False
    precision: int = 0
    scale: int = 0
    reference_to: str | None = None
    relationship: str | None = None
    hidden: bool = False
    read_only: bool = False
    encrypted: bool = False  # by Shield, with a scheme that allows no filter
    custom_index: bool = False  # made by Salesforce Support or a deployment; no describe shows it

    @property
    def required(self) -> bool:
        return not self.nillable and self.createable and not self.defaulted

    @property
    def filterable(self) -> bool:
        return not self.encrypted and not (self.type == "textarea" and self.length > 255)

    @property
    def has_database_index(self) -> bool:
        """Whether Salesforce has an index of the field."""
        return (
            self.external_id
            or self.id_lookup
            or self.unique
            or self.custom_index
            or self.type in ("id", "reference")
            or self.name in ("CreatedDate", "SystemModstamp", "Name")
        )

    @property
    def indexed(self) -> bool:
        """Whether the simulator itself keeps an index, which only makes it faster."""
        return (
            self.external_id or self.id_lookup or self.unique or self.type in ("email", "reference")
        )

    @property
    def fold(self) -> Callable[[str], str]:
        """The function that makes two values of this field comparable.

        Only a case-sensitive unique field distinguishes upper and lower case.
        """
        return str.lower if self.type in _TEXTS and not self.case_sensitive else str

    def describe(self) -> dict[str, Any]:
        writable = not self.read_only
        return {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "length": self.length,
            "byteLength": self.length * 3,
            "precision": self.precision,
            "scale": self.scale,
            "createable": self.createable and writable,
            "updateable": self.updateable and writable,
            "nillable": self.nillable,
            "defaultedOnCreate": self.defaulted,
            "defaultValue": self.default if self.type != "boolean" else bool(self.default),
            "externalId": self.external_id,
            "idLookup": self.id_lookup,
            "unique": self.unique,
            "caseSensitive": self.case_sensitive,
            "custom": self.name.endswith("__c"),
            "permissionable": self.nillable and self.type != "id",
            "filterable": self.filterable,
            "sortable": self.filterable,
            "calculated": False,
            "autoNumber": False,
            "restrictedPicklist": self.restricted,
            "picklistValues": [
                {
                    "active": True,
                    "defaultValue": value == self.default,
                    "label": value,
                    "validFor": None,
                    "value": value,
                }
                for value in self.values
            ],
            "referenceTo": [self.reference_to] if self.reference_to else [],
            "relationshipName": self.relationship,
        }


_TYPES: Final = frozenset(
    (
        "string",
        "email",
        "phone",
        "url",
        "textarea",
        "picklist",
        "boolean",
        "double",
        "date",
        "datetime",
        "reference",
    )
)


def _text(name: str, label: str, length: int, **more: Any) -> Field:
    return Field(name, label, more.pop("type", "string"), length, **more)


def _phones(labels: Mapping[str, str]) -> list[Field]:
    return [_text(name, label, 40, type="phone") for name, label in labels.items()]


def _address(prefix: str) -> list[Field]:
    label = f"{prefix} " if prefix else ""
    return [
        _text(f"{prefix}Street", f"{label}Street", 255, type="textarea"),
        _text(f"{prefix}City", f"{label}City", 40),
        _text(f"{prefix}State", f"{label}State/Province", 80),
        _text(f"{prefix}PostalCode", f"{label}Zip/Postal Code", 20),
        _text(f"{prefix}Country", f"{label}Country", 80),
    ]


def _picklist(name: str, label: str, *values: str, **more: Any) -> Field:
    return Field(name, label, "picklist", 255, values=values, **more)


def _reference(name: str, label: str, target: str, relationship: str, **more: Any) -> Field:
    return Field(
        name, label, "reference", 18, reference_to=target, relationship=relationship, **more
    )


def _system(sobject: str) -> list[Field]:
    fixed: dict[str, Any] = {
        "createable": False,
        "updateable": False,
        "nillable": False,
        "defaulted": True,
    }
    return [
        Field("Id", f"{sobject} ID", "id", 18, id_lookup=True, **fixed),
        Field("IsDeleted", "Deleted", "boolean", default=False, **fixed),
        _reference("OwnerId", "Owner ID", "User", "Owner", nillable=False, defaulted=True),
        Field("CreatedDate", "Created Date", "datetime", **fixed),
        _reference("CreatedById", "Created By ID", "User", "CreatedBy", **fixed),
        Field("LastModifiedDate", "Last Modified Date", "datetime", **fixed),
        _reference("LastModifiedById", "Last Modified By ID", "User", "LastModifiedBy", **fixed),
        Field("SystemModstamp", "System Modstamp", "datetime", **fixed),
    ]


def _last_activity() -> Field:
    """The due date of the latest task or event; Salesforce computes it."""
    return Field("LastActivityDate", "Last Activity", "date", createable=False, updateable=False)


def _master_record(sobject: str) -> Field:
    """The record into which a deleted record was merged; no user can write it."""
    return _reference(
        "MasterRecordId",
        "Master Record ID",
        sobject,
        "MasterRecord",
        createable=False,
        updateable=False,
    )


def _ours() -> list[Field]:
    """The custom fields that the product ships for Contact and Lead."""
    return [
        _text(
            "Nylas_Contact_Id__c",
            "Nylas Contact Id",
            255,
            external_id=True,
            id_lookup=True,
            unique=True,
            case_sensitive=True,
        ),
        Field("Nylas_Version__c", "Nylas Version", "double", precision=18),
        _text("Nylas_Field_Hashes__c", "Nylas Field Hashes", 4096, type="textarea"),
        _text(
            "Nylas_Email_2__c", "Nylas Email 2", 80, type="email", external_id=True, id_lookup=True
        ),
        _text(
            "Nylas_Email_3__c", "Nylas Email 3", 80, type="email", external_id=True, id_lookup=True
        ),
    ]


_SALUTATIONS: Final = ("Mr.", "Ms.", "Mrs.", "Dr.", "Prof.", "Mx.")
_SOURCES: Final = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")


def _read_only_name(length: int) -> Field:
    return _text("Name", "Full Name", length, createable=False, updateable=False, nillable=False)


def _account() -> list[Field]:
    return [
        *_system("Account"),
        _text("Name", "Account Name", 255, nillable=False),
        _reference("ParentId", "Parent Account ID", "Account", "Parent"),
        _text("AccountNumber", "Account Number", 40),
        _text("Website", "Website", 255, type="url"),
        *_phones({"Phone": "Account Phone", "Fax": "Account Fax"}),
        _picklist("Type", "Account Type", "Prospect", "Customer - Direct", "Other"),
        _picklist("Industry", "Industry", "Banking", "Technology", "Other"),
        *_address("Billing"),
        _text("Description", "Account Description", 32000, type="textarea"),
    ]


def _contact() -> list[Field]:
    phones = {
        "Phone": "Business Phone",
        "MobilePhone": "Mobile Phone",
        "HomePhone": "Home Phone",
        "OtherPhone": "Other Phone",
        "AssistantPhone": "Asst. Phone",
        "Fax": "Business Fax",
    }
    return [
        *_system("Contact"),
        _master_record("Contact"),
        _reference("AccountId", "Account ID", "Account", "Account"),
        _last_activity(),
        _text("LastName", "Last Name", 80, nillable=False),
        _text("FirstName", "First Name", 40),
        _picklist("Salutation", "Salutation", *_SALUTATIONS),
        _read_only_name(121),
        _text("Title", "Title", 128),
        _text("Department", "Department", 80),
        _text("Email", "Email", 80, type="email", id_lookup=True),
        *_phones(phones),
        *_address("Mailing"),
        *_address("Other"),
        Field("Birthdate", "Birthdate", "date"),
        _text("AssistantName", "Assistant's Name", 40),
        _picklist("LeadSource", "Lead Source", *_SOURCES),
        _text("Description", "Contact Description", 32000, type="textarea"),
        _reference("ReportsToId", "Reports To ID", "Contact", "ReportsTo"),
        *_ours(),
    ]


def _lead() -> list[Field]:
    fixed: dict[str, Any] = {"createable": False, "updateable": False}
    return [
        *_system("Lead"),
        _last_activity(),
        _master_record("Lead"),
        _text("LastName", "Last Name", 80, nillable=False),
        _text("FirstName", "First Name", 40),
        _picklist("Salutation", "Salutation", *_SALUTATIONS),
        _read_only_name(121),
        _text("Title", "Title", 128),
        _text("Company", "Company", 255, nillable=False),
        _text("Email", "Email", 80, type="email", id_lookup=True),
        *_phones({"Phone": "Phone", "MobilePhone": "Mobile Phone", "Fax": "Fax"}),
        *_address(""),
        _text("Website", "Website", 255, type="url"),
        _picklist("LeadSource", "Lead Source", *_SOURCES),
        _picklist(
            "Status",
            "Status",
            "Open - Not Contacted",
            "Working - Contacted",
            "Closed - Converted",
            "Closed - Not Converted",
            nillable=False,
            defaulted=True,
            default="Open - Not Contacted",
        ),
        _text("Description", "Description", 32000, type="textarea"),
        Field(
            "IsConverted",
            "Converted",
            "boolean",
            updateable=False,
            nillable=False,
            defaulted=True,
            default=False,
        ),
        Field("ConvertedDate", "Converted Date", "date", **fixed),
        _reference(
            "ConvertedAccountId", "Converted Account ID", "Account", "ConvertedAccount", **fixed
        ),
        _reference(
            "ConvertedContactId", "Converted Contact ID", "Contact", "ConvertedContact", **fixed
        ),
        *_ours(),
    ]


def _user() -> list[Field]:
    fixed: dict[str, Any] = {"createable": False, "updateable": False}
    return [
        *(field for field in _system("User") if field.name not in ("IsDeleted", "OwnerId")),
        _text("Username", "Username", 80, **fixed),
        _text("LastName", "Last Name", 80, **fixed),
        _read_only_name(121),
        _text("Email", "Email", 128, type="email", **fixed),
        Field("IsActive", "Active", "boolean", default=True, **fixed),
        _text("UserType", "User Type", 40, **fixed),
        _text("FederationIdentifier", "SAML Federation ID", 512, **fixed),
        _reference("UserRoleId", "Role ID", "User", "UserRole", **fixed),
        _text("ProfileId", "Profile ID", 18, **fixed),
    ]


def _set_up(name: str, *columns: Field) -> list[Field]:
    """An object of the org's set-up: read, never written."""
    fixed: dict[str, Any] = {"createable": False, "updateable": False}
    return [
        Field("Id", f"{name} ID", "id", 18, **fixed),
        *(replace(column, **fixed) for column in columns),
    ]


@dataclass(frozen=True, slots=True)
class SObject:
    """An object: its fields by API name, as the org has them (field-level security included)."""

    name: str
    fields: Mapping[str, Field]
    lower: Mapping[str, str]
    relationships: Mapping[str, Field]
    record_types: tuple[Mapping[str, Any], ...] = ()

    @property
    def prefix(self) -> str:
        return PREFIXES[self.name]

    def find(self, name: str) -> Field | None:
        """The field of this name in any case, as the user sees it."""
        field = self.fields.get(name) or self.fields.get(self.lower.get(name.lower(), ""))
        return None if field is None or field.hidden else field

    def describe(self) -> dict[str, Any]:
        writable = any(field.createable for field in self.fields.values())
        master = {
            "active": True,
            "available": True,
            "defaultRecordTypeMapping": not any(kind.get("default") for kind in self.record_types),
            "developerName": "Master",
            "master": True,
            "name": "Master",
            "recordTypeId": "012000000000000AAA",
        }
        others = [
            {
                "active": True,
                "available": True,
                "defaultRecordTypeMapping": bool(kind.get("default")),
                "developerName": str(kind["name"]).replace(" ", "_"),
                "master": False,
                "name": kind["name"],
                "recordTypeId": make_id("012", number),
            }
            for number, kind in enumerate(self.record_types, 1)
        ]
        return {
            "name": self.name,
            "label": self.name,
            "keyPrefix": self.prefix,
            "custom": False,
            "createable": writable,
            "updateable": writable,
            "deletable": writable,
            "queryable": True,
            "searchable": True,
            "recordTypeInfos": [*others, master],
            "fields": [field.describe() for field in self.fields.values() if not field.hidden],
        }


def sobject(
    name: str, fields: Iterable[Field], record_types: Iterable[Mapping[str, Any]] = ()
) -> SObject:
    by_name = {field.name: field for field in fields}
    return SObject(
        name,
        by_name,
        {field.lower(): field for field in by_name},
        {field.relationship.lower(): field for field in by_name.values() if field.relationship},
        tuple(record_types),
    )


def standard() -> dict[str, SObject]:
    """Account, Contact, Lead and User with their standard fields and the product's custom ones.

    Some of the set-up.
    """
    objects = {
        "Account": _account(),
        "Contact": _contact(),
        "Lead": _lead(),
        "User": _user(),
        "Organization": _set_up(
            "Organization",
            _text("Name", "Name", 80),
            _text("OrganizationType", "Edition", 40),
            Field("IsSandbox", "Is Sandbox", "boolean", default=False),
            *(
                _text(f"Default{name}Access", f"Default {name} Access", 40)
                for name in ("Account", "Contact", "Lead")
            ),
        ),
        "DuplicateRule": _set_up(
            "DuplicateRule",
            _text("DeveloperName", "Developer Name", 80),
            _text("MasterLabel", "Label", 80),
            _text("SobjectType", "Object", 40),
            Field("IsActive", "Active", "boolean", default=True),
        ),
        "Group": _set_up(
            "Group",
            _text("Name", "Name", 40),
            _text("Type", "Type", 40),
        ),
        "QueueSobject": _set_up(
            "QueueSobject",
            _text("QueueId", "Group ID", 18),
            _text("SobjectType", "Object", 40),
        ),
        "FlowDefinitionView": _set_up(
            "FlowDefinitionView",
            _text("ApiName", "Flow API Name", 255),
            _text("ProcessType", "Process Type", 255),
            _text("TriggerType", "Trigger", 255),
            _text("RecordTriggerType", "Record Trigger", 255),
            _text("TriggerObjectOrEventId", "Object", 255),
            _text("ActiveVersionId", "Active Version", 255),
            Field("IsActive", "Active", "boolean", default=False),
        ),
        "AssignmentRule": _set_up(
            "AssignmentRule",
            _text("Name", "Name", 120),
            _text("SobjectType", "Object", 40),
            Field("Active", "Active", "boolean", default=False),
        ),
        "UserPermissionAccess": _set_up(
            "UserPermissionAccess",
            Field("PermissionsViewAllData", "View All Data", "boolean"),
            Field("PermissionsModifyAllData", "Modify All Data", "boolean"),
            Field("PermissionsAssignPermissionSets", "Assign Permission Sets", "boolean"),
            Field("PermissionsViewSetup", "View Setup and Configuration", "boolean"),
        ),
        "UserRecordAccess": _set_up(
            "UserRecordAccess",
            _text("UserId", "User ID", 18),
            _text("RecordId", "Record ID", 40),
            Field("HasEditAccess", "Has Edit Access", "boolean"),
        ),
        "PermissionSet": _set_up(
            "PermissionSet",
            _text("Name", "Permission Set Name", 80),
            _text("Label", "Permission Set Label", 80),
        ),
        "PermissionSetAssignment": [
            Field("Id", "ID", "id", 18, createable=False, updateable=False),
            _reference("AssigneeId", "Assignee ID", "User", "Assignee", updateable=False),
            _reference(
                "PermissionSetId",
                "Permission Set ID",
                "PermissionSet",
                "PermissionSet",
                updateable=False,
            ),
            Field(
                "IsActive",
                "Is Active",
                "boolean",
                createable=False,
                updateable=False,
                defaulted=True,
                default=True,
            ),
        ],
        # The links of activities and campaigns to people; tests put them there.
        "Task": _set_up("Task", Field("WhoId", "Name ID", "reference", 18)),
        "Event": _set_up("Event", Field("WhoId", "Name ID", "reference", 18)),
        "CampaignMember": _set_up(
            "CampaignMember",
            _reference("LeadId", "Lead ID", "Lead", "Lead"),
            _reference("ContactId", "Contact ID", "Contact", "Contact"),
        ),
        "EntityDefinition": _set_up(
            "EntityDefinition", _text("QualifiedApiName", "Qualified API Name", 70)
        ),
        "FieldDefinition": _set_up(
            "FieldDefinition",
            _reference(
                "EntityDefinitionId", "Entity Definition", "EntityDefinition", "EntityDefinition"
            ),
            _text("QualifiedApiName", "Qualified API Name", 70),
            _text("DataType", "Data Type", 70),
            Field("IsIndexed", "Indexed", "boolean"),
        ),
        "RecordType": _set_up(
            "RecordType",
            _text("Name", "Name", 80),
            _text("DeveloperName", "Record Type Name", 80),
            _text("SobjectType", "SObject Type Name", 40),
        ),
    }
    return {name: sobject(name, fields) for name, fields in objects.items()}


def record_type_field() -> Field:
    """The field that an object has where record types are defined for it."""
    return _reference("RecordTypeId", "Record Type ID", "RecordType", "RecordType")


def with_person_accounts(objects: Mapping[str, SObject]) -> dict[str, SObject]:
    """The objects of an org in which Person Accounts are on.

    Account and Contact get IsPersonAccount, Account some fields of the person, and a Lead needs no
    Company any more [Object Reference: Lead.Company, "if the value is null, the lead converts to a
    person account"].
    """
    kind = Field(
        "IsPersonAccount",
        "Is Person Account",
        "boolean",
        createable=False,
        updateable=False,
        nillable=False,
        defaulted=True,
        default=False,
    )
    shown: dict[str, Any] = {"createable": False, "updateable": False}
    person = [
        _reference("PersonContactId", "Contact ID", "Contact", "PersonContact", **shown),
        _text("PersonEmail", "Email", 80, type="email", **shown),
        _text("PersonTitle", "Title", 80, **shown),
        _text("FirstName", "First Name", 40, **shown),
        _text("LastName", "Last Name", 80, **shown),
    ]
    changed = dict(objects)
    for name, more in (("Account", person), ("Contact", [])):
        base = objects[name]
        changed[name] = sobject(name, [*base.fields.values(), kind, *more], base.record_types)
    lead = objects["Lead"]
    fields = [
        replace(field, nillable=True) if field.name == "Company" else field
        for field in lead.fields.values()
    ]
    changed["Lead"] = sobject("Lead", fields, lead.record_types)
    return changed


_FIELD_OPTIONS: Final[dict[str, tuple[str, type]]] = {
    "label": ("label", str),
    "type": ("type", str),
    "length": ("length", int),
    "precision": ("precision", int),
    "scale": ("scale", int),
    "createable": ("createable", bool),
    "updateable": ("updateable", bool),
    "nillable": ("nillable", bool),
    "defaultedOnCreate": ("defaulted", bool),
    "externalId": ("external_id", bool),
    "unique": ("unique", bool),
    "caseSensitive": ("case_sensitive", bool),
    "restrictedPicklist": ("restricted", bool),
}


def _with(field: Field, attribute: str, value: Any) -> Field:
    changes: dict[str, Any] = {attribute: value}
    return replace(field, **changes)


def altered(base: SObject, changes: Mapping[str, Any]) -> SObject:
    """The object with fields added or changed, or removed (None).

    Options are those of describe, and `values` for picklists.

    Raises BadValueError naming the field and the option.
    """
    fields = dict(base.fields)
    for name, options in changes.items():
        if options is None:
            if fields.pop(name, None) is None:
                raise BadValueError(f"fields.{base.name}.{name}: there is no such field to remove")
            continue
        if not isinstance(options, dict):
            raise BadValueError(
                f"fields.{base.name}.{name}: an object or null is expected, not {options!r}"
            )
        field = fields.get(name) or Field(
            name, name.removesuffix("__c").replace("_", " "), "string", 255
        )
        for option, value in options.items():
            where = f"fields.{base.name}.{name}.{option}"
            if option == "values":
                if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                    raise BadValueError(f"{where}: a list of strings is expected, not {value!r}")
                field = replace(field, values=tuple(value))
                continue
            if option == "indexed":
                if not isinstance(value, bool):
                    raise BadValueError(f"{where}: bool is expected, not {value!r}")
                field = replace(field, custom_index=value)
                continue
            if option == "filterable":
                if not isinstance(value, bool):
                    raise BadValueError(f"{where}: bool is expected, not {value!r}")
                field = replace(field, encrypted=not value)
                continue
            if option not in _FIELD_OPTIONS:
                raise BadValueError(
                    f"{where}: no such option; known: "
                    f"{', '.join((*_FIELD_OPTIONS, 'values', 'filterable', 'indexed'))}"
                )
            attribute, kind = _FIELD_OPTIONS[option]
            if type(value) is not kind:
                raise BadValueError(f"{where}: {kind.__name__} is expected, not {value!r}")
            if option == "type" and value not in _TYPES:
                raise BadValueError(f"{where}: {value!r} is not one of {', '.join(sorted(_TYPES))}")
            field = _with(field, attribute, value)
        fields[name] = replace(field, id_lookup=True) if field.external_id else field
    return sobject(base.name, fields.values(), base.record_types)


def secured(base: SObject, hidden: Iterable[str], read_only: Iterable[str]) -> SObject:
    """The object as a user sees it from whom fields are hidden or kept read-only.

    Raises BadValueError naming the field.
    """
    fields = {
        name: replace(field, hidden=False, read_only=False) for name, field in base.fields.items()
    }
    for names, attribute in ((hidden, "hidden"), (read_only, "read_only")):
        for name in names:
            if name not in fields:
                raise BadValueError(f"{base.name}.{name}: there is no such field")
            fields[name] = _with(fields[name], attribute, True)
    return sobject(base.name, fields.values(), base.record_types)
