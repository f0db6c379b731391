"""`contactstream doctor`: looks at everything that a deployment hangs on, and says what is wrong
and what to do. Changes nothing.
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import click
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.nylas.client import NylasClient
from connectors.nylas.errors import NylasError, Refused
from connectors.nylas.grants import list_grants, unreadable
from connectors.salesforce import checkup
from connectors.salesforce.api.auth import Session
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.api.composite import parse_query
from connectors.salesforce.api.describe import ObjectDescribe, parse_describe
from connectors.salesforce.api.errors import OrgUnavailable, RequestRejected, SalesforceError
from connectors.salesforce.checkup import CheckupFinding, CheckupStatus, Sharing, fail, ok, warn
from connectors.salesforce.field_paths import MappingError
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.queries import soql_text
from streams.kafka.admin import check
from streams.kafka.clients import client_config
from streams.kafka.lag import lag
from streams.org import credentials, mapping, policy
from streams.settings import (
    KafkaSettings,
    NylasSettings,
    PeopleSettings,
    SalesforceSettings,
    SettingsError,
    SettingsGroup,
    load,
)
from streams.topics import group, topics

ANSWER_SECONDS = 20.0  # one question to the org: a describe of many fields takes two or three
BROKER_SECONDS = 10.0  # one request to a broker; a person waits
GROUP_SECONDS = (
    30.0  # a group's offsets: a few requests, where a coordinator may have to be found first
)
NYLAS_SECONDS = (
    30.0  # the grants, page after page; the client itself would wait out a throttle for minutes
)
# one side, more than its own bounds come to: a login and three rounds of questions, or two groups
ALL_SECONDS = 180.0
OBJECTS = ("Contact", "Lead")
READ_ONLY = "Account"
# the Tooling API hands out Metadata for one row at a time
_RULE = (
    "SELECT ValidationName, Active, Metadata FROM ValidationRule "
    "WHERE ValidationName = {name} AND EntityDefinition.QualifiedApiName = {sobject}"
)
# records: where bulk reading stops by default, so more than this is a stage that does not keep up
MUCH_LAG = 20_000


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is examined; None or empty where it is not set here. `broken` are settings that cannot
    be used.
    """

    kafka: KafkaSettings | None
    salesforce: SalesforceSettings | None
    people: PeopleSettings | None
    nylas: NylasSettings | None
    broken: tuple[CheckupFinding, ...] = ()


GroupT = TypeVar("GroupT", bound=SettingsGroup)


def deployment(environ: Mapping[str, str] | None = None) -> Deployment:
    """What the environment and its file say; a group that cannot be used is a finding, and the
    others are examined all the same.
    """
    broken: list[CheckupFinding] = []

    def read(kind: type[GroupT]) -> GroupT | None:
        try:
            return load(kind, environ)
        except SettingsError as error:
            broken.append(
                fail(
                    f"settings {kind.prefix}", str(error), "mend it; see the settings in README.md"
                )
            )
            return None

    return Deployment(
        read(KafkaSettings),
        read(SalesforceSettings),
        read(PeopleSettings),
        read(NylasSettings),
        tuple(broken),
    )


def run(deployment: Deployment, *, as_json: bool) -> int:
    """Prints the findings; returns the exit code: 1 when one of them is a failure."""
    findings = asyncio.run(examine(deployment))
    if as_json:
        rows = [asdict(finding) for finding in findings]
        click.echo(json.dumps({"ok": not checkup.failed(findings), "findings": rows}, indent=2))
    else:
        show(findings)
    return 1 if checkup.failed(findings) else 0


async def examine(deployment: Deployment) -> list[CheckupFinding]:
    """All findings, those of Salesforce, Kafka and Nylas side by side. A check that fails hides no
    other.
    """
    sides = await asyncio.gather(
        _bounded("salesforce", examine_org(deployment)),
        _bounded(
            "kafka", _in_daemon(lambda: examine_kafka(deployment.kafka) if deployment.kafka else [])
        ),
        _bounded("nylas", examine_nylas(deployment.nylas)),
    )
    return [*deployment.broken, *(finding for side in sides for finding in side)]


async def _bounded(side: str, examined: Awaitable[list[CheckupFinding]]) -> list[CheckupFinding]:
    try:
        async with asyncio.timeout(ALL_SECONDS):
            return await examined
    except TimeoutError:
        return [
            fail(
                side,
                f"not examined to its end within {ALL_SECONDS:.0f} s",
                "look at the network, and run it again",
            )
        ]


async def _in_daemon(work: Callable[[], list[CheckupFinding]]) -> list[CheckupFinding]:
    """Work that blocks, in a thread that does not hold up the end of the process when nobody waits
    for it any longer.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[CheckupFinding]] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            set_it(value)

    def hand_over(set_it: Callable[[Any], None], value: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            loop.call_soon_threadsafe(settle, set_it, value)

    def blocking() -> None:
        try:
            found = work()
        except Exception as error:
            hand_over(done.set_exception, error)
        else:
            hand_over(done.set_result, found)

    threading.Thread(target=blocking, name="doctor kafka", daemon=True).start()
    return await done


# Salesforce


async def examine_org(deployment: Deployment) -> list[CheckupFinding]:
    """The org, as the sink's user sees it."""
    settings = deployment.salesforce
    if settings is None:
        return []
    try:
        login = credentials(settings)
    except SettingsError as error:
        return [
            fail("login", str(error), "see deploy/salesforce/README.md"),
            _not_examined("the org", "log in first"),
        ]
    rules, allowed, findings = _rules(settings, deployment)
    http = http_client()
    session = Session(login, http)
    async with SalesforceClient(
        session, http, settings.api_version, answer_seconds=ANSWER_SECONDS
    ) as client:
        logged_in, told = await _log_in(session, settings)
        findings += told
        if not logged_in:
            return [*findings, _not_examined("the org", "log in first")]
        org = _Org(client)
        findings += await org.examine(settings, rules, allowed)
    return findings


def _rules(
    settings: SalesforceSettings, deployment: Deployment
) -> tuple[FieldMapping | None, Policy | None, list[CheckupFinding]]:
    try:
        rules = mapping(settings)
    except MappingError as error:
        return (
            None,
            None,
            [
                fail("mapping", str(error), "mend SALESFORCE_MAPPING_FILE"),
                _not_examined("mapped fields"),
            ],
        )
    if deployment.people is None or deployment.nylas is None:
        return rules, None, []
    try:
        return rules, policy(settings, deployment.people, deployment.nylas.sources), []
    except (SettingsError, SalesforceError) as error:
        return (
            rules,
            None,
            [fail("people", str(error), "mend the setting; the sink does not start like this")],
        )


async def _log_in(
    session: Session, settings: SalesforceSettings
) -> tuple[bool, list[CheckupFinding]]:
    try:
        token = await session.token()
    except OrgUnavailable as error:
        remedy = {
            "login": "check the app's consumer key, its run-as or pre-authorised user, the secret or key, and SALESFORCE_LOGIN_URL",
            "network": f"check that {settings.login_url} can be reached from here",
        }.get(error.reason, "try again later; the sink waits for it by itself")
        return False, [fail("login", str(error), remedy)]
    except SalesforceError as error:
        return False, [
            fail("login", str(error), "check SALESFORCE_LOGIN_URL: this is not Salesforce's answer")
        ]
    return True, [ok("login", f"at {token.instance_url}"), checkup.user(token.user_id)]


def _not_examined(what: str, remedy: str = "mend the fault above first") -> CheckupFinding:
    return warn(what, "not examined", remedy)


class _Org:
    """The questions to a logged-in org, each of which may be refused without hiding the others."""

    def __init__(self, client: SalesforceClient) -> None:
        self._client = client

    async def examine(
        self, settings: SalesforceSettings, rules: FieldMapping | None, allowed: Policy | None
    ) -> list[CheckupFinding]:
        """All at once, so that an org that answers nothing costs one time-out and not one for each
        question.
        """
        sharing, sees_setup = await self._sharing()
        asked = [
            self._told(
                "API version",
                self._client.get("/services/data", "versions"),
                lambda versions: [checkup.api_version(versions, settings.api_version)],
            )
        ]
        asked += [
            self._told(
                f"{sobject} fields",
                self._client.get(f"/sobjects/{sobject}/describe", "describe"),
                lambda body: _fields(body, rules, allowed),
                f"grant the user the object: {checkup.PERMIT}",
            )
            for sobject in (READ_ONLY, *OBJECTS)
        ]
        for sobject in OBJECTS:
            asked += [
                self._told(
                    f"{sobject} version rule",
                    self._tooling(
                        _RULE.format(
                            name=soql_text(checkup.VERSION_RULE), sobject=soql_text(sobject)
                        )
                    ),
                    partial(_version_rule, sobject, sees_setup),
                    optional=True,
                ),
                self._told(
                    f"{sobject} duplicate rules",
                    self._client.get(f"/ui-api/duplicates/{sobject}", "duplicate_rules"),
                    partial(checkup.duplicate_rules, sobject, allow_save=settings.allow_save),
                    "look in Setup, Duplicate Rules",
                    optional=True,
                ),
            ]
        asked.append(
            self._told(
                "lead conversion",
                self._tooling("SELECT Metadata FROM LeadConvertSettings"),
                lambda rows: [checkup.lead_conversion(rows, sees_setup)],
                optional=True,
            )
        )
        findings = [finding for told in await asyncio.gather(*asked) for finding in told]
        seen = (READ_ONLY, *OBJECTS)
        findings += [
            finding for sobject in seen for finding in checkup.visibility(sobject, sharing)
        ]
        return [*findings, await self._daily_calls(settings.call_reserve)]

    async def _told(
        self,
        name: str,
        question: Awaitable[Any],
        judge: Callable[[Any], list[CheckupFinding]],
        remedy: str = checkup.SEE_SETUP,
        *,
        optional: bool = False,
    ) -> list[CheckupFinding]:
        """What the answer comes to. Without one to an `optional` question nobody can tell;
        otherwise the sink would fail.
        """
        try:
            return judge(await question)
        except RequestRejected as refused:
            if optional:
                return [warn(name, f"cannot tell: {refused}", remedy)]
            return [fail(name, str(refused), remedy)]
        except SalesforceError as error:
            if optional:
                return [warn(name, f"cannot tell: {error}", "try again later")]
            return [
                fail(
                    name, f"no answer: {error}", "try again later; the sink waits for it by itself"
                )
            ]

    async def _sharing(self) -> tuple[Sharing, bool | None]:
        user = await self._client.user_id()
        # a user's profile is assigned like a permission set, so this holds both
        mine = f"SELECT PermissionSetId FROM PermissionSetAssignment WHERE AssigneeId = {soql_text(user or '')}"
        permissions, objects, organization = await asyncio.gather(
            self._rows(
                "SELECT PermissionsViewAllData, PermissionsModifyAllData, PermissionsViewSetup FROM UserPermissionAccess"
            ),
            self._rows(
                "SELECT SobjectType, PermissionsViewAllRecords, PermissionsModifyAllRecords FROM ObjectPermissions "
                f"WHERE SobjectType IN ('Account', 'Contact', 'Lead') AND ParentId IN ({mine})"
            ),
            self._rows(
                "SELECT DefaultAccountAccess, DefaultContactAccess, DefaultLeadAccess FROM Organization"
            ),
        )
        sees_setup = permissions[0].get("PermissionsViewSetup") if permissions else None
        return (
            checkup.parse_sharing(permissions, objects, organization),
            sees_setup if isinstance(sees_setup, bool) else None,
        )

    async def _rows(self, soql: str) -> Sequence[Mapping[str, Any]] | None:
        """None where the org does not answer; the checks that hang on it then say that they cannot
        tell.
        """
        try:
            return await self._client.query_all(soql)
        except SalesforceError:
            return None

    async def _tooling(self, soql: str) -> list[Mapping[str, Any]]:
        body = await self._client.get(f"/tooling/query?q={quote(soql, safe='')}", "tooling_query")
        return list(parse_query(body).records)

    async def _daily_calls(self, reserve: float) -> CheckupFinding:
        try:
            usage = (await self._client.limits()).get("DailyApiRequests")
        except SalesforceError:
            usage = None
        return checkup.daily_calls(usage or self._client.budget.usage, reserve)


def _version_rule(
    sobject: str, sees_setup: bool | None, rows: Sequence[Mapping[str, Any]]
) -> list[CheckupFinding]:
    return [checkup.version_rule(sobject, rows, sees_setup)]


def _fields(body: Any, rules: FieldMapping | None, allowed: Policy | None) -> list[CheckupFinding]:
    described: ObjectDescribe = parse_describe(body)
    if described.name == READ_ONLY:
        return checkup.accounts(described)
    found = [
        checkup.access(described),
        checkup.key_field(described),
        checkup.version_field(described),
    ]
    found += [*checkup.address_fields(described), *checkup.links(described)]
    if allowed is not None and allowed.on_delete is OnDelete.FLAG and allowed.flag_field:
        found.append(checkup.flag_field(described, allowed.flag_field))
    if rules is not None:
        found += checkup.mapped_fields(described, rules)
        found += [checkup.unserved(described, rules), checkup.record_types(body, rules)]
    if described.name == "Contact":
        found.append(checkup.person_accounts(described))
    return found


# Kafka


def examine_kafka(kafka: KafkaSettings) -> list[CheckupFinding]:
    """The broker, the topics, and how far the groups are. Blocks for up to half a minute for each
    group.
    """
    config = client_config(kafka) | {
        "log_level": 0,
        "error_cb": lambda _: None,
    }  # what goes wrong is a finding
    try:
        admin = AdminClient(
            config
        )  # refuses certificates that it cannot read, and SASL without a user
        known = admin.list_topics(timeout=BROKER_SECONDS)
    except KafkaException as error:
        remedy = "check KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the credentials, and that the broker runs"
        finding = f"none answers at {kafka.bootstrap_servers}: {error.args[0].str()}"
        return [
            fail("broker", finding, remedy),
            _not_examined("topics and groups", "reach the broker first"),
        ]
    findings = [ok("broker", f"{len(known.brokers)} at {kafka.bootstrap_servers}")]
    wanted = topics(kafka)
    findings += _topics(admin, kafka)
    for stage, topic in (("dedupe", wanted.events), ("sink", wanted.changes)):
        if topic.name in known.topics:
            partitions = sorted(known.topics[topic.name].partitions)
            findings += _group(config, stage, group(kafka, stage), topic.name, partitions)
        else:
            findings.append(_not_examined(f"group of {stage}", "contactstream topics create"))
    return findings


def _topics(admin: AdminClient, kafka: KafkaSettings) -> list[CheckupFinding]:
    wanted = topics(kafka)
    try:
        found = [
            fail(f"topic {one.topic}", one.problem, one.remedy)
            for one in check(admin, wanted.all())
        ]
    except KafkaException as error:
        return [
            fail(
                "topics",
                f"the broker does not describe them: {error.args[0].str()}",
                "grant DescribeConfigs on them",
            )
        ]
    return found or [
        ok("topics", f"all {len(wanted.all())} are there, with their policies and partitions")
    ]


def _group(
    config: Mapping[str, Any], stage: str, name: str, topic: str, partitions: Sequence[int]
) -> list[CheckupFinding]:
    consumer = Consumer(
        {**config, "group.id": name, "enable.auto.commit": False}
    )  # never subscribes, so it joins nothing
    try:
        asked = [TopicPartition(topic, partition) for partition in partitions]
        committed = {
            one.partition: one.offset for one in consumer.committed(asked, timeout=GROUP_SECONDS)
        }
        ranges = {
            one.partition: consumer.get_watermark_offsets(one, timeout=BROKER_SECONDS)
            for one in asked
        }
    except KafkaException as error:
        return [
            fail(
                f"group of {stage}",
                f"no answer: {error.args[0].str()}",
                f"grant Read on {topic} and on the group {name}",
            )
        ]
    finally:
        consumer.close()
    return progress(stage, name, topic, committed, ranges)


def progress(
    stage: str,
    name: str,
    topic: str,
    committed: Mapping[int, int],
    ranges: Mapping[int, tuple[int, int]],
) -> list[CheckupFinding]:
    """How far a group is. `committed` is negative without a commit; `ranges` are the first and the
    next offset of each partition.
    """
    found = []
    where = f"offsets of {stage}"
    for partition, (start, end) in sorted(ranges.items()):
        offset = committed.get(partition, -1)
        place = f"{topic}[{partition}]: the committed offset {offset}"
        if 0 <= offset < start:
            remedy = f"contactstream reconcile --all, then reset the group {name} to {start}"
            found.append(
                fail(
                    where,
                    f"{place} lies below the start of the log, {start}: records expired unread",
                    remedy,
                )
            )
        elif offset > end:
            remedy = f"the topic was made anew: reset the group {name} to its start, then contactstream reconcile --all"
            found.append(fail(where, f"{place} lies beyond the end of the log, {end}", remedy))
    if not found:
        found.append(ok(where, "inside the log"))
    behind = lag(
        committed,
        {number: start for number, (start, _) in ranges.items()},
        {n: end for n, (_, end) in ranges.items()},
    )
    if behind > MUCH_LAG:
        found.append(
            warn(
                f"lag of {stage}",
                f"{behind:,} records",
                f"look whether contactstream {stage} runs and keeps up",
            )
        )
    elif behind and all(offset < 0 for offset in committed.values()):
        found.append(
            warn(
                f"lag of {stage}",
                f"{behind:,} records, and it never committed",
                f"start contactstream {stage}",
            )
        )
    else:
        found.append(ok(f"lag of {stage}", f"{behind:,} records"))
    return found


# Nylas


async def examine_nylas(nylas: NylasSettings | None) -> list[CheckupFinding]:
    """The key, and whose address books it opens; nothing where no key is set, as on a host that
    runs only the sink.
    """
    key = nylas.api_key.get_secret_value() if nylas else ""
    if nylas is None or not key:
        return []
    try:
        async with (
            asyncio.timeout(NYLAS_SECONDS),
            NylasClient(nylas.api_url, key, tries=2) as client,
        ):
            grants = await list_grants(client)
    except Refused as error:
        return [
            fail(
                "Nylas key",
                str(error),
                "check NYLAS_API_KEY, and NYLAS_API_URL: a key is valid in one region",
            )
        ]
    except (NylasError, TimeoutError) as error:
        finding = str(error) or f"no answer within {NYLAS_SECONDS:.0f} s"
        return [fail("Nylas key", finding, f"check that {nylas.api_url} can be reached from here")]
    found = [ok("Nylas key", f"opens {len(grants)} grants")]
    if not grants:
        found.append(warn("grants", "there are none", "have somebody connect an account"))
    remedies = {
        "expired": "have its owner sign in again",
        "no_scope": "add a scope for contacts to the connector, and have its owner sign in again",
        "blocked": "unblock it in the Nylas dashboard",
    }
    found += [
        warn(f"grant {grant.id}", f"its address book cannot be read: {reason}", remedies[reason])
        for grant in grants
        if (reason := unreadable(grant)) in remedies
    ]
    return found


# The report

_MARKS = {
    CheckupStatus.OK: ("ok", "green"),
    CheckupStatus.WARN: ("warn", "yellow"),
    CheckupStatus.FAIL: ("fail", "red"),
}


def show(findings: Iterable[CheckupFinding]) -> None:
    """A table in a terminal; elsewhere a line for each finding, with its remedy below it."""
    findings = list(findings)
    console = Console()
    if console.is_terminal:
        table = Table("", "check", "finding", "remedy")
        for one in findings:
            word, colour = _MARKS[one.status]
            table.add_row(Text(word, colour), Text(one.check), Text(one.finding), Text(one.remedy))
        console.print(table)
    else:
        for one in findings:
            click.echo(f"{one.status:<5}{one.check}: {one.finding}")
            if one.remedy:
                click.echo(f"     {one.remedy}")
    bad = sum(one.status is CheckupStatus.FAIL for one in findings)
    unsure = sum(one.status is CheckupStatus.WARN for one in findings)
    click.echo(
        f"{len(findings)} checks: {bad} failed, {unsure} to look at"
        if bad or unsure
        else "everything is as it has to be"
    )
