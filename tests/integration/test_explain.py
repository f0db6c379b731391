"""`contactstream explain` on a real Kafka, with contacts.events in several partitions."""

import json

import pytest
from click.testing import CliRunner

from streams.cli import main
from streams.events import Kind, Origin, change_headers, event_headers, page_envelope
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import Kafka

pytestmark = pytest.mark.kafka

BASE = 1_760_000_000


def test_a_contact_is_explained_by_its_key_by_its_address_and_by_its_record(kafka: Kafka) -> None:
    environ = {**kafka.environ, "KAFKA_EVENTS_PARTITIONS": "3"}
    ended = CliRunner().invoke(main, ["topics", "create"], env=environ)
    assert ended.exit_code == 0, ended.output
    names = topics(load(KafkaSettings, environ))
    for number in range(8):
        contact = {
            "grant_id": "g",
            "id": f"c{number}",
            "given_name": "Ada",
            "emails": [{"email": f"ada{number}@acme.example"}],
        }
        key = f"g/c{number}".encode()
        at = b"%d" % (BASE * 1000)
        event = page_envelope(Origin.BACKFILL, f"n{number}", BASE, contact)
        written = change_headers(Kind.UPDATED, BASE, "", "", b"backfill", at)
        outcome = {"outcome": "created", "sobject": "Lead", "id": f"00Q5g00000000{number:02}EAQ"}
        kafka.produce(
            "contacts.events", [(key, event)], event_headers(Origin.BACKFILL, BASE * 1000)
        )
        kafka.produce("contacts.changes", [(key, json.dumps(contact).encode())], written)
        kafka.produce("contacts.outcomes", [(key, json.dumps(outcome).encode())])
    for subject in ("g/c7", "ADA7@acme.example", "00Q5g0000000007"):
        ended = CliRunner().invoke(main, ["explain", subject, "--json"], env=environ)
        assert ended.exit_code == 0, ended.output
        (found,) = json.loads(ended.stdout)["contacts"]
        assert found["key"] == "g/c7"
        assert [entry["what"] for entry in found["entries"]] == ["event", "change", "outcome"]
        assert found["link"].endswith("/00Q5g0000000007EAQ")
    ended = CliRunner().invoke(main, ["explain", "nobody@acme.example"], env=environ)
    assert ended.exit_code == 1
    assert "No topic holds anything of it." in ended.stdout
    assert "searched 16 records" in ended.stderr
    assert names.events.partitions == 3


def test_a_topic_that_is_scanned_in_another_process_is_found_the_same(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.commands.explain.ahead.WORTH", 1)
    environ = {**kafka.environ, "KAFKA_EVENTS_PARTITIONS": "1"}
    assert CliRunner().invoke(main, ["topics", "create"], env=environ).exit_code == 0
    contact = {"grant_id": "g", "id": "c", "emails": [{"email": "ada@acme.example"}]}
    written = change_headers(Kind.UPDATED, BASE, "", "", b"backfill", b"%d" % (BASE * 1000))
    kafka.produce("contacts.changes", [(b"g/c", json.dumps(contact).encode())] * 1200, written)
    kafka.produce("contacts.outcomes", [(b"g/c", b'{"outcome": "created"}')])
    ended = CliRunner().invoke(main, ["explain", "ada@acme.example", "--json"], env=environ)
    assert ended.exit_code == 0, ended.output
    (found,) = json.loads(ended.stdout)["contacts"]
    assert found["left_out"] == 200, "the newest thousand are shown"
    assert found["last"] == "created"
    assert "searched 2,40" in ended.stderr
