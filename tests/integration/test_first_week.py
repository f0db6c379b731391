"""An administrator's first week with contactstream, on a Kafka of its own and strict simulators.

Look first, write, hold what is too much, take a wrong mapping back, see colleagues leave, and erase
a person. What an erasure leaves is checked against the bytes that each topic keeps.
"""

import csv
import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.local.broker import make_broker
from tests.support.kafka import Kafka
from tests.support.kept_bytes import clean_now, kept_records
from tests.support.product import GRANT_TRIGGERS, Product, person, product, updated
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system, pytest.mark.timeout(1200)]

ADA, BOB, CLEO, DAVE = (f"22222222-aaaa-4bbb-8ccc-00000000000{number}" for number in range(1, 5))
MAILBOXES = {ADA: "ada", BOB: "bob", CLEO: "cleo"}
ACME = "001000000000001AAA"
# From a command to what follows from it, on two cores that other tests may share. An undo waits up
# to 125 s for calls that the sink had sent before it was paused.
SECONDS = 240.0

# Who asks to be erased: in two address books, with a further address, and with notes.
ADDRESS = "gone@person.example"
GONE = {"surname": "Vanishing", "notes": "clinic"}
# What names this person, in any topic.
TRACES = (b"gone@", b"Vanishing", b"clinic")
KEYS = (f"{ADA}/gone".encode(), f"{BOB}/gone".encode())

PEOPLE_OF_A_BOOK = 6
# Ada and Bob have one person in common, and two of Ada's are in the org already.
NEW_OF_FIRST_WAVE = 2 * PEOPLE_OF_A_BOOK + 1
CREATIONS_PER_DAY = NEW_OF_FIRST_WAVE + 2
HELD = PEOPLE_OF_A_BOOK - 2

# Title and company are mixed up, and written over whatever stands there.
WRONG_MAPPING = """
[contact]
Title = { from = "company_name", policy = "always" }
[lead]
Title = { from = "company_name", policy = "always" }
Company = { from = "job_title", policy = "always" }
"""
# In the order in which they are undone.
WRONG_FIELDS = ("Lead.Title", "Lead.Company", "Contact.Title")

# What contacts.events keeps: 14 days, a day more in a segment, and an hour for Kafka's own rounds.
EVENTS_EXPIRE_MS = (15 * 24 + 1) * 3_600_000

# What the audit has at the end, all of it by the same person.
ACTIONS = [
    "mode set mirror",
    "runs continue",
    "held release",
    "undo --values",
    "pause writes",
    *("undo" for _ in WRONG_FIELDS),
    "resume writes",
    "selection apply",
    "grants confirm",
    "suppress",
]

# Fields of the record that contactstream alone uses.
OURS = ("Nylas_Contact_Id__c", "Nylas_Version__c", "Nylas_Field_Hashes__c", "Nylas_Email_2__c")


def book(grant: str) -> list[dict[str, Any]]:
    """An address book of new people."""
    name = MAILBOXES.get(grant, "dave")
    return [
        person(f"{name}{number}", f"{name}{number}@people.example", grant=grant, surname=f"P{name}")
        for number in range(PEOPLE_OF_A_BOOK)
    ]


def books() -> dict[str, list[dict[str, Any]]]:
    """The contacts of each grant."""
    known = [
        person("grace", "grace@acme.example", grant=ADA, given_name="Grace", surname="Hopper"),
        person("alan", "alan@enigma.example", grant=ADA, given_name="Alan", surname="Turing"),
    ]
    gone = {
        grant: person("gone", ADDRESS, "gone@home.example", grant=grant, **GONE)
        for grant in (ADA, BOB)
    }
    return {
        ADA: [*book(ADA), *known, gone[ADA]],
        BOB: [*book(BOB), gone[BOB]],
        CLEO: book(CLEO),
        DAVE: book(DAVE),
    }


ORG = {
    "accounts": [{"Id": ACME, "Name": "Acme", "Website": "https://www.acme.example"}],
    "contacts": [
        {
            "FirstName": "Grace",
            "LastName": "Hopper",
            "Email": "grace@acme.example",
            "Title": "Admiral",
            "AccountId": ACME,
        }
    ],
    "leads": [
        {
            "FirstName": "Alan",
            "LastName": "Turing",
            "Email": "alan@enigma.example",
            "Title": "Fellow",
            "Company": "Enigma",
        }
    ],
}


@pytest.fixture
def week(tmp_path: Path) -> Iterator[Product]:
    """Everything runs, three of four mailboxes are selected, and nothing may be written yet."""
    # Kafka's own rounds, which the receipt of an erasure counts with an hour.
    quick = {"log.cleaner.backoff.ms": "300", "log.retention.check.interval.ms": "500"}
    broker = make_broker(tmp_path / "broker", settings=quick)
    environ = {
        "PEOPLE_MAILBOXES": "*@sales.example",
        "READER_RECONCILE_EVERY": "0",
        "SALESFORCE_MODE": "report-only",
        "SINK_CREATIONS_PER_DAY": str(CREATIONS_PER_DAY),
    }
    grants = [
        {
            "id": grant,
            "email": f"{MAILBOXES[grant]}@sales.example"
            if grant in MAILBOXES
            else "dave@it.example",
            "provider": "microsoft",
            "contacts": contacts,
        }
        for grant, contacts in books().items()
    ]
    try:
        broker.start()
        kafka = Kafka(broker.bootstrap, "week.")
        with product(
            kafka, tmp_path, org=ORG, grants=grants, environ=environ, triggers=GRANT_TRIGGERS
        ) as one:
            yield one
    finally:
        broker.kill()


def test_an_administrators_first_week(week: Product, tmp_path: Path) -> None:
    wave = look_at_what_would_be_written(week)
    have_it_written_without_a_restart(week)
    a_wave_beyond_the_limit_is_held_until_somebody_releases_it(week, wave)
    run, before = a_wrong_mapping_is_noticed(week, tmp_path)
    it_is_paused_and_undone_field_by_field(week, run, before)
    what_was_undone_stays_peoples(week)
    a_colleague_changes_department(week)
    two_colleagues_leave_on_one_day(week)
    receipt = somebody_is_erased(week)
    the_receipt_is_true_of_every_byte(week, receipt)


def look_at_what_would_be_written(week: Product) -> str:
    """Returns the backfill in waves."""
    said = week.command("backfill", "--all", "--wave", "2", "--no-wait")
    wait_until(lambda: outcomes(week) == {"planned": 16}, "two books are planned", SECONDS)
    assert (len(week.records("Lead")), len(week.records("Contact"))) == (1, 1)
    assert not [one for one in org_records(week) if one.get("Nylas_Contact_Id__c")]
    assert "report-only" in week.command("mode")
    counted = answer(week, "outcomes", "--count")
    assert sum(row["contacts"] for row in counted) == 16, counted
    run = said.split()[-1]
    wait_until(lambda: "after a wave" in week.command("runs"), "the backfill waits", SECONDS)
    left_out = {row["grant"]: row["left_out"] for row in answer(week, "grants", "list")}
    assert left_out == {ADA: None, BOB: None, CLEO: None, DAVE: "not_selected"}
    return run


def have_it_written_without_a_restart(week: Product) -> None:
    sink, asked = week.stages["sink"].pid, week.asked("contacts")
    week.command("mode", "set", "mirror", "--why", "the plan is right", "--actor", "rita")
    wait_until(lambda: "planned" not in outcomes(week), "what was planned is written", SECONDS)
    assert outcomes(week)["created"] == NEW_OF_FIRST_WAVE
    assert week.stages["sink"].pid == sink
    assert week.stages["sink"].exit_code is None
    assert week.asked("contacts") == asked, "Nylas is not asked again"
    (grace,) = week.records("Contact", LastName="Hopper")
    assert (grace["Title"], grace["Nylas_Contact_Id__c"]) == ("Admiral", f"{ADA}/grace")


def a_wave_beyond_the_limit_is_held_until_somebody_releases_it(week: Product, run: str) -> None:
    assert "1" in week.command("runs", "continue", run, "--dry-run")
    week.command("runs", "continue", run, "--actor", "rita")
    wait_until(lambda: outcomes(week)["held"] == HELD, "the rest of the wave is held", SECONDS)
    created = NEW_OF_FIRST_WAVE + PEOPLE_OF_A_BOOK
    assert outcomes(week)["created"] == CREATIONS_PER_DAY == created - HELD
    listed = answer(week, "held")
    (group,) = listed["groups"]
    assert (listed["held"], group["reason"], group["grant"]) == (HELD, "creations_per_day", CLEO)
    assert "SINK_CREATIONS_PER_DAY" in week.command("held", "--people")
    week.command("held", "release", "--all", "--why", "looked at them", "--actor", "rita")
    wait_until(lambda: outcomes(week)["created"] == created, "they are written", SECONDS)
    assert "nobody is held" in week.command("held")
    forwarded = {found.key for found in week.kafka.read("contacts.changes")}
    assert not [key for key in forwarded if (key or b"").startswith(DAVE.encode())]


def a_wrong_mapping_is_noticed(week: Product, folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Returns the run that wrote it, and the records as they were before."""
    mapping, before = folder / "mapping.toml", org_records(week)
    mapping.write_text(WRONG_MAPPING)
    use(week, "dedupe", "sink", SALESFORCE_MAPPING_FILE=str(mapping))
    run = week.command("backfill", "--all", "--no-wait").split()[-1]
    wait_until(
        lambda: {one["Title"] for one in org_records(week)} == {"Engines"},
        "every title is wrong",
        SECONDS,
    )
    week.command("runs", "follow", run)
    found = folder / "wrong.csv"
    shown = undo(week, run, "--values", str(found), "--actor", "rita")
    rows = list(csv.DictReader(found.read_text().splitlines()))
    assert Counter(row["Field"] for row in rows) == {
        name: sum(row["Stands"] == "ours" for row in rows if row["Field"] == name)
        for name in WRONG_FIELDS
    }
    assert {"Admiral", "Fellow", "Analyst", "Enigma", "Engines"} == {row["Before"] for row in rows}
    assert shown["restored"] == len(rows)
    return run, before


def it_is_paused_and_undone_field_by_field(
    week: Product, run: str, before: list[dict[str, Any]]
) -> None:
    assert "writing is not paused" in week.command("undo", run, "--execute", status=2)
    week.command("pause", "writes", "--until", "2h", "--why", "a wrong mapping", "--actor", "rita")
    for count, name in enumerate(WRONG_FIELDS, start=1):
        done = undo(week, run, "--field", name, "--execute", "--why", "wrong", "--actor", "rita")
        assert list(done["fields"]) == [name]
        assert done["restored"] > 0
        now, (sobject, field) = org_records(week), name.split(".")
        for former, each in zip(before, now, strict=True):
            if each["attributes"] == sobject:
                assert each[field] == former[field], name
        assert count == len(WRONG_FIELDS) or people_fields(now) != people_fields(before)
    assert people_fields(org_records(week)) == people_fields(before), "every former value is back"
    mapping = Path(week.processes.environ["SALESFORCE_MAPPING_FILE"])
    mapping.write_text("")
    use(week, "dedupe", "sink")
    week.command("resume", "writes", "--actor", "rita")


def what_was_undone_stays_peoples(week: Product) -> None:
    phones = [{"number": "+1 555 0100", "type": "mobile"}]
    name = {"surname": "Pada", "job_title": "Countess", "company_name": "Castle"}
    changed = person("ada1", "ada1@people.example", grant=ADA, phone_numbers=phones, **name)
    notify(week, changed)
    (lead,) = week.records("Lead", Nylas_Contact_Id__c=f"{ADA}/ada1")
    assert (lead["Title"], lead["Company"]) == ("Analyst", "Engines"), "undone, so people's"
    assert lead["MobilePhone"] == "+1 555 0100", "other fields go on"
    (grace,) = week.records("Contact", LastName="Hopper")
    assert grace["Title"] == "Admiral"


def a_colleague_changes_department(week: Product) -> None:
    assert len(keys_of(week, CLEO)) == PEOPLE_OF_A_BOOK
    use(week, "reader", "dedupe", "sink", PEOPLE_MAILBOXES="ada@sales.example,bob@sales.example")
    reader = week.stages["reader"]
    wait_until(lambda: "came into force" in reader.log, "the reader obeys", SECONDS)
    rows = {row["grant"]: row["mailbox"] for row in answer(week, "grants", "list")}
    assert rows[CLEO] == "not selected"
    looked = week.command("selection", "preview")
    assert CLEO in looked
    assert f"{PEOPLE_OF_A_BOOK} contacts as deleted" in looked
    assert len(keys_of(week, CLEO)) == PEOPLE_OF_A_BOOK, "nothing happens by itself"
    week.command("selection", "apply", "--why", "left sales", "--actor", "rita")
    wait_until(lambda: not keys_of(week, CLEO), "her records are released", SECONDS)
    assert len(week.records("Lead", LastName="Pcleo")) == PEOPLE_OF_A_BOOK, "nothing is deleted"


def two_colleagues_leave_on_one_day(week: Product) -> None:
    before = keys_of(week, BOB)
    assert len(before) >= PEOPLE_OF_A_BOOK
    reader = week.stages["reader"]
    delete_grant(week, DAVE)
    wait_until(lambda: "published as deleted" in reader.log, "one goes at once", SECONDS)
    delete_grant(week, BOB)
    wait_until(lambda: reader.metric("contactstream_reader_grants_held") == 1, "it waits", SECONDS)
    looked = week.command("grants", "confirm", "--dry-run")
    assert BOB in looked
    assert "bob@sales.example" in looked
    assert keys_of(week, BOB) == before
    week.command("grants", "confirm", "--why", "they left", "--actor", "rita")
    wait_until(lambda: not keys_of(week, BOB), "the records are released", SECONDS)
    wait_until(
        lambda: f"{ADA}/gone" in keys_of(week, ADA), "the other contact has the record", SECONDS
    )


def somebody_is_erased(week: Product) -> dict[str, Any]:
    (before,) = week.records("Lead", Email=ADDRESS)
    assert all(before.get(name) for name in OURS), before
    looked = answer(week, "suppress", "--dry-run", ADDRESS)
    assert (looked["erased"], looked["contacts"]) == (False, 2)
    newest = max(
        found.timestamp_ms for found in week.kafka.read("contacts.events") if found.key in KEYS
    )
    receipt: dict[str, Any] = answer(week, "suppress", "--actor", "rita", ADDRESS)
    assert receipt["erased"]
    expires = datetime.fromisoformat(
        receipt["topics"][week.kafka.name("contacts.events")]["clean_by"]
    )
    assert expires.timestamp() == (newest + EVENTS_EXPIRE_MS) // 1000
    assert receipt["records_for_a_person"] == [before["Id"]]
    found = {name: line["records"] for name, line in receipt["topics"].items()}
    for topic in (
        "contacts.events",
        "contacts.changes",
        "contacts.outcomes",
        "contacts.journal",
        "contactstream-dedupe-seen-changelog",
    ):
        assert found[week.kafka.name(topic)], topic

    def is_cleared() -> bool:
        (record,) = week.records("Lead", Id=before["Id"])
        return not any(record.get(name) for name in OURS)

    wait_until(is_cleared, "no key, version and marker is left", SECONDS)
    (record,) = week.records("Lead", Id=before["Id"])
    assert (record["LastName"], record["Email"]) == ("Vanishing", ADDRESS), "nothing is deleted"
    # The address book still holds the person, and so does a notification that comes late.
    again = person("gone", ADDRESS, grant=ADA, **GONE, job_title="Queen")
    after = person("after", "after@people.example", grant=ADA, surname="After")
    week.notify([updated(again, int(time.time()), "late")])
    notify(week, after)
    assert week.records("Lead", Id=before["Id"]) == [record]
    return receipt


def the_receipt_is_true_of_every_byte(week: Product, receipt: Mapping[str, Any]) -> None:
    for stage in week.stages.values():
        assert stage.stop() == 0, stage.log
    audit = [json.loads(found.value or b"{}") for found in week.kafka.read("contactstream.audit")]
    assert [entry["action"] for entry in audit if entry["state"] == "ended"] == ACTIONS
    assert {entry["actor"] for entry in audit} == {"rita"}
    events = week.kafka.name("contacts.events")
    topics = [name for name in week.kafka.topics() if name != events]
    assert set(receipt["topics"]) <= {*topics, events}
    clean_now(week.kafka, topics)
    wait_until(lambda: not traces_in(week, topics), "every topic is clean", SECONDS)
    # What remains is what the receipt names, until the date that it names.
    assert traces_in(week, [events]) == {events}
    clean_now(week.kafka, [events], expire=True)
    wait_until(lambda: not traces_in(week, [events]), "it expires", SECONDS)


def traces_in(week: Product, topics: Collection[str]) -> set[str]:
    """The topics of which a record names the person, by content or with a value by key."""
    found = set[str]()
    for topic in topics:
        for record in kept_records(week.kafka, topic):
            content = b"\n".join([record.value or b"", *record.headers.values()])
            key = record.key or b"" if record.value is not None else b""
            if any(trace in content + b"\n" + key for trace in (*TRACES, *KEYS)):
                found.add(topic)
    return found


def answer(week: Product, *arguments: str) -> Any:
    """What a command printed as JSON, without what it told people beside it."""
    lines = week.command(*arguments, "--json").splitlines(keepends=True)
    begin = next(number for number, line in enumerate(lines) if line.startswith(("[", "{")))
    return json.JSONDecoder().raw_decode("".join(lines[begin:]))[0]


def undo(week: Product, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = answer(week, "undo", *arguments)
    return found


def notify(week: Product, contact: dict[str, Any]) -> None:
    """Has Nylas tell of a change now, and waits until the sink is done with it."""
    now = int(time.time())
    week.notify([updated(contact, now, f"{contact['id']}-{now}")])
    week.outcome(contact["id"], now, contact["grant_id"])


def outcomes(week: Product) -> Counter[str]:
    """How many contacts have which last outcome."""
    last = {found.key: found.value for found in week.kafka.read("contacts.outcomes")}
    return Counter(json.loads(value)["outcome"] for value in last.values() if value)


def org_records(week: Product) -> list[dict[str, Any]]:
    """Every Contact and Lead, by ID; `attributes` is the name of the object."""
    found = [
        record | {"attributes": sobject}
        for sobject in ("Contact", "Lead")
        for record in week.records(sobject)
    ]
    return sorted(found, key=lambda record: str(record["Id"]))


def people_fields(records: Collection[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The fields that people read, without our bookkeeping and the org's stamps."""
    names = {"Id", "FirstName", "LastName", "Email", "Title", "Company", "Phone", "MobilePhone"}
    return [{name: record.get(name) for name in names} for record in records]


def keys_of(week: Product, grant: str) -> set[str]:
    """The keys of a grant's contacts that records carry."""
    keys = (str(record.get("Nylas_Contact_Id__c") or "") for record in org_records(week))
    return {key for key in keys if key.startswith(f"{grant}/")}


def delete_grant(week: Product, grant: str) -> None:
    body = {"action": "delete", "grant_id": grant, "wait": True}
    week.http.post(f"{week.nylas}/_sim/grants", json=body).raise_for_status()


def use(week: Product, *stages: str, **settings: str) -> None:
    """Changes settings, and starts these stages again with them."""
    week.processes.environ |= settings
    for name in stages:
        assert week.stages[name].stop() == 0
        week.stages[name] = week.processes.start(name)
    for name in stages:
        week.stages[name].wait_ready(SECONDS)
