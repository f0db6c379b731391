"""`contactstream doctor` against a simulated org, a simulated Nylas and a real Kafka.

Whatever is wrong is named, with a remedy.
"""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from deploy.local.broker import Served, free_ports
from streams import cli
from streams.commands.doctor import kafka as kafka_checks
from streams.commands.topic_records import BROKER_WAIT_SECONDS
from streams.kafka.admin import check, create
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.paths import ROOT
from tests.support.processes import MACHINE_VARIABLES, Processes
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
MARKER = "Nylas_Field_Hashes__c"
EMAIL_2, EMAIL_3 = "Nylas_Email_2__c", "Nylas_Email_3__c"
NYLAS_KEY = "nyk_test"
SECONDS = 120.0  # one doctor on two cores that a broker and other tests share
GRANTS = [{"id": "g1", "email": "rep@reps.example", "provider": "google", "contacts": []}]


@dataclass
class SetUp:
    """Where everything answers; `environ` is what doctor is given."""

    http: httpx.Client
    salesforce: str
    nylas: str
    environ: dict[str, str]

    def org(self, world: Mapping[str, Any]) -> None:
        """Makes the org another one, counters and faults included."""
        self.http.put(f"{self.salesforce}/_sim/world", json=dict(world)).raise_for_status()

    def faults(self, *listed: Mapping[str, Any]) -> None:
        self.http.post(
            f"{self.salesforce}/_sim/faults", json={"faults": list(listed)}
        ).raise_for_status()

    def permissions(self, **held: bool) -> None:
        """The permissions of the user in the org."""
        found = self.http.get(f"{self.salesforce}/_sim/records/UserPermissionAccess").json()
        url = f"{self.salesforce}/_sim/records/UserPermissionAccess/{found[0]['Id']}"
        self.http.patch(url, json=held).raise_for_status()

    def sharing(self, **defaults: str) -> None:
        """The org-wide defaults, by object."""
        found = self.http.get(f"{self.salesforce}/_sim/records/Organization").json()
        url = f"{self.salesforce}/_sim/records/Organization/{found[0]['Id']}"
        body = {f"Default{name}Access": how for name, how in defaults.items()}
        self.http.patch(url, json=body).raise_for_status()


@dataclass
class Report:
    """What doctor found. `faults` are the findings that are not ok."""

    code: int
    ok: bool
    found: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def faults(self) -> dict[str, str]:
        return {name: one["status"] for name, one in self.found.items() if one["status"] != "ok"}

    def finding(self, check: str) -> str:
        return self.found[check]["finding"]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of an org and of a Nylas, each a process of its own."""
    folder = tmp_path_factory.mktemp("stand-ins")
    own = Processes(folder, {})
    urls = []
    try:
        for name, world in (
            ("salesforce", {}),
            ("nylas", {"api_key": NYLAS_KEY, "grants": GRANTS}),
        ):
            file = folder / f"{name}.json"
            file.write_text(json.dumps(world))
            process = own.start("simulate", name, "--world", str(file))
            wait_until(lambda log=process: "listening on" in log.log, f"{name} listens")  # type: ignore[misc]
            urls.append(process.log.rpartition("listening on ")[2].split()[0])
        yield urls[0], urls[1]
    finally:
        own.end()


@pytest.fixture(scope="module")
def topics_made(kafka_server: Served) -> Iterator[Kafka]:
    """Topics as they have to be, for all tests that leave them alone."""
    own = Kafka(kafka_server.bootstrap, f"t{uuid.uuid4().hex[:12]}.")
    create(own.admin(), topics(load(KafkaSettings, own.environ)).all())
    yield own
    own.delete_all()


@pytest.fixture
def healthy(stand_ins: tuple[str, str], topics_made: Kafka) -> Iterator[SetUp]:
    """Nothing is wrong."""
    salesforce, nylas = stand_ins
    environ = topics_made.environ | {
        "SALESFORCE_LOGIN_URL": salesforce,
        "SALESFORCE_MODE": "mirror",
        "SALESFORCE_CLIENT_ID": "test",
        "SALESFORCE_CLIENT_SECRET": "test",
        "NYLAS_API_URL": nylas,
        "NYLAS_API_KEY": NYLAS_KEY,
    }
    with httpx.Client(timeout=60) as http:
        one = SetUp(http, salesforce, nylas, environ)
        one.org({})
        one.sharing(Contact="ReadEdit")
        yield one


def examined(one: SetUp, environ: Mapping[str, str] | None = None) -> Report:
    """Runs the command in this process, and holds it to what every report promises."""
    result = CliRunner().invoke(
        cli.main, ["doctor", "--json"], env=one.environ | dict(environ or {})
    )
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output
    printed = json.loads(result.stdout)
    found = {
        each["check"]: each for each in reversed(printed["findings"])
    }  # of several on one topic the first
    for each in printed["findings"]:
        assert set(each) == {"check", "status", "finding", "remedy"}
        assert bool(each["remedy"]) == (each["status"] != "ok"), each
    report = Report(result.exit_code, printed["ok"], found)
    failed = "fail" in report.faults.values()
    assert (report.code, report.ok) == (int(failed), not failed)
    return report


def command(one: SetUp, *words: str) -> "subprocess.CompletedProcess[str]":
    """The real command, in a process of its own."""
    machine = {name: os.environ[name] for name in MACHINE_VARIABLES if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", "doctor", *words],
        env=machine | one.environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


HEALTHY = [
    *("login", "user", "API version", "Account access", "Account.Website", "Account.ParentId"),
    "Account evidence",
    *(
        f"{sobject}{what}"
        for sobject in ("Contact", "Lead")
        for what in (
            *(
                " access",
                f".{KEY}",
                f".{VERSION}",
                f".{MARKER}",
                ".Email",
                f".{EMAIL_2}",
                f".{EMAIL_3}",
                " mapping",
            ),
            *(
                " optional fields",
                " required fields",
                " record types",
                " version rule",
                " duplicate rules",
                " records seen",
            ),
            " records edited",
        )
    ),
    *(
        "Contact.AccountId",
        "Lead.IsConverted",
        "Lead.ConvertedContactId",
        "org of this deployment",
        "person accounts",
        "lead conversion",
        "full-size lookup",
        *(
            f"{sobject} {what}"
            for sobject in ("Contact", "Lead")
            for what in ("flows", "Apex triggers", "workflow rules")
        ),
        "Lead assignment rules",
        "bulk load permission",
    ),
    *(
        "Account records seen",
        "daily API calls",
        "broker",
        "topics",
        "generation of dedupe",
        "offsets of dedupe",
        "lag of dedupe",
    ),
    *("offsets of sink", "lag of sink", "breakers", "mode", "mailboxes", "Nylas key"),
    *("clock, by Nylas", "clock, by Salesforce"),
]


def test_a_healthy_set_up_ends_with_0_and_names_every_check(healthy: SetUp) -> None:
    state = f"{healthy.salesforce}/_sim/state"
    before = healthy.http.get(state).json()["writes"]
    plain, printed = command(healthy), command(healthy, "--json")
    assert (plain.returncode, plain.stderr, printed.returncode, printed.stderr) == (0, "", 0, "")
    *lines, last = plain.stdout.splitlines()
    assert last == "every check passed"
    body = json.loads(printed.stdout)
    assert body["ok"] is True
    calls = "daily API calls: "  # the one finding that the other run changes
    lines = [f"ok   {each['check']}: {each['finding']}" for each in body["findings"]]
    assert [line for line in lines if calls not in line] == [
        line for line in lines if calls not in line
    ]
    assert sorted(each["check"] for each in body["findings"]) == sorted(HEALTHY)
    assert healthy.http.get(state).json()["writes"] == before


def test_a_person_gets_a_table_with_a_remedy_beside_each_finding(healthy: SetUp) -> None:
    healthy.org({"fields": {"Lead": {VERSION: None}}})
    with Terminal("doctor", environ=healthy.environ) as terminal:
        assert terminal.wait(SECONDS) == 1
        words = " ".join(terminal.text.replace("│", " ").split())
    assert "remedy" in words
    assert "missing, or hidden from the user" in words
    assert "assign the permission set Contactstream to the user" in words
    assert "1 failed" in words


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"Contact": {KEY: None}}, {f"Contact.{KEY}": "fail"}),
        ({"Lead": {KEY: {"externalId": False}}}, {f"Lead.{KEY}": "fail"}),
        ({"Lead": {KEY: {"unique": False, "caseSensitive": False}}}, {f"Lead.{KEY}": "fail"}),
        ({"Contact": {KEY: {"caseSensitive": False}}}, {f"Contact.{KEY}": "fail"}),
        ({"Contact": {KEY: {"length": 80}}}, {f"Contact.{KEY}": "fail"}),
        ({"Contact": {VERSION: None}}, {f"Contact.{VERSION}": "fail"}),
        ({"Lead": {VERSION: {"scale": 2}}}, {f"Lead.{VERSION}": "fail"}),
        (
            {"Lead": {EMAIL_2: None, EMAIL_3: None}},
            {f"Lead.{EMAIL_2}": "warn", f"Lead.{EMAIL_3}": "warn"},
        ),
        ({"Contact": {"Region__c": {"nillable": False}}}, {"Contact required fields": "fail"}),
        ({"Contact": {"IsPersonAccount": {"type": "boolean"}}}, {"person accounts": "warn"}),
        ({"Lead": {"Title": {"length": 40}}}, {"Lead.Title": "warn"}),
    ],
    ids=str,
)
def test_wrong_fields_are_found(
    healthy: SetUp, fields: Mapping[str, Any], faults: Mapping[str, str]
) -> None:
    healthy.org({"fields": fields})
    healthy.sharing(Contact="ReadEdit")
    assert examined(healthy).faults == faults


def test_the_orgs_own_address_fields_say_whether_they_are_used(healthy: SetUp) -> None:
    email = {"type": "email", "length": 80}
    fields = {
        "A__c": email | {"externalId": True},
        "B__c": email | {"indexed": True},
        "C__c": email,
    }
    healthy.org({"fields": {"Contact": fields}})
    healthy.sharing(Contact="ReadEdit")
    listed = ",".join(f"Contact.{name}" for name in ("A__c", "B__c", "C__c", "D__c"))
    report = examined(healthy, {"SALESFORCE_ADDRESS_FIELDS": listed})
    assert report.faults == {"Contact.C__c": "warn", "Contact.D__c": "warn"}
    assert "the describe shows" in report.finding("Contact.A__c")
    assert "IsIndexed says" in report.finding("Contact.B__c")
    assert "not indexed" in report.finding("Contact.C__c")


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ({"hidden_fields": [f"Contact.{KEY}"]}, {f"Contact.{KEY}": "fail"}),
        ({"read_only_fields": [f"Lead.{VERSION}"]}, {f"Lead.{VERSION}": "fail"}),
        ({"hidden_fields": ["Lead.Title"]}, {"Lead.Title": "fail"}),
        ({"read_only_fields": ["Contact.MobilePhone"]}, {"Contact.MobilePhone": "fail"}),
        ({"hidden_fields": ["Account.Website"]}, {"Account.Website": "fail"}),
        ({"hidden_fields": ["Account.ParentId"]}, {"Account.ParentId": "warn"}),
        ({"hidden_fields": ["Contact.AccountId"]}, {"Contact.AccountId": "fail"}),
        ({"read_only_fields": ["Contact.AccountId"]}, {"Contact.AccountId": "fail"}),
        (
            {"hidden_fields": ["Lead.IsConverted", "Lead.ConvertedContactId"]},
            {"Lead.IsConverted": "fail", "Lead.ConvertedContactId": "fail"},
        ),
        ({"version_rule": False}, {"Contact version rule": "fail", "Lead version rule": "fail"}),
        ({"lead_mapping": False}, {"lead conversion": "warn"}),
        ({"daily_limit": 1000, "daily_used": 850}, {"daily API calls": "warn"}),
        ({"daily_limit": 1000, "daily_used": 950}, {"daily API calls": "fail"}),
    ],
    ids=str,
)
def test_wrong_permissions_rules_and_limits_are_found(
    healthy: SetUp, settings: Mapping[str, Any], faults: Mapping[str, str]
) -> None:
    healthy.http.post(f"{healthy.salesforce}/_sim/settings", json=settings).raise_for_status()
    assert examined(healthy).faults == faults


def test_the_reserve_of_the_daily_calls_is_the_configured_one(healthy: SetUp) -> None:
    healthy.http.post(
        f"{healthy.salesforce}/_sim/settings", json={"daily_limit": 1000, "daily_used": 600}
    ).raise_for_status()
    assert examined(healthy).faults == {}
    assert examined(healthy, {"SALESFORCE_CALL_RESERVE": "0.5"}).faults == {
        "daily API calls": "fail"
    }


def rule(**metadata: Any) -> dict[str, Any]:
    """An answer to every question to the Tooling API: the version rule, as it stands in the org."""
    ours = {"active": True, "errorDisplayField": VERSION} | metadata
    record = {
        "ValidationName": "Nylas_Version_Never_Goes_Back",
        "Active": ours["active"],
        "Metadata": ours,
    }
    text = json.dumps({"size": 1, "totalSize": 1, "done": True, "records": [record]})
    return {"effect": "status", "kind": "tooling_query", "status": 200, "text": text, "times": None}


OURS = (
    "AND(NOT(ISNEW()), NOT($Permission.Nylas_Restore_Older_Version), "
    "OR(Nylas_Contact_Id__c = PRIORVALUE(Nylas_Contact_Id__c), "
    "AND(ISBLANK(Nylas_Contact_Id__c), ISBLANK(PRIORVALUE(Nylas_Contact_Id__c)))), "
    "Nylas_Version__c < PRIORVALUE(Nylas_Version__c))"
)


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"errorConditionFormula": "Nylas_Version__c < 0"}, "has another formula"),
        ({"errorConditionFormula": OURS, "active": False}, "is not active"),
        (
            {"errorConditionFormula": OURS, "errorDisplayField": "LastName"},
            "shows its error at LastName",
        ),
    ],
)
def test_a_version_rule_that_does_not_hold_older_data_back_is_a_failure(
    healthy: SetUp, metadata: Mapping[str, Any], text: str
) -> None:
    healthy.faults(rule(**metadata))
    report = examined(healthy)
    for sobject in ("Contact", "Lead"):
        assert report.faults[f"{sobject} version rule"] == "fail"
        assert text in report.finding(f"{sobject} version rule")


def test_a_user_who_does_not_see_every_record_is_a_warning_with_the_consequence(
    healthy: SetUp,
) -> None:
    healthy.permissions(PermissionsViewAllData=False)
    healthy.sharing(Account="None", Contact="ControlledByParent", Lead="None")
    report = examined(healthy)
    seen = {f"{sobject} records seen": "warn" for sobject in ("Account", "Contact", "Lead")}
    assert report.faults == seen | {"Contact records edited": "warn", "Lead records edited": "warn"}
    assert "a key on a hidden record is refused as a duplicate" in report.finding(
        "Contact records seen"
    )
    assert "become Leads" in report.finding("Account records seen")


def test_a_duplicate_rule_that_blocks_is_a_warning_and_one_that_alerts_is_not(
    healthy: SetUp,
) -> None:
    rules = [
        {"name": "Hard", "sobject": "Lead", "action": "Block"},
        {"name": "Soft", "sobject": "Contact", "action": "Alert"},
    ]
    healthy.org({"duplicate_rules": rules})
    healthy.sharing(Contact="ReadEdit")
    report = examined(healthy)
    (check,) = report.faults
    assert (report.code, report.faults[check], "Hard" in check) == (0, "warn", True)


def test_the_fields_of_the_mapping_are_checked(healthy: SetUp, tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(
        "[contact]\n"
        'Nowhere__c = "office_location"\n'
        'MailingCountry = "physical_addresses[work].country"\n'
        'RecordTypeId = { constant = "012000000000999AAA" }\n'
        '[lead]\nLeadSource = { constant = "Address book" }\n'
    )
    healthy.org(
        {
            "fields": {
                "Contact": {
                    "MailingCountryCode": {"type": "picklist", "values": ["FR"]},
                    "RecordTypeId": {"type": "reference"},
                },
                "Lead": {"LeadSource": {"restrictedPicklist": True}},
            },
            "record_types": {"Contact": [{"name": "Customer", "default": True}]},
        }
    )
    healthy.sharing(Contact="ReadEdit")
    report = examined(healthy, {"SALESFORCE_MAPPING_FILE": str(file)})
    assert report.faults == {
        "Contact.Nowhere__c": "fail",
        "Contact.MailingCountry": "warn",
        "Contact record types": "fail",
        "Lead.LeadSource": "fail",
    }


def test_a_refused_optional_question_is_a_warning(healthy: SetUp) -> None:
    refused = {
        "status": 403,
        "code": "INSUFFICIENT_ACCESS",
        "message": "insufficient access",
        "times": None,
    }
    kinds = ["tooling_query", "duplicate_rules", "query", "limits"]
    healthy.faults({"effect": "status", "kinds": kinds, **refused})
    report = examined(healthy)
    assert report.code == 0
    edited = {f"{sobject} records edited": "warn" for sobject in ("Contact", "Lead")}
    seen = {f"{sobject} records seen": "warn" for sobject in ("Account", "Contact", "Lead")}
    rules = {
        f"{sobject} {what} rules" if what == "duplicate" else f"{sobject} version rule": "warn"
        for sobject in ("Contact", "Lead")
        for what in ("duplicate", "version")
    }
    automation = dict.fromkeys(
        (
            *("lead conversion", "flows", "Apex triggers", "workflow rules"),
            *("Lead assignment rules", "bulk load permission"),
        ),
        "warn",
    )
    assert report.faults == edited | seen | rules | automation
    assert all("cannot tell" in report.finding(check) for check in report.faults)
    assert "are left" in report.finding("daily API calls")  # every answer says so as well


def test_without_view_setup_no_rule_is_reported_as_missing(healthy: SetUp) -> None:
    healthy.http.post(
        f"{healthy.salesforce}/_sim/settings", json={"version_rule": False, "lead_mapping": False}
    ).raise_for_status()
    unseen = {
        "Contact version rule": "warn",
        "Lead version rule": "warn",
        "lead conversion": "warn",
        "Lead assignment rules": "warn",
    }
    unseen |= {
        f"{sobject} {what}": "warn"
        for sobject in ("Contact", "Lead")
        for what in ("flows", "Apex triggers", "workflow rules")
    }
    healthy.permissions(PermissionsViewSetup=False)
    assert examined(healthy).faults == unseen
    healthy.faults(
        {
            "effect": "status",
            "kind": "query",
            "status": 403,
            "code": "INSUFFICIENT_ACCESS",
            "times": None,
        }
    )
    report = examined(healthy)  # not even this can be asked
    refused = {"Contact flows", "Lead flows"}  # by /query itself, in one finding for both
    told = {**unseen, "flows": "warn"}.keys() - refused
    assert {check: report.faults[check] for check in told} == dict.fromkeys(told, "warn")
    assert all("cannot tell" in report.finding(check) for check in told)


def test_an_org_that_answers_with_errors_fails_the_required_questions(healthy: SetUp) -> None:
    kinds = ["describe", "tooling_query", "duplicate_rules", "query", "limits"]
    healthy.faults(
        {"effect": "status", "kinds": kinds, "status": 503, "body": "html", "times": None}
    )
    report = examined(healthy)
    assert (
        report.faults["Contact fields"]
        == report.faults["Lead fields"]
        == report.faults["Account fields"]
        == "fail"
    )
    assert report.faults["lead conversion"] == "warn"
    assert report.found["broker"]["status"] == "ok"


def test_a_login_that_names_no_user_is_warned_of(healthy: SetUp) -> None:
    text = json.dumps({"access_token": "unknown", "instance_url": healthy.salesforce})
    healthy.faults({"effect": "status", "kind": "token", "status": 200, "text": text})
    assert examined(healthy).faults == {"user": "warn"}


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"SALESFORCE_CLIENT_SECRET": "wrong"}, "invalid_client"),
        ({"SALESFORCE_CLIENT_ID": ""}, "SALESFORCE_CLIENT_ID is not set"),
        ({"SALESFORCE_CLIENT_SECRET": ""}, "SALESFORCE"),
        (
            {"SALESFORCE_PRIVATE_KEY": "no key", "SALESFORCE_USERNAME": "u@example.com"},
            "private key",
        ),
        ({"SALESFORCE_LOGIN_URL": "http://127.0.0.1:1"}, "network"),
        ({"SALESFORCE_LOGIN_URL": "login.salesforce.example"}, "login.salesforce.example"),
        ({"SALESFORCE_LOGIN_URL": "http://[::1"}, "http://[::1"),
        ({"SALESFORCE_LOGIN_URL": "http://127.0.0.1:port"}, "http://127.0.0.1:port"),
    ],
)
def test_a_wrong_login_is_one_finding_and_hides_nothing_of_kafka_and_nylas(
    healthy: SetUp, environ: Mapping[str, str], text: str
) -> None:
    healthy.org({"auth": {"client_id": "test", "client_secret": "test"}})
    report = examined(healthy, environ)
    assert report.faults == {"login": "fail", "the org": "warn"}
    assert text in report.finding("login") + report.found["login"]["remedy"]
    assert (report.found["topics"]["status"], report.found["Nylas key"]["status"]) == ("ok", "ok")


def test_a_version_that_the_org_does_not_serve_is_named(healthy: SetUp) -> None:
    report = examined(healthy, {"SALESFORCE_API_VERSION": "99.0"})
    assert report.faults["API version"] == "fail"
    assert "SALESFORCE_API_VERSION" in report.found["API version"]["remedy"]


@pytest.mark.parametrize(
    ("environ", "check"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "carrier pigeon"}, "settings KAFKA"),
        ({"PEOPLE_CREATE": "no idea"}, "settings PEOPLE"),
        ({"PEOPLE_ON_DELETE": "flag"}, "people"),
        ({"PEOPLE_SUPPRESSION_LIST": "/nowhere"}, "people"),
        ({"SALESFORCE_MAPPING_FILE": "/nowhere"}, "mapping"),
        ({"PEOPLE_ON_DELETE": "flag", "PEOPLE_FLAG_FIELD": "Gone__c"}, "Contact.Gone__c"),
    ],
)
def test_settings_that_cannot_be_used_are_findings_and_the_rest_is_examined(
    healthy: SetUp, environ: Mapping[str, str], check: str
) -> None:
    report = examined(healthy, environ)
    assert report.faults[check] == "fail"
    assert report.found["Nylas key"]["status"] == report.found["login"]["status"] == "ok"


def test_a_broker_that_is_away_hides_nothing_of_the_org(
    healthy: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_checks, "BROKER_SECONDS", 0.5)
    (port,) = free_ports(1)
    report = examined(healthy, {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"})
    assert report.faults == {"broker": "fail", "topics and groups": "warn"}
    assert "KAFKA_BOOTSTRAP_SERVERS" in report.found["broker"]["remedy"]


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "/nowhere"},
            "KAFKA_SSL_CA_LOCATION=/nowhere cannot be used",
        ),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_USERNAME is not set"),
    ],
)
def test_unusable_kafka_settings_are_a_finding(
    healthy: SetUp, environ: Mapping[str, str], named: str
) -> None:
    report = examined(healthy, environ)
    assert report.faults["settings KAFKA"] == "fail"
    assert named in report.found["settings KAFKA"]["finding"]
    assert report.found["login"]["status"] == "ok"


def test_a_kafka_without_an_address_is_a_broker_that_does_not_answer(
    healthy: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_checks, "BROKER_SECONDS", 0.5)
    report = examined(healthy, {"KAFKA_BOOTSTRAP_SERVERS": ""})
    assert report.faults == {"broker": "fail", "topics and groups": "warn"}


def test_missing_topics_and_wrong_policies_are_found(healthy: SetUp, kafka: Kafka) -> None:
    began = time.monotonic()
    missing = examined(healthy, kafka.environ)
    assert time.monotonic() - began < BROKER_WAIT_SECONDS, "it waits for nothing that is missing"
    assert missing.faults[f"topic {kafka.name('contacts.events')}"] == "fail"
    assert missing.faults["group of sink"] == "warn"

    wanted = topics(load(KafkaSettings, kafka.environ))
    create(kafka.admin(), wanted.all())
    entry = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(
        ResourceType.TOPIC, kafka.name("contacts.changes"), incremental_configs=[entry]
    )
    admin = kafka.admin()
    for future in admin.incremental_alter_configs(
        [resource], request_timeout=REQUEST_SECONDS
    ).values():
        future.result()
    wait_until(lambda: check(admin, wanted.all()), "the broker shows the change")
    changes, events = (
        f"topic {kafka.name(name)}" for name in ("contacts.changes", "contacts.events")
    )
    seen = "topic " + kafka.name("contactstream-dedupe-seen-changelog")
    report = examined(healthy, kafka.environ | {"KAFKA_EVENTS_PARTITIONS": "8"})
    assert report.faults == {changes: "fail", events: "fail", seen: "fail"}
    assert "cleanup.policy is delete instead of compact" in report.finding(changes)
    assert "has 4 partitions instead of 8" in report.finding(events)


def test_too_few_copies_of_a_topic_are_a_finding_for_each(
    healthy: SetUp, topics_made: Kafka
) -> None:
    report = examined(healthy, {"KAFKA_REPLICATION_FACTOR": "3"})
    names = [topic.name for topic in topics(load(KafkaSettings, topics_made.environ)).all()]
    assert report.faults == {f"topic {name}": "fail" for name in names}
    assert all("1 of 3 copies" in report.finding(check) for check in report.faults)


def commit(kafka: Kafka, stage: str, topic: str, offset: int) -> None:
    config = {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": f"{kafka.prefix}contactstream-{stage}",
    }
    consumer = Consumer(config | {"enable.auto.commit": False})
    try:
        consumer.commit(offsets=[TopicPartition(kafka.name(topic), 0, offset)], asynchronous=False)
    finally:
        consumer.close()


def test_a_stage_that_lags_or_whose_offset_is_outside_the_log_is_named(
    healthy: SetUp, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(kafka.admin(), topics(load(KafkaSettings, kafka.environ)).all())
    kafka.produce("contacts.changes", [(b"g/%d" % number, b"{}") for number in range(30)])
    monkeypatch.setattr(kafka_checks, "HIGH_LAG", 20)

    never = examined(healthy, kafka.environ)
    assert never.faults == {"lag of sink": "warn"}
    assert never.finding("lag of sink") == "30 records"
    commit(kafka, "sink", "contacts.changes", 5)
    behind = examined(healthy, kafka.environ)
    assert (behind.faults, behind.finding("lag of sink")) == ({"lag of sink": "warn"}, "25 records")
    assert "contactstream sink" in behind.found["lag of sink"]["remedy"]
    commit(kafka, "sink", "contacts.changes", 15)
    assert examined(healthy, kafka.environ).faults == {}
    commit(kafka, "sink", "contacts.changes", 99)
    beyond = examined(healthy, kafka.environ)
    assert beyond.faults == {"offsets of sink": "fail"}
    assert "beyond the end of the log" in beyond.finding("offsets of sink")


def test_a_stage_that_never_ran_is_to_be_started(healthy: SetUp, kafka: Kafka) -> None:
    create(kafka.admin(), topics(load(KafkaSettings, kafka.environ)).all())
    kafka.produce("contacts.changes", [(b"g/1", b"{}")])
    report = examined(healthy, kafka.environ)
    assert report.faults == {"lag of sink": "warn"}
    assert report.found["lag of sink"]["remedy"] == "start contactstream sink"


@pytest.mark.parametrize(
    ("environ", "remedy"),
    [
        ({"NYLAS_API_KEY": "wrong"}, "check NYLAS_API_KEY"),
        ({"NYLAS_API_URL": "http://127.0.0.1:1"}, "can be reached from here"),
        ({"NYLAS_API_URL": "nonsense"}, "can be reached from here"),
    ],
)
def test_a_nylas_that_refuses_or_does_not_answer_is_a_finding(
    healthy: SetUp, environ: Mapping[str, str], remedy: str
) -> None:
    report = examined(healthy, environ)
    assert report.faults == {"Nylas key": "fail"}
    assert remedy in report.found["Nylas key"]["remedy"]


def test_nylas_is_not_examined_without_a_key(healthy: SetUp) -> None:
    report = examined(healthy, {"NYLAS_API_KEY": ""})
    assert report.faults == {}
    assert "Nylas key" not in report.found
