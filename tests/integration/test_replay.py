"""Replays on a real Kafka, with a real reader and a real dedupe worker."""

import json
import signal
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import TopicPartition

from streams.cli import main
from tests.support.kafka import Kafka
from tests.support.processes import Processes
from tests.support.reader_harness import ReaderHarness, Start
from tests.support.replayed_events import (
    BASE,
    CONTACTS,
    NO_GATE,
    changes,
    replayed,
    with_versions,
    write_events,
)
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system]


@pytest.fixture
def start(kafka: Kafka, processes: Processes, tmp_path: Path) -> Start:
    return lambda world: ReaderHarness(kafka, processes, tmp_path, world)


def test_a_replay_of_events_forwards_each_contact_once_in_its_newest_version(start: Start) -> None:
    harness, _ = with_versions(start)
    looked = harness.command("replay", "events", "--domain", "acme1.example", "--json")
    assert '"records": 450' in looked
    assert "Nothing is published" in looked
    assert not replayed(harness)
    done = harness.command("replay", "events", "--domain", "acme1.example", "--execute")
    assert "replay done" in done
    assert len(replayed(harness)) == 450
    write_events(harness, 4, 0, 20)
    odd = {f"g/c{number}" for number in range(1, CONTACTS, 2)}
    expected = {
        f"g/c{number}": [1, 2, 3]
        + ([3] if f"g/c{number}" in odd else [])
        + ([4] if number < 20 else [])
        for number in range(CONTACTS)
    }
    wait_until(lambda: changes(harness) == expected, "the newest are forwarded once more", 90)


def test_a_replay_of_changes_sends_every_contact_once_and_never_an_older_one_after_a_newer(
    start: Start,
) -> None:
    harness, _ = with_versions(start)
    refused = harness.command("replay", "changes", "--execute", expect=1)
    assert "nothing limits the selection; add --yes" in refused
    run_id = harness.command("replay", "changes", "--execute", "--yes", "--no-wait").split()[-1]
    write_events(harness, 5, 100, 200)  # live changes meanwhile
    harness.command("runs", "follow", run_id)
    assert "replay of contacts.changes" in harness.command("runs")

    def settled() -> bool:
        found = changes(harness)
        newest = [found[f"g/c{number}"][-1] for number in range(CONTACTS)]
        return newest == [3] * 100 + [5] * 100 + [3] * 100 and all(
            len(found[f"g/c{number}"]) >= 4 for number in range(CONTACTS)
        )

    wait_until(settled, "every contact is sent again in its newest version", 90)
    assert all(versions == sorted(versions) for versions in changes(harness).values())


def test_a_replay_that_is_interrupted_goes_on_where_it_was(start: Start) -> None:
    harness, reader = with_versions(start)
    run_id = harness.command(
        "replay", "events", "--grant", "g", "--execute", "--rate", "40", "--no-wait"
    ).split()[-1]
    for _ in range(3):
        published = len(replayed(harness))
        wait_until(lambda seen=published: len(replayed(harness)) > seen, "it publishes", 60)  # type: ignore[misc]
        reader.send(signal.SIGKILL)
        reader.popen.wait(10)
        reader = harness.reader(READER_RECONCILE_EVERY="0", READER_MAX_LAG=NO_GATE)
    harness.command("runs", "follow", run_id, seconds=120)
    ids = [json.loads(found.value or b"")["id"] for found in replayed(harness)]
    assert len(set(ids)) == 3 * CONTACTS, "every event is published again"
    _, partitions = harness.last_run()
    assert sum(each["contacts"] for each in partitions.values()) == 3 * CONTACTS


def looked_at(kafka: Kafka, *arguments: str, code: int = 0) -> str:
    """What a preview prints; without Salesforce, because no login is set."""
    environ = {**kafka.environ, "KAFKA_EVENTS_PARTITIONS": "2"}
    ended = CliRunner().invoke(main, ["replay", "events", *arguments], env=environ)
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 else ended.output


def test_a_preview_takes_offsets_and_times_and_says_what_has_expired(kafka: Kafka) -> None:
    environ = {**kafka.environ, "KAFKA_EVENTS_PARTITIONS": "2"}
    assert CliRunner().invoke(main, ["topics", "create"], env=environ).exit_code == 0
    now = time.time()
    for days, numbers in ((10, range(30)), (0, range(30, 80))):
        received = b"%d" % ((now - days * 86_400) * 1000)
        records = []
        for number in numbers:
            contact = {"grant_id": "g", "id": f"c{number}", "given_name": "Ada"}
            body = {
                "type": "contact.updated",
                "id": f"n{number}",
                "time": BASE,
                "data": {"object": contact},
            }
            records.append((f"g/c{number}".encode(), json.dumps(body).encode()))
        kafka.produce("contacts.events", records, [("received_ms", received)])
    ends = {0: 0, 1: 0}
    for found in kafka.read("contacts.events"):
        ends[found.partition] = found.offset + 1
    assert min(ends.values()) > 12

    everything = json.loads(looked_at(kafka, "--json"))
    assert (everything["records"], everything["ends"]) == (80, [ends[0], ends[1]])
    assert "salesforce_calls_left" not in everything, "no login is set"
    # All were appended now, and some of them had been received long before.
    assert json.loads(looked_at(kafka, "--since", "1h", "--json"))["records"] == 50
    assert json.loads(looked_at(kafka, "--until", "1d", "--json"))["records"] == 30
    part = json.loads(looked_at(kafka, "--offsets", "0:2-7", "--offsets", "1:0-3", "--json"))
    assert (part["records"], part["starts"], part["ends"]) == (8, [2, 0], [7, 3])
    assert "which is assumed" in looked_at(kafka)

    name = kafka.name("contacts.events")
    admin = kafka.admin()  # a client that is garbage-collected drops its requests
    for future in admin.delete_records([TopicPartition(name, 0, 5)]).values():
        future.result()
    lost = json.loads(looked_at(kafka, "--offsets", "0:2-7", "--json"))
    assert (lost["records"], lost["starts"]) == (2, [5, ends[1]])
    assert lost["lost"] == ["3 of the offsets that were asked for have expired"]
    for asked, message in (
        ("0:0-5", "all of it has expired"),
        ("1:0-9999", f"partition 1 ends before offset {ends[1]}"),
        ("2:0-1", "there is no partition 2"),
    ):
        assert message in looked_at(kafka, "--offsets", asked, code=2)
    assert "the first" in looked_at(kafka, "--since", "30d")
    assert "--since lies in the future" in looked_at(kafka, "--since", "2999-01-01", code=2)
