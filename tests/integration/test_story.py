"""Each kind of notification on a real Kafka, from the webhook to the org: what a user would see."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.broker import Served
from tests.support.kafka import Kafka
from tests.support.product import (
    GRANT,
    OTHER_GRANT,
    SECONDS,
    Product,
    deleted,
    person,
    product,
    updated,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

# The time of the events: any past time, because they are only compared with each other.
NOW = 1_790_000_000
ACME = "001000000000001AAA"
# A million characters that no codec makes small: by default Kafka takes records of 1,048,588 bytes,
# as they are on the wire.
MEGABYTE_OF_NOTES = "".join(
    random.Random("notes").choices([chr(code) for code in range(0xC0, 0x500)], k=1_000_000)
)
NULLS = dict.fromkeys(("emails", "phone_numbers", "groups", "given_name", "surname"))
NO_NAME = {"given_name": "", "surname": None, "company_name": None}
BOOK = [
    person(f"book-{number}", f"reader{number}@books{number}.example", surname=f"Reader{number}")
    for number in range(450)
]


@pytest.fixture(scope="module")
def running(kafka_server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One product for all tests of this module; each test has its own contacts."""
    kafka = Kafka(kafka_server.bootstrap, "story.")
    org = {
        "accounts": [{"Id": ACME, "Name": "Acme", "Website": "https://www.acme.example"}],
        "contacts": [{"LastName": "Hopper", "Email": "GRACE@ACME.EXAMPLE", "AccountId": ACME}],
        "leads": [{"LastName": "Turing", "Email": "alan@enigma.example", "Company": "Enigma"}],
    }
    grants: list[dict[str, Any]] = [
        {"id": GRANT, "email": "rep@our-team.example", "provider": "google", "contacts": BOOK},
        {
            "id": OTHER_GRANT,
            "email": "other@our-team.example",
            "provider": "microsoft",
            "contacts": [],
        },
    ]
    with product(kafka, tmp_path_factory.mktemp("story"), org=org, grants=grants) as one:
        yield one
    kafka.delete_all()


def test_a_new_person_of_an_unknown_company_becomes_a_lead(running: Product) -> None:
    running.notify([updated(person("new", "ada@engines.example"), NOW, "new-1")])
    assert running.outcome("new", NOW)["outcome"] == "created"
    (lead,) = running.records("Lead", Email="ada@engines.example")
    assert (lead["FirstName"], lead["LastName"], lead["Company"], lead["Title"]) == (
        "Ada",
        "Lovelace",
        "Engines",
        "Analyst",
    )
    assert lead["Nylas_Contact_Id__c"] == f"{GRANT}/new"
    assert lead["Nylas_Version__c"] == NOW


def test_a_new_person_of_a_known_company_becomes_a_contact_of_its_account(running: Product) -> None:
    running.notify(
        [updated(person("colleague", "bob@mail.acme.example", surname="Bob"), NOW, "colleague-1")]
    )
    assert running.outcome("colleague", NOW)["sobject"] == "Contact"
    (contact,) = running.records("Contact", Email="bob@mail.acme.example")
    assert contact["AccountId"] == ACME


@pytest.mark.parametrize(
    ("contact_id", "address", "sobject", "name"),
    [
        ("grace", "grace@acme.example", "Contact", "Hopper"),
        ("alan", "Alan@Enigma.example", "Lead", "Turing"),
    ],
)
def test_a_person_who_is_already_there_is_found_by_address_whatever_its_case(
    running: Product, contact_id: str, address: str, sobject: str, name: str
) -> None:
    running.notify(
        [
            updated(
                person(contact_id, address, given_name="Someone", surname=name),
                NOW,
                f"{contact_id}-1",
            )
        ]
    )
    outcome = running.outcome(contact_id, NOW)
    assert (outcome["sobject"], outcome["matched"]) == (sobject, "email")
    (record,) = running.records(sobject, Email=address.lower())
    assert record["Nylas_Contact_Id__c"] == f"{GRANT}/{contact_id}"
    assert record["LastName"] == name


def test_a_change_is_written_and_a_compressed_one_too(running: Product) -> None:
    running.notify([updated(person("change", "c@change.example"), NOW, "change-1")])
    running.outcome("change", NOW)
    running.notify(
        [
            updated(
                person("change", "c@change.example", job_title="Countess"),
                NOW + 5,
                "change-2",
                gzip=True,
            )
        ]
    )
    assert running.outcome("change", NOW + 5)["outcome"] == "updated"
    (lead,) = running.records("Lead", Email="c@change.example")
    assert lead["Title"] == "Countess"


def test_duplicates_and_unmapped_changes_cost_no_call(running: Product) -> None:
    contact = person("same", "s@same.example")
    running.notify([updated(contact, NOW, "same-1")])
    running.outcome("same", NOW)
    calls, retries = (
        running.calls(),
        running.count("dedupe", "contactstream_dedupe_dropped_total", reason="retry"),
    )
    duplicates = running.count("dedupe", "contactstream_dedupe_dropped_total", reason="duplicate")
    running.notify(
        [
            updated(contact, NOW, "same-1"),
            updated(contact, NOW + 1, "same-2"),
            updated({**contact, "notes": "met at the fair"}, NOW + 2, "same-3"),
        ]
    )
    dropped = "contactstream_dedupe_dropped_total"
    wait_until(
        lambda: running.count("dedupe", dropped, reason="duplicate") == duplicates + 2,
        "two duplicates dropped",
    )
    assert running.count("dedupe", dropped, reason="retry") == retries + 1
    assert running.calls() == calls


def test_an_older_event_after_a_newer_one_changes_nothing(running: Product) -> None:
    address = "o@older.example"
    running.notify(
        [
            updated(person("older", address, job_title="newest"), NOW + 10, "older-2"),
            updated(person("older", address, job_title="oldest"), NOW, "older-1"),
        ]
    )
    running.outcome("older", NOW + 10)
    stale = "contactstream_dedupe_dropped_total"
    wait_until(
        lambda: running.count("dedupe", stale, reason="stale") >= 1,
        "the older event is dropped as stale",
    )
    (lead,) = running.records("Lead", Email=address)
    assert lead["Title"] == "newest"


def test_a_bad_signature_is_refused_and_publishes_nothing(running: Product) -> None:
    before = len(running.kafka.read("contacts.events"))
    refused = running.count(
        "bridge", "contactstream_bridge_requests_total", outcome="bad_signature"
    )
    running.notify(
        [updated(person("mallory", "m@mallory.example"), NOW, "mallory-1", signature="bad")]
    )
    assert (
        running.count("bridge", "contactstream_bridge_requests_total", outcome="bad_signature")
        == refused + 1
    )
    assert len(running.kafka.read("contacts.events")) == before


def test_a_deleted_contact_releases_its_record_and_the_next_match_takes_it(
    running: Product,
) -> None:
    address = "d@deleted.example"
    running.notify([updated(person("gone", address), NOW, "gone-1")])
    running.outcome("gone", NOW)
    running.notify([deleted("gone", NOW + 5, "gone-2")])
    assert running.outcome("gone", NOW + 5)["outcome"] == "released"
    (lead,) = running.records("Lead", Email=address)
    assert (lead.get("Nylas_Contact_Id__c"), lead.get("Nylas_Version__c")) == (None, NOW + 5)
    running.notify(
        [updated(person("successor", address, grant=OTHER_GRANT), NOW + 6, "successor-1")]
    )
    assert running.outcome("successor", NOW + 6, OTHER_GRANT)["matched"] == "email"
    (lead,) = running.records("Lead", Email=address)
    assert lead["Nylas_Contact_Id__c"] == f"{OTHER_GRANT}/successor"


def test_an_address_book_is_read_in_pages_and_ends_in_the_org(running: Product) -> None:
    calls, asked = running.calls(), running.asked("contacts")
    date = int(time.time()) - 3600  # no clock of ours shows it
    running.nylas_clock(at=date, frozen=True)
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "backfill", "--grant", GRANT],
        env=running.processes.environ | {"PATH": "/usr/bin:/bin", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    running.nylas_clock(offset=0)
    assert done.returncode == 0, done.stderr
    # three pages, listed twice: the second listing shows that nothing moved between pages
    assert running.asked("contacts") - asked == 6

    def readers() -> dict[str, int]:
        found = (
            lead
            for lead in running.records("Lead")
            if "/book-" in (lead.get("Nylas_Contact_Id__c") or "")
        )
        return {lead["Nylas_Contact_Id__c"]: lead["Nylas_Version__c"] for lead in found}

    wait_until(lambda: len(readers()) == len(BOOK), "every reader is a Lead", SECONDS)
    assert running.calls() - calls <= 4
    assert set(readers().values()) == {date - 600}, "the Date of the page, less ten minutes"


@pytest.mark.parametrize(
    ("contact_id", "contact", "expected"),
    [
        ("nulls", NULLS, "no_address"),
        ("unnamed", {"emails": [{"email": "info.desk@unnamed.example"}], **NO_NAME}, ""),
        ("long", {"emails": [{"email": "long@long.example"}], "surname": "N" * 300}, ""),
        ("noted", {"emails": [{"email": "noted@noted.example"}], "notes": MEGABYTE_OF_NOTES}, ""),
        ("a/b#c d%2F", {"emails": [{"email": "slash@slash.example"}]}, ""),
        ("Ünïcødé-联系人", {"emails": [{"email": "unicode@unicode.example"}]}, ""),
        ("CASE", {"emails": [{"email": "upper@case.example"}], "surname": "Upper"}, ""),
        ("case", {"emails": [{"email": "lower@case.example"}], "surname": "Lower"}, ""),
        ("half", {"emails": [{"email": "half@half.example"}], "surname": "Half\ud800"}, ""),
    ],
)  # fmt: skip
def test_odd_contacts_are_synced_or_skipped_with_a_reason(
    running: Product, contact_id: str, contact: dict[str, object], expected: str
) -> None:
    subject = {"id": contact_id, "grant_id": GRANT, "object": "contact", **contact}
    envelope = {
        "specversion": "1.0",
        "type": "contact.updated",
        "id": f"odd-{contact_id}",
        "time": NOW,
        "data": {"object": subject},
    }
    raw = json.dumps(envelope, ensure_ascii=False)
    if "\ud800" in raw:  # UTF-8 cannot carry it as it is
        raw = json.dumps(envelope)
    running.notify([{"raw": raw}])
    outcome = running.outcome(contact_id, NOW)
    assert outcome["reason"] == expected
    if expected:
        assert outcome["outcome"] == "skipped"
        return
    (record,) = [*running.records("Lead", Nylas_Contact_Id__c=f"{GRANT}/{contact_id}")]
    assert record["LastName"]
    assert len(record["LastName"]) <= 80


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("not json", "not_json"),
        ('["a", "list"]', "not_an_envelope"),
        (
            '{"type":"contact.updated","id":"x","time":1,"data":{"object":{"grant_id":"g"}}}',
            "no_contact_id",
        ),
        ("[" * 10_000 + "]" * 10_000, None),
        (
            '{"type":"contact.updated","id":"x","time":1,"data":{"object":{"grant_id":"g","id":"\\ud800"}}}',
            None,
        ),
    ],
)
def test_a_signed_but_unreadable_notification_is_dead_lettered(
    running: Product, body: str, reason: str | None
) -> None:
    running.notify([{"raw": body}])
    (letter,) = [found for found in running.dead_letters() if found.value == body.encode()]
    assert letter.headers["dlq.stage"] == b"bridge"
    if reason is not None:
        assert letter.headers["dlq.reason"] == reason.encode()
