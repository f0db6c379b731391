"""Replays that reach an org: fields restored after a bad import, and an empty second org filled."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from streams.control import FailureBreaker, FailuresSeen, Stops, breaker_record
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import Kafka
from tests.support.product import GRANT, OTHER_GRANT, Product, person, product
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system, pytest.mark.slow]

BASE = 1_790_000_000
ALONE, SHARED, GONE = range(10, 40), range(10), range(40, 43)
SECONDS = 90.0
REASON = "FIELD_CUSTOM_VALIDATION_EXCEPTION"
KEY = "Nylas_Contact_Id__c"
ADDRESSES = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")
FIELDS = ("FirstName", "LastName", "Email", "Phone", "Title", "Company", "Nylas_Version__c", KEY)


def event(contact: dict[str, Any], version: int) -> tuple[bytes, bytes]:
    body = {
        "type": "contact.updated" if "emails" in contact else "contact.deleted",
        "id": f"{contact['grant_id']}-{contact['id']}-{version}",
        "time": BASE + version,
        "data": {"object": contact},
    }
    return f"{contact['grant_id']}/{contact['id']}".encode(), json.dumps(body).encode()


def contact(number: int, version: int, grant: str = GRANT) -> dict[str, Any]:
    return person(
        f"c{number}",
        f"p{number}@acme{number % 3}.example",
        grant=grant,
        surname=f"Person{number}",
        job_title=f"Title {number}.{version}",
    )


def events() -> list[tuple[bytes, bytes]]:
    """Two versions of each contact; ten people are in two address books, three are deleted."""
    found = []
    for version in (1, 2):
        found += [event(contact(number, version), version) for number in (*SHARED, *ALONE, *GONE)]
        found += [event(contact(number, version, OTHER_GRANT), version) for number in SHARED]
    gone = ({"grant_id": GRANT, "id": f"c{number}", "object": "contact"} for number in GONE)
    return [*found, *(event(one, 3) for one in gone)]


def people(salesforce: str) -> list[dict[str, Any]]:
    return [
        record
        for sobject in ("Contact", "Lead")
        for record in httpx.get(f"{salesforce}/_sim/records/{sobject}", timeout=30).json()
    ]


def done(kafka: Kafka) -> bool:
    """Whether the last outcome of each contact is of its newest version."""
    versions = {
        (found.key or b"").decode(): json.loads(found.value or b"{}").get("version")
        for found in kafka.read("contacts.outcomes")
    }
    expected = {f"{GRANT}/c{number}": BASE + 2 for number in (*SHARED, *ALONE)}
    expected |= {f"{OTHER_GRANT}/c{number}": BASE + 2 for number in SHARED}
    return expected.items() <= versions.items()


def run(running: Product, *arguments: str, expect: int = 0) -> str:
    process = running.processes.start(*arguments)
    assert process.popen.wait(SECONDS) == expect, process.log
    return process.log


def start_second_org(running: Product) -> tuple[Kafka, str]:
    """A second deployment in the same cluster, with an empty org."""
    theirs = Kafka(running.kafka.bootstrap, f"{running.kafka.prefix}sandbox.")
    simulator = running.processes.start("simulate", "salesforce", "--listen", "127.0.0.1:0")
    line = wait_until(
        lambda: next((one for one in simulator.log.splitlines() if " listening on " in one), ""),
        "the second org listens",
    )
    org = (line or "").rpartition(" ")[2]
    environ = theirs.environ | {"KAFKA_EVENTS_PARTITIONS": "2", "SALESFORCE_LOGIN_URL": org}
    create = running.processes.start("topics", "create", environ=environ)
    assert create.popen.wait(SECONDS) == 0, create.log
    for stage in ("dedupe", "sink"):
        running.processes.start(stage, environ=environ).wait_ready()
    return theirs, org


def open_breaker(theirs: Kafka) -> None:
    """The sink of the second deployment has stopped bulk runs."""
    names = topics(load(KafkaSettings, theirs.environ))
    seen = FailuresSeen(10, 500, first_ms=BASE * 1000, last_ms=BASE * 1000)
    record = breaker_record(names, FailureBreaker(REASON, Stops.BULK, BASE * 1000, seen))
    theirs.produce("contactstream.control", [(record.key or b"", record.value or b"")])


def waits_for_a_breaker(running: Product) -> bool:
    """Whether the reader counts that it waits for a failure breaker."""
    return running.count("reader", "contactstream_reader_waits_total", reason="breaker") > 0


def test_fields_are_restored_after_an_import_and_an_empty_second_org_is_filled(
    kafka: Kafka, tmp_path: Path
) -> None:
    with product(kafka, tmp_path, org={}, without=("bridge",)) as running:
        kafka.produce("contacts.events", events(), [("origin", b"webhook")])
        wait_until(lambda: done(kafka), "everything is in the first org", SECONDS)

        # A bad import: other titles for twenty people, and another phone number for one.
        imported = [one for one in people(running.salesforce) if one.get(KEY)][:20]
        for record in imported:
            url = f"{running.salesforce}/_sim/records/Lead/{record['Id']}"
            running.http.patch(url, json={"Title": "Imported"}).raise_for_status()
        running.http.patch(url, json={"Phone": "+1 555 0100"}).raise_for_status()
        refused = run(running, "replay", "changes", "--restore", "Titel", expect=2)
        assert "did you mean Title?" in refused
        looked = run(running, "replay", "changes", "--restore", "Title", "--grant", GRANT)
        assert "restoring Title replaces 20 values of other people" in looked
        assert "daily calls that are left" in looked
        assert [one["Title"] for one in people(running.salesforce)].count("Imported") == 20
        run(running, "replay", "changes", "--restore", "Title", "--yes", "--execute")
        assert "restoring Title" in run(running, "runs")
        wait_until(
            lambda: all(one["Title"] != "Imported" for one in people(running.salesforce)),
            "the titles are restored",
            SECONDS,
        )
        (phone,) = (one for one in people(running.salesforce) if one["Id"] == record["Id"])
        assert phone["Phone"] == "+1 555 0100", "no other field is claimed"

        theirs, second = start_second_org(running)
        fill = ("replay", "changes", "--yes", "--execute", "--to-prefix", theirs.prefix)
        assert "--sandbox" in run(running, *fill, expect=1), "a person says what the target is"
        assert "does not exist" in run(running, *fill[:-1], "nobody.", "--sandbox", expect=2)
        open_breaker(theirs)
        run_id = run(running, *fill, "--sandbox", "--no-wait").split()[-1]
        wait_until(
            lambda: waits_for_a_breaker(running), "the replay waits for the release", SECONDS
        )
        assert not theirs.read("contacts.events"), "nothing is published while it is open"
        there = {"KAFKA_TOPIC_PREFIX": theirs.prefix}
        release = ("breakers", "release", REASON, "--actor", "ada")
        released = running.processes.start(*release, environ=there)
        assert released.popen.wait(SECONDS) == 0, released.log
        assert "replay done" in run(running, "runs", "follow", run_id)
        assert f"to {theirs.prefix}" in run(running, "runs")
        wait_until(lambda: done(theirs), "everything is in the second org", SECONDS)

        first = {one[KEY]: one for one in people(running.salesforce) if one.get(KEY)}
        copied = people(second)
        holders = Counter(
            one[name].lower() for one in copied for name in ADDRESSES if one.get(name)
        )
        for number in (*SHARED, *ALONE):
            assert holders[f"p{number}@acme{number % 3}.example"] == 1, "exactly one record"
        assert len(copied) == len(SHARED) + len(ALONE), "nobody who is gone comes back"
        by_key = {one[KEY]: one for one in copied}
        for number in ALONE:
            key = f"{GRANT}/c{number}"
            ours = {name: first[key].get(name) for name in FIELDS if name != "Phone"}
            assert {name: by_key[key].get(name) for name in ours} == ours
        run(running, *fill, "--sandbox")
        wait_until(
            lambda: theirs.committed(f"{theirs.prefix}contactstream-dedupe", "contacts.events"),
            "dedupe has committed",
        )
        assert len(people(second)) == len(copied), "a second replay makes no second person"
