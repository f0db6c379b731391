"""Reconciles and events of grants: the reader on a real Kafka with a simulated Nylas."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.reader_harness import ReaderHarness, Start, grant, keys, people
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

LONG_AGO = 1_700_000_000


@pytest.fixture
def start(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: ReaderHarness(kafka, processes, tmp_path, world)


def deleted(harness: ReaderHarness) -> dict[str, int]:
    """The contacts published as deleted, each with its version."""
    return {
        f"{envelope['data']['object']['grant_id']}/{envelope['data']['object']['id']}": envelope[
            "time"
        ]
        for _, envelope in harness.envelopes()
        if envelope["type"] == "contact.deleted"
    }


def replayed(harness: ReaderHarness) -> list[tuple[str, int]]:
    """The contacts offered again, with tsuccessor versions."""
    return [
        (
            f"{envelope['data']['object']['grant_id']}/{envelope['data']['object']['id']}",
            envelope["time"],
        )
        for origin, envelope in harness.envelopes()
        if origin == "replay"
    ]


def test_a_contact_missing_from_a_complete_listing_is_published_as_deleted(
    start: Start,
) -> None:
    harness = start({"grants": [grant("g1", people(300)), grant("g2", people(2))]})
    harness.write_change(
        "g1/c0",
        LONG_AGO,
        "g1/gone",
        "g1/a/b#c",
        "g2/gone",
        "g3/another-grants",
        source="address_book",
    )
    harness.write_change("g1/back", LONG_AGO)
    harness.write_change("g1/back", LONG_AGO + 1, deleted=True)
    harness.reader()
    before = int(time.time())
    said = harness.command("reconcile", "--all")
    assert deleted(harness).keys() == {"g1/gone", "g1/a/b#c", "g2/gone"}
    assert all(
        before - 600 <= version <= time.time() - 600 for version in deleted(harness).values()
    )
    assert "3 deleted" in said
    assert {origin for origin, _ in harness.envelopes()} == {"reconcile"}
    assert len(keys(harness.events())) == 302 + 3


def test_a_contact_created_or_changed_during_the_listing_is_not_deleted(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(2))]})
    now = int(time.time())
    harness.write_change("g1/new", now - 300)
    harness.write_change("g1/changed", LONG_AGO)
    harness.write_change("g1/changed", now + 5)
    harness.write_change("g1/gone", now - 700)
    harness.reader()
    harness.command("reconcile", "--grant", "g1")
    assert deleted(harness).keys() == {"g1/gone"}


def test_a_contact_that_moved_between_pages_is_verified_and_not_deleted(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(450))]})
    harness.write_change("g1/c200", LONG_AGO)
    harness.nylas.faults({"kind": "moved_missed", "on": "contacts"})
    harness.reader()
    harness.command("reconcile", "--all")
    assert deleted(harness) == {}
    assert len(keys(harness.events())) == 450, "the one that was missed is read by its ID"
    assert harness.nylas.state()["calls"]["contact"] == 1


def test_an_incomplete_listing_deletes_nothing(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(500)), grant("g2", people(3))]})
    harness.write_change("g1/gone", LONG_AGO)
    harness.write_change("g2/gone", LONG_AGO)
    harness.nylas.faults(
        {"kind": "repeated_cursor", "on": "contacts", "grant_id": "g1", "after": 1}
    )
    harness.reader()
    said = harness.command("reconcile", "--all", expect=1)
    assert "g1 failed: Nylas repeated a cursor" in said
    assert deleted(harness).keys() == {"g2/gone"}


def test_an_interrupted_listing_starts_again_before_anything_is_deleted(
    start: Start,
) -> None:
    harness = start({"grants": [grant("g1", people(1000))], "settings": {"latency": 0.3}})
    harness.write_change("g1/gone", LONG_AGO, *[f"g1/c{number}" for number in range(0, 1000, 100)])
    first = harness.reader(READER_SESSION_TIMEOUT="2")
    command = harness.processes.start("reconcile", "--all")
    wait_until(
        lambda: first.metric("contactstream_reader_contacts_total") >= 400, "half of it is read", 40
    )
    first.kill()
    harness.reader(READER_SESSION_TIMEOUT="2")
    assert command.popen.wait(60) == 0
    assert deleted(harness).keys() == {"g1/gone"}


def test_a_dry_run_counts_deletions_and_reoffers_and_publishes_nothing(
    start: Start,
) -> None:
    harness = start(
        {"grants": [grant("g1", people(450)), grant("g2", people(3), grant_status="invalid")]}
    )
    harness.write_change("g1/c0", LONG_AGO, "g1/gone", "g1/gone-too", "g1/c200")
    harness.write_outcome("g1/c0", "filled")
    harness.nylas.faults({"kind": "moved_missed", "on": "contacts"})
    reader = harness.reader()
    said = harness.command("reconcile", "--all", "--dry-run")
    assert "450 contacts" in said or "449 contacts" in said
    assert "2 would be deleted, 1 would be offered again" in said
    assert harness.events() == []
    assert harness.kafka.read("grants.events") == []
    assert harness.kafka.read("contacts.dead-letter") == []
    assert (
        reader.metric("contactstream_reader_deleted_total")
        == reader.metric("contactstream_reader_reoffered_total")
        == 0
    )
    said = harness.command("reconcile", "--all")
    assert "2 deleted, 1 offered" in said


def test_contacts_of_a_refused_source_stay_and_other_sources_are_reconciled(
    start: Start,
) -> None:
    scopes = ["https://www.googleapis.com/auth/contacts"]
    found = [*people(2), {"id": "mail", "source": "inbox"}]
    harness = start({"grants": [grant("g1", found, scope=scopes)]})
    harness.write_change("g1/mail", LONG_AGO, "g1/mail-too", source="inbox")
    harness.write_change("g1/gone", LONG_AGO, source="address_book")
    harness.reader(NYLAS_SOURCES="inbox,address_book")
    said = harness.command("reconcile", "--all")
    assert "g1 done: source inbox could not be read: Nylas answered 403" in said
    assert "1 of 1 grants read without a source that Nylas refused" in said
    assert deleted(harness).keys() == {"g1/gone"}
    assert keys(harness.events()) == {"g1/c0", "g1/c1", "g1/gone"}


def test_a_grant_that_signed_in_again_is_read_although_it_is_listed_as_invalid(
    start: Start,
) -> None:
    harness = start({"grants": [grant("g1", people(3), grant_status="invalid")]})
    harness.write_grant_event("grant.updated", "g1", code=25027)
    harness.reader()
    wait_until(
        lambda: harness.last_run()[0].get("state") in ("done", "failed"), "it is asked for", 60
    )
    assert harness.nylas.state()["calls"].get("contacts") == 1, (
        "Nylas itself is asked, and may still refuse"
    )


def test_odd_grant_events_do_not_stop_the_reader(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(2)), grant("g2", people(1))]})
    body = (
        '{"type": "grant.created", "id": "x", "time": %s, '
        '"data": {"object": {"grant_id": "%s", "name": "\\ud800"}}}'
    )
    harness.kafka.produce(
        "grants.events",
        [(b"g1", (body % (10**18, "g1")).encode()), (b"g2", (body % (1, "g2")).encode())],
    )
    harness.reader()
    wait_until(lambda: keys(harness.events()) == {"g1/c0", "g1/c1", "g2/c0"}, "both are read", 60)


def test_the_guard_stops_too_many_deletions_unless_the_run_allows_them(
    start: Start,
) -> None:
    harness = start({"grants": [grant("g1", people(30)), grant("g2", people(100))]})
    harness.write_change("g2/gone", LONG_AGO, *[f"g1/gone{number}" for number in range(20)])
    harness.reader()
    said = harness.command("reconcile", "--all", expect=1)
    assert "g1 failed: stopped by the guard: 20 contacts would be deleted" in said
    assert deleted(harness).keys() == {"g2/gone"}
    assert harness.nylas.state()["calls"].get("contact") == 1
    harness.command("reconcile", "--all", "--max-delete-share", "0.9")
    assert len(deleted(harness)) == 21


def test_contacts_of_sources_that_were_not_listed_are_not_deleted(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(5))]})
    harness.write_change("g1/mail", LONG_AGO, source="inbox")
    harness.write_change("g1/book", LONG_AGO, source="address_book")
    harness.reader()
    harness.command("reconcile", "--all")
    assert deleted(harness).keys() == {"g1/book"}


def test_contacts_that_only_filled_a_record_are_offered_again_at_tsuccessor_version(
    start: Start,
) -> None:
    harness = start({"grants": [grant("g1", people(4))]})
    for number in range(4):
        harness.write_change(f"g1/c{number}", LONG_AGO + number, given_name=f"N{number}")
    harness.write_change("g1/c1", LONG_AGO + 50, given_name="Later")
    harness.write_change("g1/gone", LONG_AGO)
    for key, outcome in (
        ("c0", "created"),
        ("c1", "filled"),
        ("c2", "filled"),
        ("c3", "filled"),
        ("gone", "filled"),
    ):
        harness.write_outcome(f"g1/{key}", outcome)
    harness.write_outcome("g1/c3", "updated")
    harness.reader()
    said = harness.command("reconcile", "--all")
    assert sorted(replayed(harness)) == [("g1/c1", LONG_AGO + 50), ("g1/c2", LONG_AGO + 2)]
    assert "2 offered" in said
    assert deleted(harness).keys() == {"g1/gone"}


def test_the_schedule_reconciles_by_itself(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(3))]})
    reader = harness.reader(READER_RECONCILE_EVERY="3")
    wait_until(
        lambda: reader.metric("contactstream_reader_contacts_total", origin="reconcile") >= 6,
        "two of them",
        60,
    )
    assert {run["by"] for key, run in harness.runs().items() if "/" not in key} == {"schedule"}


def test_a_new_grant_is_read_once_however_often_its_event_is_handled(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(3)), grant("g2", people(2))]})
    harness.write_grant_event("grant.created", "g1", copies=2)
    harness.reader()
    wait_until(lambda: keys(harness.events()) == {"g1/c0", "g1/c1", "g1/c2"}, "it is read", 40)
    runs = {key: run for key, run in harness.runs().items() if "/" not in key}
    assert [(run["kind"], run["by"], run["grants"]) for run in runs.values()] == [
        ("backfill", "grant.created", ["g1"])
    ]


def test_a_new_sign_in_of_a_grant_is_reconciled_and_another_update_is_not(
    start: Start,
) -> None:
    harness = start(
        {"grants": [grant("g1", people(3)), grant("g2", people(2)), grant("g3", people(2))]}
    )
    harness.write_change("g1/gone", LONG_AGO)
    harness.write_grant_event("grant.expired", "g1", code=25009)
    harness.write_grant_event("grant.updated", "g2", code=25014, reauthentication_flag=False)
    harness.write_grant_event("grant.updated", "g1", code=25027, reauthentication_flag=True)
    reader = harness.reader()
    wait_until(lambda: deleted(harness).keys() == {"g1/gone"}, "it is compared", 40)
    assert {key.partition("/")[0] for key in keys(harness.events())} == {"g1"}
    assert reader.metric("contactstream_reader_grant_events_total", type="grant.expired") == 1
    assert reader.metric("contactstream_reader_grant_events_total", type="grant.updated") == 2


def test_the_address_of_a_grant_is_kept_beyond_later_webhooks(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(1))]})
    harness.write_grant_event("grant.expired", "g2", email="g2@reps.example", provider="google")
    harness.write_grant_event("grant.updated", "g2", code=25014)
    harness.reader()
    harness.command("backfill", "--all")
    kept = {
        record.key: json.loads(record.value or b"")["data"]["object"]["email"]
        for record in harness.kafka.read("grants.events")
        if (record.key or b"").endswith(b"/address")
    }
    assert kept == {b"g1/address": "g1@reps.example", b"g2/address": "g2@reps.example"}


def test_an_expired_grant_is_counted_and_its_contacts_stay(start: Start) -> None:
    harness = start({"grants": [grant("g1", [], grant_status="invalid"), grant("g2", people(1))]})
    harness.write_change("g1/c0", LONG_AGO)
    harness.write_grant_event("grant.expired", "g1", code=25009)
    reader = harness.reader()
    said = harness.command("reconcile", "--all")
    assert "g1 skipped: expired" in said
    assert deleted(harness) == {}
    wait_until(
        lambda: reader.metric("contactstream_reader_grants", status="expired") == 1,
        "it is shown",
        20,
    )
    assert reader.metric("contactstream_reader_grants", status="valid") == 1


def test_the_contacts_of_a_deleted_grant_are_deleted_as_of_its_deletion(
    start: Start,
) -> None:
    harness = start({"grants": [grant("g2", people(1))]})
    harness.write_change("g2/c0", LONG_AGO, *[f"g1/c{number}" for number in range(30)])
    harness.write_change("g1/gone", LONG_AGO, deleted=True)
    before = int(time.time())
    harness.write_grant_event("grant.deleted", "g1", code=25013)
    reader = harness.reader()
    wait_until(lambda: len(deleted(harness)) == 30, "they are deleted", 40)
    assert deleted(harness).keys() == {f"g1/c{number}" for number in range(30)}
    assert all(before <= version <= time.time() for version in deleted(harness).values())
    wait_until(
        lambda: reader.metric("contactstream_reader_grants", status="deleted") == 1,
        "it is shown",
        20,
    )
    reader.stop()
    again = harness.reader()
    wait_until(
        lambda: again.metric("contactstream_reader_grants", status="deleted") == 1, "it knows", 40
    )
    assert again.metric("contactstream_reader_grant_events_total", type="grant.deleted") == 0
    assert len(harness.events()) == 30


def test_the_removal_of_a_grant_waits_until_dedupe_has_caught_up(start: Start) -> None:
    harness = start({"grants": [grant("g2", people(1))]})
    early = {
        "specversion": "1.0",
        "type": "contact.updated",
        "id": "1",
        "time": 1,
        "data": {"object": {}},
    }
    harness.kafka.produce(
        "contacts.events", [(b"g1/c0", json.dumps(early).encode())], [("origin", b"backfill")]
    )
    harness.write_grant_event("grant.deleted", "g1")
    reader = harness.reader()
    wait_until(
        lambda: reader.metric("contactstream_reader_grant_events_total", type="grant.deleted") == 1,
        "known",
        40,
    )
    harness.write_change("g1/c0", LONG_AGO)  # the dedupe stage comes to it
    harness.commit("dedupe", "contacts.events", harness.ends("contacts.events"))
    wait_until(lambda: len(harness.events()) == 2, "it is deleted", 40)
    assert deleted(harness).keys() == {"g1/c0"}


def test_a_missed_deletion_of_a_grant_is_found_by_the_listing(start: Start) -> None:
    harness = start({"grants": [grant(f"g{number}", people(2)) for number in range(6)]})
    reader = harness.reader()
    harness.command("backfill", "--all")
    harness.write_change("g0/c0", LONG_AGO)
    harness.nylas.call(
        "PUT", "/_sim/world", {"grants": [grant(f"g{number}", people(2)) for number in range(1, 6)]}
    )
    harness.command("reconcile", "--all")
    harness.commit("dedupe", "contacts.events", harness.ends("contacts.events"))
    wait_until(lambda: deleted(harness).keys() == {"g0/c0"}, "its contact is deleted", 40)
    assert reader.metric("contactstream_reader_grants", status="deleted") == 1


def test_the_newest_contacts_of_a_missing_grant_are_deleted_too(start: Start) -> None:
    harness = start({"grants": [grant(f"g{number}", people(2)) for number in range(6)]})
    harness.reader()
    harness.command("backfill", "--all")
    before = int(time.time())
    harness.write_change("g0/old", LONG_AGO)
    harness.write_change("g0/just-changed", before - 30)
    harness.nylas.call(
        "PUT", "/_sim/world", {"grants": [grant(f"g{number}", people(2)) for number in range(1, 6)]}
    )
    harness.command("reconcile", "--all")
    harness.commit("dedupe", "contacts.events", harness.ends("contacts.events"))
    wait_until(
        lambda: deleted(harness).keys() == {"g0/old", "g0/just-changed"}, "both are deleted", 40
    )
    assert all(version >= before for version in deleted(harness).values()), (
        "no page's margin: it was asked for by its ID"
    )


def test_a_late_contact_of_a_deleted_grant_is_removed_by_the_next_reconcile(
    start: Start,
) -> None:
    harness = start({"grants": [grant("g1", people(2)), grant("g2", people(2))]})
    harness.write_grant_event("grant.deleted", "dead", at=LONG_AGO)
    harness.write_grant_event("grant.deleted", "g2", at=LONG_AGO)  # a wrong one: Nylas knows it
    reader = harness.reader()
    wait_until(
        lambda: reader.metric("contactstream_reader_grants", status="deleted") == 2,
        "they are known",
        40,
    )
    before = int(time.time())
    harness.write_change("dead/late", before - 30, "g2/c0")
    harness.command("reconcile", "--all")
    assert deleted(harness).keys() == {"dead/late"}
    assert deleted(harness)["dead/late"] >= before
    harness.command("reconcile", "--all", "--dry-run")
    assert len(deleted(harness)) == 1


def test_a_missing_grant_that_cannot_be_verified_does_not_stop_the_reconcile(
    start: Start,
) -> None:
    harness = start({"grants": [grant(f"g{number}", people(2)) for number in range(12)]})
    reader = harness.reader()
    harness.command("backfill", "--all")
    harness.write_change("g0/c0", LONG_AGO, "g1/c0")
    harness.nylas.call(
        "PUT",
        "/_sim/world",
        {"grants": [grant(f"g{number}", people(2)) for number in range(2, 12)]},
    )
    harness.nylas.faults({"kind": "unauthorized", "on": "grant", "grant_id": "g0", "times": None})
    harness.command("reconcile", "--all")
    harness.commit("dedupe", "contacts.events", harness.ends("contacts.events"))
    wait_until(lambda: deleted(harness).keys() == {"g1/c0"}, "the other one is", 40)
    assert (
        reader.metric("contactstream_reader_grants_skipped_total", reason="grant_unverified") == 1
    )


def test_a_waiting_removal_does_not_hold_back_other_grant_events(start: Start) -> None:
    harness = start({"grants": [grant("g2", people(2))]})
    early = {
        "specversion": "1.0",
        "type": "contact.updated",
        "id": "1",
        "time": 1,
        "data": {"object": {}},
    }
    harness.kafka.produce(
        "contacts.events", [(b"g1/c0", json.dumps(early).encode())], [("origin", b"backfill")]
    )
    harness.write_change("g1/c0", LONG_AGO)
    harness.write_grant_event("grant.deleted", "g1")
    harness.write_grant_event("grant.created", "g2")
    first = harness.reader(READER_SESSION_TIMEOUT="2")
    wait_until(
        lambda: keys(harness.events()) == {"g1/c0", "g2/c0", "g2/c1"}, "the new grant is read", 60
    )
    assert deleted(harness) == {}, "the dedupe stage is behind"
    assert (
        harness.kafka.committed(harness.kafka.name("contactstream-reader-work"), "grants.events")[0]
        <= 0
    )
    first.kill()
    harness.reader(READER_SESSION_TIMEOUT="2")
    harness.commit("dedupe", "contacts.events", harness.ends("contacts.events"))
    wait_until(lambda: deleted(harness).keys() == {"g1/c0"}, "a successor removes it", 60)
    wait_until(
        lambda: (
            harness.kafka.committed(
                harness.kafka.name("contactstream-reader-work"), "grants.events"
            )[0]
            >= 2
        ),
        "over",
        40,
    )


def test_the_key_of_another_application_deletes_no_grant(start: Start) -> None:
    harness = start({"grants": [grant(f"g{number}", people(1)) for number in range(4)]})
    reader = harness.reader()
    harness.command("backfill", "--all")
    harness.write_change("g0/c0", LONG_AGO, "g1/c0", "g2/c0", "g3/c0")
    harness.nylas.call("PUT", "/_sim/world", {"grants": [grant("other", people(1))]})
    harness.command("reconcile", "--all")
    harness.commit("dedupe", "contacts.events", harness.ends("contacts.events"))
    assert reader.metric("contactstream_reader_grants", status="deleted") == 0
    assert deleted(harness) == {}


def test_waiting_reconciles_of_everything_are_merged(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(3))]})
    for _ in range(3):
        harness.command("reconcile", "--all", "--no-wait")
    harness.reader()
    wait_until(lambda: all_over(harness), "they are over", 40)
    states = sorted(run["state"] for key, run in harness.runs().items() if "/" not in key)
    assert states == ["done", "merged", "merged"]
    assert harness.nylas.state()["calls"]["contacts"] == 1


def all_over(harness: ReaderHarness) -> bool:
    runs: list[dict[str, Any]] = [run for key, run in harness.runs().items() if "/" not in key]
    return len(runs) == 3 and all(run["state"] in ("done", "merged") for run in runs)


def test_successors_of_a_released_record_are_offered_again(
    start: Start,
) -> None:
    harness = start({"grants": []})
    harness.write_change("g1/successor", LONG_AGO, "g1/owner", "g2/other", given_name="Ada")
    harness.write_outcome("g1/owner", "updated", "003a")
    harness.write_outcome("g1/successor", "filled", "003a")
    harness.write_outcome("g2/other", "filled", "003b")
    reader = harness.reader()
    wait_until(lambda: reader.metric("contactstream_reader_active") == 1, "it is active", 40)
    harness.write_change("g1/owner", LONG_AGO + 9, deleted=True)
    harness.write_outcome("g1/owner", "released", "003a")
    wait_until(lambda: replayed(harness), "it is offered", 60)
    assert replayed(harness) == [("g1/successor", LONG_AGO)]
    assert len(harness.events()) == 1
