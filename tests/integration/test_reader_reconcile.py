"""The reader's reconcile and what it does with the life of grants, on a real Kafka, reading a
simulated Nylas.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.reader_harness import Desk, Start, grant, keys, people
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

LONG_AGO = 1_700_000_000


@pytest.fixture
def desk(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: Desk(kafka, processes, tmp_path, world)


def deleted(mine: Desk) -> dict[str, int]:
    """The contacts published as deleted, each with its version."""
    return {
        f"{envelope['data']['object']['grant_id']}/{envelope['data']['object']['id']}": envelope[
            "time"
        ]
        for _, envelope in mine.told()
        if envelope["type"] == "contact.deleted"
    }


def replayed(mine: Desk) -> list[tuple[str, int]]:
    """The contacts offered again, with their versions."""
    return [
        (
            f"{envelope['data']['object']['grant_id']}/{envelope['data']['object']['id']}",
            envelope["time"],
        )
        for origin, envelope in mine.told()
        if origin == "replay"
    ]


def test_a_contact_that_a_complete_listing_no_longer_holds_is_published_as_deleted(
    desk: Start,
) -> None:
    mine = desk({"grants": [grant("g1", people(300)), grant("g2", people(2))]})
    mine.changed(
        "g1/c0",
        LONG_AGO,
        "g1/gone",
        "g1/a/b#c",
        "g2/gone",
        "g3/another-grants",
        source="address_book",
    )
    mine.changed("g1/back", LONG_AGO)
    mine.changed("g1/back", LONG_AGO + 1, deleted=True)
    mine.reader()
    before = int(time.time())
    said = mine.command("reconcile", "--all")
    assert deleted(mine).keys() == {"g1/gone", "g1/a/b#c", "g2/gone"}
    assert all(before - 600 <= version <= time.time() - 600 for version in deleted(mine).values())
    assert "3 deleted" in said
    assert {origin for origin, _ in mine.told()} == {"reconcile"}
    assert len(keys(mine.events())) == 302 + 3


def test_one_that_was_made_or_changed_since_the_scan_began_lives(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(2))]})
    now = int(time.time())
    mine.changed("g1/new", now - 300)
    mine.changed("g1/changed", LONG_AGO)
    mine.changed("g1/changed", now + 5)
    mine.changed("g1/gone", now - 700)
    mine.reader()
    mine.command("reconcile", "--grant", "g1")
    assert deleted(mine).keys() == {"g1/gone"}


def test_one_that_moved_between_the_pages_is_asked_for_and_lives(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(450))]})
    mine.changed("g1/c200", LONG_AGO)
    mine.nylas.faults({"kind": "moved_missed", "on": "contacts"})
    mine.reader()
    mine.command("reconcile", "--all")
    assert deleted(mine) == {}
    assert len(keys(mine.events())) == 450, "the one that was missed is read by its ID"
    assert mine.nylas.state()["calls"]["contact"] == 1


def test_an_incomplete_listing_deletes_nothing(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(500)), grant("g2", people(3))]})
    mine.changed("g1/gone", LONG_AGO)
    mine.changed("g2/gone", LONG_AGO)
    mine.nylas.faults({"kind": "repeated_cursor", "on": "contacts", "grant_id": "g1", "after": 1})
    mine.reader()
    said = mine.command("reconcile", "--all", expect=1)
    assert "g1 failed: Nylas repeated a cursor" in said
    assert deleted(mine).keys() == {"g2/gone"}


def test_a_listing_that_was_interrupted_starts_again_before_it_says_what_is_gone(
    desk: Start,
) -> None:
    mine = desk({"grants": [grant("g1", people(1000))], "settings": {"latency": 0.3}})
    mine.changed("g1/gone", LONG_AGO, *[f"g1/c{number}" for number in range(0, 1000, 100)])
    first = mine.reader(READER_SESSION_TIMEOUT="2")
    command = mine.processes.start("reconcile", "--all")
    wait_until(
        lambda: first.metric("contactstream_reader_contacts_total") >= 400, "half of it is read", 40
    )
    first.kill()
    mine.reader(READER_SESSION_TIMEOUT="2")
    assert command.popen.wait(60) == 0
    assert deleted(mine).keys() == {"g1/gone"}


def test_a_dry_run_says_what_would_be_deleted_and_offered_and_publishes_nothing(
    desk: Start,
) -> None:
    mine = desk(
        {"grants": [grant("g1", people(450)), grant("g2", people(3), grant_status="invalid")]}
    )
    mine.changed("g1/c0", LONG_AGO, "g1/gone", "g1/gone-too", "g1/c200")
    mine.outcome("g1/c0", "filled")
    mine.nylas.faults({"kind": "moved_missed", "on": "contacts"})
    reader = mine.reader()
    said = mine.command("reconcile", "--all", "--dry-run")
    assert "450 contacts" in said or "449 contacts" in said
    assert "2 would be deleted, 1 would be offered again" in said
    assert mine.events() == []
    assert mine.kafka.read("grants.events") == []
    assert mine.kafka.read("contacts.dead-letter") == []
    assert (
        reader.metric("contactstream_reader_deleted_total")
        == reader.metric("contactstream_reader_reoffered_total")
        == 0
    )
    said = mine.command("reconcile", "--all")
    assert "2 deleted, 1 offered" in said


def test_a_source_that_a_grant_lacks_the_scope_for_keeps_its_contacts_and_costs_the_others_nothing(
    desk: Start,
) -> None:
    scopes = ["https://www.googleapis.com/auth/contacts"]
    found = [*people(2), {"id": "mail", "source": "inbox"}]
    mine = desk({"grants": [grant("g1", found, scope=scopes)]})
    mine.changed("g1/mail", LONG_AGO, "g1/mail-too", source="inbox")
    mine.changed("g1/gone", LONG_AGO, source="address_book")
    mine.reader(NYLAS_SOURCES="inbox,address_book")
    said = mine.command("reconcile", "--all")
    assert "g1 done: source inbox could not be read: Nylas answered 403" in said
    assert "1 of 1 grants read without a source that Nylas refused" in said
    assert deleted(mine).keys() == {"g1/gone"}
    assert keys(mine.events()) == {"g1/c0", "g1/c1", "g1/gone"}


def test_a_grant_that_signed_in_again_is_read_before_the_listing_knows_it(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(3), grant_status="invalid")]})
    mine.granted("grant.updated", "g1", code=25027)
    mine.reader()
    wait_until(lambda: mine.last_run()[0].get("state") in ("done", "failed"), "it is asked for", 60)
    assert mine.nylas.state()["calls"].get("contacts") == 1, (
        "Nylas itself is asked, and may still refuse"
    )


def test_what_no_reader_could_read_stops_none(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(2)), grant("g2", people(1))]})
    body = '{"type": "grant.created", "id": "x", "time": %s, "data": {"object": {"grant_id": "%s", "name": "\\ud800"}}}'
    mine.kafka.produce(
        "grants.events",
        [(b"g1", (body % (10**18, "g1")).encode()), (b"g2", (body % (1, "g2")).encode())],
    )
    mine.reader()
    wait_until(lambda: keys(mine.events()) == {"g1/c0", "g1/c1", "g2/c0"}, "both are read", 60)


def test_the_guard_stops_a_run_that_would_delete_too_much_unless_it_is_told_to(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(30)), grant("g2", people(100))]})
    mine.changed("g2/gone", LONG_AGO, *[f"g1/gone{number}" for number in range(20)])
    mine.reader()
    said = mine.command("reconcile", "--all", expect=1)
    assert "g1 failed: stopped by the guard: 20 contacts would be deleted" in said
    assert deleted(mine).keys() == {"g2/gone"}
    assert mine.nylas.state()["calls"].get("contact") == 1
    mine.command("reconcile", "--all", "--max-delete-share", "0.9")
    assert len(deleted(mine)) == 21


def test_sources_that_were_not_listed_say_nothing_of_their_contacts(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(5))]})
    mine.changed("g1/mail", LONG_AGO, source="inbox")
    mine.changed("g1/book", LONG_AGO, source="address_book")
    mine.reader()
    mine.command("reconcile", "--all")
    assert deleted(mine).keys() == {"g1/book"}


def test_contacts_that_were_only_filled_are_offered_again_at_the_version_forwarded(
    desk: Start,
) -> None:
    mine = desk({"grants": [grant("g1", people(4))]})
    for number in range(4):
        mine.changed(f"g1/c{number}", LONG_AGO + number, given_name=f"N{number}")
    mine.changed("g1/c1", LONG_AGO + 50, given_name="Later")
    mine.changed("g1/gone", LONG_AGO)
    for key, fate in (
        ("c0", "created"),
        ("c1", "filled"),
        ("c2", "filled"),
        ("c3", "filled"),
        ("gone", "filled"),
    ):
        mine.outcome(f"g1/{key}", fate)
    mine.outcome("g1/c3", "updated")
    mine.reader()
    said = mine.command("reconcile", "--all")
    assert sorted(replayed(mine)) == [("g1/c1", LONG_AGO + 50), ("g1/c2", LONG_AGO + 2)]
    assert "2 offered" in said
    assert deleted(mine).keys() == {"g1/gone"}


def test_the_schedule_reconciles_by_itself(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(3))]})
    reader = mine.reader(READER_RECONCILE_EVERY="3")
    wait_until(
        lambda: reader.metric("contactstream_reader_contacts_total", origin="reconcile") >= 6,
        "two of them",
        60,
    )
    assert {run["by"] for key, run in mine.runs().items() if "/" not in key} == {"schedule"}


def test_a_new_grant_is_read_once_however_often_its_event_is_handled(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(3)), grant("g2", people(2))]})
    mine.granted("grant.created", "g1", copies=2)
    mine.reader()
    wait_until(lambda: keys(mine.events()) == {"g1/c0", "g1/c1", "g1/c2"}, "it is read", 40)
    runs = {key: run for key, run in mine.runs().items() if "/" not in key}
    assert [(run["kind"], run["by"], run["grants"]) for run in runs.values()] == [
        ("backfill", "grant.created", ["g1"])
    ]


def test_a_grant_that_signed_in_again_is_reconciled_and_one_that_merely_changed_is_not(
    desk: Start,
) -> None:
    mine = desk(
        {"grants": [grant("g1", people(3)), grant("g2", people(2)), grant("g3", people(2))]}
    )
    mine.changed("g1/gone", LONG_AGO)
    mine.granted("grant.expired", "g1", code=25009)
    mine.granted("grant.updated", "g2", code=25014, reauthentication_flag=False)
    mine.granted("grant.updated", "g1", code=25027, reauthentication_flag=True)
    reader = mine.reader()
    wait_until(lambda: deleted(mine).keys() == {"g1/gone"}, "it is compared", 40)
    assert {key.partition("/")[0] for key in keys(mine.events())} == {"g1"}
    assert reader.metric("contactstream_reader_grant_events_total", type="grant.expired") == 1
    assert reader.metric("contactstream_reader_grant_events_total", type="grant.updated") == 2


def test_an_expired_grant_is_shown_and_deletes_nothing(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", [], grant_status="invalid"), grant("g2", people(1))]})
    mine.changed("g1/c0", LONG_AGO)
    mine.granted("grant.expired", "g1", code=25009)
    reader = mine.reader()
    said = mine.command("reconcile", "--all")
    assert "g1 skipped: expired" in said
    assert deleted(mine) == {}
    wait_until(
        lambda: reader.metric("contactstream_reader_grants", status="expired") == 1,
        "it is shown",
        20,
    )
    assert reader.metric("contactstream_reader_grants", status="valid") == 1


def test_the_contacts_of_a_deleted_grant_are_published_as_deleted_as_of_its_deletion(
    desk: Start,
) -> None:
    mine = desk({"grants": [grant("g2", people(1))]})
    mine.changed("g2/c0", LONG_AGO, *[f"g1/c{number}" for number in range(30)])
    mine.changed("g1/gone", LONG_AGO, deleted=True)
    before = int(time.time())
    mine.granted("grant.deleted", "g1", code=25013)
    reader = mine.reader()
    wait_until(lambda: len(deleted(mine)) == 30, "they are deleted", 40)
    assert deleted(mine).keys() == {f"g1/c{number}" for number in range(30)}
    assert all(before <= version <= time.time() for version in deleted(mine).values())
    wait_until(
        lambda: reader.metric("contactstream_reader_grants", status="deleted") == 1,
        "it is shown",
        20,
    )
    reader.stop()
    again = mine.reader()
    wait_until(
        lambda: again.metric("contactstream_reader_grants", status="deleted") == 1, "it knows", 40
    )
    assert again.metric("contactstream_reader_grant_events_total", type="grant.deleted") == 0
    assert len(mine.events()) == 30


def test_the_deletion_of_a_grant_waits_until_what_was_read_of_it_is_known(desk: Start) -> None:
    mine = desk({"grants": [grant("g2", people(1))]})
    early = {
        "specversion": "1.0",
        "type": "contact.updated",
        "id": "1",
        "time": 1,
        "data": {"object": {}},
    }
    mine.kafka.produce(
        "contacts.events", [(b"g1/c0", json.dumps(early).encode())], [("origin", b"backfill")]
    )
    mine.granted("grant.deleted", "g1")
    reader = mine.reader()
    wait_until(
        lambda: reader.metric("contactstream_reader_grant_events_total", type="grant.deleted") == 1,
        "known",
        40,
    )
    mine.changed("g1/c0", LONG_AGO)  # the dedupe stage comes to it
    mine.commit("dedupe", "contacts.events", mine.ends("contacts.events"))
    wait_until(lambda: len(mine.events()) == 2, "it is deleted", 40)
    assert deleted(mine).keys() == {"g1/c0"}


def test_a_deletion_of_a_grant_that_was_missed_is_found_by_the_listing(desk: Start) -> None:
    mine = desk({"grants": [grant(f"g{number}", people(2)) for number in range(6)]})
    reader = mine.reader()
    mine.command("backfill", "--all")
    mine.changed("g0/c0", LONG_AGO)
    mine.nylas.call(
        "PUT", "/_sim/world", {"grants": [grant(f"g{number}", people(2)) for number in range(1, 6)]}
    )
    mine.command("reconcile", "--all")
    mine.commit("dedupe", "contacts.events", mine.ends("contacts.events"))
    wait_until(lambda: deleted(mine).keys() == {"g0/c0"}, "its contact is deleted", 40)
    assert reader.metric("contactstream_reader_grants", status="deleted") == 1


def test_a_grant_found_missing_takes_all_its_contacts_with_it_the_newest_too(desk: Start) -> None:
    mine = desk({"grants": [grant(f"g{number}", people(2)) for number in range(6)]})
    mine.reader()
    mine.command("backfill", "--all")
    before = int(time.time())
    mine.changed("g0/old", LONG_AGO)
    mine.changed("g0/just-changed", before - 30)
    mine.nylas.call(
        "PUT", "/_sim/world", {"grants": [grant(f"g{number}", people(2)) for number in range(1, 6)]}
    )
    mine.command("reconcile", "--all")
    mine.commit("dedupe", "contacts.events", mine.ends("contacts.events"))
    wait_until(
        lambda: deleted(mine).keys() == {"g0/old", "g0/just-changed"}, "both are deleted", 40
    )
    assert all(version >= before for version in deleted(mine).values()), (
        "no page's margin: it was asked for by its ID"
    )


def test_a_contact_that_comes_of_a_deleted_grant_later_is_removed_by_the_next_reconcile(
    desk: Start,
) -> None:
    mine = desk({"grants": [grant("g1", people(2)), grant("g2", people(2))]})
    mine.granted("grant.deleted", "dead", at=LONG_AGO)
    mine.granted("grant.deleted", "g2", at=LONG_AGO)  # a wrong one: Nylas knows it
    reader = mine.reader()
    wait_until(
        lambda: reader.metric("contactstream_reader_grants", status="deleted") == 2,
        "they are known",
        40,
    )
    before = int(time.time())
    mine.changed("dead/late", before - 30, "g2/c0")
    mine.command("reconcile", "--all")
    assert deleted(mine).keys() == {"dead/late"}
    assert deleted(mine)["dead/late"] >= before
    mine.command("reconcile", "--all", "--dry-run")
    assert len(deleted(mine)) == 1


def test_a_missing_grant_that_nylas_will_not_speak_of_does_not_stop_the_reconcile(
    desk: Start,
) -> None:
    mine = desk({"grants": [grant(f"g{number}", people(2)) for number in range(12)]})
    reader = mine.reader()
    mine.command("backfill", "--all")
    mine.changed("g0/c0", LONG_AGO, "g1/c0")
    mine.nylas.call(
        "PUT",
        "/_sim/world",
        {"grants": [grant(f"g{number}", people(2)) for number in range(2, 12)]},
    )
    mine.nylas.faults({"kind": "unauthorized", "on": "grant", "grant_id": "g0", "times": None})
    mine.command("reconcile", "--all")
    mine.commit("dedupe", "contacts.events", mine.ends("contacts.events"))
    wait_until(lambda: deleted(mine).keys() == {"g1/c0"}, "the other one is", 40)
    assert (
        reader.metric("contactstream_reader_grants_skipped_total", reason="grant_unverified") == 1
    )


def test_the_removal_of_a_grant_that_waits_holds_no_other_event_back(desk: Start) -> None:
    mine = desk({"grants": [grant("g2", people(2))]})
    early = {
        "specversion": "1.0",
        "type": "contact.updated",
        "id": "1",
        "time": 1,
        "data": {"object": {}},
    }
    mine.kafka.produce(
        "contacts.events", [(b"g1/c0", json.dumps(early).encode())], [("origin", b"backfill")]
    )
    mine.changed("g1/c0", LONG_AGO)
    mine.granted("grant.deleted", "g1")
    mine.granted("grant.created", "g2")
    first = mine.reader(READER_SESSION_TIMEOUT="2")
    wait_until(
        lambda: keys(mine.events()) == {"g1/c0", "g2/c0", "g2/c1"}, "the new grant is read", 60
    )
    assert deleted(mine) == {}, "the dedupe stage is behind"
    assert (
        mine.kafka.committed(mine.kafka.name("contactstream-reader-work"), "grants.events")[0] <= 0
    )
    first.kill()
    mine.reader(READER_SESSION_TIMEOUT="2")
    mine.commit("dedupe", "contacts.events", mine.ends("contacts.events"))
    wait_until(lambda: deleted(mine).keys() == {"g1/c0"}, "a successor removes it", 60)
    wait_until(
        lambda: (
            mine.kafka.committed(mine.kafka.name("contactstream-reader-work"), "grants.events")[0]
            >= 2
        ),
        "over",
        40,
    )


def test_the_key_of_another_application_deletes_no_grant(desk: Start) -> None:
    mine = desk({"grants": [grant(f"g{number}", people(1)) for number in range(4)]})
    reader = mine.reader()
    mine.command("backfill", "--all")
    mine.changed("g0/c0", LONG_AGO, "g1/c0", "g2/c0", "g3/c0")
    mine.nylas.call("PUT", "/_sim/world", {"grants": [grant("other", people(1))]})
    mine.command("reconcile", "--all")
    mine.commit("dedupe", "contacts.events", mine.ends("contacts.events"))
    assert reader.metric("contactstream_reader_grants", status="deleted") == 0
    assert deleted(mine) == {}


def test_a_scheduled_reconcile_of_everything_joins_those_that_wait(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(3))]})
    for _ in range(3):
        mine.command("reconcile", "--all", "--no-wait")
    mine.reader()
    wait_until(lambda: all_over(mine), "they are over", 40)
    states = sorted(run["state"] for key, run in mine.runs().items() if "/" not in key)
    assert states == ["done", "merged", "merged"]
    assert mine.nylas.state()["calls"]["contacts"] == 1


def all_over(mine: Desk) -> bool:
    runs: list[dict[str, Any]] = [run for key, run in mine.runs().items() if "/" not in key]
    return len(runs) == 3 and all(run["state"] in ("done", "merged") for run in runs)


def test_whoever_had_only_filled_a_record_is_offered_again_when_its_owner_gives_it_up(
    desk: Start,
) -> None:
    mine = desk({"grants": []})
    mine.changed("g1/heir", LONG_AGO, "g1/owner", "g2/other", given_name="Ada")
    mine.outcome("g1/owner", "updated", "003a")
    mine.outcome("g1/heir", "filled", "003a")
    mine.outcome("g2/other", "filled", "003b")
    reader = mine.reader()
    wait_until(lambda: reader.metric("contactstream_reader_active") == 1, "it is active", 40)
    mine.changed("g1/owner", LONG_AGO + 9, deleted=True)
    mine.outcome("g1/owner", "released", "003a")
    wait_until(lambda: replayed(mine), "it is offered", 60)
    assert replayed(mine) == [("g1/heir", LONG_AGO)]
    assert len(mine.events()) == 1
