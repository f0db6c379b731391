"""The rows of `contactstream outcomes`: which there are, how they are shown, and in what memory."""

import csv
import json
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from streams.cli import main
from streams.commands.outcomes import command
from streams.commands.outcomes.command import OutcomesOptions, RowFormat, make_filter, run
from streams.commands.outcomes.rows import RowFilter, last_rows
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings, load

HOUR_MS = 3_600_000
LEAD, CONTACT = "00Q5g00000000AAEAQ", "0035g00000000BBEAQ"
Rows = Sequence[KafkaRecord]


def outcome(key: str, status: str, at: int = 1, **fields: Any) -> KafkaRecord:
    value = {"outcome": status, "at_ms": at * HOUR_MS, **fields}
    return KafkaRecord("o", key.encode(), orjson.dumps(value), [])


def change(key: str, *addresses: str) -> KafkaRecord:
    body = {"emails": [{"email": address} for address in addresses]}
    return KafkaRecord("c", key.encode(), orjson.dumps(body), [])


OUTCOMES = [
    outcome("g/ada", "failed", 1, reason="string_too_long"),
    outcome("g/ada", "updated", 2, sobject="Lead", id=LEAD, matched="key", origin="webhook"),
    outcome("g/bob", "failed", 3, reason="string_too_long", origin="backfill"),
    outcome("h/eve", "skipped", 4, reason="role_address"),
    outcome("h/sam", "ambiguous", 5, candidates=[LEAD, CONTACT]),
    outcome("h/old", "failed", 6, reason="string_too_long"),
    KafkaRecord("o", b"h/old", None, []),
    KafkaRecord("o", b"h/odd", b"{", []),
]
CHANGES = [
    change("g/bob", "old@acme.example"),
    change("g/bob", "=bob@acme.example"),
    change("g/bob", "bob@acme.example", "b@home.example"),
    change("g/ada", "ada@acme.example"),
    change("h/eve"),
]


@pytest.fixture
def topics_hold(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[KafkaRecord]]:
    """Puts records into the topics; returns what the command publishes."""
    published: list[KafkaRecord] = []

    class Publisher:
        def __init__(self, _kafka: KafkaSettings) -> None:
            pass

        def __enter__(self) -> "Publisher":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def publish(self, records: Sequence[KafkaRecord]) -> None:
            published.extend(records)

    def put(outcomes: Rows, changes: Rows = (), grants: Rows = ()) -> list[KafkaRecord]:
        by_name = {"contacts.outcomes": outcomes, "grants.events": grants}

        def read(_kafka: object, name: str, **_: object) -> Iterator[KafkaRecord]:
            return iter(by_name[name])

        def scan(_kafka: object, _name: str, wanted: Any, *_: object) -> Iterator[KafkaRecord]:
            places = wanted([one.key for one in changes], [one.value for one in changes])
            return iter([changes[place] for place in places])

        monkeypatch.setattr(command, "topic_records", read)
        monkeypatch.setattr(command, "topic_scan", scan)
        monkeypatch.setattr(command, "CommandPublisher", Publisher)
        return published

    return put


def asked(*words: str) -> Result:
    return CliRunner().invoke(main, ["outcomes", *words])


def keys(*words: str) -> list[str]:
    return [row["contact"] for row in json.loads(asked(*words, "--json").stdout)]


def test_each_contact_is_listed_with_its_last_outcome(topics_hold: Any) -> None:
    topics_hold(OUTCOMES, CHANGES)
    assert keys() == ["g/ada", "g/bob", "h/eve", "h/sam"]
    assert keys("--outcome", "failed") == ["g/bob"]
    assert keys("--outcome", "skipped:role_address") == ["h/eve"]
    assert keys("--reason", "string_too_long") == ["g/bob"]
    assert keys("--object", "lead") == ["g/ada"]
    assert keys("--grant", "h", "--outcome", "ambiguous") == ["h/sam"]
    assert keys("--key", "g/ada") == ["g/ada"]
    assert keys("--since", "1970-01-01T03:00Z", "--until", "1970-01-01T05:00Z") == [
        "g/bob",
        "h/eve",
    ]
    assert keys("--reason", "string_too_long", "--grant", "h") == [], "a real reason, without rows"


def test_addresses_are_masked_and_shown_only_with_a_note_in_the_audit(topics_hold: Any) -> None:
    published = topics_hold(OUTCOMES, CHANGES)
    shown = asked("--outcome", "failed")
    assert "b***@a***" in shown.stdout
    assert "bob@" not in shown.output
    assert published == []
    shown = asked("--outcome", "failed", "--addresses", "--actor", "ada", "--why", "a call")
    assert "bob@acme.example" in shown.stdout
    begun, ended = (json.loads(record.value or b"") for record in published)
    assert (begun["action"], begun["actor"], begun["why"]) == (
        "outcomes --addresses",
        "ada",
        "a call",
    )
    assert begun["selection"] == {"outcomes": ["failed"]}
    assert (begun["state"], ended["state"], ended["count"]) == ("begun", "ended", 1)


def test_a_grant_may_be_given_by_its_address(topics_hold: Any) -> None:
    body = {"grant_id": "h", "email": "Rep@acme.example", "provider": "google"}
    envelope = {"type": "grant.created", "time": 1, "data": {"object": body}}
    topics_hold(OUTCOMES, CHANGES, [KafkaRecord("g", b"h", orjson.dumps(envelope), [])])
    assert keys("--grant", "rep@acme.example") == ["h/eve", "h/sam"]
    refused = asked("--grant", "nobody@acme.example")
    assert refused.exit_code == 2
    assert "--grant nobody@acme.example: no grant has this address" in refused.output
    assert "did you mean rep@acme.example?" in asked("--grant", "reps@acme.example").output


def test_csv_has_a_row_for_each_contact_and_no_formula(topics_hold: Any) -> None:
    topics_hold([outcome("=g/ada", "failed", 1, reason="+x")], [])
    names, row = csv.reader(asked("--csv").stdout.splitlines())
    found = dict(zip(names, row, strict=True))
    assert (found["contact"], found["reason"], found["outcome"]) == ("'=g/ada", "'+x", "failed")
    assert found["time"].startswith("1970-01-01 01:00")


def test_the_rows_fit_into_eighty_columns(topics_hold: Any) -> None:
    grant = "3f0e6c1a-8a51-4b6e-9c55-0d4f9d3a7b01"
    key = f"{grant}/0123456789abcdef0123456789abcde"
    reason = "retries_exhausted_unable_to_lock_row"
    topics_hold(
        [outcome(key, "failed", reason=reason, sobject="Contact", id=CONTACT, origin="reconcile")],
        [change(key, "ada@acme.example")],
    )
    lines = asked().stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].strip() == key


def test_numbers_are_counted_by_outcome_reason_and_object(topics_hold: Any) -> None:
    topics_hold(OUTCOMES, CHANGES)
    counted = json.loads(asked("--count", "--json").stdout)
    assert {
        "outcome": "failed",
        "reason": "string_too_long",
        "object": "",
        "contacts": 1,
    } in counted
    assert sum(one["contacts"] for one in counted) == 4
    assert max(map(len, asked("--count").stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--outcome", "faild"], "did you mean failed?"),
        (["--outcome", "skipped:role"], "skipped:"),
        (["--reason", "string_to_long"], "did you mean string_too_long?"),
        (["--grant", "q"], "--grant q: unknown"),
        (["--object", "Case"], "'Case'"),
        (["--key", "ada"], "no contact key"),
        (["--since", "1h", "--until", "2h"], "reversed"),
        (["--until", "soon"], "--until soon"),
        (["--csv", "--json"], "--csv and --json"),
    ],
)
def test_a_condition_of_something_unknown_is_refused(
    topics_hold: Any, words: list[str], message: str
) -> None:
    topics_hold(OUTCOMES, CHANGES)
    refused = asked(*words)
    assert (refused.exit_code, message in refused.output) == (2, True), refused.output


def test_an_unknown_word_in_a_fresh_deployment_is_refused_too(topics_hold: Any) -> None:
    topics_hold([])
    assert "--reason x: unknown; there is none so far" in asked("--reason", "x").output


def test_more_rows_than_fit_are_listed_part_by_part_each_once(topics_hold: Any) -> None:
    many = [outcome(f"g/{number}", "failed", number) for number in range(100)]
    topics_hold(many)
    assert len(last_rows(many, RowFilter(), most=10).held) <= 10
    printed: list[str] = []
    for form in (RowFormat.JSON, RowFormat.CSV):
        options = OutcomesOptions(form, most=10)
        result = CliRunner().invoke(
            click.command()(
                lambda options=options: run(load(KafkaSettings, {}), RowFilter(), options)
            )
        )
        printed.append(result.stdout)
    rows = [row["contact"] for row in json.loads(printed[0])]
    assert sorted(rows) == sorted(f"g/{number}" for number in range(100))
    assert len(printed[1].splitlines()) == 101


def test_the_memory_does_not_grow_with_the_rows(
    topics_hold: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Generated(Sequence[KafkaRecord]):
        """Records that are made when they are read, as a topic has them."""

        def __init__(self, many: int) -> None:
            self.many = many

        def __len__(self) -> int:
            return self.many

        def __getitem__(self, place: Any) -> Any:
            if place >= self.many:
                raise IndexError
            return outcome(f"g/{place}", "failed", place, reason="string_too_long")

    monkeypatch.setattr(click, "echo", lambda *_, **__: None)
    peaks = []
    for many in (1_000, 4_000):  # each is read again for every 250 rows
        topics_hold(Generated(many))
        tracemalloc.start()
        run(load(KafkaSettings, {}), RowFilter(), OutcomesOptions(RowFormat.JSON, most=250))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], peaks


def test_a_filter_of_the_options_has_their_times() -> None:
    made = make_filter(
        outcomes=(),
        reasons=("x",),
        sobjects=(),
        grants=(),
        keys=(),
        since="2h",
        until="1h",
        clock=lambda: 10_000.0,
    )
    assert made == RowFilter(reasons=("x",), since_ms=2_800_000, until_ms=6_400_000)
