"""The reader as a process, on a real Kafka, reading a simulated Nylas."""

import json
import random
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from deploy.local.broker import Broker
from tests.support.kafka import Found, Kafka
from tests.support.processes import Process, Processes
from tests.support.reader_harness import Desk, Start, grant, keys, people
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def desk(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: Desk(kafka, processes, tmp_path, world)


def reads(reader: Process) -> bool:
    return reader.metric("contactstream_reader_contacts_total") > 0


def test_a_backfill_publishes_every_contact_of_every_grant_once_and_in_pages(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(450)), grant("g2", people(3)), grant("g3", [])]})
    mine.reader()
    said = mine.command("backfill", "--all")
    events = mine.events()
    assert keys(events) == {f"g1/c{n}" for n in range(450)} | {f"g2/c{n}" for n in range(3)}
    assert len(events) == 453
    assert "453 contacts" in said
    calls = mine.nylas.state()["calls"]
    assert (calls["contacts"], calls["grants"]) == (5, 1)


def test_a_page_is_versioned_by_nylas_clock_less_the_margin(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(2))]})
    mine.nylas.call("POST", "/_sim/clock", {"at": 1_700_000_000, "frozen": True})
    mine.reader()
    mine.command("backfill", "--all")
    told = mine.told()
    assert [(origin, envelope["type"], envelope["time"]) for origin, envelope in told] == [
        ("backfill", "contact.updated", 1_700_000_000 - 600)
    ] * 2
    assert {envelope["data"]["object"]["id"] for _, envelope in told} == {"c0", "c1"}
    assert len({envelope["id"] for _, envelope in told}) == 2


def test_grants_are_named_by_id_or_address_and_the_others_are_left_alone(desk: Start) -> None:
    mine = desk(
        {"grants": [grant("g1", people(2)), grant("g2", people(3)), grant("g3", people(4))]}
    )
    mine.reader()
    mine.command("backfill", "--grant", "g1", "--grant", "g2@reps.example")
    assert keys(mine.events()) == {"g1/c0", "g1/c1", "g2/c0", "g2/c1", "g2/c2"}


def test_what_cannot_be_read_is_named_and_the_rest_is_read(desk: Start) -> None:
    expired = grant("g2", people(1), grant_status="invalid")
    mine = desk({"grants": [grant("g1", people(1)), expired, grant("g3", [], provider="zoom")]})
    mine.reader()
    said = mine.command("backfill", "--all", "--grant", "g1", expect=2)
    assert "--all, or --grant" in said
    said = mine.command("backfill", "--all")
    assert "g2 skipped: expired" in said
    assert "g3 skipped: no_contacts" in said
    said = mine.command(
        "backfill", "--grant", "g1", "--grant", "nobody", "--grant", "x@reps.example", expect=1
    )
    assert "nobody failed: Nylas does not know this grant" in said
    assert "x@reps.example failed: no grant has this address" in said
    assert keys(mine.events()) == {"g1/c0"}


def test_a_dry_run_counts_and_publishes_nothing(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(201))]})
    mine.reader()
    assert "201 contacts, 2 pages" in mine.command("backfill", "--all", "--dry-run")
    assert mine.events() == []


def test_every_source_that_is_asked_for_is_read(desk: Start) -> None:
    contacts = [
        {"id": "book"},
        {"id": "mail", "source": "inbox"},
        {"id": "staff", "source": "domain"},
    ]
    mine = desk({"grants": [grant("g1", contacts), grant("g2", [{"id": "old"}], provider="ews")]})
    mine.reader()
    mine.command("backfill", "--all", "--source", "address_book", "--source", "inbox")
    assert keys(mine.events()) == {"g1/book", "g1/mail", "g2/old"}
    assert "no contact source 'outbox'" in mine.command(
        "backfill", "--all", "--source", "outbox", expect=2
    )


def test_a_backfill_whose_reader_is_killed_at_random_equals_an_undisturbed_one(desk: Start) -> None:
    odd = [{"id": name} for name in ("a/b", "a#b", "A/B", "ünï ☃", "%2F", "..")]
    grants = [
        grant("g1", people(1500) + odd),
        grant("g2", people(900)),
        grant("g3", people(1)),
        grant("g4", []),
    ]
    mine = desk({"grants": grants, "settings": {"latency": 0.15}})
    chance = random.Random(7)
    run_id = mine.command("backfill", "--all", "--no-wait").strip().splitlines()[-1]
    kills = 0
    while kills < 6 and not over(mine, run_id):
        reader = mine.reader(READER_SESSION_TIMEOUT="2")
        started = partial(reads, reader)
        wait_until(lambda: started() or over(mine, run_id), "it reads", 30)
        try:
            reader.popen.wait(chance.uniform(0.1, 1.5))
        except subprocess.TimeoutExpired:
            reader.kill()
            kills += 1
    if not over(mine, run_id):
        mine.reader(READER_SESSION_TIMEOUT="2")
    wait_until(lambda: over(mine, run_id), "the run is over", 60)
    assert kills >= 2
    pages = mine.nylas.state()["calls"]["contacts"]
    assert pages < 8 + 5 + 1 + 1 + 4 * (kills + 1), (
        "a resumed run reads on, it does not start again"
    )
    disturbed = mine.events()
    mine.reader(READER_SESSION_TIMEOUT="2")
    mine.command("backfill", "--all")
    ends = {each.partition: each.offset for each in disturbed}
    undisturbed = [each for each in mine.events() if each.offset > ends.get(each.partition, -1)]
    assert len(undisturbed) == 1500 + len(odd) + 900 + 1
    assert contents(disturbed) == contents(undisturbed)


def contents(events: list[Found]) -> dict[str, set[str]]:
    """What events say of each contact, in full."""
    found: dict[str, set[str]] = {}
    for event in events:
        envelope = json.loads(event.value or b"")
        said = {name: envelope[name] for name in ("type", "source", "specversion", "data")}
        found.setdefault((event.key or b"").decode(), set()).add(json.dumps(said, sort_keys=True))
    return found


def over(mine: Desk, run_id: str) -> bool:
    return bool((mine.runs().get(run_id) or {}).get("state") == "done")


def test_a_backfill_over_two_restarts_of_the_broker_loses_nothing_and_comes_to_its_end(
    own_broker: Broker, processes: Processes, tmp_path: Path
) -> None:
    grants = [grant("g1", people(2000)), grant("g2", people(1200))]
    mine = Desk(
        Kafka(own_broker.bootstrap, "t."),
        processes,
        tmp_path,
        {"grants": grants, "settings": {"latency": 0.4}},
    )
    reader = mine.reader()
    run_id = mine.command("backfill", "--all", "--no-wait").strip().splitlines()[-1]
    for end in (own_broker.stop, own_broker.kill):
        seen = reader.metric("contactstream_reader_contacts_total")
        wait_until(
            lambda: reader.metric("contactstream_reader_contacts_total") > seen, "it reads", 60
        )
        assert not over(mine, run_id)
        end()
        own_broker.start()
    wait_until(lambda: over(mine, run_id), "the run is over", 120)
    assert reader.exit_code is None, "the reader waited for the broker"
    assert keys(mine.events()) == {f"g1/c{n}" for n in range(2000)} | {
        f"g2/c{n}" for n in range(1200)
    }
    _, progress = mine.last_run()
    assert {name: (one["state"], one["contacts"]) for name, one in progress.items()} == {
        "g1": ("done", 2000),
        "g2": ("done", 1200),
    }


@pytest.mark.parametrize("at_once", [1, 3])
def test_as_many_grants_as_configured_are_read_side_by_side(desk: Start, at_once: int) -> None:
    grants = [grant(f"g{number}", people(1000)) for number in range(3)]
    mine = desk({"grants": grants, "settings": {"latency": 0.3}})
    mine.reader(READER_CONCURRENT_GRANTS=str(at_once))
    mine.command("backfill", "--all")
    under_way: set[str] = set()
    most = 0
    for found in mine.kafka.read("reader.runs"):
        _, slash, name = (found.key or b"").decode().partition("/")
        if slash and name in {each["id"] for each in grants}:
            progress = json.loads(found.value or b"")
            (under_way.add if progress["state"] == "running" else under_way.discard)(name)
            most = max(most, len(under_way))
    assert most == at_once


@pytest.mark.parametrize("command", ["backfill", "reconcile"])
def test_a_contact_that_moves_to_a_later_page_is_read_twice_and_harms_nothing(
    desk: Start, command: str
) -> None:
    mine = desk({"grants": [grant("g1", people(450))]})
    mine.changed("g1/c0", 1_700_000_000)
    mine.nylas.faults({"kind": "moved_twice", "on": "contacts"})
    mine.reader()
    mine.command(command, "--all")
    events = mine.events()
    assert (len(events), keys(events)) == (451, {f"g1/c{n}" for n in range(450)})
    assert {envelope["type"] for _, envelope in mine.told()} == {"contact.updated"}


def test_a_run_goes_on_when_the_command_that_asked_for_it_is_interrupted(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(1000))], "settings": {"latency": 0.5}})
    mine.reader()
    command = mine.processes.start("backfill", "--all")
    wait_until(lambda: "backfill running" in command.log, "it runs", 40)
    command.popen.send_signal(2)
    assert command.popen.wait(20) == 130
    assert "the reader goes on" in command.log
    wait_until(lambda: mine.last_run()[0].get("state") == "done", "the run is over", 40)
    assert len(keys(mine.events())) == 1000


def test_a_lost_cursor_starts_its_grant_again(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(500)), grant("g2", people(500))]})
    mine.nylas.faults({"kind": "lost_cursor", "on": "contacts", "grant_id": "g1", "after": 1})
    mine.reader()
    said = mine.command("backfill", "--all")
    assert keys(mine.events()) == {f"{name}/c{n}" for name in ("g1", "g2") for n in range(500)}
    assert "1000 contacts, 6 pages" in said


def test_a_repeated_cursor_stops_its_grant_with_an_error(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(700)), grant("g2", people(3))]})
    mine.nylas.faults(
        {"kind": "repeated_cursor", "on": "contacts", "grant_id": "g1", "times": None}
    )
    mine.reader()
    said = mine.command("backfill", "--all", expect=1)
    assert "g1 failed: Nylas repeated a cursor" in said
    assert {f"g2/c{n}" for n in range(3)} <= keys(mine.events())


def test_faults_that_pass_are_waited_out(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(450)), grant("g2", people(300))]})
    mine.nylas.faults(
        {"kind": "bad_gateway", "on": "grants"},
        {"kind": "nylas_limit", "on": "contacts", "grant_id": "g1", "after": 1},
        {"kind": "provider_limit", "on": "contacts", "grant_id": "g2", "retry_after": 1},
        {"kind": "truncated", "on": "contacts", "grant_id": "g1", "after": 1},
        {"kind": "html", "on": "contacts", "grant_id": "g2"},
    )
    reader = mine.reader()
    mine.command("backfill", "--all")
    assert len(mine.events()) == 750
    assert mine.kafka.read("contacts.dead-letter") == []
    assert reader.metric("contactstream_reader_waits_total", reason="rate_limited") == 2
    assert reader.metric("contactstream_reader_waits_total", reason="transient_error") == 3


def test_a_key_that_nylas_refuses_fails_the_run_with_the_remedy(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(1))]})
    mine.reader(NYLAS_API_KEY="wrong")
    assert "check NYLAS_API_KEY" in mine.command("backfill", "--all", expect=1)


def test_bulk_reading_waits_while_the_stages_behind_it_are_behind(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(1000))]})
    reader = mine.reader(READER_MAX_LAG="300", READER_CONCURRENT_GRANTS="1")
    mine.changed("g9/c9", 1)  # the sink has this one to do: without it the lag of both is counted
    mine.command("backfill", "--all", "--no-wait")
    wait_until(
        lambda: reader.metric("contactstream_reader_waits_total", reason="sink_lag") > 2,
        "it waits",
        40,
    )
    stood = len(mine.events())
    assert 300 <= stood < 1000
    mine.refetch(0, "g1/c7")
    wait_until(lambda: len(mine.events()) > stood, "a single contact is not bulk", 20)

    def caught_up() -> bool:
        mine.commit("dedupe", "contacts.events", mine.ends("contacts.events"))
        mine.commit("sink", "contacts.changes", {0: 1})
        return bool(mine.last_run()[0].get("state") == "done")

    wait_until(caught_up, "it goes on", 40)
    assert len(keys(mine.events())) == 1000


def test_a_contact_is_read_again_when_its_time_has_come_and_published_as_a_page_of_one(
    desk: Start,
) -> None:
    mine = desk({"grants": [grant("g1", [{"id": "a/b#c", "given_name": "Ada"}])]})
    mine.reader()
    asked = time.time()
    mine.refetch(asked + 4, "g1/a/b#c")
    wait_until(mine.events, "it is read", 40)
    ((origin, envelope),) = mine.told()
    assert (origin, envelope["type"]) == ("refetch", "contact.updated")
    assert envelope["data"]["object"]["given_name"] == "Ada"
    assert envelope["time"] >= int(asked + 4) - 600
    assert keys(mine.events()) == {"g1/a/b#c"}


def test_a_contact_that_is_gone_when_it_is_read_again_is_published_as_deleted(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", [])]})
    mine.nylas.faults(
        {"kind": "bad_gateway", "on": "contact"}, {"kind": "provider_limit", "on": "contact"}
    )
    mine.reader()
    before = int(time.time())
    mine.refetch(0, "g1/gone")
    wait_until(mine.events, "it is read", 40)
    ((origin, envelope),) = mine.told()
    assert (origin, envelope["type"]) == ("refetch", "contact.deleted")
    assert envelope["data"]["object"] == {"grant_id": "g1", "id": "gone", "object": "contact"}
    assert before - 600 <= envelope["time"] <= time.time() - 600


def test_nylas_clock_decides_when_a_reading_is_late_enough(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(1))]})
    mine.nylas.call("POST", "/_sim/clock", {"offset": -4})
    mine.reader()
    asked = int(time.time()) + 1
    mine.refetch(asked, "g1/c0")
    wait_until(mine.events, "it is read", 40)
    ((_, envelope),) = mine.told()
    assert envelope["time"] >= asked - 600
    assert mine.nylas.state()["calls"]["contact"] > 1


def test_a_contact_of_a_grant_that_has_to_sign_in_again_stays_asked_for(desk: Start) -> None:
    mine = desk(
        {"grants": [grant("g1", people(1), grant_status="invalid"), grant("g2", people(1))]}
    )
    reader = mine.reader()
    mine.refetch(0, "g1/c0")
    mine.refetch(0, "g2/c0")
    wait_until(lambda: keys(mine.events()) == {"g2/c0"}, "the other one is read", 40)
    wait_until(lambda: len(mine.kafka.read("contacts.refetch")) == 3, "it is asked for again", 20)
    again = mine.kafka.read("contacts.refetch")[-1]
    assert again.key == b"g1/c0"
    assert int(again.headers["not_before"]) > time.time() + 500
    assert reader.metric("contactstream_reader_refetched_total", outcome="refused") == 1


def test_what_was_asked_for_is_read_however_often_the_reader_dies(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(60))], "settings": {"latency": 0.05}})
    mine.refetch(0, *[f"g1/c{number}" for number in range(60)])
    for _ in range(3):
        seen = len(mine.events())
        reader = mine.reader(READER_SESSION_TIMEOUT="2")
        wait_until(
            lambda: len(mine.events()) > seen or len(keys(mine.events())) == 60, "it reads", 40
        )
        reader.kill()
    mine.reader(READER_SESSION_TIMEOUT="2")
    wait_until(lambda: len(keys(mine.events())) == 60, "all are read", 60)


TAKEOVERS = 2  # one that a busy machine drew out is measured once more


def test_a_standby_does_nothing_until_the_active_reader_is_gone(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(10))]})
    session = 6.0
    active = mine.reader(READER_SESSION_TIMEOUT=str(session))
    wait_until(lambda: active.metric("contactstream_reader_active") == 1, "it is active", 40)
    for _ in range(TAKEOVERS):
        standby = mine.reader(READER_SESSION_TIMEOUT=str(session)).wait_ready()
        mine.command("backfill", "--all")
        assert active.metric("contactstream_reader_active") == 1
        assert standby.metric("contactstream_reader_active") == 0
        assert standby.metric("contactstream_reader_calls_total") == 0
        killed = time.monotonic()
        active.kill()
        active = standby
        wait_until(
            lambda: active.metric("contactstream_reader_active") == 1, "the standby takes over", 60
        )
        took = time.monotonic() - killed
        if took < session + 5:
            break
    assert took < session + 5
    before = len(mine.events())
    mine.command("backfill", "--all")
    assert len(mine.events()) == before + 10
    assert active.stop() == 0


def test_a_reader_that_was_paused_does_not_work_beside_its_successor(desk: Start) -> None:
    mine = desk({"grants": [grant("g1", people(10))]})
    first = mine.reader(READER_SESSION_TIMEOUT="2")
    wait_until(lambda: first.metric("contactstream_reader_active") == 1, "it is active", 40)
    first.pause()
    second = mine.reader(READER_SESSION_TIMEOUT="2")
    wait_until(
        lambda: second.metric("contactstream_reader_active") == 1, "the other takes over", 40
    )
    first.resume()
    wait_until(lambda: first.metric("contactstream_reader_active") == 0, "it notices", 30)
    mine.command("backfill", "--all")
    assert second.metric("contactstream_reader_active") == 1
    assert len(mine.events()) == 10
