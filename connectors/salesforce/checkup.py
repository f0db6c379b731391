"""Whether an org is as contactstream needs it: findings over what the org answers, each with its
remedy.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from connectors.salesforce.api.budget import Usage
from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.mapping_rules import FieldMapping, FieldPolicy, Rule
from connectors.salesforce.org_fields import EMAIL_FIELDS, KEY_FIELD, MAX_KEY_LENGTH, VERSION_FIELD

VERSION_RULE = "Nylas_Version_Never_Goes_Back"
VERSION_FORMULA = f"AND(NOT(ISNEW()), {KEY_FIELD} = PRIORVALUE({KEY_FIELD}), {VERSION_FIELD} < PRIORVALUE({VERSION_FIELD}))"
"""Of the validation rule that deploy/salesforce ships for both objects."""

DEPLOY = "deploy deploy/salesforce/force-app into the org"
PERMIT = "assign the permission set Contactstream to the user"
SEE_SETUP = "assign the permission set Contactstream_Doctor to the user, or look yourself in Setup"

_TEXTS = frozenset(
    {"string", "textarea", "phone", "url", "email", "picklist", "combobox", "multipicklist"}
)
_NUMBERS = frozenset({"double", "int", "currency", "percent", "long"})
_PUBLIC_READ = frozenset({"Read", "ReadSelect", "Edit", "ReadEdit", "ReadEditTransfer", "All"})
_PUBLIC_WRITE = frozenset({"Edit", "ReadEdit", "ReadEditTransfer", "All"})


class CheckupStatus(StrEnum):
    OK = "ok"
    WARN = "warn"  # works, but not as well as it could; or nobody can tell
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckupFinding:
    """What one check found. `remedy` is empty where nothing has to be done."""

    check: str
    status: CheckupStatus
    finding: str
    remedy: str = ""


def ok(check: str, finding: str) -> CheckupFinding:
    return CheckupFinding(check, CheckupStatus.OK, finding)


def warn(check: str, finding: str, remedy: str) -> CheckupFinding:
    return CheckupFinding(check, CheckupStatus.WARN, finding, remedy)


def fail(check: str, finding: str, remedy: str) -> CheckupFinding:
    return CheckupFinding(check, CheckupStatus.FAIL, finding, remedy)


def api_version(versions: object, wanted: str) -> CheckupFinding:
    """`versions` is the answer of `/services/data`."""
    entries = versions if isinstance(versions, list) else []
    served = [
        str(entry["version"])
        for entry in entries
        if isinstance(entry, Mapping) and "version" in entry
    ]
    if wanted in served:
        return ok("API version", f"the org serves {wanted}")
    if not served:
        return warn(
            "API version", "the org does not say which versions it serves", "look again later"
        )
    return fail(
        "API version",
        f"the org does not serve {wanted}",
        f"set SALESFORCE_API_VERSION, to {served[-1]} at most",
    )


def user(user_id: str | None) -> CheckupFinding:
    """Who we are: by it the records that we created are told from those of others."""
    if user_id is None:
        finding = "the login's answer names no user, so nothing would count as created by us, and the sink does not start"
        return fail(
            "user",
            finding,
            "give the external client app the scope to access the identity URL service",
        )
    return ok("user", user_id)


def access(described: ObjectDescribe) -> CheckupFinding:
    """Whether the user may read, create and edit records of the object at all."""
    check = f"{described.name} access"
    rights = {
        "read": described.queryable,
        "create": described.createable,
        "edit": described.updateable,
    }
    missing = [right for right, granted in rights.items() if not granted]
    if missing:
        return fail(check, f"the user may not {', '.join(missing)}", PERMIT)
    return ok(check, "the user may read, create and edit")


def key_field(described: ObjectDescribe) -> CheckupFinding:
    """The field by which a contact finds its record again."""
    check = f"{described.name}.{KEY_FIELD}"
    field = described.fields.get(KEY_FIELD)
    if field is None:
        return fail(check, "missing, or hidden from the user", f"{DEPLOY}; {PERMIT}")
    wrong = [
        fault
        for fault, holds in (
            (f"is {field.type} instead of text", field.type == "string"),
            (
                f"holds {field.length} characters instead of {MAX_KEY_LENGTH}",
                field.length >= MAX_KEY_LENGTH,
            ),
            ("is no External ID", field.external_id),
            ("is not Unique", field.unique),
            (
                "does not tell upper from lower case, but Nylas' IDs do",
                field.case_sensitive or not field.unique,
            ),
        )
        if not holds
    ]
    if wrong:
        remedy = (
            "set it in the field's definition: Text 255, External ID, Unique, case-sensitive; or "
            + DEPLOY
        )
        return fail(check, "; ".join(wrong), remedy)
    return _unwritable(check, field) or ok(check, "Text 255, External ID, Unique, case-sensitive")


def version_field(described: ObjectDescribe) -> CheckupFinding:
    """The field that keeps older data from overwriting newer."""
    check = f"{described.name}.{VERSION_FIELD}"
    field = described.fields.get(VERSION_FIELD)
    if field is None:
        return fail(check, "missing, or hidden from the user", f"{DEPLOY}; {PERMIT}")
    if (
        field.type not in _NUMBERS or field.scale != 0 or 0 < field.precision < 10
    ):  # seconds since 1970 have ten digits
        found = (
            f"is {field.type} of {field.precision} digits, {field.scale} of them behind the point"
        )
        return fail(check, found, f"it has to be Number 18,0: {DEPLOY}")
    return _unwritable(check, field) or ok(check, f"Number {field.precision},{field.scale}")


def address_fields(described: ObjectDescribe) -> list[CheckupFinding]:
    """Email, and the two further addresses by which a person is found."""
    found = []
    for name in EMAIL_FIELDS:
        check = f"{described.name}.{name}"
        field = described.fields.get(name)
        if field is None and name == EMAIL_FIELDS[0]:
            found.append(fail(check, "hidden from the user", PERMIT))
        elif field is None:
            lost = "missing, or hidden from the user: people are not found by further addresses, and none is kept"
            found.append(warn(check, lost, f"{DEPLOY}; {PERMIT}"))
        elif field.type != "email":
            found.append(fail(check, f"is {field.type} instead of email", DEPLOY))
        elif unwritable := _unwritable(check, field):
            found.append(unwritable)
        elif not field.id_lookup and not field.external_id:
            slow = (
                "is no External ID, so it is not indexed and every batch searches the whole object"
            )
            found.append(warn(check, slow, f"make it an External ID, or {DEPLOY}"))
        else:
            found.append(ok(check, f"Email {field.length}, indexed"))
    return found


def accounts(described: ObjectDescribe) -> list[CheckupFinding]:
    """Account: read, to know whose people become Contacts."""
    lost = "nobody is known to belong to an Account, so everybody new becomes a Lead"
    if not described.queryable:
        return [fail("Account access", f"the user may not read: {lost}", PERMIT)]
    found = [ok("Account access", "the user may read")]
    if "Website" in described.fields:
        found.append(ok("Account.Website", "may be read"))
    else:
        found.append(fail("Account.Website", f"hidden from the user: {lost}", PERMIT))
    if "ParentId" in described.fields:
        found.append(ok("Account.ParentId", "may be read"))
    else:
        found.append(
            warn(
                "Account.ParentId",
                "hidden from the user: of several Accounts of a domain the oldest is taken",
                PERMIT,
            )
        )
    return found


def links(described: ObjectDescribe) -> list[CheckupFinding]:
    """What joins a Contact to its Account, and a converted Lead to its Contact."""
    found = []
    if described.name == "Contact":
        check = "Contact.AccountId"
        field = described.fields.get("AccountId")
        if field is None:
            found.append(fail(check, "hidden from the user: new Contacts get no Account", PERMIT))
        else:
            found.append(_unwritable(check, field) or ok(check, "may be read and written"))
    if described.name == "Lead":
        lost = (
            "a converted Lead is not followed to its Contact, and its person is doubled or refused"
        )
        for name in ("IsConverted", "ConvertedContactId"):
            check = f"Lead.{name}"
            if name in described.fields:
                found.append(ok(check, "may be read"))
            else:
                found.append(
                    fail(
                        check,
                        f"hidden from the user: {lost}",
                        "grant the user to read Leads, this field included",
                    )
                )
    return found


def _unwritable(check: str, field: FieldDescribe) -> CheckupFinding | None:
    missing = [
        right
        for right, granted in (("create", field.createable), ("edit", field.updateable))
        if not granted
    ]
    return fail(check, f"the user may not {' or '.join(missing)} it", PERMIT) if missing else None


def version_rule(
    sobject: str, rows: Sequence[Mapping[str, Any]], sees_setup: bool | None
) -> CheckupFinding:
    """`rows` are the Tooling API's ValidationRule rows of that name and object; without the right
    to see the set-up there may be none.
    """
    check = f"{sobject} version rule"
    if not rows and sees_setup is not True:
        return warn(check, "cannot tell: the user does not see the set-up", SEE_SETUP)
    if not rows:
        finding = (
            f"{VERSION_RULE} is missing: a writer that was paused could put older data over newer"
        )
        return fail(check, finding, DEPLOY)
    metadata = rows[0].get("Metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    if rows[0].get("Active") is False or metadata.get("active") is False:
        return fail(
            check,
            f"{VERSION_RULE} is not active",
            "activate it in Setup, Object Manager, Validation Rules",
        )
    formula = metadata.get("errorConditionFormula")
    if not isinstance(formula, str):
        return warn(
            check, f"{VERSION_RULE} is active, but its formula is not to be seen", SEE_SETUP
        )
    if "".join(formula.split()) != "".join(VERSION_FORMULA.split()):
        finding = f"{VERSION_RULE} has another formula: it may let older data over newer, or refuse what is newer"
        return fail(check, finding, DEPLOY)
    shown = metadata.get("errorDisplayField", VERSION_FIELD)
    if shown != VERSION_FIELD:
        return fail(
            check, f"its error is shown at {shown}: refusals are not recognised as stale", DEPLOY
        )
    return ok(check, f"{VERSION_RULE} is active")


@dataclass(frozen=True, slots=True)
class Sharing:
    """What is known of the user's view on records; None is unknown. `defaults` are the org-wide
    ones by object.
    """

    view_all_data: bool | None = None
    modify_all_data: bool | None = None
    view_all: Mapping[str, bool] | None = None
    modify_all: Mapping[str, bool] | None = None
    defaults: Mapping[str, str] | None = None


def parse_sharing(
    permissions: Sequence[Mapping[str, Any]] | None,
    objects: Sequence[Mapping[str, Any]] | None,
    organization: Sequence[Mapping[str, Any]] | None,
) -> Sharing:
    """From the rows of UserPermissionAccess, of ObjectPermissions for the user, and of
    Organization; None where refused.
    """
    user = permissions[0] if permissions else {}
    org = organization[0] if organization else {}
    defaults = {
        name: str(org[f"Default{name}Access"])
        for name in ("Account", "Contact", "Lead")
        if org.get(f"Default{name}Access")
    }
    if defaults.get("Contact") == "ControlledByParent":
        defaults["Contact"] = defaults.get("Account", "")
    return Sharing(
        _yes_or_no(user.get("PermissionsViewAllData")),
        _yes_or_no(user.get("PermissionsModifyAllData")),
        None if objects is None else _granted(objects, "PermissionsViewAllRecords"),
        None if objects is None else _granted(objects, "PermissionsModifyAllRecords"),
        defaults or None,
    )


def _granted(rows: Iterable[Mapping[str, Any]], right: str) -> dict[str, bool]:
    return {str(row.get("SobjectType")): True for row in rows if row.get(right) is True}


def _yes_or_no(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def visibility(sobject: str, sharing: Sharing) -> list[CheckupFinding]:
    """Whether the user sees, and may edit, every record, whoever owns it. Accounts are only read."""
    check = f"{sobject} records"
    default = (sharing.defaults or {}).get(sobject, "")
    sees = sharing.view_all_data or (sharing.view_all or {}).get(sobject) or default in _PUBLIC_READ
    edits = (
        sharing.modify_all_data
        or (sharing.modify_all or {}).get(sobject)
        or default in _PUBLIC_WRITE
    )
    found = []
    if sees:
        found.append(ok(f"{check} seen", "the user sees every record"))
    elif sharing.view_all_data is None:
        found.append(
            warn(f"{check} seen", "cannot tell whether the user sees every record", SEE_SETUP)
        )
    else:
        hidden = "records may be hidden from the user: "
        if sobject == "Account":
            hidden += "the people of an Account there become Leads"
        else:
            hidden += "a person there is not found, and a key there fails as a duplicate"
        found.append(warn(f"{check} seen", hidden, f"grant View All on {sobject} ({PERMIT})"))
    if sobject == "Account":
        return found
    if edits:
        found.append(ok(f"{check} edited", "the user may edit every record"))
    elif sharing.modify_all_data is None or sharing.defaults is None:
        found.append(
            warn(
                f"{check} edited",
                "cannot tell whether the user may edit every record",
                "see deploy/salesforce/README.md",
            )
        )
    else:
        locked = (
            "records of others may be closed to the user: their rows fail with INSUFFICIENT_ACCESS"
        )
        found.append(
            warn(f"{check} edited", locked, "widen the sharing as deploy/salesforce/README.md says")
        )
    return found


def mapped_fields(described: ObjectDescribe, mapping: FieldMapping) -> list[CheckupFinding]:
    """Every mapped field's presence, type, length and writability; one finding where all is well."""
    rules = mapping.rules(described.name)
    found = [finding for rule in rules if (finding := _mapped(described, rule))]
    return found or [
        ok(
            f"{described.name} mapping",
            f"all {len(rules)} mapped fields are there and may be written",
        )
    ]


def _mapped(described: ObjectDescribe, rule: Rule) -> CheckupFinding | None:
    check = f"{described.name}.{rule.field}"
    field = described.fields.get(rule.field)
    if field is None:
        finding = "is mapped, but missing or hidden from the user: it is left out"
        return fail(check, finding, "grant the user the field, or take it out of the mapping")
    rights = {
        "create": field.createable,
        "edit": field.updateable or rule.policy is FieldPolicy.CREATE,
    }
    missing = [right for right, granted in rights.items() if not granted]
    if missing:
        finding = f"is mapped, but the user may not {' or '.join(missing)} it"
        return fail(
            check, finding, "grant the user to edit the field, or take it out of the mapping"
        )
    named = field.type == "reference" and rule.constant is not None  # an ID, as for RecordTypeId
    if field.type not in _TEXTS | _NUMBERS | {"date", "boolean"} and not named:
        finding = f"is mapped, but of type {field.type}, which is sent as text and may be refused"
        return warn(check, finding, "map another field, or none")
    constant = rule.constant
    if isinstance(constant, str):
        if field.restricted_picklist and constant not in field.picklist:
            finding = f"is mapped to {constant!r}, which its restricted picklist does not have"
            return fail(check, finding, "add the value to the picklist, or change the mapping")
        if field.length and len(constant) > field.length:
            return warn(
                check,
                f"takes {field.length} characters, fewer than its constant has",
                "shorten the constant",
            )
    elif constant is not None and field.type in _TEXTS:
        return fail(
            check,
            f"is {field.type}, but its constant is no text",
            "quote the constant in the mapping",
        )
    if rule.field.endswith(("State", "Country")) and f"{rule.field}Code" in described.fields:
        finding = "is mapped, and State and Country picklists are on: a name that is not in the org's list fails the whole row"
        return warn(
            check, finding, "map a constant of that list, or take the field out of the mapping"
        )
    if field.type in _TEXTS and 0 < field.length < STANDARD_LENGTHS.get(rule.field, 0):
        usual = STANDARD_LENGTHS[rule.field]
        finding = (
            f"takes {field.length} characters, where Salesforce has {usual}: longer values are cut"
        )
        return warn(check, finding, "lengthen the field, or leave it so")
    return None


STANDARD_LENGTHS: Mapping[str, int] = {
    "FirstName": 40,
    "LastName": 80,
    "Company": 255,
    "Title": 128,
    "Email": 80,
    "Phone": 40,
    "MobilePhone": 40,
}
"""Of the fields of the default mapping, from describes of real orgs."""


def unserved(described: ObjectDescribe, mapping: FieldMapping) -> CheckupFinding:
    """Fields that a new record must have and that neither the mapping nor contactstream itself
    gives.
    """
    check = f"{described.name} required fields"
    given = {rule.field for rule in mapping.rules(described.name)}
    missing = sorted(described.required - given)
    unsure = sorted(  # LastName and Company fall back to the address
        rule.field
        for rule in mapping.rules(described.name)
        if rule.field in described.required
        and rule.constant is None
        and rule.field not in {"LastName", "Company"}
    )
    if missing:
        finding = f"{', '.join(missing)}: required, and not mapped, so nobody can be created"
        return fail(
            check,
            finding,
            "map a constant to it, give it a default in the org, or make it optional",
        )
    if unsure:
        finding = f"{', '.join(unsure)}: required, and mapped to what a contact may lack; such contacts fail"
        return warn(check, finding, "give it a default in the org, or make it optional")
    return ok(check, "the mapping gives all of them")


def record_types(body: Mapping[str, Any], mapping: FieldMapping) -> CheckupFinding:
    """`body` is the describe as it came. New records get the user's default record type unless the
    mapping names one.
    """
    name = str(body.get("name"))
    check = f"{name} record types"
    infos = [info for info in body.get("recordTypeInfos") or () if isinstance(info, Mapping)]
    usable = [
        info for info in infos if info.get("available") is True and info.get("master") is not True
    ]
    default = next((info for info in infos if info.get("defaultRecordTypeMapping") is True), None)
    shown = str(default.get("name")) if default else "Master"
    named = next((rule for rule in mapping.rules(name) if rule.field == "RecordTypeId"), None)
    if named is not None:
        ids = {
            str(info.get("recordTypeId"))[:15] for info in infos if info.get("available") is True
        }
        if str(named.constant)[:15] in ids:
            return ok(check, "the mapping names one")
        finding = "the mapping names one that the user may not use, so nobody can be created"
        return fail(
            check,
            finding,
            "map the ID of a record type as a constant, and assign that type to the user",
        )
    if len(usable) > 1:
        names = ", ".join(str(info.get("name")) for info in usable)
        finding = f"new records become {shown!r}, of {names}"
        return warn(
            check, finding, "set the user's default record type, or map a constant to RecordTypeId"
        )
    return ok(check, f"new records become {shown!r}" if usable else "none")


def person_accounts(contact: ObjectDescribe) -> CheckupFinding:
    """Person accounts show their people as Contacts that cannot be written like others."""
    if "IsPersonAccount" in contact.fields:
        finding = "person accounts are on: their people are found as Contacts, but Salesforce refuses to change their fields there"
        return warn(
            "person accounts",
            finding,
            "those rows end in the dead letters; exclude these people where they matter",
        )
    return ok("person accounts", "off")


def duplicate_rules(sobject: str, body: object, *, allow_save: bool) -> list[CheckupFinding]:
    """`body` is the User Interface API's answer for the object."""
    check = f"{sobject} duplicate rules"
    listed = body.get("duplicateRules") if isinstance(body, Mapping) else None
    if not isinstance(listed, list):
        return [
            warn(check, "cannot tell: the org does not list them", "look in Setup, Duplicate Rules")
        ]
    found = []
    for rule in listed:
        if not isinstance(rule, Mapping) or rule.get("active") is False:
            continue
        actions = {
            what: str(rule.get(action))
            for what, action in (("create", "actionOnInsert"), ("edit", "actionOnUpdate"))
        }
        refusing = [what for what, action in actions.items() if action == "Block" or not allow_save]
        name = f"{check}: {rule.get('name')}"
        if refusing:
            finding = f"blocks {' and '.join(refusing)}: one match with a common address is adopted, anything else is dead-lettered"
            found.append(
                warn(
                    name,
                    finding,
                    "set its action to Allow for this user, or bypass the rule for it",
                )
            )
        else:
            found.append(ok(name, "only alerts, and is saved past"))
    return found or [ok(check, "none is active")]


def lead_conversion(rows: Sequence[Mapping[str, Any]], sees_setup: bool | None) -> CheckupFinding:
    """`rows` of the Tooling API's LeadConvertSettings."""
    check = "lead conversion"
    remedy = "deploy deploy/salesforce/lead-conversion as its README says; without it the next change of the contact brings the key"
    if not rows and sees_setup is not True:
        return warn(check, "cannot tell: the user does not see the set-up", SEE_SETUP)
    pairs = set()
    for row in rows:
        metadata = row.get("Metadata")
        for mapped in (
            metadata.get("objectMapping") if isinstance(metadata, Mapping) else None
        ) or ():
            if isinstance(mapped, Mapping) and mapped.get("outputObject") == "Contact":
                pairs |= {
                    (pair.get("inputField"), pair.get("outputField"))
                    for pair in mapped.get("mappingFields") or ()
                    if isinstance(pair, Mapping)
                }
    wanted = (KEY_FIELD, VERSION_FIELD, *EMAIL_FIELDS[1:])
    missing = [name for name in wanted if (name, name) not in pairs]
    if missing:
        return warn(check, f"a converted Lead does not hand on {', '.join(missing)}", remedy)
    return ok(check, "a converted Lead hands on key, version and addresses")


def daily_calls(usage: Usage | None, reserve: float) -> CheckupFinding:
    """`reserve` is the share of the allowed calls that is never used."""
    check = "daily API calls"
    if usage is None:
        return warn(check, "cannot tell how many are left", SEE_SETUP)
    left = usage.allowed - usage.used
    shown = f"{left:,} of {usage.allowed:,} are left"
    if left <= usage.allowed * reserve:
        return fail(
            check,
            f"{shown}: only the reserve, so the sink waits",
            "find out who uses them, or buy more",
        )
    if left <= usage.allowed * 2 * reserve:
        return warn(check, shown, "find out who uses them before only the reserve is left")
    return ok(check, shown)


def flag_field(described: ObjectDescribe, name: str) -> CheckupFinding:
    """The checkbox that marks the record of a deleted contact, where deletions are flagged."""
    check = f"{described.name}.{name}"
    field = described.fields.get(name)
    remedy = "create a checkbox of that name, or set PEOPLE_ON_DELETE"
    if field is None:
        return fail(
            check, "missing, or hidden from the user: deleted contacts are not flagged", remedy
        )
    if field.type != "boolean":
        return fail(check, f"is {field.type}, not a checkbox", remedy)
    return _unwritable(check, field) or ok(check, "Checkbox")


def failed(findings: Collection[CheckupFinding]) -> bool:
    return any(finding.status is CheckupStatus.FAIL for finding in findings)
