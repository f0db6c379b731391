"""The Salesforce checks of `contactstream doctor`: login, fields, permissions, rules and calls."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from connectors.salesforce import checkup
from connectors.salesforce.address_fields import (
    Indexes,
    index_query,
    parse_indexes,
    used_address_fields,
)
from connectors.salesforce.api.auth import Session
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.api.composite import Subrequest, parse_query, query_page
from connectors.salesforce.api.describe import ObjectDescribe, parse_describe
from connectors.salesforce.api.errors import OrgUnavailable, RequestRejected, SalesforceError
from connectors.salesforce.checkup.findings import CheckupFinding, CheckupStatus, fail, ok, warn
from connectors.salesforce.checkup.optional_fields import optional_fields
from connectors.salesforce.checkup.sharing import Sharing
from connectors.salesforce.field_paths import MappingError
from connectors.salesforce.field_values import bind
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.owner_rules import OwnerPolicy, OwnerRule
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.queries import soql_text
from connectors.salesforce.schema import schema
from streams.commands.doctor.automation import automation_findings
from streams.commands.doctor.clock import clock_findings
from streams.commands.doctor.deployment import Deployment, not_examined
from streams.commands.doctor.owners import bulk_load_findings, owner_findings
from streams.org import ORG_ANSWER_SECONDS, credentials, mapping, policy
from streams.runtime.wall_clock import ClockWatch
from streams.settings import SalesforceSettings, SettingsError

WRITTEN_OBJECTS = ("Contact", "Lead")
READ_OBJECT = "Account"
OBJECTS = (READ_OBJECT, *WRITTEN_OBJECTS)

# The Tooling API returns `Metadata` only in a query for a single row.
VERSION_RULE_QUERY = (
    "SELECT ValidationName, Active, Metadata FROM ValidationRule "
    "WHERE ValidationName = {name} AND EntityDefinition.QualifiedApiName = {sobject}"
)
USER_PERMISSIONS_QUERY = (
    "SELECT PermissionsViewAllData, PermissionsModifyAllData, PermissionsViewSetup "
    "FROM UserPermissionAccess"
)
# A user's profile is assigned like a permission set, so this covers both.
OBJECT_PERMISSIONS_QUERY = (
    "SELECT SobjectType, PermissionsViewAllRecords, PermissionsModifyAllRecords "
    "FROM ObjectPermissions WHERE SobjectType IN ('Account', 'Contact', 'Lead') AND ParentId IN "
    "(SELECT PermissionSetId FROM PermissionSetAssignment WHERE AssigneeId = {user})"
)
ORG_WIDE_DEFAULTS_QUERY = (
    "SELECT DefaultAccountAccess, DefaultContactAccess, DefaultLeadAccess FROM Organization"
)


async def examine_org(deployment: Deployment) -> list[CheckupFinding]:
    """Findings about the org, as the user of the sink sees it."""
    settings = deployment.salesforce
    if settings is None:
        return []
    try:
        login = credentials(settings)
    except SettingsError as error:
        return [
            fail("login", str(error), "see deploy/salesforce/README.md"),
            not_examined("the org", "log in first"),
        ]
    rules, allowed, findings = _load_policy(settings, deployment)
    clock = ClockWatch("Salesforce")
    http = http_client(clock.on_date)
    session = Session(login, http)
    async with SalesforceClient(
        session, http, settings.api_version, answer_seconds=ORG_ANSWER_SECONDS
    ) as client:
        logged_in, login_findings = await _log_in(session, settings)
        findings += [*login_findings, *clock_findings(clock)]
        if not logged_in:
            return [*findings, not_examined("the org", "log in first")]
        findings += await _OrgQuestions(client).ask_all(settings, rules, allowed)
    return findings


def _load_policy(
    settings: SalesforceSettings, deployment: Deployment
) -> tuple[FieldMapping | None, Policy | None, list[CheckupFinding]]:
    """The field mapping and the policy of the settings; None, with a finding, where unusable."""
    try:
        rules = mapping(settings)
    except MappingError as error:
        unusable = fail("mapping", str(error), "correct the file of SALESFORCE_MAPPING_FILE")
        return None, None, [unusable, not_examined("mapped fields")]
    if deployment.people is None or deployment.nylas is None:
        return rules, None, []
    try:
        allowed = policy(settings, deployment.people, deployment.nylas.sources)
    except (SettingsError, SalesforceError) as error:
        remedy = "correct the setting; the sink does not start with it"
        return rules, None, [fail("people", str(error), remedy)]
    return allowed.mapping, allowed, []


async def _log_in(
    session: Session, settings: SalesforceSettings
) -> tuple[bool, list[CheckupFinding]]:
    try:
        token = await session.token()
    except OrgUnavailable as error:
        remedies = {
            "login": "check the app's consumer key, its run-as or pre-authorised user, "
            "the secret or key, and SALESFORCE_LOGIN_URL",
            "network": f"check that {settings.login_url} can be reached from here",
        }
        remedy = remedies.get(error.reason, "try again later; the sink waits for it by itself")
        return False, [fail("login", str(error), remedy)]
    except SalesforceError as error:
        remedy = "check SALESFORCE_LOGIN_URL: the answer does not come from Salesforce"
        return False, [fail("login", str(error), remedy)]
    return True, [ok("login", f"at {token.instance_url}"), checkup.user(token.user_id)]


class _OrgQuestions:
    """Asks a logged-in org. A refused question never prevents another one."""

    def __init__(self, client: SalesforceClient) -> None:
        self._client = client

    async def ask_all(
        self, settings: SalesforceSettings, rules: FieldMapping | None, allowed: Policy | None
    ) -> list[CheckupFinding]:
        """The findings of every question.

        The questions are asked at the same time, so that an org that does not answer costs one
        time-out instead of one for each question. Without the version of the REST API that the
        settings name, the org would refuse every other question.
        """
        (sharing, sees_setup), (version, served) = await asyncio.gather(
            self._sharing(), self._api_version(settings.api_version)
        )
        if not served:
            return [*version, not_examined("the org", "set a version that the org serves first")]
        without_accounts = allowed is not None and not allowed.creation.uses_accounts
        objects = WRITTEN_OBJECTS if without_accounts else OBJECTS
        described = {name: asyncio.ensure_future(self._describe(name)) for name in objects}
        questions = [
            self._fields(sobject, answer, rules, allowed) for sobject, answer in described.items()
        ]
        wanted = {} if allowed is None else allowed.address_fields
        indexes = asyncio.ensure_future(self._indexes(wanted))
        questions += [
            self._own_address_fields(described[sobject], names, indexes)
            for sobject, names in wanted.items()
        ]
        questions.append(self._person_accounts(described, rules))
        questions.append(self._full_lookup(described, rules, wanted, indexes))
        for sobject in WRITTEN_OBJECTS:
            questions.append(self._version_rule(sobject, sees_setup))
            questions.append(self._duplicate_rules(sobject, allow_save=settings.allow_save))
        questions.append(self._lead_conversion(sees_setup))
        owners = OwnerPolicy() if allowed is None else allowed.owners
        query = self._client.query_all
        questions.append(
            automation_findings(
                self._ask,
                query,
                self._tooling_query,
                sees_setup,
                asked_for=OwnerRule.ASSIGNMENT_RULE in owners.rules,
            )
        )
        questions.append(bulk_load_findings(self._ask, query))
        questions.append(
            owner_findings(self._ask, query, owners, sharing, await self._client.user_id())
        )
        findings = [*version]
        findings += [one for answer in await asyncio.gather(*questions) for one in answer]
        for sobject in objects:
            findings += checkup.visibility(sobject, sharing)
        return [*findings, await self._daily_calls(settings.call_reserve)]

    async def _api_version(self, wanted: str) -> tuple[list[CheckupFinding], bool]:
        """The findings about the version, and False if the org says that it does not serve it."""
        served = True

        def judge(versions: Any) -> list[CheckupFinding]:
            nonlocal served
            finding = checkup.api_version(versions, wanted)
            served = finding.status is not CheckupStatus.FAIL
            return [finding]

        asked = self._client.get("/services/data", "versions")
        return await self._ask("API version", asked, judge), served

    async def _describe(self, sobject: str) -> Any:
        return await self._client.get(f"/sobjects/{sobject}/describe", "describe")

    def _fields(
        self,
        sobject: str,
        described: Awaitable[Any],
        rules: FieldMapping | None,
        allowed: Policy | None,
    ) -> Awaitable[list[CheckupFinding]]:
        return self._ask(
            f"{sobject} fields",
            described,
            lambda body: field_findings(body, rules, allowed),
            f"grant the user the object: {checkup.PERMIT}",
        )

    async def _indexes(self, wanted: Mapping[str, Sequence[str]]) -> Indexes:
        """What the org says of indexes, asked as the sink asks; None without an answer."""
        rows = await self._rows(index_query(wanted)) if wanted else ()
        return None if rows is None else parse_indexes(rows)

    async def _own_address_fields(
        self, described: Awaitable[Any], names: Sequence[str], indexes: Awaitable[Indexes]
    ) -> list[CheckupFinding]:
        """No finding without the describe: the findings about fields report that."""
        shape = await _shape(described)
        return checkup.own_address_fields(shape, names, await indexes) if shape else []

    async def _person_accounts(
        self, described: Mapping[str, Awaitable[Any]], rules: FieldMapping | None
    ) -> list[CheckupFinding]:
        """No finding without the describe of Contact: the findings about fields report that."""
        contact = await _shape(described["Contact"])
        if contact is None:
            return []
        account = await _shape(described[READ_OBJECT]) if READ_OBJECT in described else None
        there = checkup.has_person_accounts(contact)
        number = await self._number(checkup.PERSON_ACCOUNTS_QUERY) if there else None
        return [checkup.person_accounts(contact, account, number, rules)]

    async def _number(self, soql: str) -> int | None:
        """What a COUNT() query counts; None without an answer."""
        try:
            body = await self._client.get(f"/query?q={quote(soql, safe='')}", "query")
            return parse_query(body).total
        except SalesforceError:
            return None

    async def _full_lookup(
        self,
        described: Mapping[str, Awaitable[Any]],
        rules: FieldMapping | None,
        wanted: Mapping[str, Sequence[str]],
        indexes: Awaitable[Indexes],
    ) -> list[CheckupFinding]:
        """Sends one lookup that is as large as the sink's may be.

        No finding without the fields that it asks for, or when only the reserve of calls is left:
        the findings about fields and about daily calls report that.
        """
        try:
            shapes = [parse_describe(await described[name]) for name in WRITTEN_OBJECTS]
            known = await indexes
            schemas = {
                shape.name: schema(
                    shape,
                    bind(rules or FieldMapping(), shape),
                    address_fields=used_address_fields(shape, wanted, known),
                )
                for shape in shapes
            }
        except SalesforceError:
            return []
        if self._client.budget.exhausted:
            return []
        requests = checkup.full_lookup(schemas)
        return await self._ask(
            checkup.LOOKUP_CHECK,
            self._refusal(requests),
            lambda refused: [checkup.lookup_size(requests, refused)],
        )

    async def _refusal(self, requests: Sequence[Subrequest]) -> RequestRejected | None:
        """Why the org refuses these queries; None if it answers them."""
        try:
            for answer in await self._client.composite(requests, "composite_query"):
                query_page(answer)
        except RequestRejected as refused:
            return refused
        return None

    def _version_rule(
        self, sobject: str, sees_setup: bool | None
    ) -> Awaitable[list[CheckupFinding]]:
        query = VERSION_RULE_QUERY.format(
            name=soql_text(checkup.VERSION_RULE), sobject=soql_text(sobject)
        )
        return self._ask(
            f"{sobject} version rule",
            self._tooling_query(query),
            lambda rows: [checkup.version_rule(sobject, rows, sees_setup)],
            optional=True,
        )

    def _duplicate_rules(
        self, sobject: str, *, allow_save: bool
    ) -> Awaitable[list[CheckupFinding]]:
        return self._ask(
            f"{sobject} duplicate rules",
            self._client.get(f"/ui-api/duplicates/{sobject}", "duplicate_rules"),
            partial(checkup.duplicate_rules, sobject, allow_save=allow_save),
            "look in Setup, Duplicate Rules",
            optional=True,
        )

    def _lead_conversion(self, sees_setup: bool | None) -> Awaitable[list[CheckupFinding]]:
        return self._ask(
            "lead conversion",
            self._tooling_query("SELECT Metadata FROM LeadConvertSettings"),
            lambda rows: [checkup.lead_conversion(rows, sees_setup)],
            optional=True,
        )

    async def _ask(
        self,
        check: str,
        question: Awaitable[Any],
        judge: Callable[[Any], list[CheckupFinding]],
        remedy: str = checkup.SEE_SETUP,
        *,
        optional: bool = False,
    ) -> list[CheckupFinding]:
        """The findings that `judge` makes of the answer.

        Without an answer it is a warning for an `optional` question, and a failure for one that
        the sink has to ask as well.
        """
        try:
            return judge(await question)
        except RequestRejected as refused:
            if optional:
                return [warn(check, f"cannot tell: {refused}", remedy)]
            return [fail(check, str(refused), remedy)]
        except SalesforceError as error:
            if optional:
                return [warn(check, f"cannot tell: {error}", "try again later")]
            later = "try again later; the sink waits for it by itself"
            return [fail(check, f"no answer: {error}", later)]

    async def _sharing(self) -> tuple[Sharing, bool | None]:
        """What the user may see, and whether it has View Setup; None where the org does not say."""
        user = await self._client.user_id()
        permissions, objects, organization = await asyncio.gather(
            self._rows(USER_PERMISSIONS_QUERY),
            self._rows(OBJECT_PERMISSIONS_QUERY.format(user=soql_text(user or ""))),
            self._rows(ORG_WIDE_DEFAULTS_QUERY),
        )
        sees_setup = permissions[0].get("PermissionsViewSetup") if permissions else None
        return (
            checkup.parse_sharing(permissions, objects, organization),
            sees_setup if isinstance(sees_setup, bool) else None,
        )

    async def _rows(self, soql: str) -> Sequence[Mapping[str, Any]] | None:
        """The rows of a query; None without an answer, which its checks report as "cannot tell"."""
        try:
            return await self._client.query_all(soql)
        except SalesforceError:
            return None

    async def _tooling_query(self, soql: str) -> list[Mapping[str, Any]]:
        body = await self._client.get(f"/tooling/query?q={quote(soql, safe='')}", "tooling_query")
        return list(parse_query(body).records)

    async def _daily_calls(self, reserve: float) -> CheckupFinding:
        try:
            usage = (await self._client.limits()).get("DailyApiRequests")
        except SalesforceError:
            usage = None
        return checkup.daily_calls(usage or self._client.budget.usage, reserve)


async def _shape(described: Awaitable[Any]) -> ObjectDescribe | None:
    """The describe that is on its way; None where the org refuses it."""
    try:
        return parse_describe(await described)
    except SalesforceError:
        return None


def field_findings(
    body: Any, rules: FieldMapping | None, allowed: Policy | None
) -> list[CheckupFinding]:
    """Findings about the fields of one object; `body` is the answer to its describe call."""
    described = parse_describe(body)
    if described.name == READ_OBJECT:
        found = checkup.accounts(described)
        if allowed is None:
            return found
        account_rules = allowed.account_rules
        found += checkup.account_evidence(described, account_rules)
        used = checkup.evidence_in_use(
            account_rules, allowed.account_domains, allowed.contact_share
        )
        return [*found, used]
    findings = [
        checkup.access(described),
        checkup.key_field(described),
        checkup.version_field(described),
        checkup.marker_field(described),
        *checkup.address_fields(described),
        *checkup.links(described),
    ]
    if allowed is not None and allowed.on_delete is OnDelete.FLAG and allowed.flag_field:
        findings.append(checkup.flag_field(described, allowed.flag_field))
    mailbox = allowed is not None and allowed.source_mailbox
    findings.append(optional_fields(described, source_mailbox=mailbox))
    if rules is not None:
        findings += checkup.mapped_fields(described, rules)
        findings += [checkup.unserved(described, rules), checkup.record_types(body, rules)]
    return findings
