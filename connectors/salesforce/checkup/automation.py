"""Checks of the org's own automation: what runs in the org when a Contact or Lead is written.

Each check names what is active, so that an administrator knows before the first sync what two
thousand new records set off. Nothing here does I/O; `queries` and their sources stand beside the
functions that read the answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.salesforce.checkup.findings import SEE_SETUP, CheckupFinding, ok, warn

BULK_LOAD_PERMISSION = "Contactstream_Bulk_Load"
"""The custom permission that the user of the sink holds during a first sync only."""

# REST API. FlowDefinitionView has the object of a trigger from version 53.0 on [Object Reference:
# FlowDefinitionView]. `IsActive` says whether the newest version is the active one, so that a flow
# with a newer draft would be missed: an active flow is one with an active version. Processes (of
# the Process Builder) are flows of the type Workflow, whose object the view does not name.
FLOWS_QUERY = (
    "SELECT ApiName, ProcessType, TriggerType, RecordTriggerType, TriggerObjectOrEventId, "
    "ActiveVersionId FROM FlowDefinitionView "
    "WHERE TriggerObjectOrEventId IN ('Contact', 'Lead') OR ProcessType = 'Workflow'"
)
# Tooling API [Tooling API: ApexTrigger].
TRIGGERS_QUERY = (
    "SELECT Name, NamespacePrefix, TableEnumOrId, Status FROM ApexTrigger "
    "WHERE TableEnumOrId IN ('Contact', 'Lead')"
)
# Tooling API. A rule says in its Metadata alone whether it is active, and Metadata may be selected
# only where the query returns one row [Tooling API: WorkflowRule].
WORKFLOW_RULES_QUERY = (
    "SELECT Id, Name, TableEnumOrId FROM WorkflowRule WHERE TableEnumOrId IN ('Contact', 'Lead')"
)
WORKFLOW_RULE_QUERY = "SELECT Name, TableEnumOrId, Metadata FROM WorkflowRule WHERE Id = {rule}"
# Each rule costs a call.
MAX_WORKFLOW_RULES = 20
# REST API [Object Reference: AssignmentRule]. Contacts have no assignment rules.
ASSIGNMENT_RULES_QUERY = "SELECT Name, Active FROM AssignmentRule WHERE SobjectType = 'Lead'"

_MOMENTS = {"RecordBeforeSave": "before save", "RecordAfterSave": "after save"}
_OCCASIONS = {"Create": "create", "Update": "edit", "CreateAndUpdate": "create and edit"}
_LET_TEST = (
    f"let it do nothing for a user with $Permission.{BULK_LOAD_PERMISSION}, which the sink holds "
    "during a first sync, if it must not run for every record of one; see "
    "deploy/salesforce/README.md"
)
_LOOK = "look at it before the first sync: it runs for every record that the sync creates"

Rows = Sequence[Mapping[str, Any]]


def flows(sobject: str, rows: Rows, sees_setup: bool | None) -> CheckupFinding:
    """The active flows that a written record of the object starts; `rows` are of FLOWS_QUERY."""
    check = f"{sobject} flows"
    if not rows and sees_setup is not True:
        return warn(check, "cannot tell: the user lacks View Setup", SEE_SETUP)
    found = [
        f"{row.get('ApiName')} ({_MOMENTS[str(row.get('TriggerType'))]}, "
        f"{_OCCASIONS.get(str(row.get('RecordTriggerType')), 'unknown')})"
        for row in rows
        if row.get("TriggerObjectOrEventId") == sobject
        and row.get("ActiveVersionId")
        and row.get("TriggerType") in _MOMENTS
        and row.get("RecordTriggerType") != "Delete"
    ]
    if not found:
        return ok(check, "no active flow runs when a record is written")
    return warn(check, f"active when a record is written: {_listed(found)}", _LET_TEST)


def processes(rows: Rows) -> list[CheckupFinding]:
    """The active processes of the Process Builder, of any object; none if there are none."""
    found = [
        str(row.get("ApiName"))
        for row in rows
        if row.get("ProcessType") == "Workflow" and row.get("ActiveVersionId")
    ]
    if not found:
        return []
    finding = f"active, of an object that the API does not name: {_listed(found)}"
    return [warn("processes", finding, f"{_LET_TEST}; Setup, Process Automation shows the object")]


def triggers(sobject: str, rows: Rows, sees_setup: bool | None) -> CheckupFinding:
    """The active Apex triggers of the object; `rows` are of TRIGGERS_QUERY."""
    check = f"{sobject} Apex triggers"
    if not rows and sees_setup is not True:
        return warn(check, "cannot tell: the user lacks View Setup", SEE_SETUP)
    found = [
        _qualified(row)
        for row in rows
        if row.get("TableEnumOrId") == sobject and row.get("Status") == "Active"
    ]
    if not found:
        return ok(check, "none is active")
    return warn(check, f"active: {_listed(found)}", f"{_LOOK}; {_in_apex()}")


def workflow_rules(
    sobject: str, rows: Rows, sees_setup: bool | None, listed: int
) -> CheckupFinding:
    """The active workflow rules of the object, with their email alerts.

    `rows` are of WORKFLOW_RULE_QUERY, one for each of the first MAX_WORKFLOW_RULES; `listed` is how
    many rules both objects have.
    """
    check = f"{sobject} workflow rules"
    if not listed and sees_setup is not True:
        return warn(check, "cannot tell: the user lacks View Setup", SEE_SETUP)
    found = []
    for row in rows:
        metadata = row.get("Metadata")
        if row.get("TableEnumOrId") != sobject:
            continue
        if not isinstance(metadata, Mapping):
            found.append(f"{row.get('Name')} (the user may not see whether it is active)")
        elif metadata.get("active") is True:
            found.append(f"{row.get('Name')}{_alerts(metadata)}")
    unseen = listed - len(rows)
    more = [f"{unseen} further rules of Contact and Lead were not read"] if unseen > 0 else []
    if not found and not more:
        return ok(check, "none is active")
    return warn(check, f"active: {_listed([*found, *more])}", _LET_TEST)


def _alerts(metadata: Mapping[str, Any]) -> str:
    actions = metadata.get("actions")
    alerts = [
        str(action.get("name"))
        for action in (actions if isinstance(actions, list) else ())
        if isinstance(action, Mapping) and action.get("type") == "Alert"
    ]
    return f" (sends the email alert {_listed(alerts)})" if alerts else ""


def assignment_rules(rows: Rows, sees_setup: bool | None, *, asked_for: bool) -> CheckupFinding:
    """The Lead assignment rule; `rows` are of ASSIGNMENT_RULES_QUERY.

    `asked_for`: the settings let it give new Leads of live changes their owner.
    """
    check = "Lead assignment rules"
    if not rows and sees_setup is not True:
        return warn(check, "cannot tell: the user lacks View Setup", SEE_SETUP)
    active = [str(row.get("Name")) for row in rows if row.get("Active") is True]
    if asked_for and not active:
        finding = "none is active, but PEOPLE_OWNER names the assignment rule: it gives no owner"
        return warn(check, finding, "activate a rule in Setup, or take it out of PEOPLE_OWNER")
    if not active:
        return ok(check, "none is active")
    runs = (
        "runs for Leads that a live change creates"
        if asked_for
        else "runs for no record that the sink writes"
    )
    return ok(check, f"{_listed(active)} is active, and {runs}")


def _qualified(row: Mapping[str, Any]) -> str:
    prefix = row.get("NamespacePrefix")
    return f"{prefix}__{row.get('Name')}" if prefix else str(row.get("Name"))


def _in_apex() -> str:
    return f"Apex asks FeatureManagement.checkPermission('{BULK_LOAD_PERMISSION}')"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names))
