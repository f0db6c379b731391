"""Checks of the field mapping against the org: mapped fields, required fields, record types."""

from collections.abc import Mapping
from typing import Any

from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.checkup.fields import NUMBER_TYPES
from connectors.salesforce.checkup.findings import CheckupFinding, fail, ok, warn
from connectors.salesforce.mapping_rules import FieldMapping, FieldPolicy, Rule

_TEXT_TYPES = frozenset(
    {"string", "textarea", "phone", "url", "email", "picklist", "combobox", "multipicklist"}
)
_MAPPABLE_TYPES = _TEXT_TYPES | NUMBER_TYPES | {"date", "boolean"}

# of the fields of the default mapping, from describes of real orgs
STANDARD_LENGTHS: Mapping[str, int] = {
    "FirstName": 40,
    "LastName": 80,
    "Company": 255,
    "Title": 128,
    "Email": 80,
    "Phone": 40,
    "MobilePhone": 40,
}


def mapped_fields(described: ObjectDescribe, mapping: FieldMapping) -> list[CheckupFinding]:
    """Whether every mapped field exists, is writable and takes the mapped values.

    One finding for each fault, or a single one if there is none.
    """
    rules = mapping.rules(described.name)
    found = [finding for rule in rules if (finding := _mapped_field(described, rule))]
    fine = f"all {len(rules)} mapped fields exist and may be written"
    return found or [ok(f"{described.name} mapping", fine)]


def _mapped_field(described: ObjectDescribe, rule: Rule) -> CheckupFinding | None:
    """The first fault of a mapped field."""
    check = f"{described.name}.{rule.field}"
    field = described.fields.get(rule.field)
    if field is None:
        finding = "is mapped, but missing or hidden from the user: it is not written"
        remedy = "grant the user the field, or take it out of the mapping"
        return fail(check, finding, remedy)
    return (
        _rights(check, field, rule)
        or _type(check, field, rule)
        or _constant(check, field, rule)
        or _address_picklist(check, described, rule)
        or _length(check, field, rule)
    )


def _rights(check: str, field: FieldDescribe, rule: Rule) -> CheckupFinding | None:
    rights = {
        "create": field.createable,
        "edit": field.updateable or rule.policy is FieldPolicy.CREATE,
    }
    missing = [right for right, granted in rights.items() if not granted]
    if not missing:
        return None
    finding = f"is mapped, but the user may not {' or '.join(missing)} it"
    return fail(check, finding, "let the user edit the field, or take it out of the mapping")


def _type(check: str, field: FieldDescribe, rule: Rule) -> CheckupFinding | None:
    # a reference takes an ID as a constant, as RecordTypeId does
    takes_constant = field.type == "reference" and rule.constant is not None
    if field.type in _MAPPABLE_TYPES or takes_constant:
        return None
    finding = f"is mapped, but of type {field.type}: values are sent as text and may be refused"
    return warn(check, finding, "map another field, or take it out of the mapping")


def _constant(check: str, field: FieldDescribe, rule: Rule) -> CheckupFinding | None:
    constant = rule.constant
    if isinstance(constant, str):
        if field.restricted_picklist and constant not in field.picklist:
            finding = f"is mapped to {constant!r}, which its restricted picklist does not have"
            setting = " or PEOPLE_LEAD_SOURCE" if rule.field == "LeadSource" else ""
            remedy = f"add the value to the picklist, or change the mapping{setting}"
            return fail(check, finding, remedy)
        if field.length and len(constant) > field.length:
            finding = f"takes {field.length} characters, but its constant has {len(constant)}"
            return warn(check, finding, "shorten the constant in the mapping")
    elif constant is not None and field.type in _TEXT_TYPES:
        finding = f"is {field.type}, but its constant is not text"
        return fail(check, finding, "quote the constant in the mapping")
    return None


def _address_picklist(check: str, described: ObjectDescribe, rule: Rule) -> CheckupFinding | None:
    # with such a picklist the object has a field for the code beside the one for the name
    if not rule.field.endswith(("State", "Country")) or f"{rule.field}Code" not in described.fields:
        return None
    finding = (
        "is mapped, and State and Country picklists are enabled: a name that is not in the org's "
        "list makes Salesforce refuse the whole row"
    )
    remedy = "map a constant from that list, or take the field out of the mapping"
    return warn(check, finding, remedy)


def _length(check: str, field: FieldDescribe, rule: Rule) -> CheckupFinding | None:
    usual = STANDARD_LENGTHS.get(rule.field, 0)
    if field.type not in _TEXT_TYPES or not 0 < field.length < usual:
        return None
    finding = f"takes {field.length} characters instead of the usual {usual}: longer values are cut"
    return warn(check, finding, "lengthen the field, or accept that")


def unserved(described: ObjectDescribe, mapping: FieldMapping) -> CheckupFinding:
    """Whether every field that a new record must have is mapped."""
    check = f"{described.name} required fields"
    rules = mapping.rules(described.name)
    missing = sorted(described.required - {rule.field for rule in rules})
    if missing:
        return fail(
            check,
            f"{', '.join(missing)}: required and not mapped, so no record can be created",
            "map a constant to the field, give it a default in the org, or make it optional",
        )
    maybe_empty = sorted(
        rule.field
        for rule in rules
        if rule.field in described.required
        and rule.constant is None
        # these two fall back to the address
        and rule.field not in {"LastName", "Company"}
    )
    if maybe_empty:
        return warn(
            check,
            f"{', '.join(maybe_empty)}: required, and mapped to a value that a contact may lack; "
            "such a contact cannot be created",
            "give the field a default in the org, or make it optional",
        )
    return ok(check, "all of them are mapped")


def record_types(body: Mapping[str, Any], mapping: FieldMapping) -> CheckupFinding:
    """The record type of new records; `body` is the object's describe as the org sent it.

    New records get the user's default record type unless the mapping names one.
    """
    name = str(body.get("name"))
    check = f"{name} record types"
    infos = [info for info in body.get("recordTypeInfos") or () if isinstance(info, Mapping)]
    available = [info for info in infos if info.get("available") is True]
    named = next((rule for rule in mapping.rules(name) if rule.field == "RecordTypeId"), None)
    if named is not None:
        if str(named.constant)[:15] in {str(info.get("recordTypeId"))[:15] for info in available}:
            return ok(check, "the mapping names one")
        return fail(
            check,
            "the mapping names a record type that the user may not use: no record can be created",
            "map the ID of a record type as a constant, and assign that type to the user",
        )
    usable = [info for info in available if info.get("master") is not True]
    default = next((info for info in infos if info.get("defaultRecordTypeMapping") is True), None)
    shown = str(default.get("name")) if default else "Master"
    if len(usable) > 1:
        names = ", ".join(str(info.get("name")) for info in usable)
        return warn(
            check,
            f"new records become {shown!r}, of {names}",
            "set the user's default record type, or map a constant to RecordTypeId",
        )
    return ok(check, f"new records become {shown!r}" if usable else "none")
