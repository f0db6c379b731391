"""A sandbox is refreshed: the sink refuses the new org until a person adopts it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.runtime.exit_codes import ExitCode
from tests.support.kafka import Kafka
from tests.support.product import GRANT, Product, person, product
from tests.support.waiting import wait_until

# Twelve commands, each a process of its own, on two cores that other tests may share.
pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.system]

OLD, NEW = "00D000000000001AAA", "00D000000000002AAA"
PEOPLE = 30
# Topics that name records of the org, besides those that only name contacts.
RECORDS_OF_THE_ORG = (
    "contacts.outcomes",
    "contacts.journal",
    "sink.accounts",
    "sink.deleted-records",
)
BASE = 1_790_000_000
SECONDS = 180.0


@pytest.fixture
def running(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    """Everything but the bridge; the test writes to contacts.events itself."""
    org = {"org_id": OLD, "accounts": [{"Name": "Old", "Website": "https://old.example"}]}
    with product(kafka, tmp_path, org=org, without=("bridge",)) as one:
        yield one


def offer(kafka: Kafka, contact: dict[str, Any], version: int) -> None:
    body = {
        "type": "contact.updated",
        "id": f"{contact['id']}-{version}",
        "time": BASE + version,
        "data": {"object": contact},
    }
    key = f"{contact['grant_id']}/{contact['id']}".encode()
    kafka.produce("contacts.events", [(key, json.dumps(body).encode())], [("origin", b"webhook")])


def contact(number: int, **fields: Any) -> dict[str, Any]:
    return person(f"c{number}", f"p{number}@old.example", surname=f"Person{number}", **fields)


def outcomes(kafka: Kafka) -> dict[str, dict[str, Any]]:
    """The last outcome of each contact; an erased one is left out."""
    last = {(found.key or b"").decode(): found.value for found in kafka.read("contacts.outcomes")}
    return {key: json.loads(value) for key, value in last.items() if value}


def newest(kafka: Kafka, topic: str) -> bytes:
    """What a compacted topic keeps in the end, keys and values."""
    last = {found.key or b"": found.value for found in kafka.read(topic)}
    return b"\n".join(key + b" " + value for key, value in last.items() if value is not None)


def refresh(running: Product) -> None:
    """The sandbox is a fresh copy: another ID, other records, and every token is void."""
    world = {
        "org_id": NEW,
        "accounts": [{"Name": "New", "Website": "https://new.example"}],
        # The same person was a Lead there before.
        "leads": [
            {"FirstName": "Ada", "LastName": "Person1", "Company": "X", "Email": "p1@old.example"}
        ],
    }
    running.http.put(f"{running.salesforce}/_sim/world", json=world).raise_for_status()


def test_a_refreshed_sandbox_is_refused_and_then_adopted(running: Product, kafka: Kafka) -> None:
    for number in range(PEOPLE):
        offer(kafka, contact(number), 1)
    wait_until(lambda: len(outcomes(kafka)) == PEOPLE, "everybody is in the org", SECONDS)
    former = outcomes(kafka)
    assert len(running.records("Contact")) == PEOPLE, "the Account of old.example has them"
    shown = json.loads(running.command("org", "--json"))
    assert (shown["pinned"], shown["login"], shown["ok"]) == (OLD, OLD, True)
    assert "nothing to adopt" in running.command("org", "adopt", "--why", "nothing")

    refresh(running)
    offer(kafka, contact(0, job_title="Director"), 2)
    sink = running.stages["sink"]
    assert sink.popen.wait(SECONDS) == ExitCode.ORG_CHANGED
    assert "contactstream org adopt --dry-run" in sink.log
    again = running.processes.start("sink")
    assert again.popen.wait(SECONDS) == ExitCode.ORG_CHANGED, "a restart does not help"
    assert running.records("Contact") == []
    assert len(running.records("Lead")) == 1, "nothing was written to the other org"
    assert OLD in running.command("org", status=1)
    assert "org of this deployment" in running.command("doctor", status=1)

    looked = running.command("org", "adopt", "--dry-run")
    assert f"org {NEW} is adopted in place of {OLD}" in looked
    assert f"{PEOPLE} contacts are offered" in looked
    assert outcomes(kafka) == former, "a dry run changes nothing"
    assert "--why is empty" in running.command("org", "adopt", status=2)
    adopted = running.command("org", "adopt", "--why", "refreshed", "--actor", "ada")
    assert f"org {NEW} is adopted" in adopted

    renewed = running.processes.start("sink").wait_ready()

    def offered_again() -> bool:
        now = outcomes(kafka)
        return len(now) == PEOPLE and all(now[key]["id"] != former[key]["id"] for key in former)

    wait_until(offered_again, "everybody is in the new org", SECONDS)
    leads = running.records("Lead")
    assert len(leads) == PEOPLE, "no Account of the former org is taken for one of the new org"
    assert running.records("Contact") == []
    now = {key: one["id"] for key, one in outcomes(kafka).items()}
    assert {lead["Nylas_Contact_Id__c"]: lead["Id"] for lead in leads} == now
    assert outcomes(kafka)[f"{GRANT}/c1"]["outcome"] == "updated", "the person was there already"
    (changed,) = running.records("Lead", Nylas_Contact_Id__c=f"{GRANT}/c0")
    assert changed["Title"] == "Director", "what the former sink refused was not lost"
    assert json.loads(running.command("org", "--json"))["pinned"] == NEW
    assert renewed.exit_code is None
    for topic in RECORDS_OF_THE_ORG:
        kept = newest(kafka, topic)
        named = [one["id"] for one in former.values() if one["id"].encode() in kept]
        assert not named, f"{topic} knows records of the former org"
    assert "nothing of it" in running.command("undo", "--field", "Lead.Title", status=2)
    actions = [json.loads(one.value or b"{}") for one in kafka.read("contactstream.audit")]
    noted = [one["state"] for one in actions if one["action"] == "org adopt"]
    assert noted == ["begun", "ended"]
