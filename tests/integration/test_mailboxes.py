"""Mailboxes that are not selected: their events go no further, and their books are not read."""

import json
import time
from pathlib import Path

import pytest

from streams.dedupe.versions import SETTLED
from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.reader_harness import ReaderHarness, Start, grant, people
from tests.support.waiting import wait_until

WEBHOOK: list[tuple[str, str | bytes | None]] = [
    ("origin", b"webhook"),
    ("received_ms", b"%d" % (time.time() * 1000)),
]

pytestmark = [pytest.mark.kafka, pytest.mark.system]


@pytest.fixture
def start(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: ReaderHarness(kafka, processes, tmp_path, world)


def notification(grant_id: str, contact: str) -> tuple[bytes, bytes]:
    """Key and value of a webhook."""
    person = {"grant_id": grant_id, "id": contact, "object": "contact", "given_name": "Live"}
    envelope = {
        "specversion": "1.0",
        "type": "contact.updated",
        "id": f"{grant_id}/{contact}",
        # so old that the contact, read again, is newer at once
        "time": int(time.time()) - SETTLED - 60,
        "data": {"object": person},
    }
    return f"{grant_id}/{contact}".encode(), json.dumps(envelope).encode()


def changed(harness: ReaderHarness) -> set[str]:
    return {(found.key or b"").decode() for found in harness.kafka.read("contacts.changes")}


def test_only_selected_mailboxes_reach_the_changes_and_each_is_listed_with_its_reason(
    start: Start,
) -> None:
    harness = start({"grants": [grant("g1", people(2)), grant("g2", people(3))]})
    harness.processes.environ["PEOPLE_MAILBOXES"] = "g1@*"
    dedupe = harness.processes.start("dedupe").wait_ready()
    # No record names the address of either grant yet: nothing may be lost or let through.
    live = [notification("g1", "live"), notification("g2", "live")]
    harness.nylas.change(grant_id="g1", upsert=[{"id": "live", "given_name": "Live"}])
    harness.kafka.produce("contacts.events", live, WEBHOOK)
    wait_until(
        lambda: dedupe.metric("contactstream_dedupe_refetch_total", reason="address_unknown") == 2,
        "both are asked for again",
    )
    reader = harness.reader()
    said = harness.command("backfill", "--all")
    assert "g2 skipped: not_selected" in said
    wait_until(lambda: changed(harness) == {"g1/c0", "g1/c1", "g1/live"}, "g1 is there", 60)
    assert reader.metric("contactstream_reader_refetched_total", outcome="not_selected") == 1
    harness.kafka.produce("contacts.events", [notification("g2", "c0")], WEBHOOK)
    wait_until(
        lambda: dedupe.metric("contactstream_dedupe_dropped_total", reason="not_selected") == 1,
        "its notification is dropped and counted",
    )
    rows = json.loads(harness.command("grants", "list", "--json"))
    assert [(row["grant"], row["left_out"], row["mailbox"]) for row in rows] == [
        ("g1", None, "selected by g1@*"),
        ("g2", "not_selected", "not selected"),
    ]
    assert not any(key.startswith("g2/") for key in changed(harness))


def test_who_gets_the_permission_set_is_read_and_obeyed_without_a_restart(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(2)), grant("g2", people(2))]})
    harness.processes.environ["PEOPLE_MAILBOXES"] = "permission-set:Sales_Sync"
    harness.processes.start("dedupe").wait_ready()
    harness.reader()
    assert "g1 skipped: not_selected" in harness.command("backfill", "--all")
    wait_until(
        lambda: any(
            found.key == b"selection/grant/g1"
            for found in harness.kafka.read("contactstream.control")
        ),
        "the reader notes that g1 is not selected",
        30,
    )
    members = {"schema": 1, "addresses": ["g1@reps.example"], "asked_ms": int(time.time() * 1000)}
    harness.kafka.produce(
        "contactstream.control",
        [(b"selection/members/Sales_Sync", json.dumps(members).encode())],
    )
    wait_until(
        lambda: (
            [run["grants"] for run in harness.runs().values() if run.get("by") == "selection"]
            == [["g1"]]
        ),
        "the reader asks for its backfill",
        30,
    )
    harness.command("backfill", "--all")
    wait_until(lambda: changed(harness) == {"g1/c0", "g1/c1"}, "it is forwarded", 60)


def test_colleagues_are_left_out_also_before_anything_names_the_address_of_their_mailbox(
    start: Start,
) -> None:
    colleague = {"id": "eve", "emails": [{"email": "eve@reps.example", "type": "work"}]}
    harness = start({"grants": [grant("g1", [*people(1), colleague])]})
    dedupe = harness.processes.start("dedupe").wait_ready()
    harness.reader()
    wait_until(
        lambda: any(
            found.key == b"own-domains" for found in harness.kafka.read("contactstream.control")
        ),
        "the reader has put the derivation in force",
        30,
    )
    harness.command("backfill", "--all")
    wait_until(lambda: changed(harness) == {"g1/c0", "g1/eve"}, "both were decided", 60)
    (left_out,) = (
        found for found in harness.kafka.read("contacts.changes") if found.key == b"g1/eve"
    )
    assert json.loads(left_out.value or b"")["excluded"] == "own_domain"
    assert "eve@reps.example" not in (left_out.value or b"").decode(), "only the reason is kept"
    again = dedupe.metric("contactstream_dedupe_refetch_total", reason="address_unknown")
    assert not again, "the page itself names the address, so no contact is read a second time"
