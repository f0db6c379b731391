"""Checks of the org's automation: the version rule, duplicate rules and the lead conversion."""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.salesforce.checkup.findings import (
    DEPLOY,
    SEE_SETUP,
    CheckupFinding,
    fail,
    ok,
    warn,
)
from connectors.salesforce.org_fields import (
    EMAIL_FIELDS,
    KEY_FIELD,
    MARKER_FIELD,
    VERSION_FIELD,
)

# name and formula of the validation rule that deploy/salesforce ships for both objects
VERSION_RULE = "Nylas_Version_Never_Goes_Back"
# with this custom permission a user passes the rule: a backup is older than what it restores over
RESTORE_PERMISSION = "Nylas_Restore_Older_Version"
VERSION_FORMULA = (
    f"AND(NOT(ISNEW()), NOT($Permission.{RESTORE_PERMISSION}), "
    f"OR({KEY_FIELD} = PRIORVALUE({KEY_FIELD}), "
    f"AND(ISBLANK({KEY_FIELD}), ISBLANK(PRIORVALUE({KEY_FIELD})))), "
    f"{VERSION_FIELD} < PRIORVALUE({VERSION_FIELD}))"
)


def version_rule(
    sobject: str, rows: Sequence[Mapping[str, Any]], sees_setup: bool | None
) -> CheckupFinding:
    """The validation rule that refuses older data.

    `rows` are the Tooling API's ValidationRule rows of that name and object. They may be empty
    because the user may not see Setup (`sees_setup`; None is unknown).
    """
    check = f"{sobject} version rule"
    if not rows and sees_setup is not True:
        return warn(check, "cannot tell: the user lacks View Setup", SEE_SETUP)
    if not rows:
        finding = (
            f"{VERSION_RULE} is missing: a writer that was paused could overwrite newer data with "
            "older data"
        )
        return fail(check, finding, DEPLOY)
    metadata = rows[0].get("Metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    if rows[0].get("Active") is False or metadata.get("active") is False:
        remedy = "activate it in Setup, Object Manager, Validation Rules"
        return fail(check, f"{VERSION_RULE} is not active", remedy)
    formula = metadata.get("errorConditionFormula")
    if not isinstance(formula, str):
        finding = f"cannot read the formula of {VERSION_RULE}: the user lacks View Setup"
        return warn(check, finding, SEE_SETUP)
    if "".join(formula.split()) != "".join(VERSION_FORMULA.split()):
        finding = (
            f"{VERSION_RULE} has another formula: it may let older data overwrite newer data, or "
            "refuse newer data"
        )
        return fail(check, finding, DEPLOY)
    shown = metadata.get("errorDisplayField", VERSION_FIELD)
    if shown != VERSION_FIELD:
        finding = (
            f"{VERSION_RULE} shows its error at {shown} instead of {VERSION_FIELD}: the sink does "
            "not recognise its refusals as stale"
        )
        return fail(check, finding, DEPLOY)
    return ok(check, f"{VERSION_RULE} is active")


def duplicate_rules(sobject: str, body: object, *, allow_save: bool) -> list[CheckupFinding]:
    """The object's duplicate rules; `body` is the answer of the User Interface API.

    `allow_save`: writes are saved past rules that only alert.
    """
    check = f"{sobject} duplicate rules"
    listed = body.get("duplicateRules") if isinstance(body, Mapping) else None
    if not isinstance(listed, list):
        finding = "cannot tell: the org does not list them"
        return [warn(check, finding, "check them in Setup, Duplicate Rules")]
    active = [
        rule for rule in listed if isinstance(rule, Mapping) and rule.get("active") is not False
    ]
    found = [
        _duplicate_rule(f"{check}: {rule.get('name')}", rule, allow_save=allow_save)
        for rule in active
    ]
    return found or [ok(check, "none is active")]


def _duplicate_rule(check: str, rule: Mapping[str, Any], *, allow_save: bool) -> CheckupFinding:
    actions = {"create": str(rule.get("actionOnInsert")), "edit": str(rule.get("actionOnUpdate"))}
    blocked = [what for what, action in actions.items() if action == "Block" or not allow_save]
    if not blocked:
        return ok(check, "only alerts, and rows are saved past it")
    return warn(
        check,
        f"blocks {' and '.join(blocked)}: the row is written to a single match with a common "
        "address, any other row is dead-lettered",
        "set the rule's action to Allow for this user, or bypass the rule for it",
    )


def lead_conversion(rows: Sequence[Mapping[str, Any]], sees_setup: bool | None) -> CheckupFinding:
    """Whether a converted Lead passes our fields on to its Contact.

    `rows` are those of the Tooling API's LeadConvertSettings.
    """
    check = "lead conversion"
    if not rows and sees_setup is not True:
        return warn(check, "cannot tell: the user lacks View Setup", SEE_SETUP)
    pairs = {pair for row in rows for pair in _mapped_to_contact(row.get("Metadata"))}
    ours = (KEY_FIELD, VERSION_FIELD, MARKER_FIELD, *EMAIL_FIELDS[1:])
    missing = [name for name in ours if (name, name) not in pairs]
    if missing:
        return warn(
            check,
            f"a converted Lead does not pass {', '.join(missing)} on to its Contact",
            "add them to the org's lead field mapping as deploy/salesforce/README.md says; without "
            "the key the Contact gets it with the contact's next change, without the marker its "
            "fields are only filled where they are blank",
        )
    return ok(check, "a converted Lead passes all of our fields on to its Contact")


def _mapped_to_contact(metadata: object) -> set[tuple[object, object]]:
    """The pairs of a Lead's field and the Contact's field that it is copied to."""
    mappings = metadata.get("objectMapping") if isinstance(metadata, Mapping) else None
    return {
        (pair.get("inputField"), pair.get("outputField"))
        for mapping in mappings or ()
        if isinstance(mapping, Mapping) and mapping.get("outputObject") == "Contact"
        for pair in mapping.get("mappingFields") or ()
        if isinstance(pair, Mapping)
    }
