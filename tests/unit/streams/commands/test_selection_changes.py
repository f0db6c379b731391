"""The command selection: the contacts of mailboxes that are selected no longer are settled."""

import sys
from collections.abc import Iterable, Iterator

import orjson
import pytest
from click.testing import CliRunner, Result

from streams.audit import AuditState, parse_audit
from streams.cli import main
from streams.commands import left_out
from streams.commands.left_out import left_out_grants
from streams.commands.publishing import CommandPublisher
from streams.contact_groups import GroupRule
from streams.control import ControlTable
from streams.control_selection import (
    GroupNames,
    exclusions_record,
    group_names_record,
    groups_record,
    rule_record,
)
from streams.events import Kind
from streams.grant_addresses import GrantAddress, address_record
from streams.kafka.records import KafkaRecord
from streams.mailboxes import Choice, MailboxRule, Why
from streams.org import exclusions
from streams.own_domains import OwnDomains, own_domains_record
from streams.settings import KafkaSettings, PeopleSettings, load
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


def put_in_force(control: ControlTable, **environ: str) -> None:
    """As the reader does when it starts with these settings."""
    digest = exclusions(load(PeopleSettings, environ)).digest(("address_book",))
    control.apply(exclusions_record(NAMES, digest, 9))


def person(contact: str, address: str, offset: int, **more: object) -> KafkaRecord:
    """A synced contact of the selected mailbox."""
    made = change(f"a/{contact}", 5, offset)
    body = orjson.loads(made.value or b"") | {"emails": [{"email": address}]} | more
    return made._replace(value=orjson.dumps(body))


RIVALS = [
    person("3", "eve@rival.com", 5),
    person("3", "eve@acme.example", 6),
    person("2", "bo@eu.rival.com", 7),
    person("4", "al@rival.com", 8, excluded="source"),
    person("5", "unknown@rival.com", 9, excluded="role_address", was_synced=True),
    person("6", "cy@rival.com", 10)._replace(key=b"b/6"),
]
"""Of three people whom an exclusion of rival.com leaves out two were synced, one of them of a
mailbox that is left out as well. Dedupe has left out another one who was synced."""


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "CHANGES", [*CHANGES, *RIVALS])


@pytest.fixture
def control() -> ControlTable:
    """What is in force: the rule of the settings, and no exclusion of people."""
    table = ControlTable()
    table.apply(rule_record(NAMES, MailboxRule((RULE,)), 9))
    put_in_force(table)
    return table


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, control: ControlTable) -> list[KafkaRecord]:
    """What the command writes."""
    records = list[KafkaRecord]()
    monkeypatch.setattr(left_out, "read_control", lambda _: control)

    def read(_kafka: object, topic: str) -> Iterator[KafkaRecord]:
        return iter(GRANTS if topic == NAMES.grants.name else CHANGES)

    def publish(_: CommandPublisher, some: Iterable[KafkaRecord]) -> None:
        records.extend(some)

    monkeypatch.setattr(left_out, "topic_records", read)
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


@pytest.mark.usefixtures("rivals")
def test_a_preview_counts_whom_a_changed_exclusion_leaves_out(
    written: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = run("preview").output
    assert "leave out 1 contacts that were synced" in shown, "dedupe has left out one already"
    monkeypatch.setenv("PEOPLE_EXCLUDED_DOMAINS", "rival.com")
    shown = run("preview").output
    assert "leave out 2 contacts that were synced" in shown
    assert "would publish 5 contacts as deleted" in shown
    assert "not in force yet" in shown
    assert "mailbox" not in run("preview", "--reason", "excluded").output
    assert written == []


@pytest.mark.usefixtures("rivals")
def test_apply_settles_the_records_of_people_whom_the_exclusions_in_force_leave_out(
    written: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch, control: ControlTable
) -> None:
    put_in_force(control, PEOPLE_EXCLUDED_DOMAINS="rival.com")
    monkeypatch.setenv("PEOPLE_EXCLUDED_DOMAINS", "rival.com")
    dry = run("apply", "--dry-run")
    assert (dry.exit_code, written) == (0, [])
    ended = run("apply", "--why", "a rival", "--actor", "ada")
    assert ended.exit_code == 0, ended.output
    assert "excluded: 1" in ended.output
    assert "role_address: 1" in ended.output
    assert [record.key for record in written[1:-1]] == [b"b/1", b"b/2", b"b/6", b"a/2", b"a/5"]


@pytest.mark.usefixtures("rivals")
def test_apply_takes_the_named_reasons_alone(written: list[KafkaRecord]) -> None:
    assert run("apply", "--why", "x", "--reason", "role_address").exit_code == 0
    assert [record.key for record in written[1:-1]] == [b"a/5"]
    assert parse_audit(written[0]).selection == {"grants": [], "reasons": ["role_address"]}


def test_exclusions_that_are_not_in_force_settle_nothing(
    written: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEOPLE_EXCLUDED_DOMAINS", "rival.com")
    ended = run("apply", "--why", "x")
    assert ended.exit_code == 1
    assert "PEOPLE_EXCLUDED_*" in ended.output
    assert written == []
    assert run("apply", "--why", "x", "--reason", "not_selected").exit_code == 0
    assert len(written) == 4, "mailboxes are settled all the same"


def test_a_reason_that_does_not_exist_is_named_with_a_suggestion(
    written: list[KafkaRecord],
) -> None:
    for command in ("preview", "apply"):
        ended = run(command, "--reason", "exclude")
        assert ended.exit_code == 2
        assert "did you mean excluded?" in ended.output
    assert written == []


@pytest.mark.usefixtures("rivals")
def test_colleagues_by_a_derived_domain_are_counted(
    written: list[KafkaRecord], control: ControlTable
) -> None:
    control.apply(own_domains_record(NAMES, OwnDomains({"acme.example": 5})))
    shown = run("preview", "--reason", "own_domain").output
    assert "leave out 1 contacts that were synced" in shown
    assert written == []


MEMBERS = [
    person("7", "di@acme.example", 11, groups=[{"id": "1"}]),
    person("8", "ed@acme.example", 12, groups=[{"id": "2"}]),
    person("9", "fi@acme.example", 13, groups=[]),
    person("10", "-", 14, excluded="not_in_group", was_synced=True),
]


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, control: ControlTable) -> None:
    """Everybody is synced but the friends, and the group of customers is known too."""
    monkeypatch.setattr(sys.modules[__name__], "CHANGES", MEMBERS)
    control.apply(groups_record(NAMES, GroupRule((), ("Friends",)), 9))
    names = GroupNames("a", {"1": "Customers", "2": "VIP"}, 9)
    control.apply(group_names_record(NAMES, names))
    monkeypatch.setenv("PEOPLE_EXCLUDED_GROUPS", "Friends")


@pytest.mark.usefixtures("groups")
def test_a_preview_counts_whom_changed_groups_leave_out(
    written: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "leave out 1 contacts that were synced" in run("preview").output, "dedupe left out one"
    monkeypatch.setenv("PEOPLE_EXCLUDED_GROUPS", "Friends, vip")
    shown = run("preview").output
    assert "leave out 2 contacts that were synced" in shown
    assert "excluded_group" in shown
    assert "not in force yet" in shown
    refused = run("apply", "--why", "x")
    assert (refused.exit_code, written) == (1, [])
    assert "PEOPLE_GROUPS" in refused.output


@pytest.mark.usefixtures("groups")
def test_apply_settles_the_records_of_people_whom_the_groups_in_force_leave_out(
    written: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch, control: ControlTable
) -> None:
    control.apply(groups_record(NAMES, GroupRule(("Customers",)), 9))
    monkeypatch.setenv("PEOPLE_EXCLUDED_GROUPS", "")
    monkeypatch.setenv("PEOPLE_GROUPS", "Customers")
    ended = run("apply", "--why", "only customers", "--reason", "not_in_group")
    assert ended.exit_code == 0, ended.output
    assert [record.key for record in written[1:-1]] == [b"a/10", b"a/8", b"a/9"]


def test_a_first_rule_of_groups_counts_nobody_and_says_why(
    written: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEOPLE_GROUPS", "Customers")
    shown = run("preview", "--reason", "not_in_group").output
    assert "no contact group was read so far" in shown
    assert "reconcile --all" in shown
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
