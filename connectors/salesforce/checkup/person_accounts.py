"""Check of Person Accounts: whether they are on, and what that means for the sink."""

from connectors.salesforce.api.describe import ObjectDescribe
from connectors.salesforce.checkup.findings import CheckupFinding, ok, warn
from connectors.salesforce.mapping_rules import FieldMapping, FieldPolicy
from connectors.salesforce.org_fields import PERSON_ACCOUNT_FIELD, PERSON_CONTACT_FIXED

CHECK = "person accounts"
PERSON_ACCOUNTS_QUERY = f"SELECT COUNT() FROM Account WHERE {PERSON_ACCOUNT_FIELD} = true"  # noqa: S608


def has_person_accounts(contact: ObjectDescribe) -> bool:
    """Whether Person Accounts are on in the org of this Contact."""
    return PERSON_ACCOUNT_FIELD in contact.fields


def person_accounts(
    contact: ObjectDescribe,
    account: ObjectDescribe | None,
    number: int | None,
    rules: FieldMapping | None,
) -> CheckupFinding:
    """Whether Person Accounts are on, how many there are, and what becomes of their people.

    `account` is None where the describe is not known, `number` where the org does not say it.
    """
    if not has_person_accounts(contact):
        return ok(CHECK, "off")
    there = "they are on" if number is None else f"they are on, and there are {number:,}"
    finding = (
        f"{there}: their people are found as Contacts, and their fields are filled there, which "
        "shows in the Account as well. Name, Account and record type are left alone. None of them "
        "is the Account of anybody else, none is created, and a new Lead of an unknown company "
        "gets no Company"
    )
    remedies = []
    if account is not None and not account.updateable:
        remedies.append(
            "grant the user Edit on Account, if Salesforce refuses to fill them: such contacts are "
            "skipped with the reason person_account, and are no dead letters"
        )
    if fixed := _fixed_fields(rules):
        remedies.append(f"{', '.join(fixed)} of the mapping are not written for a Person Account")
    remedies.append(
        "rules, triggers and flows of Contact do not run when people edit a Person Account: see "
        "deploy/docs/evidence.md"
    )
    return warn(CHECK, finding, "; ".join(remedies))


def _fixed_fields(rules: FieldMapping | None) -> list[str]:
    """Mapped fields, other than the name, that a Person Account does not take from a Contact."""
    listed = rules.rules("Contact") if rules else ()
    return sorted(
        rule.field
        for rule in listed
        if rule.field in PERSON_CONTACT_FIXED
        and rule.field not in {"FirstName", "LastName"}
        and rule.policy is not FieldPolicy.CREATE
    )
