"""Doctor names what runs in the org by itself when a Contact or Lead is written."""

from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from connectors.salesforce.api.auth import ClientCredentials, Session
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.api.errors import RequestRejected
from connectors.salesforce.checkup import CheckupFinding, CheckupStatus
from connectors.salesforce.checkup.automation import BULK_LOAD_PERMISSION, MAX_WORKFLOW_RULES
from connectors.salesforce.checkup.bulk_load import bulk_load_permission
from connectors.salesforce.checkup.owners import given_away, record_access
from connectors.salesforce.checkup.sharing import parse_sharing
from connectors.salesforce.owner_rules import OwnerPolicy, OwnerRule
from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.settings import BadValueError
from connectors.salesforce.simulator.world import World
from streams.commands.doctor.deployment import Deployment
from streams.commands.doctor.org import examine_org
from streams.settings import NylasSettings, PeopleSettings, SalesforceSettings, load

ACTIVE = {"ActiveVersionId": "3015g000000AAAA"}


async def examined(automation: Mapping[str, Any]) -> dict[str, CheckupFinding]:
    return await examined_world({"automation": automation})


async def examined_world(document: Mapping[str, Any], **further: str) -> dict[str, CheckupFinding]:
    async with TestServer(app(World(document))) as server:
        environ = {
            "SALESFORCE_CLIENT_ID": "id",
            "SALESFORCE_CLIENT_SECRET": "secret",
            "SALESFORCE_LOGIN_URL": str(server.make_url("")).rstrip("/"),
            **further,
        }
        deployment = Deployment(
            kafka=None,
            salesforce=load(SalesforceSettings, environ),
            people=load(PeopleSettings, environ),
            nylas=load(NylasSettings, environ),
        )
        return {one.check: one for one in await examine_org(deployment)}


def flow(name: str, **more: Any) -> dict[str, Any]:
    return {
        "ApiName": name,
        "ProcessType": "AutoLaunchedFlow",
        "TriggerType": "RecordAfterSave",
        "RecordTriggerType": "Create",
        "TriggerObjectOrEventId": "Lead",
        **ACTIVE,
        **more,
    }


async def test_active_flows_are_named_with_their_moment_and_occasion() -> None:
    flows = [
        flow("Welcome_Mail"),
        flow("Score", TriggerType="RecordBeforeSave", RecordTriggerType="CreateAndUpdate"),
        flow("Draft", ActiveVersionId=None),
        flow("Of_Case", TriggerObjectOrEventId="Case"),
        flow("Nightly", TriggerType="Scheduled"),
        flow("Cleanup", RecordTriggerType="Delete"),
        flow("Old_Process", ProcessType="Workflow", TriggerType=None, TriggerObjectOrEventId=None),
    ]
    found = await examined({"flows": flows})
    assert found["Contact flows"].status is CheckupStatus.OK
    assert found["Lead flows"].status is CheckupStatus.WARN
    assert found["Lead flows"].finding.endswith(
        ": Score (before save, create and edit), Welcome_Mail (after save, create)"
    )
    assert "$Permission.Contactstream_Bulk_Load" in found["Lead flows"].remedy
    assert "Old_Process" in found["processes"].finding


async def test_a_flow_whose_newest_version_is_a_draft_is_active_all_the_same() -> None:
    found = await examined({"flows": [flow("Two_Versions", IsActive=False)]})
    assert "Two_Versions" in found["Lead flows"].finding


async def test_active_triggers_are_named_with_their_package() -> None:
    triggers = [
        {"Name": "LeadRouter", "TableEnumOrId": "Lead", "Status": "Active"},
        {
            "Name": "Dedupe",
            "NamespacePrefix": "dup",
            "TableEnumOrId": "Contact",
            "Status": "Active",
        },
        {"Name": "Old", "TableEnumOrId": "Contact", "Status": "Inactive"},
        {"Name": "OnCase", "TableEnumOrId": "Case", "Status": "Active"},
    ]
    found = await examined({"triggers": triggers})
    assert found["Contact Apex triggers"].finding == "active: dup__Dedupe"
    assert found["Lead Apex triggers"].finding == "active: LeadRouter"


def rule(name: str, *actions: Mapping[str, str], active: bool = True) -> dict[str, Any]:
    return {
        "Name": name,
        "TableEnumOrId": "Lead",
        "Metadata": {"active": active, "actions": list(actions)},
    }


async def test_active_workflow_rules_are_named_with_their_email_alerts() -> None:
    alert = {"name": "Tell_The_Owner", "type": "Alert"}
    rules = [
        rule("New lead", alert, {"name": "F", "type": "FieldUpdate"}),
        rule("Off", active=False),
    ]
    found = await examined({"workflow_rules": rules})
    assert found["Contact workflow rules"].status is CheckupStatus.OK
    named = "active: New lead (sends the email alert Tell_The_Owner)"
    assert found["Lead workflow rules"].finding == named


async def test_more_workflow_rules_than_may_be_asked_for_are_counted() -> None:
    rules = [rule(f"Rule {number}", active=False) for number in range(MAX_WORKFLOW_RULES + 3)]
    found = await examined({"workflow_rules": rules})
    assert "3 further rules" in found["Lead workflow rules"].finding


async def test_a_rule_whose_metadata_is_hidden_is_said_to_be_unknown() -> None:
    found = await examined({"workflow_rules": [{"Name": "Hidden", "TableEnumOrId": "Lead"}]})
    assert "Hidden (the user may not see whether it is active)" in (
        found["Lead workflow rules"].finding
    )


async def test_the_assignment_rule_is_said_to_run_for_nothing_that_we_write() -> None:
    rules = [
        {"Name": "By region", "SobjectType": "Lead", "Active": True},
        {"Name": "Old", "SobjectType": "Lead", "Active": False},
        {"Name": "Support", "SobjectType": "Case", "Active": True},
    ]
    found = await examined({"assignment_rules": rules})
    assert found["Lead assignment rules"].status is CheckupStatus.OK
    assert found["Lead assignment rules"].finding == (
        "By region is active, and runs for no record that the sink writes"
    )


async def test_an_assignment_rule_that_is_asked_for_and_missing_is_a_warning() -> None:
    found = await examined_world({}, PEOPLE_OWNER="assignment_rule")
    assert found["Lead assignment rules"].status is CheckupStatus.WARN
    rules = {"assignment_rules": [{"Name": "By region", "SobjectType": "Lead", "Active": True}]}
    found = await examined_world({"automation": rules}, PEOPLE_OWNER="assignment_rule")
    assert found["Lead assignment rules"].status is CheckupStatus.OK
    assert "runs for Leads that a live change creates" in found["Lead assignment rules"].finding


REP, OTHER, QUEUE = make_id("005", 11), make_id("005", 13), make_id("00G", 1)


@pytest.mark.parametrize(
    ("deployed", "right", "status", "text"),
    [
        (False, False, CheckupStatus.OK, "is not deployed"),
        (True, False, CheckupStatus.WARN, "may not assign Contactstream_Bulk_Load to itself"),
        (True, True, CheckupStatus.OK, "during a first sync"),
    ],
)
def test_the_permission_of_bulk_loads_is_named_with_its_remedy(
    deployed: bool, right: bool, status: CheckupStatus, text: str
) -> None:
    sets = [{"Id": "0PS"}] if deployed else []
    found = bulk_load_permission(sets, [{"PermissionsAssignPermissionSets": right}])
    assert found.status is status
    assert text in found.finding
    assert bool(found.remedy) is (status is CheckupStatus.WARN)


async def test_doctor_asks_for_the_permission_of_bulk_loads() -> None:
    found = await examined_world({"permission_sets": {BULK_LOAD_PERMISSION: []}})
    assert found["bulk load permission"].status is CheckupStatus.WARN


async def test_nothing_is_said_of_owners_where_our_user_owns_everything() -> None:
    found = await examined_world({})
    assert not [check for check in found if check.startswith("owners")]


async def test_what_is_given_away_must_stay_editable() -> None:
    found = await examined_world({}, PEOPLE_OWNER="user")
    lead, contact = (found[f"owners: {name} records of others"] for name in ("Lead", "Contact"))
    assert lead.status is CheckupStatus.OK  # the org-wide default is Public Read/Write/Transfer
    private = {"leads": [{"LastName": "H", "Company": "H", "_hidden": True}]}
    found = await examined_world(private, PEOPLE_OWNER="user")
    lead = found["owners: Lead records of others"]
    assert lead.status is CheckupStatus.WARN
    assert "no role" in lead.finding
    assert "Modify All on Lead" in lead.remedy
    assert contact.check == "owners: Contact records of others"


@pytest.mark.parametrize(
    ("owners_of_leads", "status", "text"),
    [
        ((REP, REP), CheckupStatus.OK, "may edit all 2 Lead records of others that were tried"),
        ((REP, OTHER), CheckupStatus.WARN, "may edit 1 of the 2 newest records of others"),
        ((OTHER,) * 201, CheckupStatus.WARN, "may edit 0 of the 200 newest records of others"),
        ((), CheckupStatus.WARN, "there is no record of others to try"),
    ],
)
async def test_records_of_others_are_tried_because_sharing_rules_may_open_them(
    owners_of_leads: tuple[str, ...], status: CheckupStatus, text: str
) -> None:
    """A sharing rule gives our user Read/Write on the records of REP alone."""
    leads = [
        {"LastName": f"L{number}", "Company": "C", "OwnerId": owner}
        for number, owner in enumerate(owners_of_leads)
    ]
    world = {
        "users": [{"Id": REP, "Email": "rep@x.example"}, {"Id": OTHER, "Email": "o@x.example"}],
        "leads": leads,
        "settings": {"edits_own_records_only": True, "shared_owner": REP},
    }
    found = (await examined_world(world, PEOPLE_OWNER="user"))["owners: Lead records of others"]
    assert found.status is status
    assert text in found.finding
    assert "does not show its sharing rules by REST" in found.finding
    assert ("Sharing Settings" in (found.remedy or "")) is (status is CheckupStatus.WARN)


def test_sharing_rules_are_named_where_the_org_shows_them() -> None:
    private = parse_sharing(
        [{"PermissionsViewAllData": True, "PermissionsModifyAllData": False}],
        [],
        [{"DefaultLeadAccess": "Read"}],
    )
    asked = ["00Q1", "00Q2"]
    may = [
        {"RecordId": "00Q1", "HasEditAccess": True},
        {"RecordId": "00Q2", "HasEditAccess": False},
    ]
    rules = [{"Name": "Reps to Integration"}, {"Name": "All to Ops"}]
    for shown, text in (
        (rules, "let somebody edit a Lead: All to Ops, Reps to Integration"),
        ([], "no sharing rule by owner lets anybody edit a Lead"),
        (None, "does not show its sharing rules"),
    ):
        access = record_access(asked, may, shown)
        assert (access.tried, access.editable) == (2, 1)
        policy = OwnerPolicy((OwnerRule.USER,))
        assert text in given_away("Lead", policy, private, [], access).finding


async def test_users_with_one_address_are_counted() -> None:
    users = [{"Email": "rep@x.example"}, {"Email": "Rep@x.example.invalid"}]
    found = await examined_world({"users": users}, PEOPLE_OWNER="user")
    assert found["owners: users"].status is CheckupStatus.WARN
    assert "1 values belong to several users" in found["owners: users"].finding


@pytest.mark.parametrize(
    ("owner", "status", "text"),
    [
        (REP, CheckupStatus.OK, "active"),
        (make_id("005", 12), CheckupStatus.FAIL, "not an active user"),
        (make_id("005", 999), CheckupStatus.FAIL, "is no user of this org"),
        (QUEUE, CheckupStatus.OK, "serves Leads"),
        (make_id("00G", 2), CheckupStatus.FAIL, "no queue that serves Leads"),
    ],
)
async def test_the_configured_owner_is_held_to_what_it_can_own(
    owner: str, status: CheckupStatus, text: str
) -> None:
    world = {
        "users": [
            {"Id": REP, "Email": "rep@x.example"},
            {"Id": make_id("005", 12), "Email": "left@x.example", "IsActive": False},
        ],
        "queues": [
            {"Id": QUEUE, "Name": "In", "sobjects": ["Lead"]},
            {"Id": make_id("00G", 2), "Name": "Cases", "sobjects": ["Case"]},
        ],
    }
    found = await examined_world(world, PEOPLE_OWNER="configured", PEOPLE_OWNER_ID=owner)
    assert found["owners: configured"].status is status
    assert text in found["owners: configured"].finding


async def test_the_lead_source_of_the_settings_is_held_to_a_restricted_picklist() -> None:
    document = {"fields": {"Lead": {"LeadSource": {"restrictedPicklist": True}}}}
    found = await examined_world(document, PEOPLE_LEAD_SOURCE="Address book")
    assert found["Lead.LeadSource"].status is CheckupStatus.FAIL
    assert "'Address book'" in found["Lead.LeadSource"].finding
    assert "PEOPLE_LEAD_SOURCE" in found["Lead.LeadSource"].remedy


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT Name, Metadata FROM WorkflowRule", "malformed_query"),
        ("SELECT Name, Active FROM WorkflowRule", "invalid_field"),
        ("SELECT ApiName FROM FlowDefinitionView", "invalid_type"),
    ],
)
async def test_the_simulated_tooling_api_refuses_what_an_org_refuses(
    statement: str, code: str
) -> None:
    world = World({"automation": {"workflow_rules": [rule("One"), rule("Two")]}})
    async with TestServer(app(world)) as server:
        http = http_client()
        login = ClientCredentials("id", "secret", str(server.make_url("")).rstrip("/"))
        async with SalesforceClient(Session(login, http), http) as client:
            with pytest.raises(RequestRejected) as refused:
                await client.get(f"/tooling/query?q={statement}", "tooling_query")
    assert refused.value.verdict.reason == code


async def test_the_simulated_rest_api_has_no_workflow_rules() -> None:
    world = World()
    async with TestServer(app(world)) as server:
        http = http_client()
        login = ClientCredentials("id", "secret", str(server.make_url("")).rstrip("/"))
        async with SalesforceClient(Session(login, http), http) as client:
            with pytest.raises(RequestRejected, match="INVALID_TYPE"):
                await client.query_all("SELECT Name FROM WorkflowRule")


def test_a_world_with_an_unknown_field_of_its_automation_is_refused_by_name() -> None:
    with pytest.raises(BadValueError, match=r"automation\.triggers\[0\]\.Body"):
        World({"automation": {"triggers": [{"Body": "trigger"}]}})
    with pytest.raises(BadValueError, match=r"automation\.processes"):
        World({"automation": {"processes": []}})
