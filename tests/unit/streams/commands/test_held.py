"""The command held: who is held and why, and what a release writes."""

import json
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from streams.audit import parse_audit
from streams.cli import main
from streams.commands import breakers, held, offer_again
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.control import ControlTable, Pause, PausedPart, pause_record
from streams.events import Kind, change_headers, now_ms
from streams.grant_addresses import GrantAddress, address_record
from streams.held import RELEASE_KEPT_MS, HeldRelease, release_record
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import LogRange
from streams.runs import Run, RunLog
from tests.support.sink_harness import NAMES

AT = 1_790_000_000_000


class Topics:
    """All topics as one log; `refused` takes no record."""

    def __init__(self) -> None:
        self.records: list[KafkaRecord] = []
        self.refused = ""

    def publish(self, published: Iterable[KafkaRecord]) -> None:
        for record in published:
            if record.topic == self.refused:
                raise NotAcknowledged("no broker")
            self.records.append(record)

    def of(self, topic: str) -> list[KafkaRecord]:
        return [one for one in self.records if one.topic == topic]

    def read(self, _kafka: object, topic: str, **_: object) -> list[KafkaRecord]:
        return self.of(topic)

    def outcome(self, key: str, status: str, reason: str = "", at_ms: int = AT) -> None:
        value = orjson.dumps({"outcome": status, "reason": reason, "at_ms": at_ms})
        self.records.append(KafkaRecord(NAMES.outcomes.name, key.encode(), value, []))

    def change(self, key: str, address: str) -> None:
        headers = change_headers(Kind.UPDATED, 1, "", "", b"webhook", b"1")
        value = orjson.dumps({"id": key, "emails": [{"email": address}]})
        self.records.append(KafkaRecord(NAMES.changes.name, key.encode(), value, headers))

    @property
    def control(self) -> ControlTable:
        table = ControlTable()
        for record in self.of(NAMES.control.name):
            table.apply(record)
        return table

    @property
    def runs(self) -> dict[str, Run]:
        log = RunLog()
        for record in self.of(NAMES.runs.name):
            log.apply(record.key or b"", record.value)
        return log.runs


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Topics:
    """Two people of one mailbox are held, and one of another; one was held and is created."""
    topics = Topics()
    for module in (breakers, held):
        monkeypatch.setattr(module, "topic_records", topics.read)
    monkeypatch.setattr(CommandPublisher, "publish", lambda _, records: topics.publish(records))
    monkeypatch.setattr(offer_again, "topic_log", lambda *_: {0: LogRange(0, 0, 40)})
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    topics.outcome("g1/ada", "held", "creations_per_day", AT)
    topics.outcome("g1/ada", "held", "creations_per_grant", AT + 60_000)
    topics.outcome("g1/bob", "held", "creations_per_grant", AT + 120_000)
    topics.outcome("g2/eve", "held", "replaced_values_per_hour")
    topics.outcome("g2/joe", "held", "creations_per_day")
    topics.outcome("g2/joe", "created")
    topics.change("g1/ada", "ada@engines.example")
    topics.records.append(address_record(NAMES, GrantAddress("g1", "rep@acme.example", "x"), 1))
    return topics


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["held", *arguments])


def release(*arguments: str) -> Result:
    return run("release", *arguments, "--why", "checked", "--actor", "ada")


def listed(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


def test_the_held_are_listed_by_limit_and_mailbox_since_the_first_of_them(kafka: Topics) -> None:
    found = listed()
    assert found["held"] == 3
    assert found["groups"][0] == {
        "reason": "creations_per_grant",
        "grant": "g1",
        "mailbox": "r***@a***",
        "people": 2,
        "since": "2026-09-21T14:13Z",
    }
    text = run().output
    assert "2 held: creations_per_grant, more of one mailbox in a day than" in text
    assert "contactstream held release --all" in text


def test_people_are_listed_one_by_one_with_masked_addresses(kafka: Topics) -> None:
    found = listed("--people", "--grant", "g1")
    assert [(one["key"], one["addresses"]) for one in found["people"]] == [
        ("g1/ada", ["a***@e***"]),
        ("g1/bob", []),
    ]
    assert "ada@engines.example" not in run("--people").output


def test_nobody_is_held_in_a_fresh_deployment(kafka: Topics) -> None:
    kafka.records.clear()
    assert run().output == "nobody is held\n"
    ended = release("--all")
    assert ended.exit_code == 1
    assert "nobody of these is held" in ended.output


def test_a_mailbox_may_be_given_by_its_address_and_an_unknown_one_is_named(kafka: Topics) -> None:
    assert listed("--grant", "Rep@acme.example")["held"] == 2
    for refused in (run("--grant", "reps@acme.example"), release("--grant", "reps@acme.example")):
        assert refused.exit_code == 2
        assert "--grant reps@acme.example: no grant has this address" in refused.output
        assert "did you mean rep@acme.example?" in refused.output
    unknown = release("--grant", "g11")
    assert unknown.exit_code == 2
    assert "--grant g11: no grant has this ID; did you mean g1?" in unknown.output
    assert not kafka.runs
    ended = release("--grant", "rep@acme.example")
    assert ended.exit_code == 0, ended.output
    ((_, asked),) = kafka.runs.items()
    assert asked.replay is not None
    assert asked.replay.selection.grants == ("g1",)


def test_a_release_of_one_mailbox_is_audited_and_offers_its_people_again(kafka: Topics) -> None:
    ended = release("--grant", "g1")
    assert ended.exit_code == 0, ended.output
    assert "2 people are released: 2 creations_per_grant" in ended.output
    ((run_id, asked),) = kafka.runs.items()
    assert asked.replay is not None
    assert (asked.replay.selection.grants, asked.replay.selection.outcomes) == (("g1",), ("held",))
    assert kafka.control.releases[run_id].by == "ada", "the sink knows whose changes pass"
    (entry,) = [parse_audit(one) for one in kafka.of(NAMES.audit.name)]
    assert (entry.action, entry.why, entry.count) == ("held release", "checked", 2)
    topics = [one.topic for one in kafka.records[-3:]]
    assert topics == [NAMES.audit.name, NAMES.control.name, NAMES.runs.name], (
        "what could not be audited is not done, and the sink knows before anybody comes"
    )


def test_a_release_by_limit_selects_whom_that_limit_holds(kafka: Topics) -> None:
    assert release("--limit", "replaced_values_per_hour").exit_code == 0
    (asked,) = kafka.runs.values()
    assert asked.replay is not None
    assert asked.replay.selection.outcomes == ("held:replaced_values_per_hour",)


def test_a_dry_run_counts_and_writes_nothing(kafka: Topics) -> None:
    before = list(kafka.records)
    ended = release("--all", "--dry-run")
    assert "3 people are released" in ended.output
    assert "repeat it without --dry-run" in ended.output
    assert kafka.records == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "say whom to release: --all, --grant or --limit"),
        (("--all", "--grant", "g1"), "leave out --grant and --limit"),
        (("--limit", "creations_per_dya"), "did you mean creations_per_day?"),
        (("--limit", "x"), "it may be creations_paused, creations_per_day"),
    ],
)
def test_a_release_that_selects_nothing_known_is_refused(
    kafka: Topics, arguments: tuple[str, ...], reason: str
) -> None:
    ended = release(*arguments)
    assert ended.exit_code == 2
    assert reason in " ".join(ended.output.split())
    assert not kafka.runs


def test_an_unknown_limit_of_the_list_and_an_empty_reason_are_refused(kafka: Topics) -> None:
    assert run("--limit", "creation_per_day").exit_code == 2
    assert run("release", "--all", "--why", " ").exit_code == 2


def test_while_creations_are_paused_a_release_is_refused_with_the_remedy(kafka: Topics) -> None:
    now = now_ms()
    asked = Pause(PausedPart.CREATIONS, "eve", "a migration", now, now + 60_000)
    kafka.records.append(pause_record(NAMES, asked))
    ended = release("--all")
    assert ended.exit_code == 1
    assert "contactstream resume creations" in " ".join(ended.output.split())
    assert release("--limit", "replaced_values_per_hour").exit_code == 0


def test_a_release_without_its_run_says_that_it_is_to_be_repeated(kafka: Topics) -> None:
    kafka.refused = NAMES.runs.name
    ended = release("--all")
    assert ended.exit_code == 1
    assert "repeat the command" in " ".join(ended.output.split())


def test_releases_of_long_ago_are_removed_with_the_next_one(kafka: Topics) -> None:
    old = HeldRelease("old", "ada", "once", now_ms() - RELEASE_KEPT_MS - 1)
    kafka.records.append(release_record(NAMES, old))
    assert release("--all").exit_code == 0
    assert len(kafka.control.releases) == 1
    assert "old" not in kafka.control.releases
