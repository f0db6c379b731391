"""Checks of the owners that created records get: the users, the configured owner, and sharing.

Nothing here does I/O; the queries stand here beside the functions that read the answers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.salesforce.checkup.findings import SEE_SETUP, CheckupFinding, fail, ok, warn
from connectors.salesforce.checkup.sharing import Sharing, edits_every_record
from connectors.salesforce.owner_rules import OwnerPolicy, OwnerRule
from connectors.salesforce.owners import comparable_address

USERS_QUERY = "SELECT {field} FROM User WHERE UserType = 'Standard' AND IsActive = true"
USER_QUERY = "SELECT IsActive, UserType, UserRoleId FROM User WHERE Id = {user}"
QUEUE_QUERY = "SELECT SobjectType FROM QueueSobject WHERE QueueId = {queue}"

Rows = Sequence[Mapping[str, Any]]


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
    sobject: str, policy: OwnerPolicy, sharing: Sharing, rows: Rows | None
) -> CheckupFinding:
    """Whether our user may update the records that others own from their creation on.

    `rows` are of USER_QUERY for our user; None if it was refused.
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
    finding = (
        f"sharing is private and the user lacks Modify All: a {sobject} that is given to somebody "
        f"else cannot be updated any more, and its next change is a dead letter; {hierarchy}"
    )
    remedy = (
        f"give the user a role above the owners, a sharing rule with Read/Write on {sobject}, or "
        f"Modify All on {sobject}; or empty PEOPLE_OWNER"
    )
    return warn(check, finding, remedy)


def asks_users(policy: OwnerPolicy) -> bool:
    """Whether the users decide about owners."""
    return OwnerRule.USER in policy.rules
