"""Checks of the owners that created records get: the users, the configured owner, and sharing.

Nothing here does I/O; the queries stand here beside the functions that read the answers.

What of sharing can be asked (Object Reference and Metadata API Developer Guide):

* `UserRecordAccess` says of at most 200 records that exist whether a user may edit them, by
  whatever gives the access: the role hierarchy, sharing rules, teams, territories. So the newest
  records of other owners are tried.
* `LeadOwnerSharingRule` and `ContactOwnerSharingRule` name the rules by owner, in orgs where
  Salesforce Support made the two objects visible.
* Rules by criteria are in the type `SharingRules` of the Metadata API only, which is no part of
  REST. `LeadShare` shows what follows from a rule and not which one, and the reference warns that
  its rows may cease to be stored.

So a record of an owner, or with values, that no tried record has cannot be told.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.checkup.findings import SEE_SETUP, CheckupFinding, fail, ok, warn
from connectors.salesforce.checkup.sharing import Sharing, edits_every_record
from connectors.salesforce.owner_rules import OwnerPolicy, OwnerRule
from connectors.salesforce.owners import comparable_address

USERS_QUERY = "SELECT {field} FROM User WHERE UserType = 'Standard' AND IsActive = true"
USER_QUERY = "SELECT IsActive, UserType, UserRoleId FROM User WHERE Id = {user}"
QUEUE_QUERY = "SELECT SobjectType FROM QueueSobject WHERE QueueId = {queue}"
OTHERS_QUERY = (
    "SELECT Id FROM {sobject} WHERE OwnerId != {user} ORDER BY CreatedDate DESC LIMIT 200"
)
ACCESS_QUERY = (
    "SELECT RecordId, HasEditAccess FROM UserRecordAccess "
    "WHERE UserId = {user} AND RecordId IN ({ids})"
)
OWNER_RULES_QUERY = (
    "SELECT Name FROM {sobject}OwnerSharingRule WHERE {sobject}AccessLevel IN ('Edit', 'All')"
)

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RecordAccess:
    """What sharing gives our user on records that others own."""

    tried: int = 0
    """Records of others that were asked about."""
    editable: int = 0
    """How many of them our user may edit."""
    rules: tuple[str, ...] | None = None
    """Names of the owner sharing rules that let somebody edit; None where the org hides them."""


def record_access(asked: Sequence[str], access: Rows, rules: Rows | None) -> RecordAccess:
    """What follows from the rows of ACCESS_QUERY and OWNER_RULES_QUERY.

    A record that our user may not even read is missing in `access`.
    """
    may = {row.get("RecordId") for row in access if row.get("HasEditAccess") is True}
    names = None if rules is None else tuple(sorted(str(row.get("Name")) for row in rules))
    return RecordAccess(len(asked), len(may.intersection(asked)), names)


def users(policy: OwnerPolicy, rows: Rows) -> CheckupFinding:
    """Whether the users can be told apart by the field of PEOPLE_OWNER_MATCH."""
    check = "owners: users"
    found = Counter(comparable_address(row.get(policy.match.field)) for row in rows)
    blank = found.pop("", 0)
    several = sum(1 for count in found.values() if count > 1)
    shown = f"{len(rows):,} active users, {blank:,} of them without a {policy.match.field}"
    if not found:
        return warn(check, f"{shown}: no grant has a user", "choose another PEOPLE_OWNER_MATCH")
    if several:
        finding = (
            f"{shown}; {several:,} values belong to several users, who own no created record by "
            "the rule user"
        )
        return warn(check, finding, "choose another PEOPLE_OWNER_MATCH, or deactivate one of them")
    return ok(check, shown)


def configured(policy: OwnerPolicy, rows: Rows) -> CheckupFinding:
    """Whether the configured user or queue can own records.

    `rows` are of USER_QUERY for a user, of QUEUE_QUERY for a queue.
    """
    check = "owners: configured"
    owner = f"PEOPLE_OWNER_ID={policy.configured_id}"
    if policy.configured_queue:
        if any(row.get("SobjectType") == "Lead" for row in rows):
            return ok(check, "the queue serves Leads; Contacts go to the next rule")
        finding = f"{owner} is no queue that serves Leads, so it owns nothing"
        return fail(check, finding, "add Lead to the objects of the queue, or set another ID")
    if not rows:
        return fail(check, f"{owner} is no user of this org", "set the ID of an active user")
    if rows[0].get("IsActive") is False or rows[0].get("UserType") != "Standard":
        finding = f"{owner} is not an active user of the type Standard, so it owns nothing"
        return fail(check, finding, "activate the user, or set the ID of another one")
    return ok(check, "the user is active")


def given_away(
    sobject: str,
    policy: OwnerPolicy,
    sharing: Sharing,
    rows: Rows | None,
    access: RecordAccess | None = None,
) -> CheckupFinding:
    """Whether our user may update the records that others own from their creation on.

    `rows` are of USER_QUERY for our user; None if it was refused. `access` is None where the org
    did not say.
    """
    check = f"owners: {sobject} records of others"
    edited = edits_every_record(sobject, sharing)
    if edited:
        return ok(check, "the user of the sink may edit them")
    if edited is None:
        finding = "cannot tell whether the user of the sink may edit them"
        return warn(check, finding, SEE_SETUP)
    role = rows[0].get("UserRoleId") if rows else None
    hierarchy = (
        "the user has a role, which helps with the owners below it only"
        if role
        else "the user has no role, so that the role hierarchy does not help"
    )
    found = access or RecordAccess()
    if found.tried and found.editable == found.tried:
        finding = (
            f"sharing is private, and the user may edit all {found.tried} {sobject} records of "
            "others that were tried, the newest; whether that holds for every owner and every "
            f"value cannot be asked; {_rules(sobject, found)}"
        )
        return ok(check, finding)
    tried = (
        f"it may edit {found.editable} of the {found.tried} newest records of others"
        if found.tried
        else "there is no record of others to try"
        if access is not None
        else "the org does not say which records of others it may edit"
    )
    finding = (
        f"sharing is private and the user lacks Modify All: a {sobject} that is given to somebody "
        "else, and that no rule opens, cannot be updated any more, and its next change is a dead "
        f"letter; {tried}; {hierarchy}; {_rules(sobject, found)}"
    )
    remedy = (
        f"give the user a role above the owners, a sharing rule with Read/Write on {sobject} (in "
        f"Setup, Sharing Settings, where the others are listed too), or Modify All on {sobject}; "
        "or empty PEOPLE_OWNER"
    )
    return warn(check, finding, remedy)


def _rules(sobject: str, found: RecordAccess) -> str:
    """Which sharing rules are known."""
    if found.rules is None:
        return "the org does not show its sharing rules by REST"
    if not found.rules:
        return (
            f"no sharing rule by owner lets anybody edit a {sobject}; those by criteria are "
            "not shown by REST"
        )
    return (
        f"sharing rules by owner that let somebody edit a {sobject}: {', '.join(found.rules)}; "
        "those by criteria are not shown by REST"
    )


def asks_users(policy: OwnerPolicy) -> bool:
    """Whether the users decide about owners."""
    return OwnerRule.USER in policy.rules
