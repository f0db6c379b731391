"""The command selection: the contacts of mailboxes that are selected no longer are settled."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace

import orjson
import pytest
from click.testing import CliRunner, Result

from streams.audit import AuditState, parse_audit
from streams.cli import main
from streams.commands import selection_changes
from streams.commands.publishing import CommandPublisher
from streams.commands.selection_changes import left_out_grants
from streams.control import ControlTable
from streams.control_selection import rule_record
from streams.events import Kind
from streams.grant_addresses import GrantAddress, address_record
from streams.kafka.records import KafkaRecord
from streams.mailboxes import Choice, MailboxRule, Why
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.change_records import change

NAMES = topics(load(KafkaSettings, {}))
RULE = "ada@x.example"
GRANTS = [
    address_record(NAMES, GrantAddress("a", "ada@x.example", "google"), 9),
    address_record(NAMES, GrantAddress("b", "bob@x.example", "google"), 9),
]
CHANGES = [
    change("a/1", 5, 0),
    change("b/1", 5, 1),
    change("b/2", 6, 2),
    change("b/gone", 6, 3, Kind.DELETED),
]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[KafkaRecord]:
    """What the command writes while the rule of the settings is in force."""
    control, records = ControlTable(), list[KafkaRecord]()
    control.apply(rule_record(NAMES, MailboxRule((RULE,)), 9))
    monkeypatch.setattr(selection_changes, "read_control", lambda _: control)

    def read(_kafka: object, topic: str) -> Iterator[KafkaRecord]:
        return iter(GRANTS if topic == NAMES.grants.name else CHANGES)

    def publish(_: CommandPublisher, some: Iterable[KafkaRecord]) -> None:
        records.extend(some)

    monkeypatch.setattr(selection_changes, "topic_records", read)
    monkeypatch.setattr(CommandPublisher, "publish", publish)
    return records


def run(*options: str, rule: str = RULE) -> Result:
    environ = {"PEOPLE_MAILBOXES": rule, "PEOPLE_ON_DELETE": "release"}
    return CliRunner().invoke(main, ["selection", *options], env=environ)


def test_a_preview_counts_by_mailbox_and_says_what_would_follow(
    written: list[KafkaRecord],
) -> None:
    ended = run("preview")
    assert ended.exit_code == 0, ended.output
    assert "bob@x.example" in ended.output
    assert "ada@x.example" not in ended.output
    assert "would publish 2 contacts as deleted" in ended.output
    assert "clears our key" in ended.output
    assert written == []


def test_a_preview_counts_whom_a_changed_exclusion_leaves_out(
    written: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def person(contact: str, address: str, offset: int) -> KafkaRecord:
        made = change(f"a/{contact}", 5, offset)
        body = orjson.loads(made.value or b"") | {"emails": [{"email": address}]}
        return replace(made, value=orjson.dumps(body))

    moved = [person("3", "eve@rival.com", 5), person("3", "eve@acme.example", 6)]
    out = change("a/4", 5, 8)
    out = replace(out, value=orjson.dumps(orjson.loads(out.value or b"") | {"excluded": "source"}))
    monkeypatch.setattr(
        sys.modules[__name__], "CHANGES", [*CHANGES, *moved, person("2", "bo@eu.rival.com", 7), out]
    )
    assert "leave out no contact" in run("preview").output
    monkeypatch.setenv("PEOPLE_EXCLUDED_DOMAINS", "rival.com")
    shown = run("preview").output
    assert "leave out 1 contacts that are synced" in shown
    assert "excluded" in shown
    assert written == []


def test_apply_deletes_the_living_contacts_of_left_out_mailboxes_alone(
    written: list[KafkaRecord],
) -> None:
    ended = run("apply", "--why", "left sales", "--actor", "ada")
    assert ended.exit_code == 0, ended.output
    begun, *deletions, done = written
    assert [record.key for record in deletions] == [b"b/1", b"b/2"]
    assert all(
        orjson.loads(record.value or b"")["type"] == "contact.deleted" for record in deletions
    )
    assert [parse_audit(each).state for each in (begun, done)] == [
        AuditState.BEGUN,
        AuditState.ENDED,
    ]
    assert (parse_audit(done).count, parse_audit(done).why) == (2, "left sales")


def test_apply_needs_a_reason(written: list[KafkaRecord]) -> None:
    ended = run("apply")
    assert ended.exit_code == 2
    assert "--why" in ended.output
    assert written == []


def test_a_rule_that_is_not_in_force_is_refused(written: list[KafkaRecord]) -> None:
    ended = run("apply", "--why", "x", "--actor", "ada", rule="bob@x.example")
    assert ended.exit_code == 1
    assert "not what is in force" in ended.output
    assert written == []


def test_a_mailbox_that_is_undecided_is_never_left_out() -> None:
    choices = {why.value: Choice(False, why) for why in Why}
    assert left_out_grants(choices) == [Why.NO_ENTRY.value]
