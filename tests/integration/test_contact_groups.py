"""Contact groups with a real reader and dedupe: who comes in, who leaves, and a changed filter."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from streams.dedupe.versions import SETTLED
from tests.support.kafka import Found, Kafka
from tests.support.processes import Processes
from tests.support.product import GRANT, person, product, updated
from tests.support.reader_harness import ReaderHarness, Start, grant, people
from tests.support.waiting import wait_until

WEBHOOK: list[tuple[str, str | bytes | None]] = [
    ("origin", b"webhook"),
    ("received_ms", b"%d" % (time.time() * 1000)),
]
GROUPS = [{"id": "1", "name": "Customers"}, {"id": "2", "name": "Friends"}]

pytestmark = [pytest.mark.kafka, pytest.mark.system]


@pytest.fixture
def start(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: ReaderHarness(kafka, processes, tmp_path, world)


def member(contact: dict[str, Any], *groups: str) -> dict[str, Any]:
    return contact | {"groups": [{"id": each} for each in groups]}


def notification(contact: dict[str, Any], at: float) -> tuple[bytes, bytes]:
    """Key and value of a webhook about a contact of g1."""
    envelope = {
        "specversion": "1.0",
        "type": "contact.updated",
        "id": f"{contact['id']}/{at}",
        "time": int(at),
        "data": {"object": {"grant_id": "g1", "object": "contact", **contact}},
    }
    return f"g1/{contact['id']}".encode(), json.dumps(envelope).encode()


def newest(harness: ReaderHarness) -> dict[str, Found]:
    """The newest change of each contact."""
    return {(found.key or b"").decode(): found for found in harness.kafka.read("contacts.changes")}


def decided(harness: ReaderHarness) -> dict[str, str]:
    """What the newest change of each contact says: its kind, or why it is left out."""
    said = {}
    for key, found in newest(harness).items():
        contact = json.loads(found.value or b"{}")
        kind = found.headers["kind"].decode()
        said[key] = f"{kind} {contact['excluded']}" if "excluded" in contact else kind
    return said


def test_members_come_in_who_leaves_is_released_and_a_changed_filter_is_settled(
    start: Start,
) -> None:
    one, two, three = people(3)
    harness = start(
        {
            "grants": [
                grant("g1", [member(one, "1"), member(two, "2"), three], groups=GROUPS),
                grant("old", people(1, 7), provider="ews"),
            ]
        }
    )
    harness.processes.environ |= {"PEOPLE_GROUPS": "customers", "PEOPLE_OWN_DOMAINS": "none"}
    dedupe = harness.processes.start("dedupe").wait_ready()
    # Nobody has asked for the groups of g1 yet: nothing may be lost or let through.
    live = member(people(1, 9)[0], "1")
    harness.nylas.change(grant_id="g1", upsert=[live])
    long_ago = time.time() - SETTLED - 60
    harness.kafka.produce("contacts.events", [notification(live, long_ago)], WEBHOOK)
    wait_until(
        lambda: dedupe.metric("contactstream_dedupe_refetch_total", reason="groups_unknown") == 1,
        "it is asked for again",
    )
    reader = harness.reader()
    harness.command("backfill", "--all")
    members = {"g1/c0": "updated", "g1/c9": "updated"}
    others = dict.fromkeys(("g1/c1", "g1/c2", "old/c7"), "updated not_in_group")
    wait_until(lambda: decided(harness) == members | others, "everybody is decided", 60)
    assert "N1" not in (newest(harness)["g1/c1"].value or b"").decode(), "only the reason is kept"
    assert "groups 400" not in harness.nylas.state()["answers"], "EWS is not asked"
    rows = {row["grant"]: row for row in json.loads(harness.command("grants", "list", "--json"))}
    assert rows["g1"]["groups"] == "Customers"
    assert rows["old"]["groups"] == "none: ews has no contact groups"

    moved = member(one, "2")
    harness.nylas.change(grant_id="g1", upsert=[moved])
    harness.kafka.produce("contacts.events", [notification(moved, time.time())], WEBHOOK)
    left = {"g1/c0": "deleted not_in_group"}
    wait_until(lambda: decided(harness) == members | others | left, "it has left", 30)

    for process in (reader, dedupe):
        process.popen.terminate()
        process.popen.wait(60)
    harness.processes.environ["PEOPLE_GROUPS"] = "friends"
    harness.processes.start("dedupe").wait_ready()
    harness.reader()
    harness.command("reconcile", "--all")
    wait_until(
        lambda: decided(harness)["g1/c9"] == "updated not_in_group",
        "the new filter leaves it out and does not release it",
        60,
    )
    assert decided(harness)["g1/c1"] == "updated", "the friend comes in"
    shown = harness.command("selection", "preview")
    assert "leave out 1 contacts that were synced" in shown
    harness.command("selection", "apply", "--why", "friends only")
    wait_until(lambda: decided(harness)["g1/c9"] == "deleted", "its record is settled", 30)
    assert "no contact that was synced" in harness.command("selection", "preview")


def test_without_groups_in_the_settings_nylas_is_not_asked_for_any(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(2), groups=GROUPS)]})
    harness.processes.environ["PEOPLE_OWN_DOMAINS"] = "none"
    harness.processes.start("dedupe").wait_ready()
    harness.reader()
    harness.command("backfill", "--all")
    wait_until(lambda: len(decided(harness)) == 2, "both are there", 60)
    assert "groups" not in harness.nylas.state()["calls"]


def test_the_record_of_whoever_leaves_a_group_is_released_and_found_again(
    kafka: Kafka, tmp_path: Path
) -> None:
    ada = person("ada", "ada@engines.example")
    friend = person("bob", "bob@engines.example", given_name="Bob", surname="Boole")
    book = {
        "id": GRANT,
        "email": "rep@sales.example",
        "provider": "google",
        "groups": GROUPS,
        "contacts": [member(ada, "1"), member(friend, "2")],
    }
    with product(
        kafka, tmp_path, org={}, grants=[book], environ={"PEOPLE_GROUPS": "Customers"}
    ) as one:
        one.command("backfill", "--all")
        assert one.outcome("ada", 1)["outcome"] == "created"
        skipped = one.outcome("bob", 1)
        assert (skipped["outcome"], skipped["reason"]) == ("skipped", "not_in_group")
        (lead,) = one.records("Lead")
        assert lead["Nylas_Contact_Id__c"] == f"{GRANT}/ada"

        now = int(time.time())
        one.notify([updated(member(ada, "2"), now, "leaves")])
        left = one.outcome("ada", now)
        assert (left["outcome"], left["reason"]) == ("released", "not_in_group")
        (released,) = one.records("Lead")
        assert (released["Id"], released.get("Nylas_Contact_Id__c")) == (lead["Id"], None)
        said = " ".join(one.command("explain", f"{GRANT}/ada").split())
        assert "none of the contact groups that are synced (PEOPLE_GROUPS: Customers)" in said
        assert "Its address book has: Customers, Friends" in said

        one.notify([updated(member(ada, "1"), now + 1, "returns")])
        back = one.outcome("ada", now + 1)
        assert back["id"] == lead["Id"], "the same record, found by name and address"
        (found,) = one.records("Lead")
        assert found["Nylas_Contact_Id__c"] == f"{GRANT}/ada"
