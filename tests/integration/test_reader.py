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
from tests.support.reader_harness import ReaderHarness, Start, grant, keys, people
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def start(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: ReaderHarness(kafka, processes, tmp_path, world)


def has_read_more(reader: Process, contacts: float) -> bool:
    return reader.metric("contactstream_reader_contacts_total") > contacts


def reads_or_done(reader: Process, harness: ReaderHarness, run_id: str) -> bool:
    return has_read_more(reader, 0) or is_done(harness, run_id)


def has_more_events(harness: ReaderHarness, seen: int, everyone: int) -> bool:
    """Whether there are more than `seen` events, or some of every contact."""
    events = harness.events()
    return len(events) > seen or len(keys(events)) == everyone


def is_active(reader: Process) -> bool:
    return reader.metric("contactstream_reader_active") == 1


def test_a_backfill_publishes_every_contact_of_every_grant_once_and_in_pages(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(450)), grant("g2", people(3)), grant("g3", [])]})
    harness.reader()
    said = harness.command("backfill", "--all")
    events = harness.events()
    assert keys(events) == {f"g1/c{n}" for n in range(450)} | {f"g2/c{n}" for n in range(3)}
    assert len(events) == 453
    assert "453 contacts" in said
    calls = harness.nylas.state()["calls"]
    assert (calls["contacts"], calls["grants"]) == (8, 1), "g1 has three pages and is listed twice"


def test_the_version_of_a_page_is_its_date_less_the_margin(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(2))]})
    harness.nylas.call("POST", "/_sim/clock", {"at": 1_700_000_000, "frozen": True})
    harness.reader()
    harness.command("backfill", "--all")
    told = harness.envelopes()
    assert [(origin, envelope["type"], envelope["time"]) for origin, envelope in told] == [
        ("backfill", "contact.updated", 1_700_000_000 - 600)
    ] * 2
    assert {envelope["data"]["object"]["id"] for _, envelope in told} == {"c0", "c1"}
    assert len({envelope["id"] for _, envelope in told}) == 2


def test_grants_are_named_by_id_or_address_and_the_others_are_left_alone(start: Start) -> None:
    harness = start(
        {"grants": [grant("g1", people(2)), grant("g2", people(3)), grant("g3", people(4))]}
    )
    harness.reader()
    harness.command("backfill", "--grant", "g1", "--grant", "g2@reps.example")
    assert keys(harness.events()) == {"g1/c0", "g1/c1", "g2/c0", "g2/c1", "g2/c2"}


def test_unreadable_grants_are_reported_and_the_others_are_read(start: Start) -> None:
    expired = grant("g2", people(1), grant_status="invalid")
    harness = start({"grants": [grant("g1", people(1)), expired, grant("g3", [], provider="zoom")]})
    harness.reader()
    said = harness.command("backfill", "--all", "--grant", "g1", expect=2)
    assert "--all, or --grant" in said
    said = harness.command("backfill", "--all")
    assert "g2 skipped: expired" in said
    assert "g3 skipped: no_contacts" in said
    said = harness.command(
        "backfill", "--grant", "g1", "--grant", "nobody", "--grant", "x@reps.example", expect=1
    )
    assert "nobody failed: Nylas does not know this grant" in said
    assert "x@reps.example failed: no grant has this address" in said
    assert keys(harness.events()) == {"g1/c0"}


def test_a_dry_run_counts_and_publishes_nothing(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(201))]})
    harness.reader()
    assert "201 contacts, 2 pages" in harness.command("backfill", "--all", "--dry-run")
    assert harness.events() == []


def test_every_requested_source_is_read(start: Start) -> None:
    contacts = [
        {"id": "book"},
        {"id": "mail", "source": "inbox"},
        {"id": "staff", "source": "domain"},
    ]
    harness = start(
        {"grants": [grant("g1", contacts), grant("g2", [{"id": "old"}], provider="ews")]}
    )
    harness.reader()
    harness.command("backfill", "--all", "--source", "address_book", "--source", "inbox")
    assert keys(harness.events()) == {"g1/book", "g1/mail", "g2/old"}
    assert "no contact source 'outbox'" in harness.command(
        "backfill", "--all", "--source", "outbox", expect=2
    )


def test_a_backfill_whose_reader_is_killed_at_random_equals_an_undisturbed_one(
    start: Start,
) -> None:
    odd = [{"id": name} for name in ("a/b", "a#b", "A/B", "ünï ☃", "%2F", "..")]
    grants = [
        grant("g1", people(1500) + odd),
        grant("g2", people(900)),
        grant("g3", people(1)),
        grant("g4", []),
    ]
    harness = start({"grants": grants, "settings": {"latency": 0.15}})
    chance = random.Random(7)
    run_id = harness.command("backfill", "--all", "--no-wait").strip().splitlines()[-1]
    kills = 0
    while kills < 6 and not is_done(harness, run_id):
        reader = harness.reader(READER_SESSION_TIMEOUT="2")
        wait_until(partial(reads_or_done, reader, harness, run_id), "it reads", 30)
        try:
            reader.popen.wait(chance.uniform(0.1, 1.5))
        except subprocess.TimeoutExpired:
            reader.kill()
            kills += 1
    if not is_done(harness, run_id):
        harness.reader(READER_SESSION_TIMEOUT="2")
    wait_until(lambda: is_done(harness, run_id), "the run is done", 60)
    assert kills >= 2
    pages = harness.nylas.state()["calls"]["contacts"]
    assert pages < 2 * (8 + 5) + 1 + 1 + 4 * (kills + 1), (
        "a resumed run reads on, it does not start again"
    )
    disturbed = harness.events()
    harness.reader(READER_SESSION_TIMEOUT="2")
    harness.command("backfill", "--all")
    ends = {each.partition: each.offset for each in disturbed}
    undisturbed = [each for each in harness.events() if each.offset > ends.get(each.partition, -1)]
    assert len(undisturbed) == 1500 + len(odd) + 900 + 1
    assert contents(disturbed) == contents(undisturbed)


def contents(events: list[Found]) -> dict[str, set[str]]:
    """The distinct contents of the events of each contact."""
    found: dict[str, set[str]] = {}
    for event in events:
        envelope = json.loads(event.value or b"")
        said = {name: envelope[name] for name in ("type", "source", "specversion", "data")}
        found.setdefault((event.key or b"").decode(), set()).add(json.dumps(said, sort_keys=True))
    return found


def is_done(harness: ReaderHarness, run_id: str) -> bool:
    return bool((harness.runs().get(run_id) or {}).get("state") == "done")


def test_a_backfill_survives_two_restarts_of_the_broker_without_loss(
    own_broker: Broker, processes: Processes, tmp_path: Path
) -> None:
    grants = [grant("g1", people(2000)), grant("g2", people(1200))]
    harness = ReaderHarness(
        Kafka(own_broker.bootstrap, "t."),
        processes,
        tmp_path,
        {"grants": grants, "settings": {"latency": 0.4}},
    )
    reader = harness.reader()
    run_id = harness.command("backfill", "--all", "--no-wait").strip().splitlines()[-1]
    for end in (own_broker.stop, own_broker.kill):
        seen = reader.metric("contactstream_reader_contacts_total")
        wait_until(partial(has_read_more, reader, seen), "it reads", 60)
        assert not is_done(harness, run_id)
        end()
        own_broker.start()
    wait_until(lambda: is_done(harness, run_id), "the run is done", 120)
    assert reader.exit_code is None, "the reader waited for the broker"
    assert keys(harness.events()) == {f"g1/c{n}" for n in range(2000)} | {
        f"g2/c{n}" for n in range(1200)
    }
    _, progress = harness.last_run()
    assert {name: (one["state"], one["contacts"]) for name, one in progress.items()} == {
        "g1": ("done", 2000),
        "g2": ("done", 1200),
    }


@pytest.mark.parametrize("at_once", [1, 3])
def test_as_many_grants_as_configured_are_read_at_once(start: Start, at_once: int) -> None:
    grants = [grant(f"g{number}", people(1000)) for number in range(3)]
    harness = start({"grants": grants, "settings": {"latency": 0.3}})
    harness.reader(READER_CONCURRENT_GRANTS=str(at_once))
    harness.command("backfill", "--all")
    in_progress: set[str] = set()
    most = 0
    for found in harness.kafka.read("reader.runs"):
        _, slash, name = (found.key or b"").decode().partition("/")
        if slash and name in {each["id"] for each in grants}:
            progress = json.loads(found.value or b"")
            (in_progress.add if progress["state"] == "running" else in_progress.discard)(name)
            most = max(most, len(in_progress))
    assert most == at_once


@pytest.mark.parametrize("command", ["backfill", "reconcile"])
def test_a_contact_that_moves_to_a_later_page_is_published_twice_and_not_deleted(
    start: Start, command: str
) -> None:
    harness = start({"grants": [grant("g1", people(450))]})
    harness.write_change("g1/c0", 1_700_000_000)
    harness.nylas.faults({"kind": "moved_twice", "on": "contacts"})
    harness.reader()
    harness.command(command, "--all")
    events = harness.events()
    assert (len(events), keys(events)) == (451, {f"g1/c{n}" for n in range(450)})
    assert {envelope["type"] for _, envelope in harness.envelopes()} == {"contact.updated"}


def test_a_run_continues_after_its_command_is_interrupted(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(1000))], "settings": {"latency": 0.5}})
    harness.reader()
    command = harness.processes.start("backfill", "--all")
    wait_until(lambda: "backfill running" in command.log, "it runs", 40)
    command.popen.send_signal(2)
    assert command.popen.wait(20) == 130
    assert "the reader goes on" in command.log
    wait_until(lambda: harness.last_run()[0].get("state") == "done", "the run is done", 40)
    assert len(keys(harness.events())) == 1000


def test_a_lost_cursor_starts_its_grant_again(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(500)), grant("g2", people(500))]})
    harness.nylas.faults({"kind": "lost_cursor", "on": "contacts", "grant_id": "g1", "after": 1})
    harness.reader()
    said = harness.command("backfill", "--all")
    assert keys(harness.events()) == {f"{name}/c{n}" for name in ("g1", "g2") for n in range(500)}
    assert "1000 contacts, 6 pages" in said


def test_a_repeated_cursor_stops_its_grant_with_an_error(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(700)), grant("g2", people(3))]})
    harness.nylas.faults(
        {"kind": "repeated_cursor", "on": "contacts", "grant_id": "g1", "times": None}
    )
    harness.reader()
    said = harness.command("backfill", "--all", expect=1)
    assert "g1 failed: Nylas repeated a cursor" in said
    assert {f"g2/c{n}" for n in range(3)} <= keys(harness.events())


def test_passing_faults_of_nylas_are_waited_for(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(450)), grant("g2", people(300))]})
    harness.nylas.faults(
        {"kind": "bad_gateway", "on": "grants"},
        {"kind": "nylas_limit", "on": "contacts", "grant_id": "g1", "after": 1},
        {"kind": "provider_limit", "on": "contacts", "grant_id": "g2", "retry_after": 1},
        {"kind": "truncated", "on": "contacts", "grant_id": "g1", "after": 1},
        {"kind": "html", "on": "contacts", "grant_id": "g2"},
    )
    reader = harness.reader()
    harness.command("backfill", "--all")
    assert len(harness.events()) == 750
    assert harness.kafka.read("contacts.dead-letter") == []
    assert reader.metric("contactstream_reader_waits_total", reason="rate_limited") == 2
    assert reader.metric("contactstream_reader_waits_total", reason="transient_error") == 3


def test_a_key_that_nylas_refuses_fails_the_run_with_the_remedy(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(1))]})
    harness.reader(NYLAS_API_KEY="wrong")
    assert "check NYLAS_API_KEY" in harness.command("backfill", "--all", expect=1)


def test_bulk_reading_waits_while_dedupe_and_the_sink_lag(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(1000))]})
    reader = harness.reader(READER_MAX_LAG="300", READER_CONCURRENT_GRANTS="1")
    harness.write_change(
        "g9/c9", 1
    )  # the sink has this one to do: without it the lag of both is counted
    harness.command("backfill", "--all", "--no-wait")
    wait_until(
        lambda: reader.metric("contactstream_reader_waits_total", reason="sink_lag") > 2,
        "it waits",
        40,
    )
    stood = len(harness.events())
    assert 300 <= stood < 1000
    harness.refetch(0, "g1/c7")
    wait_until(lambda: len(harness.events()) > stood, "a single contact is not bulk", 20)

    def caught_up() -> bool:
        harness.commit("dedupe", "contacts.events", harness.ends("contacts.events"))
        harness.commit("sink", "contacts.changes", {0: 1})
        return bool(harness.last_run()[0].get("state") == "done")

    wait_until(caught_up, "it goes on", 40)
    assert len(keys(harness.events())) == 1000


def test_a_requested_contact_is_read_at_its_time_and_published(
    start: Start,
) -> None:
    harness = start({"grants": [grant("g1", [{"id": "a/b#c", "given_name": "Ada"}])]})
    harness.reader()
    asked = time.time()
    harness.refetch(asked + 4, "g1/a/b#c")
    wait_until(harness.events, "it is read", 40)
    ((origin, envelope),) = harness.envelopes()
    assert (origin, envelope["type"]) == ("refetch", "contact.updated")
    assert envelope["data"]["object"]["given_name"] == "Ada"
    assert envelope["time"] >= int(asked + 4) - 600
    assert keys(harness.events()) == {"g1/a/b#c"}


def test_a_requested_contact_that_does_not_exist_is_published_as_deleted(start: Start) -> None:
    harness = start({"grants": [grant("g1", [])]})
    harness.nylas.faults(
        {"kind": "bad_gateway", "on": "contact"}, {"kind": "provider_limit", "on": "contact"}
    )
    harness.reader()
    before = int(time.time())
    harness.refetch(0, "g1/gone")
    wait_until(harness.events, "it is read", 40)
    ((origin, envelope),) = harness.envelopes()
    assert (origin, envelope["type"]) == ("refetch", "contact.deleted")
    assert envelope["data"]["object"] == {"grant_id": "g1", "id": "gone", "object": "contact"}
    assert before - 600 <= envelope["time"] <= time.time() - 600


def test_the_clock_of_nylas_decides_whether_a_contact_was_read_too_early(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(1))]})
    harness.nylas.call("POST", "/_sim/clock", {"offset": -4})
    reader = harness.reader()
    wait_until(lambda: is_active(reader), "it is active", 60)
    asked = int(time.time()) + 1
    harness.refetch(asked, "g1/c0")
    wait_until(harness.events, "it is read", 40)
    ((_, envelope),) = harness.envelopes()
    assert envelope["time"] >= asked - 600
    assert harness.nylas.state()["calls"]["contact"] > 1


def test_a_refused_contact_is_requested_again(start: Start) -> None:
    harness = start(
        {"grants": [grant("g1", people(1), grant_status="invalid"), grant("g2", people(1))]}
    )
    reader = harness.reader()
    harness.refetch(0, "g1/c0")
    harness.refetch(0, "g2/c0")
    wait_until(lambda: keys(harness.events()) == {"g2/c0"}, "the other one is read", 40)
    wait_until(
        lambda: len(harness.kafka.read("contacts.refetch")) == 3, "it is asked for again", 20
    )
    again = harness.kafka.read("contacts.refetch")[-1]
    assert again.key == b"g1/c0"
    assert int(again.headers["not_before"]) > time.time() + 500
    assert reader.metric("contactstream_reader_refetched_total", outcome="refused") == 1


def test_every_requested_contact_is_read_although_readers_are_killed(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(60))], "settings": {"latency": 0.05}})
    harness.refetch(0, *[f"g1/c{number}" for number in range(60)])
    for _ in range(3):
        seen = len(harness.events())
        reader = harness.reader(READER_SESSION_TIMEOUT="2")
        wait_until(partial(has_more_events, harness, seen, 60), "it reads", 40)
        reader.kill()
    harness.reader(READER_SESSION_TIMEOUT="2")
    wait_until(lambda: len(keys(harness.events())) == 60, "all are read", 60)


# A takeover that took too long on a busy machine is measured once more.
TAKEOVERS = 2


def test_a_standby_does_nothing_until_the_active_reader_is_killed(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(10))]})
    session = 6.0
    active = harness.reader(READER_SESSION_TIMEOUT=str(session))
    wait_until(lambda: is_active(active), "it is active", 40)
    for _ in range(TAKEOVERS):
        standby = harness.reader(READER_SESSION_TIMEOUT=str(session)).wait_ready()
        harness.command("backfill", "--all")
        assert is_active(active)
        assert not is_active(standby)
        assert standby.metric("contactstream_reader_calls_total") == 0
        killed = time.monotonic()
        active.kill()
        active = standby
        wait_until(partial(is_active, active), "the standby takes over", 60)
        took = time.monotonic() - killed
        if took < session + 5:
            break
    assert took < session + 5
    before = len(harness.events())
    harness.command("backfill", "--all")
    assert len(harness.events()) == before + 10
    assert active.stop() == 0


def test_a_reader_that_was_paused_does_not_work_beside_its_successor(start: Start) -> None:
    harness = start({"grants": [grant("g1", people(10))]})
    first = harness.reader(READER_SESSION_TIMEOUT="2")
    wait_until(lambda: is_active(first), "it is active", 40)
    first.pause()
    second = harness.reader(READER_SESSION_TIMEOUT="2")
    wait_until(lambda: is_active(second), "the other takes over", 40)
    first.resume()
    wait_until(lambda: not is_active(first), "it notices", 30)
    harness.command("backfill", "--all")
    assert is_active(second)
    assert len(harness.events()) == 10
