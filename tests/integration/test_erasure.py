"""A person asks for access and then to be erased, on a real Kafka with every stage but the bridge.

The receipt is checked against the bytes that each topic keeps.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.commands.suppress.command import suppress
from streams.settings import KafkaSettings, PeopleSettings, load
from streams.suppression import SUPPRESSION_OBEYED_SECONDS
from tests.support.kafka import Kafka
from tests.support.product import GRANT, OTHER_GRANT, Product, person, product
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.system]

BASE = 1_790_000_000
SECONDS = 90.0
ADDRESS, FURTHER = "gone@person.example", "gone@home.example"
# What names the person, in any topic.
TRACES = (b"gone@", b"Vanishing", b"clinic")
KEYS = (f"{GRANT}/gone".encode(), f"{OTHER_GRANT}/same".encode())
TOPICS = (
    "contacts.changes",
    "contacts.outcomes",
    "contacts.journal",
    "contacts.dead-letter",
    "contacts.refetch",
    "sink.deleted-records",
    "contactstream.audit",
    "contactstream.suppression",
    "contactstream-dedupe-seen-changelog",
)
OURS = ("Nylas_Contact_Id__c", "Nylas_Version__c", "Nylas_Field_Hashes__c", "Nylas_Email_2__c")


@pytest.fixture
def running(kafka: Kafka, tmp_path: Path) -> Iterator[Product]:
    """Everything but the bridge; the test writes to contacts.events itself."""
    with product(kafka, tmp_path, org={}, without=("bridge",)) as one:
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


def gone(contact_id: str = "gone", grant: str = GRANT, **fields: Any) -> dict[str, Any]:
    return person(
        contact_id, ADDRESS, FURTHER, grant=grant, surname="Vanishing", notes="clinic", **fields
    )


def kept(kafka: Kafka, topic: str) -> dict[bytes, bytes]:
    """What a topic keeps once it is compacted: the newest value of each key."""
    newest = {found.key or b"": found.value for found in kafka.read(topic)}
    return {key: value for key, value in newest.items() if value is not None}


def audited(kafka: Kafka) -> list[dict[str, Any]]:
    """The entries of the audit, in their order."""
    return [json.loads(found.value or b"{}") for found in kafka.read("contactstream.audit")]


def printed(log: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(log[log.index("{") :])
    return found


def everybody_is_in(kafka: Kafka) -> bool:
    return {*KEYS, f"{GRANT}/stays".encode()} <= kept(kafka, "contacts.outcomes").keys()


def test_an_erasure_leaves_nothing_of_the_person_and_its_receipt_is_true(
    running: Product, kafka: Kafka
) -> None:
    offer(kafka, gone(), 1)
    offer(kafka, gone("same", OTHER_GRANT), 1)
    offer(kafka, person("stays", "stays@person.example", surname="Staying", notes="n"), 1)
    wait_until(lambda: everybody_is_in(kafka), "everybody is in the org", SECONDS)
    offer(kafka, gone(job_title="Countess"), 2)
    wait_until(lambda: kept(kafka, "contacts.journal"), "a replaced value", SECONDS)
    (before,) = running.records("Lead", Email=ADDRESS)
    assert before["Nylas_Email_2__c"] == FURTHER
    changes = kept(kafka, "contacts.changes")
    assert not any(b"clinic" in value for value in changes.values()), "notes are not kept"

    exported = printed(running.command("export", ADDRESS))
    assert exported["contacts"] == sorted(key.decode() for key in KEYS)
    assert exported["salesforce_records"] == [before["Id"]]
    assert "clinic" in json.dumps(exported["topics"][kafka.name("contacts.events")])
    assert exported["topics"][kafka.name("contactstream-dedupe-seen-changelog")]
    assert running.command("export", "nobody@person.example", status=1)

    looked = printed(running.command("suppress", "--json", "--dry-run", ADDRESS))
    assert (looked["erased"], looked["contacts"]) == (False, 2)
    assert kept(kafka, "contacts.changes") == changes, "a dry run changes nothing"
    assert not kafka.read("contactstream.suppression")

    receipt = printed(running.command("suppress", "--json", "--actor", "ada", ADDRESS))
    assert (receipt["erased"], receipt["contacts"], receipt["listed"]) == (True, 2, 3)
    assert receipt["records_for_a_person"] == [before["Id"]]
    assert ADDRESS not in json.dumps(receipt)
    found = {name: line["records"] for name, line in receipt["topics"].items()}
    assert found[kafka.name("contacts.changes")] >= 2
    assert found[kafka.name("contacts.journal")] >= 1
    assert all(line["clean_by"] for line in receipt["topics"].values() if line["records"])

    def is_erased() -> bool:
        record = next(iter(running.records("Lead", Id=before["Id"])), {})
        return not any(record.get(name) for name in OURS) and not any(
            KEYS[0] in kept(kafka, topic) for topic in TOPICS
        )

    wait_until(is_erased, "the person is erased everywhere", SECONDS)
    (record,) = running.records("Lead", Id=before["Id"])
    assert (record["LastName"], record["Email"]) == ("Vanishing", ADDRESS), "nothing is deleted"
    for topic in TOPICS:
        everything = b"".join(key + value for key, value in kept(kafka, topic).items())
        assert not [trace for trace in TRACES if trace in everything], topic
        assert not [key for key in KEYS if key in everything], topic
    assert f"{GRANT}/stays".encode() in kept(kafka, "contacts.changes"), "others stay"

    # The address books still hold the person, and so do a third one and a replay.
    offer(kafka, gone(job_title="Queen"), 3)
    offer(kafka, gone("third", OTHER_GRANT), 3)
    running.command("replay", "events", "--yes", "--execute", "--actor", "ada")
    offer(kafka, person("after", "after@person.example", surname="After"), 4)
    wait_until(
        lambda: f"{GRANT}/after".encode() in kept(kafka, "contacts.outcomes"),
        "what came afterwards is written",
        SECONDS,
    )
    assert not any(b"gone@" in value for value in kept(kafka, "contacts.changes").values())
    assert running.records("Lead", Id=before["Id"]) == [record]
    assert len(running.records("Lead", Email=ADDRESS)) == 1
    exported = printed(running.command("export", ADDRESS))
    assert list(exported["topics"]) == [kafka.name("contacts.events")], "until they expire"

    # The person gave a new consent.
    lift = ("suppress", "--lift", ADDRESS, "--why", "a new consent", "--json", "--actor", "ada")
    looked = printed(running.command(*lift, "--dry-run"))
    assert (looked["lifted"], looked["entries"], looked["may_be_left"]) == (False, 3, 0)
    assert kept(kafka, "contactstream.suppression")
    lifted = printed(running.command(*lift))
    assert (lifted["lifted"], lifted["entries"], lifted["not_listed"]) == (True, 3, 0)
    assert not kept(kafka, "contactstream.suppression"), "the address and the keys found for it"
    noted = [entry for entry in audited(kafka) if entry["action"] == "suppress --lift"]
    assert [(one["state"], one["actor"], one["why"], one["count"]) for one in noted] == [
        ("begun", "ada", "a new consent", 3),
        ("ended", "ada", "a new consent", 3),
    ]
    assert ADDRESS not in json.dumps(noted)
    assert "none of the 1 people is on the list" in running.command(*lift, status=2)
    time.sleep(SUPPRESSION_OBEYED_SECONDS)  # what the receipt promises
    # The erasure has the version of its moment, and nothing older passes the sink.
    offer(kafka, gone(job_title="Empress"), int(time.time()) - BASE)
    wait_until(
        lambda: running.records("Lead", Id=before["Id"], Nylas_Contact_Id__c=f"{GRANT}/gone"),
        "the contact is matched with the record of before, which carries its key again",
        SECONDS,
    )
    assert len(running.records("Lead", Email=ADDRESS)) == 1


class Interrupted(Exception):
    """Somebody pressed Ctrl-C."""


def interrupt(_seconds: float) -> None:
    raise Interrupted


def test_an_interrupted_erasure_is_noted_as_begun_and_can_be_repeated(
    running: Product, kafka: Kafka
) -> None:
    offer(kafka, gone(), 1)
    wait_until(lambda: KEYS[0] in kept(kafka, "contacts.outcomes"), "the person is in", SECONDS)
    with pytest.raises(Interrupted):
        suppress(
            load(KafkaSettings, kafka.environ),
            load(PeopleSettings, {}),
            [ADDRESS],
            actor="ada",
            dry_run=False,
            json_output=True,
            sleep=interrupt,
        )
    assert states(kafka) == ["begun"], "contactstream audit shows it as not ended"
    assert kept(kafka, "contactstream.suppression"), "nobody writes the person any more"
    assert KEYS[0] in kept(kafka, "contacts.changes")
    receipt = printed(running.command("suppress", "--json", "--actor", "ada", ADDRESS))
    assert (receipt["contacts"], receipt["listed"]) == (1, 0), "the list has everybody already"
    wait_until(
        lambda: not any(KEYS[0] in kept(kafka, topic) for topic in TOPICS), "it is erased", SECONDS
    )
    assert states(kafka) == ["begun", "begun", "ended"]


def states(kafka: Kafka) -> list[str]:
    """What the audit says of erasures."""
    entries = [json.loads(found.value or b"{}") for found in kafka.read("contactstream.audit")]
    return [entry["state"] for entry in entries if entry["action"] == "suppress"]
