"""Checks of the objects: access to them, and the fields that contactstream itself needs."""

from collections.abc import Collection
from difflib import get_close_matches

from connectors.salesforce.account_rules import AccountRules
from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.checkup.findings import (
    DEPLOY,
    PERMIT,
    CheckupFinding,
    fail,
    ok,
    warn,
)
from connectors.salesforce.org_fields import (
    EMAIL_FIELDS,
    KEY_FIELD,
    MARKER_FIELD,
    MAX_KEY_LENGTH,
    MAX_MARKER_LENGTH,
    VERSION_FIELD,
)

NUMBER_TYPES = frozenset({"double", "int", "currency", "percent", "long"})
UNENCRYPT = (
    "take the field out of Encryption Policy in Setup, or choose its deterministic scheme there "
    "(case-sensitive for the key), which can be searched"
)
_DOMAIN_TYPES = frozenset({"string", "url", "textarea", "email"})
_GRANT = "correct SALESFORCE_ACCOUNT_DOMAIN_FIELDS, or grant the user read access to the field"
_SECONDS_DIGITS = 10  # of a time in seconds since 1970


def access(described: ObjectDescribe) -> CheckupFinding:
    """Whether the user may read, create and edit records of the object."""
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
    """The external ID by which a contact finds its record again."""
    check = f"{described.name}.{KEY_FIELD}"
    field = described.fields.get(KEY_FIELD)
    if field is None:
        return fail(check, "missing, or hidden from the user", f"{DEPLOY}; {PERMIT}")
    requirements = {
        f"is {field.type} instead of text": field.type == "string",
        f"holds {field.length} characters instead of {MAX_KEY_LENGTH}": (
            field.length >= MAX_KEY_LENGTH
        ),
        "is encrypted, so that no record is found by it": field.filterable,
        "is no External ID": field.external_id,
        "is not Unique": field.unique,
        "ignores case, but the IDs of Nylas are case-sensitive": (
            field.case_sensitive or not field.unique
        ),
    }
    wrong = [fault for fault, met in requirements.items() if not met]
    if wrong:
        remedy = (
            UNENCRYPT
            if not field.filterable
            else (
                "set it in the field's definition: Text 255, External ID, Unique, case-sensitive; "
                f"or {DEPLOY}"
            )
        )
        return fail(check, "; ".join(wrong), remedy)
    return _unwritable(check, field) or ok(check, "Text 255, External ID, Unique, case-sensitive")


def version_field(described: ObjectDescribe) -> CheckupFinding:
    """The field that keeps older data from overwriting newer data."""
    check = f"{described.name}.{VERSION_FIELD}"
    field = described.fields.get(VERSION_FIELD)
    if field is None:
        return fail(check, "missing, or hidden from the user", f"{DEPLOY}; {PERMIT}")
    too_short = 0 < field.precision < _SECONDS_DIGITS
    if field.type not in NUMBER_TYPES or field.scale != 0 or too_short:
        found = f"is {field.type} of {field.precision} digits, {field.scale} after the point"
        return fail(check, found, f"change it to Number 18,0: {DEPLOY}")
    return _unwritable(check, field) or ok(check, f"Number {field.precision},{field.scale}")


def marker_field(described: ObjectDescribe) -> CheckupFinding:
    """The field that remembers what we wrote, so that what people type is not overwritten."""
    check = f"{described.name}.{MARKER_FIELD}"
    field = described.fields.get(MARKER_FIELD)
    if field is None:
        finding = (
            "missing, or hidden from the user: what people typed could not be told from what we "
            "wrote, so the sink does not start"
        )
        return fail(check, finding, f"{DEPLOY}; {PERMIT}")
    if field.type != "textarea" or field.length < MAX_MARKER_LENGTH:
        found = f"is {field.type} of {field.length} characters"
        return fail(check, found, f"change it to Long Text Area {MAX_MARKER_LENGTH}: {DEPLOY}")
    return _unwritable(check, field) or ok(check, f"Long Text Area {field.length}")


def address_fields(described: ObjectDescribe) -> list[CheckupFinding]:
    """Email, and the two further address fields by which a person is found."""
    return [_address_field(described, name) for name in EMAIL_FIELDS]


def _address_field(described: ObjectDescribe, name: str) -> CheckupFinding:
    check = f"{described.name}.{name}"
    field = described.fields.get(name)
    if field is None and name == EMAIL_FIELDS[0]:
        return fail(check, "hidden from the user", PERMIT)
    if field is None:
        lost = (
            "missing, or hidden from the user: further addresses of a person are not kept, and the "
            "person is not found by them"
        )
        return warn(check, lost, f"{DEPLOY}; {PERMIT}")
    if field.type != "email":
        return fail(check, f"is {field.type} instead of email", DEPLOY)
    if unwritable := _unwritable(check, field):
        return unwritable
    if not field.filterable:
        lost = (
            "is encrypted, so that nobody is found by it: people whose address is only there are "
            "created again"
        )
        return (fail if name == EMAIL_FIELDS[0] else warn)(check, lost, UNENCRYPT)
    if not field.id_lookup and not field.external_id:
        slow = "is no External ID, so it is not indexed and every batch searches the whole object"
        return warn(check, slow, f"make it an External ID, or {DEPLOY}")
    return ok(check, f"Email {field.length}, indexed")


def accounts(described: ObjectDescribe) -> list[CheckupFinding]:
    """Read access to Account, which decides whether a new person becomes a Contact."""
    lost = (
        "the sink does not know who belongs to an Account, and pauses instead of creating every "
        "new person as a Lead; PEOPLE_CREATE=leads does without Accounts"
    )
    if not described.queryable:
        return [fail("Account access", f"the user may not read Accounts: {lost}", PERMIT)]
    found = [ok("Account access", "the user may read")]
    website = described.fields.get("Website")
    if website is not None and not website.filterable:
        refused = f"is encrypted, so that it cannot be searched: {lost}"
        found.append(fail("Account.Website", refused, UNENCRYPT))
    elif website is not None:
        found.append(ok("Account.Website", "may be read"))
    else:
        found.append(fail("Account.Website", f"hidden from the user: {lost}", PERMIT))
    check = "Account.ParentId"
    if "ParentId" in described.fields:
        found.append(ok(check, "may be read"))
    else:
        lost = "hidden from the user: of several Accounts with one domain the oldest is taken"
        found.append(warn(check, lost, PERMIT))
    return found


def account_evidence(described: ObjectDescribe, rules: AccountRules) -> list[CheckupFinding]:
    """The fields of Account by which mail domains belong to it, and those of the filter."""
    found = [_domain_field(described, name) for name in rules.domain_fields]
    return found + [_filter_field(described, path, rules) for path in rules.conditions]


def evidence_in_use(
    rules: AccountRules, configured: Collection[str], contact_share: float
) -> CheckupFinding:
    """By which evidence new people get an Account; the fields have findings of their own."""
    used = ["Website"]
    if rules.domain_fields:
        used.append(f"the domains in {', '.join(rules.domain_fields)}")
    if configured:
        used.append(f"{len(configured)} domains of PEOPLE_ACCOUNT_DOMAINS")
    if contact_share:
        used.append(
            f"{contact_share:.0%} of a domain's Contacts (SALESFORCE_ACCOUNT_CONTACT_SHARE)"
        )
    return ok("Account evidence", "; then ".join(used))


def _domain_field(described: ObjectDescribe, name: str) -> CheckupFinding:
    check = f"Account.{name}"
    field = described.fields.get(name)
    if field is None:
        return warn(check, f"missing, or hidden from the user{_near(described, name)}", _GRANT)
    if field.type not in _DOMAIN_TYPES:
        return warn(
            check, f"is {field.type}, and names no domain: it has to be Text or URL", _GRANT
        )
    if not field.filterable:
        return warn(check, "cannot be searched: it is encrypted, or a long text", _GRANT)
    return ok(check, "names mail domains of its Account, besides Website")


def _filter_field(described: ObjectDescribe, path: str, rules: AccountRules) -> CheckupFinding:
    check = f"Account filter {path}"
    parent, dot, _ = path.partition(".")
    name = f"{parent}Id" if dot else path
    name = f"{parent.removesuffix('__r')}__c" if parent.endswith("__r") else name
    wanted = sorted(rules.conditions[path])
    remedy = "correct SALESFORCE_ACCOUNT_FILTER, or grant the user read access to the field"
    field = described.fields.get(name)
    if field is None:
        lost = (
            f"{name} is missing, or hidden from the user{_near(described, name)}: the sink pauses"
        )
        return fail(check, lost, remedy)
    known = {value.casefold() for value in field.picklist}
    unknown = [value for value in wanted if value not in known] if known and not dot else []
    if unknown:
        listed = ", ".join(sorted(field.picklist))
        return warn(check, f"no Account has {', '.join(unknown)}: the values are {listed}", remedy)
    return ok(check, f"only Accounts with {' or '.join(wanted)} count")


def _near(described: ObjectDescribe, name: str) -> str:
    near = get_close_matches(name, described.fields, 1)
    return f"; did you mean {near[0]}?" if near else ""


def links(described: ObjectDescribe) -> list[CheckupFinding]:
    """The fields that link a Contact to its Account, or a converted Lead to its Contact."""
    if described.name == "Contact":
        return [_account_link(described)]
    if described.name == "Lead":
        return [_conversion_link(described, name) for name in ("IsConverted", "ConvertedContactId")]
    return []


def _account_link(contact: ObjectDescribe) -> CheckupFinding:
    check = "Contact.AccountId"
    field = contact.fields.get("AccountId")
    if field is None:
        return fail(check, "hidden from the user: new Contacts get no Account", PERMIT)
    return _unwritable(check, field) or ok(check, "may be read and written")


def _conversion_link(lead: ObjectDescribe, name: str) -> CheckupFinding:
    check = f"Lead.{name}"
    if name in lead.fields:
        return ok(check, "may be read")
    return fail(
        check,
        "hidden from the user: the sink cannot follow a converted Lead to its Contact, and creates "
        "the person twice or is refused",
        f"grant the user read access to {check}",
    )


def _unwritable(check: str, field: FieldDescribe) -> CheckupFinding | None:
    rights = {"create": field.createable, "edit": field.updateable}
    missing = [right for right, granted in rights.items() if not granted]
    return fail(check, f"the user may not {' or '.join(missing)} it", PERMIT) if missing else None


def flag_field(described: ObjectDescribe, name: str) -> CheckupFinding:
    """The checkbox that marks the record of a deleted contact, if deletions are flagged."""
    check = f"{described.name}.{name}"
    field = described.fields.get(name)
    remedy = f"create a checkbox {name} on {described.name}, or change PEOPLE_ON_DELETE"
    if field is None:
        lost = "missing, or hidden from the user: records of deleted contacts are not flagged"
        return fail(check, lost, remedy)
    if field.type != "boolean":
        return fail(check, f"is {field.type}, not a checkbox", remedy)
    return _unwritable(check, field) or ok(check, "Checkbox")
