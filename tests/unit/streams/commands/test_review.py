"""The list of contacts about which a person has to decide: what is on it, and how it is shown."""

import json
from collections.abc import Iterator

import orjson
import pytest
from click.testing import CliRunner

from streams.cli import main
from streams.commands import topic_records
from streams.commands.review import ReviewedRecord, print_json, print_text, review_entries
from streams.kafka.clients import BrokerUnavailable
from streams.kafka.records import KafkaRecord

GRANT = "3f0e6c1a-8a51-4b6e-9c55-0d4f9d3a7b01"
CONTACT, LEAD = "0035g00000000AAAA0", "00Q5g00000000BBBB1"


def outcome(
    key: str,
    status: str,
    *,
    record: str | None = None,
    candidates: tuple[str, ...] = (),
    at: int = 0,
) -> KafkaRecord:
    value = {"outcome": status, "id": record, "candidates": candidates, "at_ms": at * 60_000}
    return KafkaRecord("o", key.encode(), orjson.dumps(value), [])


OUTCOMES = [
    outcome(f"{GRANT}/ada", "covered", record=CONTACT, candidates=(CONTACT, LEAD), at=1),
    outcome(f"{GRANT}/ada", "covered", record=CONTACT, candidates=(CONTACT, LEAD), at=2),
    outcome("g/both", "covered", record=CONTACT, at=3),
    outcome("g/both", "ambiguous", candidates=(LEAD, CONTACT), at=4),
    outcome("g/decided", "ambiguous", candidates=(LEAD, CONTACT), at=5),
    outcome("g/decided", "updated", record=LEAD, at=6),
    outcome("g/gone", "covered", record=LEAD, at=7),
    outcome("g/gone", "unchanged", at=8),
    outcome("g/filled", "filled", record=LEAD, at=9),
    outcome("g/compacted", "covered", record=LEAD, at=10),
    KafkaRecord("o", b"g/compacted", None, []),
    KafkaRecord("o", b"g/unreadable", b"{", []),
]


def test_a_contact_is_listed_while_its_last_outcome_is_covered_or_ambiguous() -> None:
    both, ada = review_entries(OUTCOMES)
    assert (both.key, both.outcome, both.reason) == ("g/both", "ambiguous", "several_people")
    assert (ada.key, ada.outcome, ada.reason) == (f"{GRANT}/ada", "covered", "another_name")
    assert ada.records == (ReviewedRecord("Contact", CONTACT), ReviewedRecord("Lead", LEAD))
    assert both.records == (ReviewedRecord("Lead", LEAD), ReviewedRecord("Contact", CONTACT))


def test_a_contact_is_listed_since_the_first_of_equal_outcomes() -> None:
    both, ada = review_entries(OUTCOMES)
    assert (ada.since, both.since) == ("1970-01-01T00:01Z", "1970-01-01T00:04Z")


def test_the_list_fits_into_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_text(review_entries(OUTCOMES))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[4:8] == [
        f"covered    {GRANT}/ada",
        "    since 1970-01-01T00:01Z",
        f"    Contact {CONTACT}",
        f"    Lead {LEAD}",
    ]
    assert lines[8] == "1 ambiguous, 1 covered"
    assert lines[-1].endswith("contactstream reconcile --all")


def test_an_empty_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_text([])
    assert capsys.readouterr().out == "no contact waits for a decision\n"
    print_json([])
    assert json.loads(capsys.readouterr().out) == {
        "contacts": [],
        "summary": {"covered": 0, "ambiguous": 0},
    }


def test_the_command_reads_the_outcomes_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(kafka: object, topic: str, **options: None) -> Iterator[KafkaRecord]:
        assert not any(options.values()), "from the start to the end"
        assert topic == "x.contacts.outcomes"
        return iter(OUTCOMES)

    monkeypatch.setattr(topic_records, "wait_for_broker", lambda *_, **__: None)
    monkeypatch.setattr(topic_records, "read_to_end", reading)
    environ = {"KAFKA_TOPIC_PREFIX": "x."}
    ended = CliRunner().invoke(main, ["review", "--json"], env=environ)
    assert ended.exit_code == 0, ended.output
    body = json.loads(ended.output)
    assert body["summary"] == {"covered": 1, "ambiguous": 1}
    assert body["contacts"][1] == {
        "key": f"{GRANT}/ada",
        "outcome": "covered",
        "reason": "another_name",
        "since": "1970-01-01T00:01Z",
        "records": [{"sobject": "Contact", "id": CONTACT}, {"sobject": "Lead", "id": LEAD}],
    }
    assert "1 ambiguous, 1 covered" in CliRunner().invoke(main, ["review"], env=environ).output


def test_a_broker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def waiting(*_: object, **__: object) -> None:
        raise BrokerUnavailable("no broker answers at localhost:1")

    monkeypatch.setattr(topic_records, "wait_for_broker", waiting)
    ended = CliRunner().invoke(main, ["review"])
    assert ended.exit_code == 1
    assert "no broker answers at localhost:1" in ended.output
