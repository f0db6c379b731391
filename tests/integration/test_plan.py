"""`contactstream plan` against a simulated org: each contact is planned, and nothing written."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from click.testing import CliRunner, Result

from connectors.salesforce.org_fields import MARKER_FIELD
from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.suppression import GrowingSuppression, Suppression
from connectors.salesforce.write_mode import WriteMode
from streams import cli
from streams.commands import plan_suppression
from streams.control_mode import ModeChange, mode_record
from streams.events import Kind, change_headers
from streams.kafka.admin import create
from streams.kafka.clients import METADATA_SECONDS
from streams.settings import KafkaSettings, load
from streams.suppression import entry_record, new_entries
from streams.topics import topics
from tests.support.docs import block
from tests.support.kafka import Kafka
from tests.support.markers import marker_of
from tests.support.processes import Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
GRANT, OTHER = "g1", "g2"
ACCOUNT, CONTACT, LEAD = make_id("001", 500), make_id("003", 500), make_id("00Q", 500)
ACME = {"Id": ACCOUNT, "Name": "Acme", "Website": "https://www.acme.example"}
ADA = "ada@engines.example"
# Enough to see that nobody listens on this machine.
NO_BROKER_SECONDS = 0.2


@dataclass
class Org:
    """The simulated org, and the command that plans for it."""

    http: httpx.Client
    url: str

    def is_now(self, world: Mapping[str, Any]) -> None:
        self.http.put(f"{self.url}/_sim/world", json=dict(world)).raise_for_status()

    def run(
        self, *words: str, given: bytes | None = None, environ: Mapping[str, str] | None = None
    ) -> Result:
        """Runs `contactstream plan` and checks that it wrote nothing.

        It must have asked for nothing but what it needs. Without a broker of its own it plans in
        mode mirror, and looks for none.
        """
        if not environ or "KAFKA_BOOTSTRAP_SERVERS" not in environ:
            words = (*words, *(() if "--mode" in words else ("--mode", "mirror")))
        env = {
            "SALESFORCE_LOGIN_URL": self.url,
            "SALESFORCE_CLIENT_ID": "t",
            "SALESFORCE_CLIENT_SECRET": "t",
        }
        no_broker = not environ or "KAFKA_BOOTSTRAP_SERVERS" not in environ
        seconds = NO_BROKER_SECONDS if no_broker else METADATA_SECONDS
        with mock.patch.object(plan_suppression, "METADATA_SECONDS", seconds):
            result = CliRunner().invoke(
                cli.main, ["plan", *words], input=given, env=env | dict(environ or {})
            )
        assert isinstance(result.exception, SystemExit | None), result.exception
        assert "Traceback" not in result.output
        assert self.http.get(f"{self.url}/_sim/writes").json() == []
        calls = self.http.get(f"{self.url}/_sim/state").json()["calls"]
        assert calls.keys() <= {"token", "composite_describe", "composite_query", "query_more"}, (
            calls
        )
        return result

    def planned(self, *lines: Mapping[str, Any], **environ: str) -> list[dict[str, Any]]:
        """The entries for these contacts and envelopes, from standard input."""
        result = self.run(
            "-",
            "--json",
            given=b"\n".join(json.dumps(line).encode() for line in lines),
            environ=environ,
        )
        assert result.exit_code == 0, result.output
        contacts: list[dict[str, Any]] = json.loads(result.stdout)["contacts"]
        return contacts


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    own = Processes(tmp_path_factory.mktemp("org"), {})
    try:
        process = own.start("simulate", "salesforce")
        wait_until(lambda: "listening on" in process.log, "the org listens")
        yield process.log.rpartition("listening on ")[2].split()[0]
    finally:
        own.end()


@pytest.fixture
def org(simulated: str) -> Iterator[Org]:
    with httpx.Client(timeout=60) as http:
        one = Org(http, simulated)
        one.is_now({})
        yield one


def ada(
    contact_id: str = "c1", *addresses: str, grant: str = GRANT, **fields: Any
) -> dict[str, Any]:
    """A Nylas contact."""
    emails = [{"email": address, "type": "work"} for address in addresses or (ADA,)]
    known = {
        "given_name": "Ada",
        "surname": "Lovelace",
        "job_title": "Analyst",
        "company_name": "Engines",
    }
    return (
        {"id": contact_id, "grant_id": grant, "object": "contact", "emails": emails}
        | known
        | fields
    )


def updated(contact: Mapping[str, Any], at: int = 100) -> dict[str, Any]:
    """The envelope of a webhook."""
    return {
        "specversion": "1.0",
        "type": "contact.updated",
        "time": at,
        "data": {"object": dict(contact)},
    }


def deleted(contact_id: str = "c1", at: int = 100) -> dict[str, Any]:
    gone = {"id": contact_id, "grant_id": GRANT, "object": "contact"}
    return {"specversion": "1.0", "type": "contact.deleted", "time": at, "data": {"object": gone}}


def held(grant: str = GRANT, version: int = 1, **fields: Any) -> dict[str, Any]:
    """A Contact that holds a contact's key, and only values that we left there."""
    known = {"FirstName": "Ada", "LastName": "Lovelace", "Title": "Analyst", "Email": ADA} | fields
    ours = {KEY: f"{grant}/c1", VERSION: version, MARKER_FIELD: marker_of(**known)}
    return {"Id": CONTACT} | ours | known


def changes(entry: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields of an entry, each as before and after."""
    return {name: (each["before"], each["after"]) for name, each in entry["fields"].items()}


NEW = {"FirstName": (None, "Ada"), "LastName": (None, "Lovelace"), "Title": (None, "Analyst")}
OWNED = {KEY: (None, "g1/c1"), VERSION: (None, 100)}


@pytest.mark.parametrize(
    ("world", "expected", "fields"),
    [
        (
            {},
            {"outcome": "created", "sobject": "Lead", "record_id": None, "matched": None},
            NEW | OWNED | {"Email": (None, ADA), "Company": (None, "Engines")},
        ),
        (
            {"accounts": [ACME | {"Website": "engines.example"}]},
            {"outcome": "created", "sobject": "Contact", "record_id": None, "matched": None},
            NEW | OWNED | {"Email": (None, ADA), "AccountId": (None, ACCOUNT)},
        ),
        (
            {"contacts": [held(Title="Countess")]},
            {"outcome": "updated", "sobject": "Contact", "record_id": CONTACT, "matched": "key"},
            {"Title": ("Countess", "Analyst"), VERSION: (1, 100)},
        ),
        (
            {
                "leads": [
                    {
                        "Id": LEAD,
                        "LastName": "Lovelace",
                        "Company": "E",
                        "Email": ADA,
                        "Title": "Countess",
                    }
                ]
            },
            {"outcome": "updated", "sobject": "Lead", "record_id": LEAD, "matched": "email"},
            OWNED | {"FirstName": (None, "Ada")},  # a person typed the title
        ),
        (
            {
                "contacts": [
                    {"Id": CONTACT, "LastName": "Lovelace", "FirstName": "Ada", "Title": "Analyst"}
                ],
                "leads": [
                    {
                        "LastName": "Lovelace",
                        "Company": "E",
                        "Email": ADA,
                        "IsConverted": True,
                        "ConvertedContactId": CONTACT,
                    }
                ],
            },
            {
                "outcome": "updated",
                "sobject": "Contact",
                "record_id": CONTACT,
                "matched": "converted_lead",
            },
            OWNED | {"Email": (None, ADA)},
        ),
        (
            {"contacts": [held(OTHER, 999, Title=None)]},
            {"outcome": "filled", "record_id": CONTACT, "matched": "email", "reason": ""},
            {"Title": (None, "Analyst")},
        ),
        (
            {"contacts": [held(OTHER, 999)]},
            {"outcome": "filled", "record_id": CONTACT, "reason": "nothing_to_fill"},
            {},
        ),
        (
            {"contacts": [held(OTHER, 999, FirstName="Augusta", LastName="King", Title=None)]},
            {"outcome": "covered", "record_id": CONTACT, "candidates": [CONTACT], "matched": None},
            {},
        ),
        (
            {"contacts": [held(version=100)]},
            {"outcome": "unchanged", "record_id": CONTACT, "matched": "key"},
            {},
        ),
        (
            {"contacts": [held(version=99)]},
            {"outcome": "unchanged", "record_id": CONTACT, "matched": "key"},
            {VERSION: (99, 100)},
        ),
        (
            {"contacts": [held(version=101, Title="Countess")]},
            {"outcome": "stale", "record_id": CONTACT, "matched": "key"},
            {},
        ),
    ],
    ids=lambda value: value.get("outcome", "") if isinstance(value, dict) else "",
)
def test_the_plan_of_a_changed_contact(
    org: Org, world: Mapping[str, Any], expected: Mapping[str, Any], fields: Mapping[str, Any]
) -> None:
    org.is_now(world)
    (entry,) = org.planned(updated(ada()))
    assert {name: entry[name] for name in expected} == expected
    assert changes(entry) == fields
    assert (entry["key"], entry["same_record_as"]) == ("g1/c1", None)
    assert entry["several_matched"] is False


@pytest.mark.parametrize(
    ("environ", "version", "expected", "fields"),
    [
        ({}, 1, ("released", ""), {KEY: ("g1/c1", None), VERSION: (1, 100)}),
        ({"PEOPLE_ON_DELETE": "keep"}, 1, ("unchanged", "kept"), {}),
        (
            {"PEOPLE_ON_DELETE": "flag", "PEOPLE_FLAG_FIELD": "Gone__c"},
            1,
            ("released", "flagged"),
            {"Gone__c": (False, True), VERSION: (1, 100)},
        ),
        ({}, 101, ("stale", ""), {}),
    ],
)
def test_the_plan_of_a_deleted_contact(
    org: Org,
    environ: Mapping[str, str],
    version: int,
    expected: tuple[str, str],
    fields: Mapping[str, Any],
) -> None:
    gone = {"type": "boolean", "nillable": False, "defaultedOnCreate": True}
    org.is_now(
        {
            "fields": {"Contact": {"Gone__c": gone}},
            "contacts": [held(version=version, Gone__c=False)],
        }
    )
    (entry,) = org.planned(deleted(), **environ)
    assert (entry["outcome"], entry["reason"], entry["record_id"]) == (*expected, CONTACT)
    assert changes(entry) == fields


def test_a_deleted_contact_without_a_record_changes_nothing(org: Org) -> None:
    (entry,) = org.planned(deleted())
    assert (entry["outcome"], entry["reason"], entry["record_id"]) == (
        "unchanged",
        "no_record",
        None,
    )


DEAD_LEAD = {
    "LastName": "Lovelace",
    "FirstName": "Ada",
    "Company": "E",
    "Email": ADA,
    "IsConverted": True,
}


@pytest.mark.parametrize(
    ("contact", "world", "environ", "reason"),
    [
        (ada(), {}, {"PEOPLE_OWN_DOMAINS": "engines.example"}, "own_domain"),
        (ada("c1", "no-reply@engines.example"), {}, {}, "role_address"),
        (ada(), {}, {"PEOPLE_EXCLUDED_PATTERNS": "*@engines.*"}, "excluded"),
        (ada(source="inbox"), {}, {}, "source"),
        (ada(emails=[]), {}, {}, "no_address"),
        (ada("c1", "ada@gmail.com"), {}, {"PEOPLE_CREATE_FREE_MAIL": "false"}, "free_mail"),
        (ada(), {}, {"PEOPLE_CREATE": "contacts"}, "not_created"),
        (ada(), {"leads": [DEAD_LEAD]}, {}, "converted_lead"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_skipped_contact_is_listed_with_the_reason(
    org: Org,
    contact: Mapping[str, Any],
    world: Mapping[str, Any],
    environ: Mapping[str, str],
    reason: str,
) -> None:
    org.is_now(world)
    (entry,) = org.planned(contact, **environ)
    assert (entry["outcome"], entry["reason"], entry["sobject"], entry["fields"]) == (
        "skipped",
        reason,
        None,
        {},
    )


def test_an_erased_person_is_left_out(org: Org, tmp_path: Path) -> None:
    file = tmp_path / "erased.json"
    file.write_text(Suppression().adding([ADA]).dump())
    (entry,) = org.planned(ada(), PEOPLE_SUPPRESSION_LIST=str(file))
    assert (entry["outcome"], entry["reason"]) == ("skipped", "suppressed")


def test_events_without_contact_content_are_skipped_without_a_call(org: Org) -> None:
    bodyless = {"id": "c2", "grant_id": GRANT, "object": "contact"}
    grant = {"type": "grant.expired", "time": 1, "data": {"object": {"grant_id": GRANT}}}
    truncated = updated(ada("c3")) | {"type": "contact.updated.truncated"}
    timeless = updated(ada("c4")) | {"time": None}
    found = org.planned(updated(bodyless), truncated, timeless, grant)
    assert [(entry["key"], entry["outcome"], entry["reason"]) for entry in found] == [
        ("g1/c2", "skipped", "read_again_first"),
        ("g1/c3", "skipped", "read_again_first"),
        ("g1/c4", "skipped", "read_again_first"),
        ("grant.expired", "skipped", "not_a_contact"),
    ]
    assert found[0].keys() == ENTRY


ENTRY = {
    "key",
    "outcome",
    "sobject",
    "record_id",
    "matched",
    "reason",
    "several_matched",
    "account_by",
    "candidates",
    "same_record_as",
    "fields",
}


def test_several_records_of_a_person_are_named_as_such(org: Org) -> None:
    org.is_now(
        {
            "contacts": [
                held(OTHER) | {KEY: None, VERSION: None, "Id": make_id("003", n)}
                for n in (600, 601)
            ]
        }
    )
    (entry,) = org.planned(ada())
    assert (entry["outcome"], entry["matched"], entry["several_matched"]) == (
        "updated",
        "email",
        True,
    )
    assert entry["candidates"] == []


def test_a_name_that_fits_several_people_is_planned_for_none_of_them(org: Org) -> None:
    ids = [make_id("003", number) for number in (600, 601)]
    unowned = {KEY: None, VERSION: None}
    org.is_now(
        {
            "contacts": [
                held(OTHER) | unowned | {"Id": each, "FirstName": first}
                for each, first in zip(ids, ("Ada", "Alma"), strict=True)
            ]
        }
    )
    (entry,) = org.planned(ada(given_name="A."))
    assert (entry["outcome"], entry["record_id"]) == ("ambiguous", None)
    assert (set(entry["candidates"]), entry["fields"]) == (set(ids), {})


def test_the_changes_of_a_shared_record_are_shown_once(
    org: Org,
) -> None:
    first, second = ada("c1", ADA, job_title=None), ada("c1", ADA, grant=OTHER, mobile=None)
    one, other = org.planned(updated(first), updated(second))
    assert (one["outcome"], other["outcome"], other["same_record_as"]) == (
        "created",
        "filled",
        "g1/c1",
    )
    assert changes(one) == NEW | OWNED | {"Email": (None, ADA), "Company": (None, "Engines")}
    assert other["fields"] == {}
    org.is_now({"contacts": [held(version=100, Title=None)]})
    one, other = org.planned(
        updated(first), updated(second)
    )  # the owner changes nothing: the other fills the title
    assert (one["outcome"], one["same_record_as"], one["fields"]) == ("unchanged", "g2/c1", {})
    assert (other["outcome"], changes(other)) == ("filled", {"Title": (None, "Analyst")})
    org.is_now({"contacts": [held(OTHER, FirstName="Augusta", LastName="King", Title=None)]})
    king = ada("c1", ADA, grant=OTHER, given_name="Augusta", surname="King")
    one, other = org.planned(
        updated(ada()), updated(king)
    )  # who has another name has no part in it
    assert (one["outcome"], one["same_record_as"], one["fields"]) == ("covered", None, {})
    assert (other["outcome"], changes(other)) == (
        "updated",
        {"Title": (None, "Analyst"), VERSION: (1, 100)},
    )


def test_a_released_record_is_taken_over_by_the_next_who_matches(org: Org) -> None:
    org.is_now({"contacts": [held(Title="Countess")]})
    gone, successor = org.planned(deleted(), updated(ada("c7", grant=OTHER)))
    assert (gone["outcome"], gone["fields"], gone["same_record_as"]) == ("released", {}, "g2/c7")
    assert (successor["outcome"], successor["matched"]) == ("updated", "email")
    assert changes(successor) == {
        KEY: ("g1/c1", "g2/c7"),
        VERSION: (1, 100),
        "Title": ("Countess", "Analyst"),
    }


def test_the_newest_change_counts_and_a_contact_without_envelope_is_now(
    org: Org,
) -> None:
    org.is_now({"contacts": [held()]})
    lines = [
        updated(ada(job_title=title), at)
        for title, at in (("new", 300), ("newest", 400), ("old", 200))
    ]
    (entry,) = org.planned(*lines)
    assert changes(entry) == {"Title": ("Analyst", "newest"), VERSION: (1, 400)}
    before = int(time.time())
    (entry,) = org.planned(*lines, ada(job_title="bare"))
    assert entry["fields"]["Title"]["after"] == "bare"
    assert before <= entry["fields"][VERSION]["after"] <= time.time()
    (entry,) = org.planned(ada(), deleted(at=int(time.time()) + 100))
    assert entry["outcome"] == "released"


def test_a_file_is_read_like_standard_input_and_blank_lines_are_skipped(
    org: Org, tmp_path: Path
) -> None:
    file = tmp_path / "contacts.jsonl"
    lines = [
        json.dumps(updated(ada("c1"))),
        "",
        json.dumps(updated(ada("c2", "bob@acme.example", given_name="Bob"))),
    ]
    file.write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join([*lines, ""]).encode()
    )  # as some editors save it
    org.is_now({"accounts": [ACME]})
    result = org.run(str(file), "--json")
    body = json.loads(result.stdout)
    assert [(entry["key"], entry["sobject"]) for entry in body["contacts"]] == [
        ("g1/c1", "Lead"),
        ("g1/c2", "Contact"),
    ]
    assert body["summary"] == {"created": 2}
    assert body["notes"] == {}


def test_the_text_shows_the_old_and_the_new_value_of_each_field(org: Org) -> None:
    org.is_now(
        {
            "accounts": [ACME],
            "contacts": [
                held(Title="Countess"),
                held() | {"Id": make_id("003", 501), KEY: "g1/c2"},
            ],
        }
    )
    bob = ada("c3", "bob@acme.example", given_name="Bob", surname="Ünal", job_title="x" * 200)
    lines = [
        updated(ada()),
        deleted("c2"),
        updated(bob),
        updated(ada("c4", "info@engines.example")),
    ]
    result = org.run("-", given=b"\n".join(json.dumps(line).encode() for line in lines))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "mode mirror (--mode)",
        f"updated   g1/c1  Contact {CONTACT}  found by key",
        "    Nylas_Version__c: 1 -> 100",
        '    Title: "Countess" -> "Analyst"',
        f"released  g1/c2  Contact {make_id('003', 501)}  found by key",
        '    Nylas_Contact_Id__c: "g1/c2" -> (cleared)',
        "    Nylas_Version__c: 1 -> 100",
        "created   g1/c3  Contact (new)  Account by website",
        '    FirstName: "Bob"',
        '    LastName: "Ünal"',
        f'    Title: "{"x" * 128}"',
        '    Email: "bob@acme.example"',
        f'    AccountId: "{ACCOUNT}"',
        '    Nylas_Contact_Id__c: "g1/c3"',
        "skipped   g1/c4  role_address",
        "1 updated, 1 released, 1 created, 1 skipped",
        "truncated Contact.Title: 1",
    ]
    assert org.run("-", given=b"").stdout == "mode mirror (--mode)\nno changes\n"


def test_the_documents_show_what_is_really_printed(org: Org) -> None:
    org.is_now({"contacts": [held(Title="Countess") | {KEY: "g1/ada"}]})
    desk = {"id": "desk", "grant_id": GRANT, "emails": [{"email": "info@acme.example"}]}
    bob = {
        "id": "bob",
        "grant_id": GRANT,
        "surname": "Babbage",
        "emails": [{"email": "bob@acme.example"}],
    }
    lines = [updated(ada("ada")), updated(bob), updated(desk)]
    result = org.run("-", given=b"\n".join(json.dumps(line).encode() for line in lines))
    shown = block("deploy/docs/run-for-real.md", "plan")
    assert [line.strip() for line in shown.splitlines()[1:-1]] == [
        line.strip() for line in result.stdout.splitlines()
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not_json"),
        (b"[1]", "not_an_envelope"),
        (b'{"grant_id": "g1"}', "no_contact_id"),
        (b'{"grant_id": "g1", "id": 7}', "no_contact_id"),
        (b'{"grant_id": "g/1", "id": "c"}', "no_grant_id"),
        (b'{"data": [{"id": "c"}], "type": "contact.updated"}', "no_object"),
        (b"\xff\xfe", "not_json"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_nothing_is_planned(
    org: Org, line: bytes, problem: str
) -> None:
    result = org.run("-", "--json", given=json.dumps(ada()).encode() + b"\n\n" + line + b"\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        f"Error: line 3 is neither a contact nor an envelope: {problem}"
    )
    assert "doctor" not in result.stderr  # the org has nothing to do with it


def test_a_contact_with_a_deeply_nested_field_is_planned(org: Org) -> None:
    start = b'{"grant_id": "g1", "id": "c1", "surname": "L", "emails": [{"email": "a@b.example"}]'
    notes = b"[" * 990 + b"]" * 990
    result = org.run("-", given=start + b', "notes": ' + notes + b"}")
    assert "created   g1/c1" in result.stdout


def test_exactly_one_of_file_and_since_is_needed(org: Org) -> None:
    for words in ((), ("-", "--since", "1h")):
        result = org.run(*words, given=b"")
        assert (result.exit_code, "give either a FILE or --since" in result.output) == (1, True)


def test_a_login_that_is_refused_ends_with_its_reason_and_the_way_to_the_remedy(org: Org) -> None:
    org.is_now({"auth": {"client_secret": "other"}})
    result = org.run("-", given=json.dumps(ada()).encode())
    assert (result.exit_code, result.stdout) == (1, "")
    assert "See: contactstream doctor" in result.stderr


def test_changes_without_room_in_a_batch_are_planned_in_the_next(org: Org) -> None:
    many = 1_100
    lines = [
        updated(
            ada(
                f"c{n}",
                *(f"{'a' * 20}{i}@{'b' * 20}{n}.example" for i in range(8)),
                surname=f"L{n}",
            )
        )
        for n in range(many)
    ]
    found = org.planned(*lines)
    assert [entry["key"] for entry in found] == [f"g1/c{n}" for n in range(many)]
    assert {entry["outcome"] for entry in found} == {"created"}
    calls = org.http.get(f"{org.url}/_sim/state").json()["calls"]
    assert calls["composite_query"] > 2  # more than 1,100 contacts of one address each would take


def change(
    kafka: Kafka, contact: Mapping[str, Any], version: int, kind: Kind = Kind.UPDATED
) -> None:
    """As the dedupe stage forwards it."""
    headers = change_headers(kind, version, "f" * 32, "m", b"webhook", b"0")
    key = f"{contact['grant_id']}/{contact['id']}".encode()
    kafka.produce("contacts.changes", [(key, json.dumps(contact).encode())], headers)


@pytest.fixture
def log(kafka: Kafka) -> Kafka:
    """A test's own topics."""
    create(kafka.admin(), topics(load(KafkaSettings, kafka.environ)).all())
    return kafka


def since(org: Org, kafka: Kafka, moment: str) -> list[dict[str, Any]]:
    result = org.run("--since", moment, "--json", environ=kafka.environ)
    assert result.exit_code == 0, result.output
    contacts: list[dict[str, Any]] = json.loads(result.stdout)["contacts"]
    return contacts


@pytest.mark.kafka
def test_since_plans_the_newest_version_of_each_forwarded_contact(org: Org, log: Kafka) -> None:
    org.is_now(
        {
            "contacts": [
                held(),
                held() | {"Id": make_id("003", 501), KEY: "g1/c2", "Email": "b@b.example"},
            ]
        }
    )
    for title, version in (("first", 10), ("third", 30), ("second", 20)):
        change(log, ada(job_title=title), version)
    change(log, {"grant_id": GRANT, "id": "c2"}, 40, Kind.DELETED)
    change(log, ada("c3", "carl@engines.example"), 50)
    log.produce("contacts.changes", [(b"g1/c3", None)])  # erased
    change(log, ada("c4", "dora@engines.example", surname="D"), 60)
    log.produce("contacts.changes", [(b"g1/c4", None)])
    change(log, ada("c4", "dora@engines.example", surname="D"), 70)  # and written anew
    log.produce("contacts.changes", [(b"g1/c5", b"no change")])
    found = since(org, log, "1h")
    assert [(entry["key"], entry["outcome"], entry["reason"]) for entry in found] == [
        ("g1/c1", "updated", ""),
        ("g1/c2", "released", ""),
        ("g1/c4", "created", ""),
        ("g1/c5", "failed", "not_a_change"),
        ("g1/c3", "skipped", "erased"),
    ]
    assert changes(found[0]) == {"Title": ("Analyst", "third"), VERSION: (1, 30)}
    assert found[2]["fields"][VERSION]["after"] == 70


@pytest.mark.kafka
def test_a_plan_shows_what_the_mode_in_force_writes(org: Org, log: Kafka) -> None:
    names = topics(load(KafkaSettings, log.environ))
    org.is_now({"contacts": [held(Title="Countess")]})
    contacts = [ada(), ada("c2", "bob@acme.example", given_name="Bob", surname="B")]
    lines = b"\n".join(json.dumps(updated(one)).encode() for one in contacts)

    def outcomes(*words: str) -> tuple[str, str, list[tuple[str, str]]]:
        environ = {**log.environ, "SALESFORCE_MODE": "enrich-only"}
        result = org.run("-", "--json", *words, given=lines, environ=environ)
        assert result.exit_code == 0, result.output
        body = json.loads(result.stdout)
        found = [(entry["outcome"], entry["reason"]) for entry in body["contacts"]]
        return body["mode"], body["origin"], found

    skipped = ("skipped", "mode_creates_nobody")
    # a broker needs a moment until each partition of a new topic has a leader
    wait_until(lambda: outcomes()[1] == "SALESFORCE_MODE", "the new topics can be read")
    assert outcomes() == ("enrich-only", "SALESFORCE_MODE", [("updated", ""), skipped])
    chosen = mode_record(names, ModeChange(WriteMode.REPORT_ONLY, "ada", "look first", 1_000))
    log.produce("contactstream.control", [(chosen.key, chosen.value)])
    mode, origin, found = outcomes()
    assert (mode, found) == ("report-only", [("planned", "update"), ("planned", "create")])
    assert "set by ada" in origin
    mode, origin, found = outcomes("--mode", "mirror")
    assert (mode, origin, found) == ("mirror", "--mode", [("updated", ""), ("created", "")])


def test_who_is_on_the_suppression_list_of_the_topic_is_left_out(org: Org, log: Kafka) -> None:
    names = topics(load(KafkaSettings, log.environ))
    (entry,) = new_entries(GrowingSuppression(), [ADA])
    listed = entry_record(names, entry, 1)

    def planned() -> dict[str, Any]:
        (found,) = org.planned(ada(), **log.environ)
        return found

    log.produce("contactstream.suppression", [(listed.key, listed.value)])
    assert (planned()["outcome"], planned()["reason"]) == ("skipped", "suppressed")
    log.produce("contactstream.suppression", [(listed.key, None)])
    assert planned()["outcome"] == "created", "it was lifted"


def test_without_kafka_the_setting_counts_and_the_plan_says_so(org: Org) -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "SALESFORCE_MODE": "fill-blanks"}
    line = json.dumps(updated(ada())).encode()
    result = org.run("-", given=line, environ=environ)
    assert result.exit_code == 0, result.output
    mode, entry, *_ = result.stdout.splitlines()
    assert mode.startswith("mode fill-blanks (SALESFORCE_MODE; Kafka cannot be read")
    assert entry == "skipped   g1/c1  mode_creates_nobody"
    assert "people on the suppression list are not left out" in result.stderr


def test_an_unknown_mode_is_named_with_the_closest_one(org: Org) -> None:
    result = org.run("-", "--mode", "fill_blank", given=b"")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "mode 'fill_blank': unknown; did you mean fill-blanks?" in result.stderr


@pytest.mark.kafka
def test_since_plans_only_changes_after_the_moment(org: Org, log: Kafka) -> None:
    change(log, ada("c1"), 10)
    (before,) = log.read("contacts.changes")
    wait_until(lambda: time.time() * 1000 > before.timestamp_ms + 1, "the clock goes on")
    moment = time.time()
    change(log, ada("c2", "bob@acme.example", surname="B"), 20)
    iso = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(moment))}.{int(moment % 1 * 1e6):06d}"
    for zone in ("", "Z", "+00:00"):
        assert [entry["key"] for entry in since(org, log, iso + zone)] == ["g1/c2"]
    everything: Sequence[str] = ("2d", "1970-01-01", "0001-01-01", "999999999d")
    for text in everything:
        assert [entry["key"] for entry in since(org, log, text)] == ["g1/c1", "g1/c2"], text
    assert since(org, log, "2999-01-01") == []


@pytest.mark.kafka
def test_a_log_that_cannot_be_read_is_named_with_the_way_to_the_remedy(
    org: Org, kafka: Kafka
) -> None:
    missing = org.run("--since", "1h", environ=kafka.environ)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert f"contacts.changes cannot be read at {kafka.bootstrap}" in missing.stderr
    assert "contactstream doctor" in missing.stderr


@pytest.mark.parametrize("text", ["yesterday", "", "36 fortnights", "9" * 400 + "d", "-5h"])
def test_an_unreadable_moment_is_reported(org: Org, text: str) -> None:
    result = org.run("--since", text)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "neither a date and time like" in result.stderr
