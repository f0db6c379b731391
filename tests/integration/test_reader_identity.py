"""Through every stage: which contact owns a Salesforce record after contacts or grants change."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.broker import Served
from tests.support.kafka import Kafka
from tests.support.paths import ROOT
from tests.support.product import GRANT, OTHER_GRANT, Product, deleted, person, product, updated
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

SILENT_GRANT = "11111111-aaaa-4bbb-8ccc-000000000003"
# The time of the events: older than every page that is read in the tests.
NOW = int(time.time()) - 5000


@pytest.fixture(scope="module")
def running(kafka_server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """All stages, shared by the tests of this module; each test has contacts of its own."""
    kafka = Kafka(kafka_server.bootstrap, "identity.")
    grants: list[dict[str, Any]] = [
        {"id": GRANT, "email": "rep@our-team.example", "provider": "google", "contacts": []},
        {
            "id": OTHER_GRANT,
            "email": "other@our-team.example",
            "provider": "microsoft",
            "contacts": [],
        },
        {
            "id": SILENT_GRANT,
            "email": "silent@our-team.example",
            "provider": "yahoo",
            "contacts": [],
        },
    ]
    with product(kafka, tmp_path_factory.mktemp("identity"), org={}, grants=grants) as one:
        yield one
    kafka.delete_all()


def owner(running: Product, address: str) -> str | None:
    """The contact key on the one record with this address."""
    (record,) = running.records("Lead", Email=address)
    key: str | None = record.get("Nylas_Contact_Id__c")
    return key


def command(running: Product, *arguments: str) -> str:
    """What the command prints; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        env=running.processes.environ,
        cwd=ROOT,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_a_contact_created_after_the_deletion_of_another_owns_the_record(
    running: Product,
) -> None:
    address = "moved@first.example"
    running.notify([updated(person("m-old", address), NOW, "m1")])
    running.outcome("m-old", NOW)
    running.notify(
        [deleted("m-old", NOW + 1, "m2"), updated(person("m-new", address), NOW + 2, "m3")]
    )
    running.outcome("m-new", NOW + 2)
    wait_until(lambda: owner(running, address) == f"{GRANT}/m-new", "the new one owns it", 60)


def test_a_contact_created_before_the_deletion_of_another_owns_the_record(
    running: Product,
) -> None:
    address = "moved@second.example"
    running.notify([updated(person("n-old", address), NOW, "n1")])
    running.outcome("n-old", NOW)
    running.notify([updated(person("n-new", address), NOW + 1, "n2")])
    assert running.outcome("n-new", NOW + 1)["outcome"] == "filled"
    running.notify([deleted("n-old", NOW + 2, "n3")])
    wait_until(lambda: owner(running, address) == f"{GRANT}/n-new", "the new one owns it", 90)


def test_a_covered_contact_is_listed_and_offered_again_when_the_record_is_released(
    running: Product,
) -> None:
    address = "home@fifth.example"
    running.notify([updated(person("f-ada", address), NOW, "f1")])
    record = running.outcome("f-ada", NOW)["id"]
    william = person("f-william", address, given_name="William", surname="King")
    running.notify([updated(william, NOW, "f2")])
    outcome = running.outcome("f-william", NOW)
    assert (outcome["outcome"], outcome["id"], outcome["candidates"]) == (
        "covered",
        record,
        [record],
    )
    listed = json.loads(command(running, "review", "--json"))["contacts"]
    assert [(one["key"], one["records"]) for one in listed] == [
        (f"{GRANT}/f-william", [{"sobject": "Lead", "id": record}])
    ]
    metric = "contactstream_reader_reoffered_total"
    before = running.count("reader", metric)
    running.notify([deleted("f-ada", NOW + 1, "f3")])
    wait_until(lambda: running.count("reader", metric) > before, "it is offered again", 90)
    assert owner(running, address) is None, "the record is still that of another person"


def test_changes_without_notifications_reach_the_org_by_reconcile(running: Product) -> None:
    silent = {"grant_id": SILENT_GRANT, "notify": False}
    added = [
        person(
            f"s{number}", f"silent{number}@third.example", grant=SILENT_GRANT, surname=f"S{number}"
        )
        for number in range(20)
    ]
    running.http.post(
        f"{running.nylas}/_sim/contacts", json=silent | {"upsert": added}
    ).raise_for_status()
    command(running, "reconcile", "--grant", SILENT_GRANT)
    running.outcome("s0", 1, grant=SILENT_GRANT)
    running.http.post(
        f"{running.nylas}/_sim/contacts", json=silent | {"delete": ["s0"]}
    ).raise_for_status()
    command(running, "reconcile", "--grant", SILENT_GRANT)
    wait_until(lambda: owner(running, "silent0@third.example") is None, "it is released", 60)
    assert owner(running, "silent1@third.example") == f"{SILENT_GRANT}/s1"


def test_the_records_of_a_deleted_grant_go_to_the_contacts_of_another_grant(
    running: Product,
) -> None:
    shared, alone = "shared@fourth.example", "alone@fourth.example"
    theirs = [
        person("t-shared", shared, grant=OTHER_GRANT),
        person("t-alone", alone, grant=OTHER_GRANT, surname="Alone"),
    ]
    running.notify([updated(one, NOW, f"t{number}") for number, one in enumerate(theirs)])
    running.outcome("t-shared", NOW, grant=OTHER_GRANT)
    running.notify([updated(person("t-mine", shared), NOW, "t9")])
    assert running.outcome("t-mine", NOW)["outcome"] == "filled"
    gone = {
        "object": {"grant_id": OTHER_GRANT, "code": 25013},
        "type": "grant.deleted",
        "time": int(time.time()),
        "id": "t10",
    }
    running.notify([gone])
    wait_until(lambda: owner(running, alone) is None, "its records are released", 90)
    wait_until(lambda: owner(running, shared) == f"{GRANT}/t-mine", "the other one takes over", 90)
